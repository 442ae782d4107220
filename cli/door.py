"""Streamable HTTP to the gateway's MCP door, as the stdio relay uses it: messages in, messages out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from ..adapters.mcp import wire
from ..gateway import sse
from ..gateway.errors import Unconnected
from ..gateway.transport import Stream, Transport
from .find import Target

Head = Sequence[tuple[str, str]]


class Forgotten(Exception):
    """The request did not get there: the session is unknown, or nothing listens at the address any more."""


class Refused(Exception):
    """An HTTP error. ``error``: the JSON-RPC error in its body, or one made from it."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.body = body
        self.status = status
        self.error = _rpc_error(status, body)


class Arrived(msgspec.Struct, frozen=True):
    """What came: JSON-RPC message bytes, the event's id, and the session id in the answer's headers."""

    data: bytes
    event_id: str | None = None
    session: str | None = None


class Door:
    """One door (``path``) of the gateway that ``reach`` finds."""

    def __init__(self, transport: Transport, reach: Callable[[], Awaitable[Target]], path: str) -> None:
        self._transport = transport
        self._reach = reach
        self._path = path
        self._target: Target | None = None

    async def find(self) -> None:
        """Look again where the gateway is. Raises Stop when there is none."""
        self._target = await self._reach()

    async def _request(self, head: Head) -> tuple[str, list[tuple[str, str]]]:
        if self._target is None:
            await self.find()
        assert self._target is not None
        headers = [("accept", f"{wire.JSON_TYPE}, {wire.SSE_TYPE}"), *head]
        if self._target.token:
            headers.append(("authorization", f"Bearer {self._target.token}"))
        return self._target.url + self._path, headers

    async def post(self, body: bytes, head: Head) -> AsyncGenerator[Arrived]:
        """Send a message; what comes back as it comes. Raises Forgotten, Refused, UpstreamError, Stop."""
        url, headers = await self._request([("content-type", wire.JSON_TYPE), *head])
        try:
            async with self._transport.stream("POST", url, headers=headers, body=body) as reply:
                async for arrived in _arrivals(reply, head):
                    yield arrived
        except Unconnected as e:
            raise Forgotten from e

    async def listen(self, head: Head, after: str | None) -> AsyncGenerator[Arrived]:
        """The event stream, after the event ``after``; raises as ``post`` does."""
        more = [(wire.H_LAST_EVENT, after)] if after is not None else []
        url, headers = await self._request([*head, *more])
        async with self._transport.stream("GET", url, headers=headers) as reply:
            async for arrived in _arrivals(reply, head):
                yield arrived

    async def delete(self, head: Head) -> None:
        """End the session."""
        url, headers = await self._request(head)
        await self._transport.request("DELETE", url, headers=headers, timeout=2.0)


async def _arrivals(reply: Stream, head: Head) -> AsyncIterator[Arrived]:
    session = reply.header(wire.H_SESSION)
    if reply.status >= 400:
        if reply.status == 404 and any(name == wire.H_SESSION for name, _ in head):
            raise Forgotten
        raise Refused(reply.status, await reply.read())
    if (reply.header("content-type") or "").startswith(wire.SSE_TYPE):
        decoder = sse.Decoder()
        async for chunk in reply.chunks():
            for event in decoder.feed(chunk):
                yield Arrived(event.data, event.id, session)
    elif body := await reply.read():
        yield Arrived(body, None, session)


def _rpc_error(status: int, body: bytes) -> wire.ErrorBody:
    """The error of a JSON-RPC answer, else one in the words of the gateway's own HTTP errors."""
    try:
        found = msgspec.json.decode(body, type=wire.Envelope).error
        if isinstance(found, wire.ErrorBody):
            return found
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        message = msgspec.json.decode(body)["error"]["message"]
    except (msgspec.DecodeError, RecursionError, TypeError, KeyError):
        message = f"the gateway answered with HTTP {status}"
    return wire.ErrorBody(wire.INVALID_REQUEST, str(message))
