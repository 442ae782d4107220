"""One gRPC call as a JSON-RPC request to the gateway's own front, so that all that holds there holds here:
who may come in, limits, the operations, traces, the way a shutdown goes.

A call names its agent by the ``tenant`` of its request, as the gateway's cards say; without one it goes to
the gateway's own agent, as at the bare address.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    MutableMapping,
)
from contextlib import aclosing
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from ....gateway import sse
from ....gateway.ports import ASGI
from ....gateway.readable import UNREADABLE
from ..problems import INVALID_PARAMS, Problem, rpc_error
from ..wire import V10

Message = MutableMapping[str, Any]
_encode = msgspec.json.Encoder().encode
EXTENSIONS = "a2a-extensions"
_WAITING = 16  # pieces of an answer that wait for a slow client
# Ours to say, or not meant for the front; MCP's would lead to its door, at the bare address.
_OWN = frozenset({b"host", b"content-type", b"content-length", b"accept", b"te", b"transfer-encoding"})
_NOT_MEANT = ("grpc-", "mcp-", ":")


class Refused(Exception):
    """The answer is an error: the HTTP status, and the error as a JSON-RPC response holds it."""

    def __init__(self, http: int, error: Any) -> None:
        super().__init__(http)
        self.http = http
        self.error = error


class Bridge:
    """Hands calls on to ``app``. ``host``: a Host under which it may be called, and is known in answers."""

    def __init__(self, app: ASGI, host: str) -> None:
        self._app = app
        self._host = host.encode()
        self._running: set[asyncio.Task[None]] = set()

    async def call(
        self,
        method: str,
        params: Mapping[str, Any],
        metadata: Iterable[tuple[str, Any]],
        peer: str,
        tell: Callable[[str], Awaitable[None]],
    ) -> AsyncGenerator[Any]:
        """The results of an operation (one, but for streams). ``peer``: the client, as gRPC names it.
        ``tell`` gets the extensions that are used for it, if there are any, before the first. Raises Refused.
        Closing it means that the client has left."""
        exchange = _Exchange(self._scope(params, metadata, peer), _body(method, params))
        job = asyncio.create_task(exchange.run(self._app))
        self._running.add(job)
        job.add_done_callback(self._running.discard)
        answered = False
        try:
            async with aclosing(_answers(exchange)) as answers:
                async for answer in answers:
                    if used := exchange.header(EXTENSIONS):
                        await tell(used)
                    value: Any = _decoded(answer)
                    if exchange.status != 200 or "result" not in value:
                        raise Refused(exchange.status, value.get("error"))
                    answered = True
                    yield value["result"]
            if not answered:
                raise Refused(500, None)
        finally:
            exchange.leave()  # the front sees to what that means; the job ends by itself

    def _scope(
        self, params: Mapping[str, Any], metadata: Iterable[tuple[str, Any]], peer: str
    ) -> dict[str, Any]:
        agent = str(params.get("tenant") or "")
        if "/" in agent:  # the front would take what follows for a path
            raise Refused(200, rpc_error(Problem(INVALID_PARAMS, f"unknown agent: {agent}"), V10))
        path = f"/a2a/{quote(agent, safe='')}" if agent else "/"
        headers = [
            (key.lower().encode(), value.encode("latin-1", "replace"))
            for key, value in metadata
            if isinstance(value, str) and not key.startswith(_NOT_MEANT)
        ]
        headers = [(key, value) for key, value in headers if key not in _OWN]
        headers += [(b"host", self._host), (b"content-type", b"application/json")]
        headers.append((b"accept", b"application/json, text/event-stream"))
        return {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "2", "scheme": "http",
            "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "client": (_address(peer), 0), "state": {},
        }  # fmt: skip

    async def aclose(self, grace: float) -> None:
        """Give calls whose client has left ``grace`` seconds to end."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)


def _address(peer: str) -> str:
    """The IP address in gRPC's name of a peer: ``ipv4:192.0.2.1:50000``, ``ipv6:[2001:db8::1]:50000`` (where
    the brackets may be quoted); "" where there is none."""
    family, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""


def _body(method: str, params: Mapping[str, Any]) -> bytes:
    kept = {key: value for key, value in params.items() if key != "tenant"}
    return _encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": kept})


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        value: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


class _Exchange:
    """A request to an ASGI application, and its answer piece by piece."""

    def __init__(self, scope: dict[str, Any], body: bytes) -> None:
        self._scope = scope
        self._body: bytes | None = body
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._gone = asyncio.Event()
        self._whole = False
        self.status = 500
        self._headers: dict[bytes, bytes] = {}

    async def run(self, app: ASGI) -> None:
        try:
            await app(self._scope, self._receive, self._send)
        finally:
            await self._put(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = dict(message["headers"])
            return
        if body := message.get("body"):
            await self._put(body)
        self._whole = not message.get("more_body")

    async def _put(self, piece: bytes | None) -> None:
        """Keep a piece for the client, waiting while it is slow, and no longer when it has left."""
        if self._gone.is_set():
            return
        waits = [asyncio.ensure_future(self._pieces.put(piece)), asyncio.ensure_future(self._gone.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def header(self, name: str) -> str | None:
        """A header of the answer, once it has begun."""
        value = self._headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Refused for one that was cut."""
        while (piece := await self._pieces.get()) is not None:
            yield piece
        if not self._whole:
            raise Refused(503, {"message": "the answer was cut off"})

    def leave(self) -> None:
        self._gone.set()


async def _answers(exchange: _Exchange) -> AsyncGenerator[bytes]:
    """The JSON-RPC responses of an exchange."""
    decoder = sse.Decoder()
    whole: list[bytes] = []
    async for piece in exchange.pieces():
        if exchange.header("content-type") == "text/event-stream":
            try:
                events = decoder.feed(piece)
            except ValueError as e:
                raise Refused(413, {"message": "an event of the answer is too large"}) from e
            for event in events:
                yield event.data
        else:
            whole.append(piece)
    if whole:
        yield b"".join(whole)
