"""One client's HTTP/1.1 connection: requests are read, bounded, and answered one after the other.

httptools parses, strictly; what it does not bound is bounded here. A head past the limit becomes a request
marked ``head_too_large`` with what was read of it, so that its door can say no in its own form; the
connection ends with the answer, and nothing more is read from it. Nor does anybody else count the time: a
client that stops in the middle of a request would hold its place, and what it sent, for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httptools

from .incoming import Incoming

PATIENCE = 30.0  # seconds without (much of) the rest of a request, or without a first one
IDLE = 75.0  # seconds between two requests
SLOWEST = 1024  # bytes a second that a client may be as slow as for longer than its patience
_BAD = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 12\r\nconnection: close\r\n\r\nInvalid HTTP"
)
Handle = Callable[[Incoming, bool], Awaitable[None]]


class Home:
    """What all connections share. ``handle(request, head_too_large)`` answers a request. ``limit``: bytes of
    request line and headers (trailers and chunk extensions count alike)."""

    def __init__(self, handle: Handle, limit: int) -> None:
        self.handle = handle
        self.limit = limit
        self.patience = PATIENCE
        self.idle = IDLE
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.closing = False


class Connection(asyncio.Protocol):
    """Implements ``incoming.Line``."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser: Any = httptools.HttpRequestParser(self)
        # A request after one that said "connection: close" is not ours to answer, nor an error.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._answering: Incoming | None = None
        self._task: asyncio.Task[None] | None = None
        self._reading: Incoming | None = None  # whose body is not complete yet
        self._waiting: deque[tuple[Incoming, bool]] = deque()  # pipelined
        self._held = self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._in_head = self._heard = self._refused = False
        self._fed = self._unheard = 0  # bytes since the parser last said that something was complete
        self._due = 0.0  # when patience ends, in the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0  # in the loop's time; 0: not idle

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._home.connections.add(self)
        self._await_more(0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._home.connections.discard(self)
        self._await_nothing()
        self.resume_writing()
        for incoming in (self._answering, self._reading, *(i for i, _ in self._waiting)):
            if incoming is not None:
                incoming.leave()
        self._waiting.clear()
        self._parser = None  # it holds on to this object

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._heard = False
        self._fed = self._unheard + len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._broken()
            return
        self._unheard = 0 if self._heard else self._unheard + len(data)
        if self._unheard > self._home.limit:
            self._refuse()
        if self._reading is None and not self._in_head:
            if self._timer is not None:
                self._await_nothing()
        else:
            self._await_more(len(data))

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            # RFC 9110, 7.8: an upgrade may be ignored; what follows is the next request.
            self._parser = httptools.HttpRequestParser(self)
            self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
            if rest := data[e.args[0] :]:
                self._feed(rest)

    def _broken(self) -> None:
        """What came is no HTTP. What was asked before is answered first, if it is being answered."""
        self._refused = True
        if self._answering is None:
            self._transport.write(_BAD)
            self._transport.close()
        elif self._answering is self._reading:
            self._transport.abort()
        else:
            self._answering.keep_alive = False
            self._waiting.clear()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # --- patience --------------------------------------------------------------------------------

    def _await_more(self, size: int) -> None:
        now = self._loop.time()
        if self._timer is None:
            self._due = now + self._home.patience
            self._timer = self._loop.call_at(self._due, self._look)
        else:
            self._due = min(self._due + size / SLOWEST, now + self._home.patience)

    def _await_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The time to end may have come; not while it is us who do not read on."""
        self._timer = None
        if self._held:
            self._await_more(0)
        elif self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
        else:
            self._transport.close()

    # --- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._heard = self._in_head = True
        self.idle_since = 0.0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._continues = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer
            name = name.lower()
            self._headers.append((name, value))
            if name == b"expect" and value.lower() == b"100-continue":
                self._continues = True

    def on_headers_complete(self) -> None:
        self._heard = True
        too_large = False
        if self._fed > self._home.limit:  # else it can't be
            size = sum(len(name) + len(value) + 4 for name, value in self._headers)
            too_large = len(self._url) + size > self._home.limit
        self._begin(too_large, bool(self._parser.should_keep_alive()))

    def _begin(self, too_large: bool, keep_alive: bool) -> None:
        self._in_head = False
        modern = self._parser.get_http_version() == "1.1"
        incoming = self._reading = Incoming(
            self,
            self._parser.get_method().decode("ascii"),
            self._url,
            self._headers,
            keep_alive=keep_alive and modern and not self._home.closing,
            chunked=modern,
            continues=self._continues,
        )
        if self._answering is None:
            self._serve(incoming, too_large)
        else:
            self.hold()
            self._waiting.append((incoming, too_large))

    def on_chunk_header(self) -> None:
        self._heard = True

    def on_body(self, body: bytes) -> None:
        self._heard = True
        if self._reading is not None:
            self._reading.feed(body)

    def on_message_complete(self) -> None:
        incoming, self._reading = self._reading, None
        if incoming is not None:
            incoming.finish()
            self._rest(incoming)

    def _refuse(self) -> None:
        """Answer a head that did not end yet; without one (trailers), just leave."""
        self._refused = True
        if not self._in_head:
            self._transport.close()
            return
        self._url = self._url[: self._home.limit] or b"/"
        self._begin(True, False)

    # --- for requests ----------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    async def room(self) -> None:
        """Wait while the client is slow; no longer when it has left."""
        while self._paused and not self._transport.is_closing():
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def hold(self) -> None:
        """Read no more for now."""
        if not self._held:
            self._held = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read on, unless requests wait that came before their turn."""
        if self._held and not self._waiting:
            self._held = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def answered(self, incoming: Incoming) -> None:
        if not incoming.keep_alive or self._home.closing:
            self._transport.close()
            return
        self.go_on()  # what is left of its body is read and dropped

    # --- one after the other -----------------------------------------------------------------------

    def _serve(self, incoming: Incoming, too_large: bool) -> None:
        self._answering = incoming
        self._task = self._loop.create_task(self._answer(incoming, too_large))
        self._home.tasks.add(self._task)

    async def _answer(self, incoming: Incoming, too_large: bool) -> None:
        try:
            await self._home.handle(incoming, too_large)
        finally:
            self._answering = None
            if self._task is not None:
                self._home.tasks.discard(self._task)
                self._task = None
            if not incoming.done:  # nobody answered to the end: say so in the only way that is left
                incoming.done = True
                self._transport.close()
            self._rest(incoming)

    def _rest(self, incoming: Incoming) -> None:
        """Go on to the next request when this one was both read and answered."""
        if self._answering is not None or not incoming.complete or self._transport.is_closing():
            return
        if self._waiting:
            self._serve(*self._waiting.popleft())
            self.go_on()
        elif self._reading is None and not self._in_head:
            self.idle_since = self._loop.time()

    def retire(self) -> None:
        """Close when what is under way has been answered."""
        if self._answering is None:
            self._transport.close()
        else:
            self._answering.keep_alive = False

    def end(self) -> None:
        """Close now; what was written still goes out."""
        self._transport.close()
