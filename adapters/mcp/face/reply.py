"""The answer to one POST: plain JSON, unless something comes before the result; then an event stream.

The work is done in the request's own task: most answers are there in no time, and need nobody to watch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from ....gateway import sse
from ....gateway.http.request import JSON_HEADERS, ClientGone, EventStream, Request
from ....gateway.waiting import Timers
from .outbox import KEEP_ALIVE
from .streams import Stream

PRIMED_AFTER = 1.0  # seconds of silence after which a client gets an id to come back with


class Outcome(msgspec.Struct, frozen=True):
    """A JSON-RPC answer and the HTTP status it has when it goes out as plain JSON."""

    message: bytes
    status: int = 200


class Reply:
    """Answers ``request``, with ``headers``. ``send`` may be called from several tasks; after the client
    left it drops."""

    def __init__(self, request: Request, timers: Timers, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._request = request
        self._timers = timers
        self.headers = headers
        self._stream: EventStream | None = None
        self._opening: asyncio.Lock | None = None
        self._over = False
        self._passing: bool | None = None  # whether a result passes in pieces; None: none has
        self._beats: set[asyncio.Task[None]] = set()

    async def send(self, message: bytes) -> bool:
        """Send a message before the result; whether anybody may have got it."""
        try:
            await (await self._open()).send(message, event="message")
        except ClientGone:
            return False
        return True

    def send_now(self, messages: Sequence[bytes]) -> bool:
        """Send messages before the result where nothing has to be waited for; False: none was sent."""
        stream, opening = self._stream, self._opening
        if stream is None or self._over or opening is None or opening.locked():
            return False
        return stream.write_now(b"".join([sse.encode(message, event="message") for message in messages]))

    async def _open(self) -> EventStream:
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._over:
                raise ClientGone
            if self._stream is None:
                self._stream = await self._request.events(headers=self.headers)
            return self._stream

    @property
    def can_pass(self) -> bool:
        """Whether the result may pass in pieces: nothing of the answer has been sent."""
        return self._opening is None and not self._over

    @property
    def passes(self) -> bool:
        """Whether it has begun to pass in pieces."""
        return self._passing is not None

    async def pass_on(self, begin: bytes, pieces: AsyncIterator[bytes]) -> None:
        """Answer with one JSON document that begins with ``begin``, piece by piece, as the client takes it.
        Raises ClientGone. What ``pieces`` raises after the first leaves the answer without its end, and
        ``finish`` cuts it."""
        first = await anext(pieces)
        self._over = self._passing = True
        wire = self._request.wire
        await self._request.begin(200, [*JSON_HEADERS, *self.headers])
        await wire.write(begin + first)
        async for piece in pieces:
            await wire.write(piece)
            if wire.gone:
                raise ClientGone
        await wire.end()
        self._passing = False

    async def prime(self) -> None:
        """Answer with a stream that the client can come back to, where its era has such."""
        return

    async def hang_up(self, retry: float) -> None:
        """Let the client come back for the rest, in ``retry`` seconds, where its era can do that."""
        return

    def watch(self, cancel: Callable[[], None]) -> None:
        """From now on it is worked for the answer, until ``unwatch``. ``cancel`` is called when the client
        leaves before the answer was sent."""
        self._request.wire.on_gone(lambda: self._leave(cancel))
        self._timers.of(KEEP_ALIVE).start(self._beat)

    def unwatch(self) -> None:
        """There is an outcome, for ``finish``, or there will be none."""
        self._timers.of(KEEP_ALIVE).stop(self._beat)

    def abandon(self) -> None:
        """There is no outcome: what is open ends without one."""
        return

    def _beat(self) -> None:
        """Nothing was said for a while: a comment keeps idle connections open."""
        beat = asyncio.create_task(self._idle())
        self._beats.add(beat)
        beat.add_done_callback(self._beats.discard)
        self._timers.of(KEEP_ALIVE).start(self._beat)

    async def _idle(self) -> None:
        with contextlib.suppress(ClientGone):
            await (await self._open()).comment()

    def finish(self, outcome: Outcome) -> Awaitable[None]:
        """Send the result; nothing follows. One that passed in pieces was sent."""
        if self._passing is not None or self._opening is not None:
            return self._finished(outcome)
        self._over = True
        return self._request.respond(outcome.status, outcome.message, headers=self.headers)

    async def _finished(self, outcome: Outcome) -> None:
        """The same, where something was sent before it, or was to be."""
        if self._passing is not None or self._opening is None:
            self._cut()
            return
        async with self._opening:
            self._over = True
        if self._stream is None:
            await self._request.respond(outcome.status, outcome.message, headers=self.headers)
            return
        with contextlib.suppress(ClientGone):
            await self._stream.send(outcome.message, event="message")
        await self._stream.close()

    def _cut(self) -> None:
        """What began to pass and did not come to its end must not look whole."""
        broken, self._passing = self._passing, False
        if broken:
            self._request.wire.cut()

    def _leave(self, cancel: Callable[[], None]) -> None:
        if self._passing:
            cancel()
        elif not self._over:
            self._over = True
            if self._stream is not None:
                self._stream.leave()
            cancel()


class ResumableReply(Reply):
    """For the handshake era: what became a stream can be taken up again. ``primes``: the client knows
    events without data (from 2025-11-25 on)."""

    def __init__(
        self,
        request: Request,
        timers: Timers,
        headers: Sequence[tuple[bytes, bytes]],
        stream: Callable[[], Stream],
        *,
        primes: bool,
    ) -> None:
        super().__init__(request, timers, headers)
        self._new = stream
        self._primes = primes
        self._patience = timers.of(PRIMED_AFTER if primes else KEEP_ALIVE)
        self._known: Stream | None = None
        self._serving: asyncio.Task[bool] | None = None

    @property
    def can_pass(self) -> bool:
        return self._serving is None and self._known is None

    @property
    def _events(self) -> Stream:
        if self._known is None:
            self._known = self._new()
            self._known.on_begun = self._serve
        return self._known

    async def send(self, message: bytes) -> bool:
        if self._passing is not None:
            return False
        self._events.append(message)
        await self._events.room()
        return self._events.reachable

    def send_now(self, messages: Sequence[bytes]) -> bool:
        events = self._known
        if self._passing is not None or events is None or events.crowded:
            return False
        for message in messages:
            events.append(message)
        return True

    async def prime(self) -> None:
        if self._primes:
            self._events.want()

    async def hang_up(self, retry: float) -> None:
        if self._primes:
            self._events.hang_up(retry)

    def watch(self, cancel: Callable[[], None]) -> None:
        """See ``Reply.watch``; who leaves cancels nothing (2025-11-25, basic/transports: a lost connection is
        no cancellation)."""
        self._request.wire.on_gone(self._left)
        self._patience.start(self._serve)

    def unwatch(self) -> None:
        self._patience.stop(self._serve)

    def abandon(self) -> None:
        if self._serving is not None:
            self._serving.cancel()

    def finish(self, outcome: Outcome) -> Awaitable[None]:
        if self._passing is None and self._serving is None and self._known is None:
            return self._request.respond(outcome.status, outcome.message, headers=self.headers)
        return self._finished(outcome)

    async def _finished(self, outcome: Outcome) -> None:
        if self._passing is not None:
            self._cut()
            return
        self._events.append(outcome.message)
        self._events.end()
        if self._serving is not None:
            await self._serving

    def _serve(self) -> None:
        """From here on the answer is a stream."""
        if self._serving is None and self._passing is None:
            events = self._events
            events.on_begun = None
            served = events.serve(self._request, self.headers, 0, prime=self._primes)
            self._serving = asyncio.create_task(served)

    def _left(self) -> None:
        if self._serving is None and self._passing is None:
            self._events.on_begun = None
            self._events.leave()
