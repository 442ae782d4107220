"""Where several processes are one gateway: a request whose state lives in another is handed to it, whole.

It goes over a local socket in a private directory as the HTTP request that it is, with the same head, so
that there the same rules hold; the answer comes back piece by piece, and a client that leaves here has left
there.
Each worker serves such a socket (``N.sock``), and so does the owner (``owner.sock``), which has the control
plane.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from pathlib import Path

import msgspec

from ..errors import GatewayError, Unreachable
from ..h1 import Connection
from ..homes import Homes
from ..link import Cut
from ..ports import Face, Handler
from ..readable import UNREADABLE
from .request import Request
from .wire import ClientGone, Headers

OWNER = -1  # the number of the process that has the control plane
PATIENCE = 5.0  # seconds that a worker which is being started again is waited for
_POLL = 0.05
_IDLE = 30.0  # seconds that a connection is kept
_KEPT = 64  # connections to one process
# Of the connection, not of the message.
_HOP = frozenset({b"connection", b"content-length", b"expect", b"keep-alive", b"te", b"trailer",
                  b"transfer-encoding", b"upgrade"})  # fmt: skip
_CALL = re.compile(r"/api/agents/[^/]+/call")
_CANCEL = re.compile(r"/api/tasks/([^/]+)/cancel")


def socket_path(directory: Path, number: int) -> Path:
    """Where a process takes requests from the others."""
    return directory / ("owner.sock" if number == OWNER else f"{number}.sock")


class _Body(msgspec.Struct):
    task_id: str | None = None
    context_id: str | None = None


class Handover:
    """Implements ``app.Elsewhere`` for a worker. ``directory`` holds the sockets."""

    def __init__(self, homes: Homes, directory: Path) -> None:
        self._homes = homes
        self._directory = directory
        self._kept: dict[int, list[tuple[float, Connection]]] = {}

    def led(self, request: Request, face: Face | None, door: Handler) -> Awaitable[None]:
        if face is None:
            return self._controlled(request, door)
        if not hasattr(face, "home"):  # a third party's may have none
            return door(request)
        body: bytes | None = b""
        if request.method == "POST":
            try:
                body = request.at_hand()
            except GatewayError:
                pass  # the door says what is wrong
            if body is None:
                return self._late(request, face, door)
        id = face.home(request, body)
        return door(request) if id is None else self._at(id, request, door)

    async def _late(self, request: Request, face: Face, door: Handler) -> None:
        """A POST whose body has not come yet."""
        try:
            body = await request.body()
        except GatewayError:
            body = b""
        id = face.home(request, body)
        await (door(request) if id is None else self._at(id, request, door))

    def _at(self, id: str | Awaitable[str | None], request: Request, door: Handler) -> Awaitable[None]:
        """What answers a request that goes on with what has this id."""
        if not isinstance(id, str):
            return self._found(id, request, door)
        number = self._homes.of(id)
        return door(request) if number == self._homes.number else self._hand_over(request, number)

    async def _found(self, looking: Awaitable[str | None], request: Request, door: Handler) -> None:
        id = await looking
        await (door(request) if id is None else self._at(id, request, door))

    async def _controlled(self, request: Request, door: Handler) -> None:
        number = await self._of_control(request)
        await (door(request) if number == self._homes.number else self._hand_over(request, number))

    async def _of_control(self, request: Request) -> int:
        """The owner has the control plane; calls run in workers, like all others."""
        if request.method == "POST" and (match := _CANCEL.fullmatch(request.path)):
            return self._homes.of(match[1])
        if request.method != "POST" or not _CALL.fullmatch(request.path):
            return OWNER
        try:
            body = msgspec.json.decode(await request.body(), type=_Body)
        except UNREADABLE:
            return self._homes.number  # which says what is wrong
        id = body.task_id or body.context_id
        return self._homes.number if id is None else self._homes.of(id)

    async def pass_on(self, request: Request, id: str, headers: Headers) -> None:
        """Have the home of ``id`` answer the request, which has these headers more."""
        await self._hand_over(request, self._homes.of(id), headers)

    # --- one request -------------------------------------------------------------------------

    async def _hand_over(self, request: Request, number: int, more: Headers = ()) -> None:
        body = await request.body()
        connection = await self._connected(number)
        request.on_gone(connection.close)
        try:
            await connection.send(request.method, _head(request, body, more), body)
            await _answer(request, connection)
        except Unreachable as e:
            connection.close()
            if request.wire.gone:
                raise ClientGone from None
            raise GatewayError("the gateway's process that served this has ended", detail=e.detail) from e
        except BaseException:
            connection.close()
            raise
        kept = self._kept.setdefault(number, [])
        if connection.reusable and len(kept) < _KEPT:
            kept.append((time.monotonic(), connection))
        else:
            connection.close()

    async def _connected(self, number: int) -> Connection:
        """Raises Cut where nobody is there, and does not come back soon."""
        kept = self._kept.get(number, [])
        while kept:
            since, connection = kept.pop()
            if since > time.monotonic() - _IDLE and connection.reusable and connection.quiet:
                return connection
            connection.close()
        loop, path = asyncio.get_running_loop(), str(socket_path(self._directory, number))
        deadline = loop.time() + PATIENCE
        while True:
            connection = Connection()
            try:
                await loop.create_unix_connection(lambda made=connection: made, path)
                return connection
            except OSError:
                if loop.time() > deadline:
                    raise Cut from None
            await asyncio.sleep(_POLL)

    def close(self) -> None:
        """Let go of all connections that nothing goes over."""
        for kept in self._kept.values():
            while kept:
                kept.pop()[1].close()


def _head(request: Request, body: bytes, more: Headers) -> bytes:
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.target)]
    lines += [b"%b: %b\r\n" % (name, value) for name, value in (*request.headers, *more) if name not in _HOP]
    return b"%bcontent-length: %d\r\n\r\n" % (b"".join(lines), len(body))


async def _answer(request: Request, connection: Connection) -> None:
    """Give the client the other's answer, as it comes."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in connection.headers]
    whole = any(name == b"content-length" for name, _ in headers)
    headers = [header for header in headers if header[0] not in _HOP]
    if whole or request.method == "HEAD" or connection.status in (204, 304):
        pieces = [piece async for piece in connection]
        await request.raw(connection.status, headers, b"".join(pieces))
        return
    await request.begin(connection.status, headers)
    async for piece in connection:
        await request.wire.write(piece)
    await request.wire.end()
