"""One task's event log: appended by its runner, read by any number of subscribers from any point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from time import time_ns

from .errors import Draining
from .history import History, LoadEvents
from .lifecycle import PIECES, TERMINAL
from .light import MOST
from .model import Event, Logged, Place, Started, Task, TaskRef, TaskState
from .pace import NEAR, Pace, Reader
from .store import StoredTask
from .timestamps import now
from .waiting import Timer

_SUBMITTED, _WORKING = TaskState.SUBMITTED, TaskState.WORKING  # to find them in their class takes longer
WAITING = 200  # pieces of an answer that may wait for more, to be written together with it,
PASSES = 5  # and at which writing they are written, be they as few as they may
ALONE = 8  # pieces that may wait where nobody follows: of many whose clients have gone memory would be full
LONG = 4096  # characters of a text to which more is not joined where nobody follows
_NOBODY = Pace()  # of all logs that nobody reads
Reached = Callable[["TaskLog"], bool]  # whether what somebody waits for has come


class TaskLog(History):
    """A task's history while it goes on. Implements ``ports.TaskHandle``.

    ``runner`` is at work on it; ``watchers``: how many follow it. ``noted``: whether the book knows that it
    has changed since it was written; ``booked``: the state by which the book has it, ``weight``: roughly the
    bytes held, as the book counts them.

    Whoever follows a task that is ``left`` to the next process of the gateway gets Draining raised.
    """

    __slots__ = (
        "_came", "_pace", "_passed", "_waiting", "booked", "canceled_by_client", "left", "noted",
        "runner", "watchers", "weight",
    )  # fmt: skip

    def __init__(
        self,
        task: Task,
        principal: str,
        load: LoadEvents,
        *,
        upstream: TaskRef | None = None,
        last_seq: int = 0,
        relayed: bool = False,
    ) -> None:
        History.__init__(self, task, principal, load, upstream, last_seq, relayed)
        self.weight = self.watchers = 0
        self.runner: asyncio.Task[None] | None = None
        self.booked: TaskState | None = None
        self.canceled_by_client = self.noted = self.left = False
        self._came = 0  # how many events were logged the last time
        self._passed = 0  # how often what there is was not written
        # What somebody waits for, and whether it has come: False when it is too late.
        self._waiting: list[tuple[Reached, asyncio.Future[bool]]] = []
        self._pace = _NOBODY

    @property
    def running(self) -> bool:
        """Whether a runner is at work on it."""
        return self.runner is not None and not self.runner.done()

    def append(self, *events: Event) -> None:
        """Log events, fold them into the task, wake who waits for them. After the end: ignored."""
        at, before = now(), self.last_seq
        if self._light or self._pace.readers or not self._advance(events, at):
            for event in events:
                if self.settled_now and self.state in TERMINAL:
                    break
                self._log(Logged(self.last_seq + 1, at, event))
        self._came = self.last_seq - before
        if self._came and self._waiting:
            self._wake()

    def more(self, text: str, place: Place) -> bool:
        """``append`` of ``place.event(text)``, where who follows the task takes it at once, and that is all
        there is to do now: the event is put together later, with others. Where nobody follows, texts that
        continue one another become one event. False: it was not appended."""
        reader = self._pace.only
        if reader is None:
            return self._unheard(text, place)
        if reader.more is None or not self._grows or not self.noted or self._waiting:
            return False
        wake, last_seq = reader.wake, self.last_seq
        if wake is None or wake.done() or reader.read != last_seq:
            return False
        size = self._said + len(text)
        if size > MOST:
            return False
        try:
            if not reader.more(text, place):
                return False
        except Exception as e:  # as in ``_offer``
            wake.set_exception(e)
            return False
        self._said = size
        self._texts.append((time_ns() // 1_000_000, text, place))
        self.last_seq = reader.read = last_seq + 1
        return True

    def _unheard(self, text: str, place: Place) -> bool:
        """``more``, while nobody follows."""
        size = self._said + len(text)
        if size > MOST or self._pace.readers or not self._grows or not self.noted or self._waiting:
            return False
        self._said = size
        texts = self._texts
        if texts and texts[-1][2] == place and len(texts[-1][1]) < LONG:
            text = texts.pop()[1] + text
        else:
            self.last_seq += 1
        texts.append((time_ns() // 1_000_000, text, place))
        return True

    def _log(self, logged: Logged) -> None:
        event = logged.event
        if self._light or self.state is _SUBMITTED or type(event) not in PIECES:
            self._pressing = logged.seq
        self._saw(event)
        if self._light:
            self._fold(logged)
        self.last_seq = logged.seq
        (self._events if self._texts else self._logged).append(logged)
        if self._said > MOST and not self._light:
            self._lighten()
        if type(event) is Started:
            self._named(event)
        for reader in self._pace.readers:
            self._offer(reader, logged)

    def _offer(self, reader: Reader, logged: Logged) -> None:
        """To a reader, if it waits, the event that comes next."""
        wake = reader.wake
        if wake is None or wake.done():
            return
        if reader.read < logged.seq:
            try:
                taken = reader.taker is not None and reader.taker(logged)
            except Exception as e:  # who reads has to do with it, not the agent that is listened to
                wake.set_exception(e)
                return
            if not taken:
                wake.set_result(None)
                return
            self._pace.at(reader, logged.seq)
        if self.settled_now:
            wake.set_result(None)

    def room(self) -> asyncio.Future[None] | None:
        """What to wait for before more is logged; None while somebody who reads the log keeps up, or nobody
        does read it. One that says much waits for the store, too, as long as that takes what there is."""
        if (writes := self._room()) is not None:
            return writes
        last_seq = self.last_seq
        readers = self._pace.readers
        for reader in readers:
            if last_seq - reader.read <= NEAR:
                return None
        return self._pace.room(last_seq, self._events, self._came) if readers else None

    def replace(self, task: Task) -> None:
        """Take over what a relay saw of the task."""
        if self.state not in TERMINAL:
            self._task, self._folding, self._folded = task, None, self.last_seq
            self._light = False
            self._moved(task.state)
            self.context_id = task.context_id
            for reader in self._pace.readers:
                if self.settled_now and reader.wake is not None and not reader.wake.done():
                    reader.wake.set_result(None)
            self._wake()

    def _wake(self) -> None:
        for reached, waiter in self._waiting:
            if not waiter.done() and reached(self):
                waiter.set_result(True)

    async def _until(self, reached: Reached, within: Timer | None = None) -> None:
        """Wait for the next change after which ``reached`` is true. Raises TimeoutError once ``within`` has
        passed."""
        if self.left:
            raise Draining
        # To ask asyncio for the loop costs a system call.
        loop = asyncio.get_running_loop() if self.runner is None else self.runner.get_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        waiting, late = (reached, waiter), partial(_is_late, waiter)
        self._waiting.append(waiting)
        self.watchers += 1
        if within is not None:
            within.start(late)
        try:
            if not await waiter:
                raise TimeoutError
        finally:
            if within is not None:
                within.stop(late)
            self.watchers -= 1
            self._waiting.remove(waiting)

    def leave(self) -> None:
        """This process does not go on with it, another will."""
        self.left = True
        wakes = [reader.wake for reader in self._pace.readers if reader.wake is not None]
        for waiter in (*wakes, *(waiter for _, waiter in self._waiting)):
            if not waiter.done():
                waiter.set_exception(Draining())

    async def events(
        self,
        after: int = 0,
        taker: Callable[[Logged], bool] | None = None,
        more: Callable[[str, Place], bool] | None = None,
    ) -> AsyncGenerator[Logged]:
        if self._pace is _NOBODY:
            self._pace = Pace()
        reader, pace = Reader(after, taker, more), self._pace
        self.watchers += 1
        try:
            if after < self._first:
                stored = await self._stored(after)
                reader.read = self._first
                pace.joins(reader)
                for logged in stored:
                    yield logged
            else:
                pace.joins(reader)
            while True:
                while reader.read < self.last_seq:
                    yield self._events[reader.read - self._first]
                    pace.at(reader, reader.read + 1)
                if self.settled_now:
                    return
                await self._more(reader)
        finally:
            self.watchers -= 1
            pace.leaves(reader)
            self._put_together()  # nothing is added to what was told
            self._trim()

    async def _more(self, reader: Reader) -> None:
        """Wait until there is something that ``reader`` has to read itself, or nothing more comes."""
        if self.left:
            raise Draining
        reader.wake = asyncio.get_running_loop().create_future()
        try:
            await reader.wake
        finally:
            reader.wake = None

    async def settled(self, within: Timer | None = None) -> Task:
        if not self.settled_now:
            await self._until(_is_settled, within)
        return self.task

    async def changed(self) -> None:
        """Wait for the next change, whatever it is."""
        await self._until(_anything)

    async def ended(self) -> Task:
        """Wait for the end itself, through any questions."""
        if self.state not in TERMINAL:
            await self._until(_has_ended)
        return self.task

    async def begun(self) -> TaskRef | None:
        """Wait until the agent has said what it calls the task; None if it ended without."""
        if self.upstream is None and self.state not in TERMINAL:
            await self._until(_has_begun)
        return self.upstream

    def waits(self) -> bool:
        """Whether it is passed by for now: all that is not written is a few pieces of an answer under way. A
        writing costs by the task, not by its pieces."""
        if self.settled_now or self.relayed or self._light:
            return False
        self._passed += 1
        return (
            self._passed < PASSES
            and self._pressing <= self.stored
            and self._saved is self.state
            and self.last_seq - self.stored <= (WAITING if self.watchers else ALONE)
        )

    def saved(self, snapshot: StoredTask | None, seq: int) -> None:
        History.saved(self, snapshot, seq)
        if not seq:
            return
        self._passed = 0
        if self.runner is not None and self.runner.done():
            self.runner = None  # with all that a finished coroutine holds: of many that wait it would be most
        self._trim()

    def _trim(self) -> None:
        """Let go of the events that the store has and everybody who follows has read."""
        readers = self._pace.readers
        self._let_go(min(self.stored, self._pace.slowest(self.stored)) if readers else self.stored)


def _is_late(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


def _anything(_: TaskLog) -> bool:
    return True


def _is_settled(entry: TaskLog) -> bool:
    return entry.settled_now


def _has_ended(entry: TaskLog) -> bool:
    return entry.state in TERMINAL


def _has_begun(entry: TaskLog) -> bool:
    return entry.upstream is not None or entry.state in TERMINAL
