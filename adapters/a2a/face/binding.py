"""What the two HTTP bindings share: which revision a request is in, and sending a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Protocol

from ....gateway.errors import Draining, GatewayError
from ....gateway.http.request import ClientGone, EventStream, Request
from ....gateway.waiting import Timer, Timers, Waiting
from ..codec import Malformed
from ..problems import VERSION, Problem
from ..wire import Op, Version
from .call import Call, as_problem
from .heads import Said

HEARTBEAT = 15.0  # seconds of silence before a stream says that it is alive


def must_agree(head: Said, spoken: Version) -> None:
    """For a request whose method or path is ``spoken``'s: the header (or query parameter) ``A2A-Version``
    must agree; without it the name decides. Raises Problem (-32009)."""
    if head.asked and head.version != spoken:
        words = f"A2A version {head.asked[:20]!r} is not supported here"
        if head.version is not None:
            words = f"this is an operation of A2A {spoken}, not {head.asked}"
        raise Problem(VERSION, words)


class Streams:
    """What the streams of the door share: timers, and that the gateway stops."""

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self._open: set[Callable[[], None]] = set()
        self._closing = False

    def add(self, stop: Callable[[], None]) -> None:
        """To be called when the gateway stops, and at once if it does already."""
        self._open.add(stop)
        if self._closing:
            stop()

    def discard(self, stop: Callable[[], None]) -> None:
        """Not any more."""
        self._open.discard(stop)

    def close(self) -> None:
        """The gateway stops."""
        self._closing = True
        for stop in list(self._open):
            stop()


class Writing(Protocol):
    """How a binding writes results and errors into a stream: in event-stream form."""

    def result(self, result: bytes) -> bytes: ...

    def failure(self, problem: Problem) -> bytes: ...


async def stream(
    request: Request,
    call: Call,
    opening: Callable[[Call], Awaitable[AsyncGenerator[bytes]]],
    streams: Streams,
    writing: Writing,
) -> None:
    """Answer with the results that ``opening`` gives, as they come, until they end, the client leaves
    (ClientGone) or the gateway stops, which cuts the stream. What goes wrong before the answer's head is
    raised; later it is also written into the stream.

    The head waits for the first result, so that an error can still be one of HTTP, but no longer than
    ``HEARTBEAT``: from then on silence is broken by comments, lest a proxy takes the stream for dead."""
    if call.op is Op.SUBSCRIBE:
        request.listens()
    waiting, timers = _Listening(), streams.timers
    request.on_gone(waiting.left)
    streams.add(waiting.stop)
    out = _Out(request, call, writing, timers.of(HEARTBEAT), timers.loop.time)
    call.now, call.framed, call.write_now = out.results_now, writing.result, out.write_now
    try:
        with waiting:
            async with aclosing(await opening(call)) as results:
                async for result in results:
                    await out.write(writing.result(result))
                    del result  # a stream may be silent for long
            await out.write(b"")
        await out.end()
    except (GatewayError, Problem, Malformed) as e:
        if not request.responded:
            raise
        await out.write(writing.failure(as_problem(e, call.span.trace_id)))
        await out.end()
        if e is not waiting.stopping:
            raise
    finally:
        call.now = call.framed = call.write_now = None
        streams.discard(waiting.stop)
        await out.close()


class _Listening(Waiting):
    """A client that is there, until it has ``left`` or the gateway stops."""

    __slots__ = ("stopping",)

    def __init__(self) -> None:
        super().__init__()
        self.stopping: Draining | None = None

    def left(self) -> None:
        self.end(ClientGone())

    def stop(self) -> None:
        if self.stopping is None:
            self.stopping = Draining()
            self.end(self.stopping)


class _Out:
    """The answer: it begins with what is written first, or when nothing was for the timer's time, which is
    filled with comments. ``time``: the loop's."""

    __slots__ = ("_call", "_events", "_request", "_saying", "_time", "_timer", "_writing", "_wrote")

    def __init__(
        self, request: Request, call: Call, writing: Writing, timer: Timer, time: Callable[[], float]
    ) -> None:
        self._request = request
        self._call = call
        self._writing = writing
        self._timer = timer
        self._events: EventStream | None = None
        self._saying: asyncio.Task[None] | None = None
        self._time = time
        self._wrote = self._time()
        timer.start(self._silent)

    async def write(self, raw: bytes) -> None:
        """Send this, in event-stream form; or only begin. Raises ClientGone."""
        if self._saying is not None:
            await self._saying
        events = self._events or await self._begun()
        if raw:
            await events.write(raw)
            self._wrote = self._time()

    def write_now(self, raw: bytes) -> bool:
        """The same, where nothing has to be waited for: else nothing is written, and it is False."""
        if self._saying is not None or self._events is None or not self._events.write_now(raw):
            return False
        self._wrote = self._time()
        return True

    def results_now(self, results: Sequence[bytes]) -> bool:
        """``write_now`` of results."""
        return self.write_now(b"".join([self._writing.result(result) for result in results]))

    async def _begun(self) -> EventStream:
        self._events = await self._request.events(headers=self._call.answered)
        return self._events

    def _silent(self) -> None:
        if self._timer.restart(self._silent, self._wrote):
            return
        self._saying = asyncio.create_task(self._say())

    async def _say(self) -> None:
        with suppress(ClientGone):
            await (self._events or await self._begun()).comment()
        self._saying = None
        self._timer.start(self._silent)

    async def end(self) -> None:
        """All was written."""
        await self.close()
        if self._events is not None:
            await self._events.close()

    async def close(self) -> None:
        """Nothing more is written; without ``end`` the client learns that it is not whole."""
        if self._saying is not None:
            self._saying.cancel()
            await asyncio.wait([self._saying])
        self._timer.stop(self._silent)
