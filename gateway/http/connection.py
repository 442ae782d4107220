"""One client's HTTP/1.1 connection: requests are read, bounded, and answered one after the other.

A head past the limit becomes a request marked ``too_large`` with what was read of it, so that its door can
say no in its own form; the connection ends with the answer, and nothing more is read from it. Time is
counted, too: a client that stops in the middle of a request would hold its place, and what it sent, for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from .heads import KnownHeads
from .incoming import Incoming
from .parsing import BadRequest, Parser

PATIENCE = 30.0  # seconds without (much of) the rest of a request, or without a first one
IDLE = 75.0  # seconds between two requests
STALLED = 60.0  # seconds in which a client takes nothing of what it is being sent
SLOWEST = 1024  # bytes a second that a client may be as slow as for longer than its patience
QUEUED = 8  # pipelined requests that wait before reading pauses
LINGER = 2.0  # seconds, and
DROPPED = 1 << 20  # bytes, in which a client that was refused may go on sending
_BAD = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 12\r\nconnection: close\r\n\r\nInvalid HTTP"
)


class Home:
    """What all connections share. ``handle`` answers a request. ``limit``: bytes of request line and headers
    (trailers and chunk extensions count alike). ``emptied`` is set when the last one ends while closing."""

    def __init__(self, handle: Callable[[Incoming], Awaitable[None]], limit: int) -> None:
        self.handle = handle
        self.limit = limit
        self.heads = KnownHeads()
        self.patience = PATIENCE
        self.idle = IDLE
        self.stalled = STALLED
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.closing = False
        self.emptied = asyncio.Event()


class Connection(asyncio.Protocol):
    """Implements ``incoming.Line`` and ``parsing.Taker``."""

    __slots__ = (
        "_answering", "_drained", "_dropped", "_due", "_held", "_home", "_loop", "_over", "_parser",
        "_reading", "_refused", "_sent", "_taken", "_task", "_timer", "_took", "_transport", "_waiting",
        "idle_since", "paused",
    )  # fmt: skip

    def __init__(self, home: Home) -> None:
        self._home = home
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser: Any = Parser(self, home.limit, home.heads)
        self._answering: Incoming | None = None
        self._task: Any = None  # which answers it
        self._reading: Incoming | None = None  # whose body is not complete yet
        self._waiting: list[Incoming] = []  # pipelined
        self._held = False
        self.paused = False  # the client is slow to read
        self._drained: asyncio.Future[None] | None = None
        self._refused = False  # what comes is not read any more
        self._over = False  # nothing is sent any more
        self._dropped = 0
        self._due = 0.0  # when patience ends, in the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0  # in the loop's time; 0: not idle
        self._sent = 0  # bytes of answers
        self._taken, self._took = 0, 0.0  # of them, by the system; and since when that many, as last seen

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._home.connections.add(self)
        self.idle_since = self._loop.time()
        self._await_more(0)
        if self._home.closing:
            self.end()

    def eof_received(self) -> None:
        """Who says no more has left, though it might still listen: no client of ours does that, and a call
        whose client has died looks just so."""
        self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._home.connections.discard(self)
        if self._home.closing and not self._home.connections:
            self._home.emptied.set()
        self._leave()
        self._parser.close()
        self._parser = None  # it holds on to this object

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._dropped += len(data)
            if self._over and self._dropped > DROPPED:
                self.cut()
            return
        try:
            within = self._parser.feed(data)
        except BadRequest:
            self._broken()
            return
        if not within:
            self._refuse()
        elif self._parser.foreign:
            self._refused = True
        elif self._reading is not None or self._parser.in_head:
            self.idle_since = 0.0
            self._await_more(len(data))
        elif self._timer is not None:
            self._await_nothing()

    def _refuse(self) -> None:
        """Something has no end. If it is a head, that can be answered."""
        if self._parser.in_head:
            self._refused = True
            self._parser.give_up()
        else:
            self._broken()

    def _broken(self) -> None:
        """What came is no request. What was asked before is answered first."""
        self._refused = True
        bad = self._reading
        if self._waiting and self._waiting[-1] is bad:
            self._waiting.pop()
        last = self._waiting[-1] if self._waiting else self._answering
        if last is not None and last is not bad:
            last.keep_alive = False
        else:
            if bad is None or not bad.begun:
                self._transport.write(_BAD)
            self._hang_up()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
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
        """The time to end may have come; not while it is us who do not read on, or owe an answer."""
        self._timer = None
        if self._held or (self._answering is not None and self._answering is not self._reading):
            self._await_more(0)
        elif self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
        else:
            self.end()

    # --- from the parser -------------------------------------------------------------------------

    def on_request(self, incoming: Incoming) -> None:
        if self._over:
            return
        self.idle_since = 0.0
        self._reading = incoming
        self._next(incoming)

    def on_whole(self, incoming: Incoming) -> None:
        if self._over:
            return
        self.idle_since = 0.0
        if self._answering is None:
            self._serve(incoming)
        else:
            self._next(incoming)

    def _next(self, incoming: Incoming) -> None:
        """It is answered when its turn has come."""
        if self._answering is None:
            self._serve(incoming)
        else:
            self._waiting.append(incoming)
            if len(self._waiting) == QUEUED:  # before that we read on, to learn when the client leaves
                self.hold()

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.feed(body)

    def on_message_complete(self) -> None:
        incoming, self._reading = self._reading, None
        if incoming is not None:
            incoming.finish()
            if self._answering is None:
                self._rest(incoming)

    # --- for requests ----------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        name: tuple[str, ...] | str | None = self._transport.get_extra_info("peername")
        return name[0] if isinstance(name, tuple) else ""  # a local socket's is a text

    def send(self, data: bytes) -> None:
        if not self._over:
            self._sent += len(data)
            self._transport.write(data)

    async def room(self) -> None:
        """Wait while the client is slow; no longer when it has left."""
        while self.paused:
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
            if not self._over:
                self._transport.resume_reading()

    def answered(self, incoming: Incoming) -> None:
        if not incoming.keep_alive and (incoming.complete or self._refused):
            self._hang_up()
        elif self._held:
            self.go_on()  # what is left of its body is read and dropped

    # --- one after the other -----------------------------------------------------------------------

    def _serve(self, incoming: Incoming) -> None:
        self._answering = incoming
        self._task = self._loop.create_task(self._answer(incoming))
        self._home.tasks.add(self._task)

    async def _answer(self, incoming: Incoming) -> None:
        try:
            await self._home.handle(incoming)
        finally:
            self._answering = None
            self._home.tasks.discard(self._task)
            self._task = None
            if not incoming.done:  # nobody answered to the end: say so in the only way that is left
                incoming.done = True
                self.end()
            self._rest(incoming)

    def _rest(self, incoming: Incoming) -> None:
        """Go on to the next request when this one was both read and answered."""
        if self._answering is not None or not incoming.complete or self._over:
            return
        if not incoming.keep_alive:
            self._hang_up()
        elif self._waiting:
            self._serve(self._waiting.pop(0))
            self.go_on()
        elif self._reading is None and not self._parser.in_head:
            self.idle_since = self._loop.time()

    # --- the end ---------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Nothing goes to the client any more."""
        self._over = True
        self._await_nothing()
        self.resume_writing()
        for incoming in (self._answering, self._reading):
            if incoming is not None:
                incoming.leave()
        self._reading = None

    def _hang_up(self) -> None:
        """Close. A client that may be sending still is listened to for a moment: else its system would learn
        that nobody reads, and might drop the answer (RFC 9112, 9.6)."""
        if not self._refused:
            self.end()
        elif not self._over:
            self._leave()
            self._dropped = 0
            self._transport.write_eof()
            self._transport.resume_reading()
            self._timer = self._loop.call_later(LINGER, self.end)

    def end(self) -> None:
        """Close; what was written still goes out."""
        if not self._transport.is_closing():
            self._leave()
            self.idle_since = self._loop.time()
            self._transport.close()

    def retire(self) -> None:
        """Close when what is under way has been answered."""
        if self._answering is None:
            self.end()
        else:
            self._answering.keep_alive = False

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long; nor wait any longer for a client to take what was written.
        ``now``: the loop's time."""
        if 0 < self.idle_since < now - self._home.idle:
            (self.cut if self._transport.is_closing() else self.end)()
        elif unsent := self._transport.get_write_buffer_size():
            taken = self._sent - unsent
            if taken != self._taken or not self._took:
                self._taken, self._took = taken, now
            elif self._took < now - self._home.stalled:
                self.cut()
        else:
            self._took = 0.0

    def cut(self) -> None:
        """Close at once."""
        self._leave()
        self._transport.abort()
