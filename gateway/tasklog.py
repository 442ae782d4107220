"""One task's event log: appended by its runner, read by any number of subscribers from any point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from time import time_ns

from .errors import Draining
from .lifecycle import PAUSED, PIECES, TERMINAL, TURNS, Folding, at_once, next_state
from .light import MOST, SAYS, is_light, light, lightened, said, whole
from .model import (
    Event,
    Logged,
    Place,
    Started,
    Task,
    TaskRef,
    TaskState,
)
from .pace import NEAR, Pace, Reader, size_of
from .store import StoredLog, StoredTask
from .waiting import Timer

SETTLED = TERMINAL | PAUSED
_SUBMITTED, _WORKING = TaskState.SUBMITTED, TaskState.WORKING  # to find them in their class takes longer
UNWRITTEN = 8 * 1024 * 1024  # bytes of a task that says much, which may wait to be written
WAITING = 200  # pieces of an answer that may wait for more, to be written together with it,
PASSES = 5  # and at which writing they are written, be they as few as they may
ALONE = 8  # pieces that may wait where nobody follows: of many whose clients have gone memory would be full
LONG = 4096  # characters of a text to which more is not joined where nobody follows
LoadEvents = Callable[[str, int], Awaitable[Sequence[Logged]]]
Reached = Callable[["TaskLog"], bool]  # whether what somebody waits for has come


_MILLISECONDS = [f".{ms:03d}Z" for ms in range(1000)]


def now() -> str:
    """The time as the model writes it: UTC, milliseconds, ``Z``."""
    return _written(time_ns() // 1_000_000)


def _written(ms: int) -> str:
    return _second(ms // 1000) + _MILLISECONDS[ms % 1000]


@lru_cache(2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class TaskLog:
    """A task with its events. Implements ``ports.TaskHandle``.

    ``state``: its state now; ``settled_now``: whether that is an end, or it waits for input. ``last_seq``:
    the number of the newest event; 0 before the first. ``stored``: how many events are in the store already;
    those up to ``first`` are only there (who follows has read them, or nobody does), and ``load`` fetches
    them. ``relayed``: a relay saw it pass; there is no
    log, and its agent knows best what it is. ``watchers``: how many follow it. ``noted``: whether the book
    knows that it has changed since it was written.

    Whoever follows a task that is ``left`` to the next process of the gateway gets Draining raised.
    """

    __slots__ = (
        "_came", "_first", "_folded", "_folding", "_grows", "_light", "_load", "_loading", "_logged",
        "_pace", "_passed", "_pressing", "_said", "_saved", "_task", "_texts", "_unwritten", "_waiting",
        "_writes", "_written", "agent", "booked", "canceled_by_client", "context_id", "id", "last_seq",
        "left", "noted", "principal", "relayed", "runner", "settled_now", "state", "stored", "upstream",
        "watchers", "weight",
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
        self.id, self.agent, self.context_id = task.id, task.agent, task.context_id
        self.principal = principal
        self.upstream = upstream
        self.stored = last_seq
        self.relayed = relayed
        self.weight = 0  # roughly the bytes held, as the book counts them
        self.runner: asyncio.Task[None] | None = None
        self.canceled_by_client = False
        self.watchers = 0
        self.booked: TaskState | None = None  # the state by which the book has it
        self.noted = False
        self.left = False
        self._light = is_light(task)
        self._task = task  # as it was when it was read last
        self._folding: Folding | None = None  # takes the place of that once there are pieces
        self._folded = last_seq  # events that are in there; the others wait until it is read
        self._moved(task.state)
        self.last_seq: int = last_seq
        self._came = 0  # how many events were logged the last time
        self._said = 0  # bytes by which the task has grown
        self._unwritten = 0  # bytes that it has said and the store does not have, once it is light
        self._writes: asyncio.Future[None] | None = None  # until fewer are
        self._written = False  # whether the store took what there was the last time
        self._saved: TaskState | None = None  # the state that the store has seen
        self._pressing = 0  # the newest event that is no mere piece
        self._passed = 0  # how often what there is was not written
        self._first: int = last_seq
        self._load = load
        self._logged: list[Logged] = []
        # What came last, not logged yet: milliseconds since 1970, and what ``more`` was told.
        self._texts: list[tuple[int, str, Place]] = []
        # What somebody waits for, and whether it has come: False when it is too late.
        self._waiting: list[tuple[Reached, asyncio.Future[bool]]] = []
        self._pace = Pace()
        self._loading = 0  # who reads the log out of the store just now

    @property
    def task(self) -> Task:
        """The task as it is now; one that says much is without that (``light``). Puts together what came
        since the last reading."""
        if self._folded < self.last_seq:
            self._fold_on()
        folding = self._folding
        if folding is None:
            return self._task
        return folding.task if folding.stale else folding.last

    async def whole(self, until: int | None = None) -> Task:
        """See ``ports.TaskHandle``."""
        if not self._light:
            return self.task
        until = self.last_seq if until is None else until
        log = [logged for logged in await self.log() if logged.seq <= until]
        return whole(self.task, log) if log else self.task

    @property
    def running(self) -> bool:
        """Whether a runner is at work on it."""
        return self.runner is not None and not self.runner.done()

    def append(self, *events: Event) -> None:
        """Log events, fold them into the task, wake who waits for them. After the end: ignored."""
        at, before = now(), self.last_seq
        if self._light or self._pace.readers or not self._take(events, at):
            for event in events:
                if self.settled_now and self.state in TERMINAL:
                    break
                self._log(Logged(self.last_seq + 1, at, event))
        self._came = self.last_seq - before
        if self._came and self._waiting:
            self._wake()

    def _take(self, events: Sequence[Event], at: str) -> bool:
        """Log all of them at once, while nobody follows. False: the task would say too much for that."""
        state, pressing, size = self.state, self._pressing, self._said
        seq = self.last_seq
        logged: list[Logged] = []
        for event in events if state not in TERMINAL else ():
            kind = type(event)
            seq += 1
            logged.append(Logged(seq, at, event))
            if state is _SUBMITTED or kind not in PIECES:
                pressing = seq
            if kind in TURNS:
                state = next_state(state, event)
                if state in TERMINAL:
                    break
                continue
            if state is _SUBMITTED:
                state = _WORKING
            if kind in SAYS:
                size += size_of(event)
            elif type(event) is Started:
                self._named(event)
        if size > MOST:
            return False
        (self._events if self._texts else self._logged).extend(logged)
        self.last_seq, self._pressing, self._said = seq, pressing, size
        if state is not self.state:
            self._moved(state)
        return True

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

    @property
    def _events(self) -> list[Logged]:
        """All that was logged after ``_first``."""
        if self._texts:
            self._put_together()
        return self._logged

    def _put_together(self) -> None:
        logged, texts = self._logged, self._texts
        for seq, (ms, text, place) in enumerate(texts, self._first + len(logged) + 1):
            logged.append(Logged(seq=seq, at=_written(ms), event=place.event(text)))
        texts.clear()

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

    def _saw(self, event: Event) -> None:
        """What an event means at once: for the state, and for how much there is to keep."""
        kind = type(event)
        if self.state is _SUBMITTED or kind in TURNS:
            state = next_state(self.state, event)
            if state is not self.state:
                self._moved(state)
        if kind in SAYS:
            if self._light:
                self._unwritten += size_of(event)
            else:
                self._said += size_of(event)

    def _fold(self, logged: Logged) -> None:
        if self._folding is None:
            self._folding = Folding(self._task)
        self._folding.add(light(logged.event) if self._light else logged.event, logged.at)
        self._folded = logged.seq

    def _lighten(self) -> None:
        self._light = True
        self._grows = False
        self._task = lightened(self.task)
        self._folding = Folding(self._task)

    def _fold_on(self) -> None:
        """Fold what could wait."""
        log = self._events[self._folded - self._first :]
        self._folded = self.last_seq
        if self._folding is None:
            task = at_once(self._task, log)
            if task is not None:
                self._task = task
                return
            self._folding = Folding(self._task)
        self._folding.grow(log)

    def _moved(self, state: TaskState) -> None:
        self.state = state
        self.settled_now = state in SETTLED
        self._grows = not (self._light or state is _SUBMITTED or self.settled_now)

    def _named(self, event: Started) -> None:
        known = self.upstream or TaskRef(task_id="")
        self.upstream = TaskRef(
            task_id=event.task_id or known.task_id, context_id=event.context_id or known.context_id
        )

    def room(self) -> asyncio.Future[None] | None:
        """What to wait for before more is logged; None while somebody who reads the log keeps up, or nobody
        does read it. One that says much waits for the store, too, as long as that takes what there is."""
        if self._unwritten > UNWRITTEN and self._written:
            if self._writes is None or self._writes.done():
                self._writes = asyncio.get_running_loop().create_future()
            return self._writes
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
        reader, pace = Reader(after, taker, more), self._pace
        self.watchers += 1
        try:
            if after < self._first:
                for logged in await self._stored(after, reader):
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

    async def log(self) -> Sequence[Logged]:
        return [*(await self._stored(0) if self._first else ()), *self._events]

    async def _stored(self, after: int, reader: Reader | None = None) -> Sequence[Logged]:
        """Of the events from ``after`` on those that only the store has. ``reader`` goes on with the others,
        which stay until then."""
        self._loading += 1
        try:
            loaded = await self._load(self.id, after)
        finally:
            self._loading -= 1
        if reader is not None:
            reader.read = self._first
            self._pace.joins(reader)
        return [logged for logged in loaded if logged.seq <= self._first]

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

    def unsaved(self) -> Sequence[Logged]:
        """Events that the store does not have yet."""
        return self._events[max(self.stored - self._first, 0) :]

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

    def snapshot(self) -> StoredTask | None:
        """What the store keeps of the task itself; None when it has seen this state: the events are enough
        to make the rest of a running task from what it has."""
        if self._saved is self.state and not self.relayed and not self.settled_now:
            return None
        return StoredTask(
            task=self.task,
            principal=self.principal,
            upstream=self.upstream,
            last_seq=self.last_seq,
            relayed=self.relayed,
        )

    def saved(self, snapshot: StoredTask | None, seq: int) -> None:
        """The store has the snapshot, and the events up to ``seq``."""
        if snapshot is not None:
            self._saved = snapshot.task.state
        self._written = True
        if not seq:  # there was nothing to tell but what it is
            return
        if seq > self.stored:
            self.stored = seq
        self._passed = 0
        if self._light:
            self._unwritten = sum(said(logged.event) for logged in self.unsaved())
        if self.runner is not None and self.runner.done():
            self.runner = None  # with all that a finished coroutine holds: of many that wait it would be most
        if self._writes is not None and self._unwritten <= UNWRITTEN:
            self._write_on()
        self._trim()

    def not_saved(self) -> None:
        """The store took nothing this time."""
        self._written = False
        self._write_on()

    def _write_on(self) -> None:
        if self._writes is not None and not self._writes.done():
            self._writes.set_result(None)
        self._writes = None

    def _trim(self) -> None:
        """Let go of the events that the store has and everybody who follows has read."""
        read = self._pace.slowest(self.stored) if self._pace.readers else self.stored
        spare = min(self.stored, read) - self._first
        if spare > 0 and not self._loading:
            if self._folded < self.last_seq:
                self._fold_on()
            del self._events[:spare]
            self._first += spare

    def weighed(self, size: int) -> int:
        """Roughly the bytes held by a task whose snapshot takes ``size``."""
        return 1000 + size + 200 * len(self._events)

    def restore(self, log: StoredLog) -> None:
        """Take in what was stored after the task itself was, up to the first event that is missing; what is
        logged from now on has a number of its own all the same."""
        for logged in log.events:
            if logged.seq == self._first + 1:
                self._saw(logged.event)
                self._fold(logged)
                self._first = self.stored = self.last_seq = logged.seq
                if self._said > MOST and not self._light:
                    self._lighten()
                if isinstance(logged.event, Started):
                    self._named(logged.event)
        if log.last > self.last_seq:
            self._first = self._folded = self.stored = self.last_seq = log.last


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
