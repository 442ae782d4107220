"""What one task is and has said: in memory, and how much of it the store has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from .lifecycle import PAUSED, PIECES, TERMINAL, TURNS, Folding, advanced, next_state
from .light import MOST, SAYS, is_light, light, lightened, said, whole
from .model import Event, Logged, Place, Started, Task, TaskRef, TaskState
from .pace import size_of
from .store import StoredLog, StoredTask
from .timestamps import written

SETTLED = TERMINAL | PAUSED
_SUBMITTED = TaskState.SUBMITTED  # to find it in its class takes longer
UNWRITTEN = 8 * 1024 * 1024  # bytes of a task that says much, which may wait to be written
LoadEvents = Callable[[str, int], Awaitable[Sequence[Logged]]]


class History:
    """A task with its events; ``tasklog.TaskLog`` adds who appends to it, follows it and waits for it.

    ``state``: its state now; ``settled_now``: whether that is an end, or it waits for input. ``last_seq``:
    the number of the newest event; 0 before the first. ``stored``: how many events are in the store already;
    those up to ``first`` are only there (who follows has read them, or nobody does), and ``load`` fetches
    them. ``relayed``: a relay saw it pass; there is no log, and its agent knows best what it is.

    Events become the task when somebody reads it. One that says much is ``light`` then: what it said is in
    its events alone, and those go to the store.
    """

    __slots__ = (
        "_first", "_folded", "_folding", "_grows", "_light", "_load", "_loading", "_logged", "_pressing",
        "_said", "_saved", "_task", "_texts", "_unwritten", "_writes", "_written", "agent", "context_id",
        "id", "last_seq", "principal", "relayed", "settled_now", "state", "stored", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        task: Task,
        principal: str,
        load: LoadEvents,
        upstream: TaskRef | None,
        last_seq: int,
        relayed: bool,
    ) -> None:
        self.id, self.agent, self.context_id = task.id, task.agent, task.context_id
        self.principal = principal
        self.upstream = upstream
        self.relayed = relayed
        self._light = is_light(task)
        self._task = task  # as it was when it was read last
        self._folding: Folding | None = None  # takes the place of that once there are pieces
        self._folded = last_seq  # events that are in there; the others wait until it is read
        self._moved(task.state)
        self._first: int = last_seq
        self.last_seq: int = last_seq
        self.stored = last_seq
        self._load = load
        self._loading = 0  # who reads the log out of the store just now
        self._logged: list[Logged] = []
        # What came last, not logged yet: milliseconds since 1970, and what ``TaskLog.more`` was told.
        self._texts: list[tuple[int, str, Place]] = []
        self._pressing = 0  # the newest event that is no mere piece
        self._said = 0  # bytes by which the task has grown
        self._unwritten = 0  # bytes that it has said and the store does not have, once it is light
        self._writes: asyncio.Future[None] | None = None  # until fewer are
        self._written = False  # whether the store took what there was the last time
        self._saved: TaskState | None = None  # the state that the store has seen

    # --- the task ----------------------------------------------------------------------------

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

    def _moved(self, state: TaskState) -> None:
        self.state = state
        self.settled_now = state in SETTLED
        self._grows = not (self._light or state is _SUBMITTED or self.settled_now)

    def _named(self, event: Started) -> None:
        known = self.upstream or TaskRef(task_id="")
        self.upstream = TaskRef(
            task_id=event.task_id or known.task_id, context_id=event.context_id or known.context_id
        )

    def _advance(self, events: Sequence[Event], at: str) -> bool:
        """Log and fold events at once. False: something waits to be folded, they are not so simple, or the
        task would say too much for that."""
        if self._folded < self.last_seq or self._folding is not None or self._texts:
            return False
        found = advanced(self._task, events, at, self.last_seq)
        if found is None or (size := self._said + found.size) > MOST:
            return False
        self._task, log, _, started = found
        self._said = size
        self._logged += log
        if self.state is _SUBMITTED or any(type(event) not in PIECES for event in events):
            self._pressing = log[-1].seq
        self._folded = self.last_seq = log[-1].seq
        if self._task.state is not self.state:
            self._moved(self._task.state)
        if started is not None:
            self._named(started)
        return True

    def _fold(self, logged: Logged) -> None:
        if self._folding is None:
            self._folding = Folding(self._task)
        self._folding.add(light(logged.event) if self._light else logged.event, logged.at)
        self._folded = logged.seq

    def _fold_on(self) -> None:
        """Fold what could wait."""
        log = self._events[self._folded - self._first :]
        self._folded = self.last_seq
        if self._folding is None:
            self._folding = Folding(self._task)
        self._folding.grow(log)
        if self.state in TERMINAL and not self._light:  # nothing comes any more
            self._task, self._folding = self._folding.task, None

    def _lighten(self) -> None:
        """It says much: from now on it is without that."""
        self._light = True
        self._grows = False
        self._task = lightened(self.task)
        self._folding = Folding(self._task)

    # --- its events --------------------------------------------------------------------------

    @property
    def _events(self) -> list[Logged]:
        """All that was logged after ``_first``."""
        if self._texts:
            self._put_together()
        return self._logged

    def _put_together(self) -> None:
        logged, texts = self._logged, self._texts
        for seq, (ms, text, place) in enumerate(texts, self._first + len(logged) + 1):
            logged.append(Logged(seq=seq, at=written(ms), event=place.event(text)))
        texts.clear()

    async def log(self) -> Sequence[Logged]:
        """All events, those that only the store has among them."""
        return [*(await self._stored(0) if self._first else ()), *self._events]

    async def _stored(self, after: int) -> Sequence[Logged]:
        """Of the events from ``after`` on those that only the store has; the others stay until then."""
        self._loading += 1
        try:
            loaded = await self._load(self.id, after)
        finally:
            self._loading -= 1
        return [logged for logged in loaded if logged.seq <= self._first]

    def _let_go(self, read: int) -> None:
        """Of the events up to ``read``, unless somebody is about to go on after what the store has."""
        spare = read - self._first
        if spare > 0 and not self._loading:
            if self._folded < self.last_seq:
                self._fold_on()
            del self._events[:spare]
            self._first += spare

    def weighed(self, size: int) -> int:
        """Roughly the bytes held by a task whose snapshot takes ``size``."""
        return 1000 + size + 200 * len(self._events)

    # --- the store ---------------------------------------------------------------------------

    def unsaved(self) -> Sequence[Logged]:
        """Events that the store does not have yet."""
        return self._events[max(self.stored - self._first, 0) :]

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
        if self._light:
            self._unwritten = sum(said(logged.event) for logged in self.unsaved())
        if self._writes is not None and self._unwritten <= UNWRITTEN:
            self._write_on()

    def not_saved(self) -> None:
        """The store took nothing this time."""
        self._written = False
        self._write_on()

    def _room(self) -> asyncio.Future[None] | None:
        """What to wait for while much is not written, as long as the store takes what there is."""
        if self._unwritten <= UNWRITTEN or not self._written:
            return None
        if self._writes is None or self._writes.done():
            self._writes = asyncio.get_running_loop().create_future()
        return self._writes

    def _write_on(self) -> None:
        if self._writes is not None and not self._writes.done():
            self._writes.set_result(None)
        self._writes = None

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
