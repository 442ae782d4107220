"""A large result in one JSON document: it passes as it comes, instead of being read as a whole."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import Raw

from ....gateway.documents import Passing, opening
from ....gateway.errors import BadUpstream
from ....gateway.transport import Stream
from .link import Call

_FAILED = re.compile(rb'"isError"\s*:\s*true')
_NEAR = 1024  # bytes at both ends of a result in which ``isError`` is looked for


async def passed_on(agent: str, reply: Stream, call: Call) -> Raw | None:
    """Give the answer's result to ``call.caller.on_large``, if the answer is large. Returns in place of the
    result what is known of it: ``isError``, where that stands near its beginning or end. None: the answer is
    to be read as a whole, for it is short, not all else comes before its result, or the client wants it so.
    Raises BadUpstream for what is no such document, GatewayError when the connection breaks."""
    begun = None if call.caller.on_large is None else await reply.beginning()
    found = None if begun is None else opening(begun, b"result")
    if found is None or call.caller.on_large is None:
        return None
    if found[0].get(b"id") != b"%d" % call.id or b"jsonrpc" not in found[0]:
        return None
    document = _Document(agent, reply, found[1])
    async with aclosing(document.pieces()) as pieces:
        if not await call.caller.on_large(pieces):
            return None
    return Raw(b'{"isError":true}' if document.failed else b"{}")


class _Document:
    """An answer; ``start``: where in it the result begins."""

    def __init__(self, agent: str, reply: Stream, start: int) -> None:
        self._agent = agent
        self._reply = reply
        self._start = start
        self.failed = False

    async def pieces(self) -> AsyncGenerator[bytes]:
        """From the result on."""
        rest, start, last = Passing(), self._start, b""
        try:
            async for chunk in self._reply.chunks():
                piece = chunk[start:]
                rest.feed(piece)
                if start:
                    self.failed = _FAILED.search(piece, 0, _NEAR) is not None
                start, last = 0, (last + piece[-_NEAR:])[-_NEAR:]
                yield piece
            rest.close()
        except ValueError as e:
            raise BadUpstream(f"{self._agent} did not answer with an MCP message", detail=str(e)) from e
        self.failed = self.failed or _FAILED.search(last) is not None
