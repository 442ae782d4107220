"""What a door gets: one HTTP request, and the means to answer it, whatever carries it (``wire``).

No framework stands between: a Litestar handler costs about three times a plain callable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from .. import sse
from ..access import Grant
from ..durations import duration
from ..errors import CallerError, InvalidRequest, TooDeep, TooLarge
from ..model import Principal, Trace
from ..readable import UNREADABLE
from ..waiting import Waiting
from .heads import Head
from .nesting import too_deep
from .places import Places
from .wire import ClientGone, Headers, Wire

__all__ = [
    "JSON",
    "ClientGone",
    "EventStream",
    "Request",
    "accepted",
    "decode_object",
    "timeouts_in",
]

_json = msgspec.json.Encoder()
JSON = "application/json"
# Answers of doors hold data of callers: no cache keeps them, no browser guesses their type.
_SAFE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
JSON_HEADERS = (*_SAFE, (b"content-type", JSON.encode()))
_SAFE_EVENTS = ((b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no"), *_SAFE)
_NO_TRACE = Trace()
_ANYBODY = Principal()
_IDLE, _TOTAL = b"agentgw-idle-timeout", b"agentgw-total-timeout"


class Request:
    """One request.

    ``path`` is the decoded path; ``rest`` what follows the mount's prefix (set by the dispatcher);
    ``base_url`` is how the client may reach the gateway (public URL, else the allowed Host), without a
    final slash; ``fields`` are the headers by name; ``door`` names the mount ("mcp", "root", …) for
    counting; ``method``, ``target``, ``headers`` and ``fields`` are those of its ``Head``; ``notes``: what
    doors have read in the head, each under a name of its own: it is there for the next request with the same
    head. Header values are stripped. Exactly one of ``respond`` and ``events`` answers it.
    """

    __slots__ = (
        "_body", "_limit", "_nesting", "_query", "_texts", "_unfit", "base_url", "door", "face", "fields",
        "grant", "headers", "method", "notes", "path", "place", "places", "principal", "rest", "shared",
        "status", "target", "wire",
    )  # fmt: skip

    def __init__(self, wire: Wire, head: Head, body_limit: int, nesting: int = 100) -> None:
        self.wire = wire
        self.method = head.method
        self.target = head.target
        self.headers = head.headers
        self.fields = head.fields
        self._texts = head.texts
        self.notes = head.notes
        self.path = self.rest = head.path
        self._limit = body_limit
        self._nesting = nesting
        self._query: dict[str, str] | None = None
        self._body: bytes | None = None
        self._unfit: CallerError | None = None
        self.base_url = ""
        self.door = "api"
        self.principal = _ANYBODY
        self.grant: Grant | None = None  # what let it in, set by the front with the principal
        self.status = 0  # of the answer, once it has begun
        self.face: Any = None  # whose door it goes to, set by the front; None: not known yet, or nobody's
        self.places: Places | None = None  # set by the front, with the kind of the place taken
        self.place = 0
        self.shared: Headers = ()  # of every answer: who may read it (see ``Doors.readable``)

    # --- reading -----------------------------------------------------------------------------

    def header(self, name: bytes) -> str | None:
        """A header's value (``name`` in lower case), stripped; None when absent. The first one counts."""
        texts = self._texts
        if name in texts:
            return texts[name]
        value = self.fields.get(name)
        text = texts[name] = None if value is None else str(value, "latin-1").strip()
        return text

    @property
    def repeats(self) -> bool:
        """Whether any header comes more than once."""
        return len(self.fields) != len(self.headers)

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters; the last of a repeated one counts."""
        if self._query is None:
            query = self.target.partition(b"?")[2].partition(b"#")[0]
            self._query = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        return self._query

    @property
    def trace(self) -> Trace:
        """The caller's W3C trace context from the headers."""
        if b"traceparent" not in self.fields and b"baggage" not in self.fields:
            return _NO_TRACE
        return Trace(self.header(b"traceparent"), self.header(b"tracestate"), self.header(b"baggage"))

    @property
    def timeouts(self) -> tuple[float | None, float | None]:
        """See ``timeouts_in``."""
        if _IDLE not in self.fields and _TOTAL not in self.fields:
            return None, None
        return timeouts_in(self.header)

    def accepts(self, media_type: str) -> bool:
        """Whether the Accept header names exactly this media type or a matching wildcard, or is absent."""
        return accepted(self.header(b"accept"), media_type)

    def at_hand(self) -> bytes | None:
        """The whole body if it has come, as it mostly has; None: ask ``body``. Raises what that raises."""
        if self._body is None:
            if self._unfit is not None:
                raise self._unfit
            whole = self.wire.whole()
            if whole is not None:
                self._body = self._fit(whole)
        return self._body

    async def body(self) -> bytes:
        """The whole body. Raises TooLarge past the limit, TooDeep for JSON nested past its own (the same
        again when asked again), ClientGone if the client left."""
        body = self.at_hand()
        if body is None:
            body = self._body = self._fit(await self._read())
        return body

    async def _read(self) -> bytes:
        length = self.header(b"content-length")
        if length is not None and length.isdecimal() and int(length) > self._limit:
            raise self._too_large()
        pieces: list[bytes] = []
        size = 0
        while size <= self._limit and (piece := await self.wire.read()):
            size += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _fit(self, body: bytes) -> bytes:
        if len(body) > self._limit:
            raise self._too_large()
        if too_deep(body, self._nesting):
            self._unfit = TooDeep(self._nesting)
            raise self._unfit
        return body

    def _too_large(self) -> CallerError:
        self._unfit = TooLarge(f"the request is larger than {self._limit} bytes")
        return self._unfit

    @property
    def read_body(self) -> bytes | None:
        """The body, if it was read already."""
        return self._body

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Call this when the client leaves, soon if it has left already; not any more once it is answered.
        Read the body first."""
        self.wire.on_gone(callback)

    async def disconnected(self) -> None:
        """Return when the client has left. Read the body first."""
        gone = asyncio.get_running_loop().create_future()
        self.wire.on_gone(lambda: gone.done() or gone.set_result(None))
        await gone

    def listens(self) -> None:
        """A door says that the request only waits for news: it takes no call's place. Raises Busy when too
        many listen."""
        if self.places is not None:
            self.place = self.places.listens(self.place, "" if self.grant is None else self.grant.whose)

    # --- answering ---------------------------------------------------------------------------

    @property
    def responded(self) -> bool:
        """Whether the answer has begun."""
        return self.wire.begun

    def respond(
        self,
        status: int,
        body: bytes = b"",
        *,
        media_type: str = JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> Coroutine[Any, Any, None]:
        """Answer with a whole body. Not to be kept by caches, unless ``headers`` say ``cache-control``."""
        base = JSON_HEADERS if media_type is JSON and body else _SAFE
        for name, _ in headers:
            if name == b"cache-control":
                base = tuple(header for header in base if header[0] != b"cache-control")
        if body and media_type is not JSON:
            headers = [*headers, (b"content-type", media_type.encode())]
        return self._answer(status, base, headers, body)

    def _answer(self, status: int, base: Headers, more: Headers, body: bytes) -> Coroutine[Any, Any, None]:
        self.status = status
        if self.shared:
            more = (*more, *self.shared)
        return self.wire.answer(status, base, more, body)

    def raw(self, status: int, headers: Headers, body: bytes) -> Coroutine[Any, Any, None]:
        """Answer with a whole body and just these headers (and content-length)."""
        return self._answer(status, (), headers, body)

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin an answer with just these headers, whose body follows on ``wire``."""
        self.status = status
        await self.wire.start(status, (), (*headers, *self.shared))

    async def pieces(
        self,
        pieces: AsyncIterator[bytes],
        *,
        media_type: str = JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Answer (200) with a body that comes in pieces, as the client takes them. What they raise before the
        first is for the caller to answer; later it cuts the answer. Raises ClientGone."""
        first, wire = await anext(pieces), self.wire
        await self.begin(200, [*_SAFE, (b"content-type", media_type.encode()), *headers])
        waiting = Waiting()
        self.on_gone(lambda: waiting.end(ClientGone()))
        try:
            with waiting:
                await wire.write(first)
                async for piece in pieces:
                    await wire.write(piece)
                await wire.end()
        except BaseException:
            wire.cut()
            raise

    async def json(
        self, status: int, value: Any, *, headers: Sequence[tuple[bytes, bytes]] = (), media_type: str = JSON
    ) -> None:
        """Answer with ``value`` as JSON."""
        await self.respond(status, _json.encode(value), headers=headers, media_type=media_type)

    async def events(self, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> EventStream:
        """Begin an event stream (200, text/event-stream). The request's headers and body are let go: a stream
        may be open for long."""
        self.headers, self.fields, self._texts, self.notes, self._body = (), {}, {}, {}, b""
        self.status = 200
        await self.wire.start(200, _SAFE_EVENTS, (*headers, *self.shared) if self.shared else headers)
        return EventStream(self.wire)


def _refused(_: bytes) -> bool:
    return False


class EventStream:
    """An open event stream. Use as an async context manager; leaving it ends the stream. An exception cuts
    it: it gets no end, and the connection closes, so that its client does not take what came for all there
    is."""

    __slots__ = ("_gone", "_left", "_wire", "write_now")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        # ``write``, if nothing has to be waited for and the client is there: else False, and nothing is sent.
        self.write_now = wire.write_now
        self._left = False
        self._gone: asyncio.Event | None = None

    async def __aenter__(self) -> EventStream:
        return self

    @property
    def gone(self) -> asyncio.Event:
        """Set once the client has left; made when it is first wanted, for most streams need none."""
        if self._gone is None:
            self._gone = asyncio.Event()
            self._wire.on_gone(self._gone.set)
        return self._gone

    def leave(self) -> None:
        """Nothing more is sent."""
        self._left = True
        self.write_now = _refused

    async def send(self, data: bytes, *, event: str | None = None, id: str | None = None) -> None:
        """Send one event at once. Raises ClientGone when nobody listens any more."""
        await self.write(sse.encode(data, event=event, id=id))

    async def comment(self) -> None:
        """Send a comment, which keeps idle connections open."""
        await self.write(b": \n\n")

    async def write(self, raw: bytes) -> None:
        """Send bytes that are already in event-stream form (a relay's)."""
        if self._left or self._wire.gone:
            raise ClientGone
        await self._wire.write(raw)

    async def close(self) -> None:
        """All was sent, and nothing follows."""
        left = self._left or self._wire.gone
        self.leave()
        if not left:
            await self._wire.end()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.close()


def accepted(accept: str | None, media_type: str) -> bool:
    """Whether an Accept header names exactly this media type or a matching wildcard, or is absent."""
    if accept is None:
        return True
    main = media_type.partition("/")[0]
    names = {item.partition(";")[0].strip().lower() for item in accept.split(",")}
    return not names.isdisjoint({media_type, "*/*", f"{main}/*"})


def timeouts_in(header: Callable[[bytes], str | None]) -> tuple[float | None, float | None]:
    """What the caller grants this call: idle and total seconds, from ``agentgw-idle-timeout`` and
    ``agentgw-total-timeout`` ("30s", "2m", or seconds); None: what the agent is allowed anyway. ``header``
    gives a header's value. Raises InvalidRequest for what is no positive duration."""
    return _timeout(header, _IDLE), _timeout(header, _TOTAL)


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
    except UNREADABLE as e:
        raise InvalidRequest("the request body is not valid JSON") from e
    if not isinstance(value, dict):
        raise InvalidRequest("the request body is not a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]
