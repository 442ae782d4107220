"""What a door gets: one HTTP request, and the means to answer it, straight on ASGI.

No framework stands between: a Litestar handler costs about three times a plain ASGI callable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from .. import sse
from ..durations import duration
from ..errors import CallerError, InvalidRequest, TooDeep, TooLarge
from ..model import Principal, Trace
from .nesting import too_deep
from .places import Places

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_json = msgspec.json.Encoder()
JSON = "application/json"
# Seconds after which a door begins to watch for its client to leave: most answers are there before, and a
# watcher is a task of its own.
WATCHED_AFTER = 0.02
# Answers of doors hold data of callers: no cache keeps them, no browser guesses their type.
_SAFE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class ClientGone(Exception):
    """The client closed the connection before it got its answer."""


class Request:
    """One request.

    ``path`` is the decoded path; ``rest`` what follows the mount's prefix (set by the dispatcher);
    ``base_url`` is how the client may reach the gateway (public URL, else the allowed Host), without a
    final slash; ``door`` names the mount ("mcp", "root", …) for counting. Header values are stripped.
    Exactly one of ``respond`` and ``events`` answers it.
    """

    __slots__ = (
        "_body", "_gone", "_headers", "_limit", "_nesting", "_query", "_refused", "_send", "base_url", "door",
        "method", "path", "place", "places", "principal", "receive", "responded", "rest", "scope", "status",
    )  # fmt: skip

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, body_limit: int, nesting: int = 100
    ) -> None:
        raw: bytes | None = scope.get("raw_path")
        self.scope = scope
        self.receive = receive
        self._send = send
        self._limit = body_limit
        self._nesting = nesting
        self._headers: dict[bytes, bytes] | None = None
        self._query: dict[str, str] | None = None
        self._body: bytes | None = None
        self._gone = False
        self._refused: CallerError | None = None
        self.method: str = scope["method"]
        self.path: str = unquote(raw.partition(b"?")[0].decode("latin-1")) if raw else scope["path"]
        self.rest: str = self.path
        self.base_url = ""
        self.door = "api"
        self.principal = Principal()
        self.responded = False
        self.status = 0  # of the answer, once it has begun
        self.places: Places | None = None  # set by the front, with the kind of the place taken
        self.place = 0

    # --- reading -----------------------------------------------------------------------------

    def header(self, name: bytes) -> str | None:
        """A header's value (``name`` in lower case), stripped; None when absent. The first one counts."""
        if self._headers is None:
            self._headers = {}
            for key, value in self.scope["headers"]:
                self._headers.setdefault(key, value)
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """All headers as they came (names in lower case)."""
        return self.scope["headers"]

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters; the last of a repeated one counts."""
        if self._query is None:
            pairs = parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
            self._query = dict(pairs)
        return self._query

    @property
    def trace(self) -> Trace:
        """The caller's W3C trace context from the headers."""
        return Trace(
            traceparent=self.header(b"traceparent"),
            tracestate=self.header(b"tracestate"),
            baggage=self.header(b"baggage"),
        )

    @property
    def timeouts(self) -> tuple[float | None, float | None]:
        """See ``timeouts_in``."""
        return timeouts_in(self.header)

    def accepts(self, media_type: str) -> bool:
        """Whether the Accept header names exactly this media type or a matching wildcard, or is absent."""
        accept = self.header(b"accept")
        if accept is None:
            return True
        main = media_type.partition("/")[0]
        names = {item.partition(";")[0].strip().lower() for item in accept.split(",")}
        return not names.isdisjoint({media_type, "*/*", f"{main}/*"})

    async def body(self) -> bytes:
        """The whole body. Raises TooLarge past the limit, TooDeep for JSON nested past its own (the same
        again when asked again), ClientGone if the client left."""
        if self._refused is not None:
            raise self._refused
        if self._body is None:
            try:
                self._body = await self._read()
            except CallerError as e:
                self._refused = e
                raise
        return self._body

    async def _read(self) -> bytes:
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length) > self._limit:
            raise TooLarge(f"the request is larger than {self._limit} bytes")
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._limit:
                raise TooLarge(f"the request is larger than {self._limit} bytes")
            if chunk:
                chunks.append(chunk)
            if not message.get("more_body"):
                break
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if too_deep(body, self._nesting):
            raise TooDeep(self._nesting)
        return body

    @property
    def read_body(self) -> bytes | None:
        """The body, if it was read already."""
        return self._body

    async def disconnected(self) -> None:
        """Return when the client has left. Read the body first; only one task may wait at a time."""
        while not self._gone:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self._gone = True

    def listens(self) -> None:
        """A door says that the request only waits for news: it takes no call's place. Raises Busy when too
        many listen."""
        if self.places is not None:
            self.place = self.places.listens(self.place)

    # --- answering ---------------------------------------------------------------------------

    async def respond(
        self,
        status: int,
        body: bytes = b"",
        *,
        media_type: str = JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Answer with a whole body. Not to be kept by caches, unless ``headers`` say ``cache-control``."""
        self.responded = True
        self.status = status
        safe = _SAFE[:1] if any(name == b"cache-control" for name, _ in headers) else _SAFE
        head = [*safe, (b"content-length", str(len(body)).encode()), *headers]
        if body:
            head.append((b"content-type", media_type.encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        await self._send({"type": "http.response.body", "body": body})

    async def json(
        self, status: int, value: Any, *, headers: Sequence[tuple[bytes, bytes]] = (), media_type: str = JSON
    ) -> None:
        """Answer with ``value`` as JSON."""
        await self.respond(status, _json.encode(value), headers=headers, media_type=media_type)

    async def events(self, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> EventStream:
        """Begin an event stream (200, text/event-stream)."""
        self.responded = True
        self.status = 200
        head = [
            (b"content-type", b"text/event-stream"),
            (b"x-accel-buffering", b"no"),
            *_SAFE,
            *headers,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": head})
        return EventStream(self, self._send)


class EventStream:
    """An open event stream. ``gone`` is set once the client left: ASGI's ``send`` then drops silently,
    so a watcher reads ``receive`` beside it. Use as an async context manager; leaving it ends the stream.
    """

    def __init__(self, request: Request, send: Send) -> None:
        self._request = request
        self._send = send
        self._watch: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()

    async def __aenter__(self) -> EventStream:
        self._watch = asyncio.create_task(self._watching())
        return self

    async def _watching(self) -> None:
        await self._request.disconnected()
        self.gone.set()

    async def send(self, data: bytes, *, event: str | None = None, id: str | None = None) -> None:
        """Send one event at once. Raises ClientGone when nobody listens any more."""
        await self.write(sse.encode(data, event=event, id=id))

    async def comment(self) -> None:
        """Send a comment, which keeps idle connections open."""
        await self.write(b": \n\n")

    async def write(self, raw: bytes) -> None:
        """Send bytes that are already in event-stream form (a relay's)."""
        if self.gone.is_set():
            raise ClientGone
        await self._send({"type": "http.response.body", "body": raw, "more_body": True})

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if not self.gone.is_set():
            await self._send({"type": "http.response.body", "body": b""})


def timeouts_in(header: Callable[[bytes], str | None]) -> tuple[float | None, float | None]:
    """What the caller grants this call: idle and total seconds, from ``agentgw-idle-timeout`` and
    ``agentgw-total-timeout`` ("30s", "2m", or seconds); None: what the agent is allowed anyway. ``header``
    gives a header's value. Raises InvalidRequest for what is no positive duration."""
    return _timeout(header, b"agentgw-idle-timeout"), _timeout(header, b"agentgw-total-timeout")


def _timeout(header: Callable[[bytes], str | None], name: bytes) -> float | None:
    text = header(name)
    seconds = None if text is None else duration(text)
    if text is not None and not seconds:
        raise InvalidRequest(f"{name.decode()} must be a duration like 30s or 5m")
    return seconds


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``. Raises InvalidRequest for anything else."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as e:
        raise InvalidRequest("the request body is not valid JSON") from e
    if not isinstance(value, dict):
        raise InvalidRequest("the request body is not a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]
