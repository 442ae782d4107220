"""Event streams of the handshake era that a client may come back to.

2025-11-25, basic/transports, "Resumability and Redelivery": every event has an id, ``{stream}-{number}``,
unique in its session. A client that lost its connection, or whose stream the server ended before the answer
(to be polled), sends GET with ``Last-Event-ID`` and gets what it missed of that very stream, in order.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence

from ....gateway.http.request import ClientGone, EventStream, Request
from .kept import Kept
from .outbox import KEEP_ALIVE

RETRY = 1000  # milliseconds until a client comes back, unless the agent's server names another time
EVENTS = 1000  # that a session keeps for clients that come back; past it the oldest are lost
BYTES = 1 << 20
ALL_BYTES = 64 << 20  # that all sessions keep: past it who gained nothing for longest loses the oldest
KEPT = 60.0  # seconds that a stream is kept after its end was sent: the end may have been lost on the way
_EVENT_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_ROOM = 100  # events that a connected client may be behind before who sends has to wait
Headers = Sequence[tuple[bytes, bytes]]


class Stream:
    """One stream's events, numbered from 1. Made by ``Streams``, which counts what is kept."""

    __slots__ = (
        "_connection", "_events", "_hung_up", "_known", "_left", "_moved", "_retry", "_streams", "_told",
        "_wanted", "ended", "last", "number", "on_begun", "size",
    )  # fmt: skip

    def __init__(self, streams: Streams, number: int) -> None:
        self.number = number
        self.ended = False
        self.size = 0
        self.last = 0  # the newest event's number
        self._streams = streams
        self._events = Kept()
        self._told = 0
        self._known = False  # to the client: it has seen an id, so it can come back
        self._left = False  # the client: it has been here, or never was
        self._connection: object | None = None
        self._wanted = False
        self._hung_up = False
        self._retry: int | None = None
        self._moved: asyncio.Event | None = None  # set at the next change, once somebody waits for that
        self.on_begun: Callable[[], None] | None = None  # called once there is something to tell

    @property
    def kept(self) -> int:
        """How many events are kept."""
        return len(self._events)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def reachable(self) -> bool:
        """Whether what is sent may be read: by a client that is there, or that knows where to come back."""
        return self._known or not self._left

    @property
    def idle(self) -> bool:
        """Whether there is nothing yet that would need a stream."""
        return not (self.last or self._wanted or self._hung_up)

    @property
    def over(self) -> bool:
        """Whether the client was told everything."""
        return self.ended and self._told >= self.last

    # --- writing -----------------------------------------------------------------------------

    def append(self, message: bytes) -> None:
        """Add an event. After the end, or when nobody can come for it: dropped."""
        if self.ended or not self.reachable:
            return
        self.last += 1
        self._events.append(message, awaited=not self._left)
        self.size += len(message)
        self._streams.added(self, len(message))
        self._wake()

    def end(self) -> None:
        """Nothing follows: the connection is closed once all is told."""
        self.ended = True
        self._rest()
        self._wake()

    def want(self) -> None:
        """The client shall be able to come back even if nothing is sent before the answer."""
        self._wanted = True
        self._wake()

    def hang_up(self, retry: float | None = None) -> None:
        """Close the connection now; the stream goes on and the client comes back, after ``retry`` seconds."""
        if self._left:
            return
        self._hung_up = True
        self._retry = RETRY if retry is None else int(retry * 1000)
        self._wake()

    def leave(self) -> None:
        """The client is not here; if it knows no id either, nobody can come back."""
        self._left = True
        self._rest()
        self._wake()

    def _rest(self) -> None:
        """What nothing follows and nobody is here for takes less room."""
        if self.ended and self._left and not self.over:
            self._events.rest()

    @property
    def crowded(self) -> bool:
        """Whether a connected client is far behind: who reads slowly is sent to slowly."""
        return self.connected and self.last - self._told > _ROOM

    async def room(self) -> None:
        """Wait while it is crowded."""
        while self.crowded:
            await self._next().wait()

    def drop(self) -> int:
        """Forget the oldest event; how many bytes it had. 0: there is none that may be forgotten (it is yet
        to be told to a client that is here, or is the answer)."""
        oldest = self.last - len(self._events) + 1
        owed = not self._left and oldest > self._told and not self._flooded
        if len(self._events) <= (1 if self.ended else 0) or owed:
            return 0
        size = len(self._events.drop())
        self.size -= size
        return size

    @property
    def _flooded(self) -> bool:
        """Whether it is the client's own, which nobody who sends ever waits for, and too much is untold: a
        client that stays and does not read loses the oldest."""
        return self.number == 0 and self.kept > 1 and (self.kept > EVENTS or self.size > BYTES)

    def _wake(self) -> None:
        if self._moved is not None:
            self._moved.set()
            self._moved = None
        if self.on_begun is not None and not self.idle:
            self.on_begun()

    def _next(self) -> asyncio.Event:
        """The next change."""
        if self._moved is None:
            self._moved = asyncio.Event()
        return self._moved

    # --- telling -----------------------------------------------------------------------------

    async def serve(self, request: Request, headers: Headers, after: int, *, prime: bool) -> bool:
        """Answer ``request`` with the events after number ``after``, until the end, or until the stream is
        hung up or another connection takes over. False: the client left. ``prime``: begin with an event
        that has an id and no data, so that it can come back from the start (not for clients of before
        2025-11-25, which read every event as JSON)."""
        me = self._connection = object()
        self._left = False
        self._wake()  # one that is still open ends
        stream = await request.events(headers=headers)
        try:
            async with stream:
                await self._open(stream, after, prime)
                return await self._follow(stream, after, me)
        except ClientGone:
            return False
        finally:
            if self._connection is me:
                self._connection = None
                self._left = True
                self._rest()
            self._wake()

    async def _open(self, stream: EventStream, after: int, prime: bool) -> None:
        if prime:
            self._known = True
            self._streams.keep(self)
            await stream.write(f"id: {self.number}-{after}\nretry: {RETRY}\ndata: \n\n".encode())
        else:
            await stream.comment()  # so that the client sees at once that it is connected

    async def _follow(self, stream: EventStream, at: int, me: object) -> bool:
        gone = asyncio.create_task(stream.gone.wait())
        try:
            while True:
                moved = self._next()
                while at < self.last and self._connection is me and not gone.done():
                    at = max(at, self.last - len(self._events)) + 1
                    event = self._events[at - self.last - 1]
                    self._known = True
                    await stream.send(event, event="message", id=f"{self.number}-{at}")
                    self._told = max(self._told, at)
                    self._wake()
                if self.ended and at >= self.last:
                    self._streams.told(self)
                    return True
                if self._connection is not me:
                    return True
                if self._hung_up:
                    self._hung_up = False
                    await stream.write(f"retry: {self._retry}\n\n".encode())
                    return True
                if gone.done():
                    return False
                await self._wait(stream, moved, gone)
        finally:
            gone.cancel()

    async def _wait(self, stream: EventStream, moved: asyncio.Event, gone: asyncio.Task[bool]) -> None:
        woken = asyncio.create_task(moved.wait())
        try:
            done, _ = await asyncio.wait(
                (woken, gone), timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                await stream.comment()
        finally:
            woken.cancel()


class Total:
    """What the streams of several sessions keep: ``most`` bytes."""

    def __init__(self, most: int = ALL_BYTES) -> None:
        self.most = most
        self.bytes = 0
        self._order: OrderedDict[Streams, None] = OrderedDict()  # who gained nothing for longest comes first

    def add(self, streams: Streams, size: int) -> None:
        """These streams keep so many bytes more. What is yet to be told to a client that is here stays."""
        self.bytes += size
        self._order[streams] = None
        self._order.move_to_end(streams)
        tries = len(self._order)
        while self.bytes > self.most and tries:
            oldest = next(iter(self._order))
            if not oldest.shrink():
                self._order.move_to_end(oldest)
                tries -= 1

    def drop(self, streams: Streams, size: int) -> None:
        """These keep so many less."""
        self.bytes -= size
        if not streams.bytes:
            self._order.pop(streams, None)


class Streams:
    """One session's streams: those of its POSTs that had to become one, and 0, the client's own (GET).
    ``total``: what they are counted in, among those of other sessions, if anything."""

    __slots__ = ("_events", "_numbers", "_streams", "bytes", "own", "total")

    def __init__(self) -> None:
        self.own = Stream(self, 0)
        self.own.leave()  # nobody has opened it yet
        self.total: Total | None = None
        self._streams: dict[int, Stream] = {0: self.own}
        self._numbers = itertools.count(1)
        self._events = 0
        self.bytes = 0  # that are kept

    def new(self) -> Stream:
        """A stream for one POST; kept from its first event on."""
        return Stream(self, next(self._numbers))

    def find(self, event_id: str) -> tuple[Stream, int] | None:
        """The stream that an event stands in and the event's number; None for what is not (or no longer)
        known here."""
        match = _EVENT_ID.fullmatch(event_id)
        if match is None:
            return None
        found, number = self._streams.get(int(match[1])), int(match[2])
        return None if found is None or number > found.last else (found, number)

    def keep(self, stream: Stream) -> None:
        """A client learns that the stream exists."""
        self._streams[stream.number] = stream

    def added(self, stream: Stream, size: int) -> None:
        """Count an event; past the bounds forget what was told to its end, then the oldest."""
        self.keep(stream)
        self._count(1, size)
        while self._events > EVENTS or self.bytes > BYTES:
            if not self.shrink():
                return

    def _count(self, events: int, size: int) -> None:
        self._events += events
        self.bytes += size
        if self.total is None:
            return
        if size > 0:
            self.total.add(self, size)
        else:
            self.total.drop(self, -size)

    def close(self) -> None:
        """The session has ended: nobody can come back."""
        self.total, total, kept = None, self.total, self.bytes
        self._streams, self._events, self.bytes = {}, 0, 0
        if total is not None:
            total.drop(self, kept)

    def shrink(self) -> bool:
        """Forget the least that can be; False if nothing can."""
        for stream in self._streams.values():
            if stream.over:
                self.forget(stream)
                return True
        for stream in self._streams.values():
            if size := stream.drop():
                self._count(-1, -size)
                return True
        abandoned = next((s for s in self._streams.values() if s.ended and not s.connected), None)
        if abandoned is not None:
            self.forget(abandoned)
        return abandoned is not None

    def told(self, stream: Stream) -> None:
        """The stream's end was sent: it is kept for a while."""
        asyncio.get_running_loop().call_later(KEPT, self.forget, stream)

    def forget(self, stream: Stream) -> None:
        """Keep the stream no longer."""
        if self._streams.get(stream.number) is stream:
            del self._streams[stream.number]
            self._count(-stream.kept, -stream.size)
