"""All tasks: those in memory, over those in the store.

A task stays in memory while an agent works on it, while somebody follows it, and until it is written;
after that the least recently used go first once they take too much room, and come back from the store when
they are asked for. What changes is written in batches by ``flush``, off the request's path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice

import msgspec

from .asking import Asking
from .errors import ConfigError, UnknownTask
from .history import SETTLED
from .homes import Homes
from .lifecycle import PAUSED, TERMINAL
from .model import Logged, Principal, Task, TaskRef, TaskState
from .store import Batch, Store, StoredTask
from .tasklog import TaskLog
from .timestamps import now

log = logging.getLogger("agentgw.engine")

# Of tasks that only wait in memory for somebody to ask, some 6 KB each. What more would save in reading,
# memory and collecting garbage take.
IDLE_TASKS = 200
IDLE_BYTES = 512 * 1024
AT_ONCE = 50  # tasks that are read together
_UNFINISHED = frozenset(TaskState) - TERMINAL
_AT_WORK = _UNFINISHED - PAUSED


class TaskBook:
    """``limit``: how many tasks the store keeps: no more idle tasks and open questions are in memory.
    ``homes``: which tasks are this process's. ``take_up``: called with each of them that a former process
    left at work, once it is in memory, and whether all that was written of it could be read."""

    def __init__(
        self, store: Store, limit: int, take_up: Callable[[TaskLog, bool], None], homes: Homes | None = None
    ) -> None:
        self._take_up = take_up
        self._store = store
        self._homes = homes or Homes()
        self._limit = limit
        self._tasks: dict[str, TaskLog] = {}
        self._dirty: dict[str, TaskLog] = {}
        self._idle = _Idle(min(limit, IDLE_TASKS))
        # Without the tasks, which may be in the store only.
        self._asking = Asking(limit)
        self._unproved: dict[str, TaskLog] = {}  # observed, perhaps with the id of a stored task: not written
        self._flushing = asyncio.Lock()

    def bound(self, limit: int) -> None:
        """Another ``limit``."""
        self._limit = limit
        self._idle.limit, self._asking.limit = min(limit, IDLE_TASKS), limit

    # --- at the start ------------------------------------------------------------------------

    async def open(self) -> None:
        """Learn which conversations have an open question."""
        for place in reversed(await self._store.load_places([*PAUSED], self._limit)):
            if self._homes.here(place.id):
                self._asking.put(place.id, (place.principal, place.agent, place.context_id))

    async def interrupted(self) -> AsyncGenerator[Sequence[StoredTask]]:
        """The tasks of this process that a former one left at work, newest first, some at a time: of each
        that no relay saw the log is here when it was given, and it is taken up again. Then those that relays
        saw and that wait for input: their agents may end them meanwhile."""
        for states in (_AT_WORK, PAUSED):
            places = await self._store.load_places([*states], self._limit)
            ids = [place.id for place in places if self._homes.here(place.id)]
            for at in range(0, len(ids), AT_ONCE):
                some = await self._store.load_known(ids[at : at + AT_ONCE])
                found = [stored for stored in some if stored.task.state in states]
                if states is _AT_WORK:
                    await self._bring_back([stored for stored in found if not stored.relayed])
                yield [stored for stored in found if stored.relayed or states is _AT_WORK]

    async def _bring_back(self, left: Sequence[StoredTask]) -> None:
        """Take these up again, as far as their events were written; but those that somebody else did."""
        if not left:
            return
        logs = await self._store.load_logs([(stored.task.id, stored.last_seq) for stored in left])
        for stored, log in zip(left, logs, strict=True):
            if stored.task.id not in self._tasks:
                entry = self._restored(stored)
                entry.restore(log)
                self._take_up(entry, log.whole)

    async def unfinished(self, whose: Callable[[str], bool]) -> Sequence[TaskLog]:
        """The tasks here, of principals that ``whose`` says yes to, that have not ended."""
        with contextlib.suppress(ConfigError):  # nothing can be written now, and whoever flushes says so
            await self.flush()
        places = await self._store.load_places([*_UNFINISHED], self._limit)
        found = {entry.id: entry for entry in self._tasks.values()}
        for id in [p.id for p in places if whose(p.principal) and p.id not in found]:
            for stored in await self._store.load_known([id]) if self._homes.here(id) else ():
                found[id] = await self._found(stored)
        mine = [entry for id, entry in found.items() if whose(entry.principal) and self._homes.here(id)]
        return [entry for entry in mine if entry.state not in TERMINAL]

    # --- finding -----------------------------------------------------------------------------

    @property
    def running(self) -> Sequence[TaskLog]:
        """Those with a runner at work."""
        return [entry for entry in self._tasks.values() if entry.running]

    async def get(self, task_id: str, principal: Principal) -> TaskLog:
        """The principal's task. Raises UnknownTask, for another's too."""
        if (new := self._unproved.get(task_id)) is not None:
            await self._prove([new])
        entry = self._tasks.get(task_id)
        if entry is None:
            stored = await self._store.load_task(task_id)
            if stored is None and await self._store.settle():
                stored = await self._store.load_task(task_id)
            if stored is None:
                raise UnknownTask(task_id)
            entry = await self._found(stored)
        if entry.principal != principal.id and not principal.owner:
            raise UnknownTask(task_id)
        if task_id in self._tasks and (entry.settled_now or entry.relayed):
            self._idle.use(entry)
        return entry

    async def _found(self, stored: StoredTask) -> TaskLog:
        """A task that was not in memory."""
        here = self._homes.here(stored.task.id)
        if here and not stored.relayed and stored.task.state in _AT_WORK:  # and nobody works on it
            await self._bring_back([stored])
        return self._tasks.get(stored.task.id) or (self._restored(stored) if here else self._log(stored))

    async def list(
        self, principal: Principal, agent: str | None, context_id: str | None, state: TaskState | None
    ) -> Sequence[Task]:
        """The principal's tasks that fit, newest first."""
        try:
            await self.flush()
            unwritten: list[Task] = []
        except ConfigError:  # nothing can be written now, and whoever flushes says so
            unwritten = [
                e.task for e in self._dirty.values() if principal.owner or e.principal == principal.id
            ]
        await self._store.settle()
        stored = await self._store.load_tasks(
            principal=None if principal.owner else principal.id,
            agent=agent,
            context_id=context_id,
            states=() if state is None else (state,),
        )
        found = {s.task.id: await self._as_it_is(s) for s in stored}
        for task in unwritten:
            found.pop(task.id, None)
            if (
                agent in (None, task.agent)
                and context_id in (None, task.context_id)
                and state in (None, task.state)
            ):
                found = {task.id: task, **found}
        return list(found.values())

    async def _as_it_is(self, stored: StoredTask) -> Task:
        """The store has a running task as it was at its last change of state."""
        entry = self._tasks.get(stored.task.id)
        if entry is not None and self._homes.here(stored.task.id):
            return entry.task
        if stored.relayed or stored.task.state in PAUSED or stored.task.state in TERMINAL:
            return stored.task
        entry = self._log(stored)
        (log,) = await self._store.load_logs([(entry.id, stored.last_seq)])
        entry.restore(log)
        return entry.task

    def open_question(self, agent: str, context_id: str, principal: Principal) -> str | None:
        """The one task of this conversation that waits for input; None if none or several do."""
        return self._asking.sole((principal.id, agent, context_id))

    # --- changing ----------------------------------------------------------------------------

    def add(self, task: Task, principal: Principal, *, fresh: bool = True) -> TaskLog:
        """A new task. ``fresh``: nobody has had its id before."""
        entry = TaskLog(task, principal.id, self._store.load_events)
        self._tasks[task.id] = entry
        if fresh:
            self._dirty[task.id] = entry
            entry.noted, entry.booked = True, entry.state
        else:
            self.changed(entry)
        return entry

    def observe(self, task: Task, principal: Principal, agent: str) -> bool:
        """What a relay saw; False if the id is another's, or of a task of the gateway's own."""
        entry = self._tasks.get(task.id)
        if entry is None:
            if task.agent != agent or not (task.created_at and task.updated_at):
                at = now()
                task = msgspec.structs.replace(
                    task, agent=agent, created_at=task.created_at or at, updated_at=task.updated_at or at
                )
            entry = TaskLog(
                task,
                principal.id,
                self._store.load_events,
                upstream=TaskRef(task_id=task.id),
                relayed=True,
            )
            self._tasks[task.id] = self._unproved[task.id] = entry
            if task.state not in TERMINAL:  # one that has ended any process reads from the store
                self._homes.claim(task.id)
        elif entry.relayed and (entry.principal, entry.agent) == (principal.id, agent):
            created = entry.task.created_at
            entry.replace(msgspec.structs.replace(task, agent=agent, created_at=created, updated_at=now()))
        else:
            return False
        self.changed(entry)
        return True

    def changed(self, entry: TaskLog) -> None:
        """Keep the books of a task that has changed."""
        entry.noted = True
        if entry.booked is entry.state and entry.id in self._dirty:
            return
        id, state, before = entry.id, entry.state, entry.booked
        self._dirty[id] = entry
        entry.booked = state
        if state in PAUSED:
            self._asking.put(id, (entry.principal, entry.agent, entry.context_id))
        elif before is None or before in PAUSED:
            self._asking.drop(id)
        if state in SETTLED or entry.relayed:
            self._idle.use(entry)
        elif before is None or before in SETTLED:
            self._idle.drop(entry)

    def _log(self, stored: StoredTask) -> TaskLog:
        return TaskLog(
            stored.task,
            stored.principal,
            self._store.load_events,
            upstream=stored.upstream,
            last_seq=stored.last_seq,
            relayed=stored.relayed,
        )

    def _restored(self, stored: StoredTask) -> TaskLog:
        entry = self._tasks[stored.task.id] = self._log(stored)
        self._homes.claim(entry.id)
        self._idle.weigh(entry, entry.weighed(len(msgspec.json.encode(stored))))
        if entry.settled_now or entry.relayed:
            self._idle.use(entry)
        return entry

    # --- observed tasks ----------------------------------------------------------------------

    async def _prove(self, entries: Sequence[TaskLog]) -> None:
        """An observed task with the id of a stored one that is not the same relayed task is forgotten."""
        known = {s.task.id: s for s in await self._store.load_known([entry.id for entry in entries])}
        for entry in entries:
            if self._unproved.get(entry.id) is not entry:
                continue  # somebody else asked, too
            del self._unproved[entry.id]
            if (stored := known.get(entry.id)) is not None:
                self._compare(entry, stored)

    def _compare(self, entry: TaskLog, stored: StoredTask) -> None:
        if stored.relayed and (stored.principal, stored.task.agent) == (entry.principal, entry.agent):
            entry.replace(msgspec.structs.replace(entry.task, created_at=stored.task.created_at))
            return
        log.debug("%s reports a task of another's id: %s", entry.agent, entry.id)
        for index in (self._tasks, self._dirty):
            index.pop(entry.id, None)
        self._asking.drop(entry.id)
        self._idle.drop(entry)

    # --- writing -----------------------------------------------------------------------------

    async def flush(self) -> None:
        """Write changed tasks now."""
        async with self.writing() as writing:
            if batch := writing.batch:
                writing.sizes = await self._store.save(batch)

    @asynccontextmanager
    async def writing(self, *, whole: bool = True) -> AsyncGenerator[Writing]:
        """Changed tasks and their new events, to be written inside; unless ``whole``, without what may wait
        (``TaskLog.waits``). Idle tasks that take too much room are forgotten then. If writing fails, nothing
        is: the next time all of it is there again."""
        async with self._flushing:
            if self._unproved:
                await self._prove(list(self._unproved.values()))
            dirty, self._dirty = self._dirty, {}
            if not whole:
                self._dirty = {id: entry for id, entry in dirty.items() if entry.waits()}
                dirty = {id: entry for id, entry in dirty.items() if id not in self._dirty}
            for id in self._unproved.keys() & dirty.keys():  # came while the others were looked up
                self._dirty[id] = dirty.pop(id)
            writing = Writing(dirty)
            try:
                yield writing
            except BaseException:
                self._dirty = dirty | self._dirty
                for entry in dirty.values():
                    entry.not_saved()
                self._shed()
                raise
            for entry, weight in writing.written():
                self._idle.weigh(entry, weight)
            self._evict()

    def _shed(self) -> None:
        """While nothing can be written no more tasks wait for it than the store would keep: the oldest that
        have ended are forgotten."""
        surplus = len(self._dirty) - self._limit
        ended = (e for e in list(self._dirty.values()) if e.state in TERMINAL and not e.watchers)
        for entry in islice(ended, max(surplus, 0)):
            for index in (self._tasks, self._dirty, self._unproved):
                index.pop(entry.id, None)
            self._idle.drop(entry)

    def _evict(self) -> None:
        for id in self._idle.shed(self._dirty):
            self._tasks.pop(id, None)


class Writing:
    """Changed tasks on their way to the store: the ``batch``, of which ``sizes`` are the bytes that its tasks
    take, once it is written."""

    def __init__(self, changed: Mapping[str, TaskLog]) -> None:
        self.batch = Batch()
        self.sizes: Sequence[int] = ()
        self._tasks: list[tuple[TaskLog, StoredTask | None, int]] = []
        tasks: list[StoredTask] = []
        events: list[tuple[str, Sequence[Logged]]] = []
        for id, entry in changed.items():
            entry.noted = False
            snapshot = entry.snapshot()
            if snapshot is not None:
                tasks.append(snapshot)
            if not entry.relayed and (unsaved := entry.unsaved()):
                events.append((id, unsaved))
            self._tasks.append((entry, snapshot, entry.last_seq))
        self.batch.tasks, self.batch.events = tasks, events

    def written(self) -> Iterator[tuple[TaskLog, int]]:
        """Tell the tasks; those that were written as a whole, and roughly the bytes that they hold."""
        sizes = iter(self.sizes)
        for entry, snapshot, seq in self._tasks:
            entry.saved(snapshot, seq)
            if snapshot is not None:
                yield entry, entry.weighed(next(sizes))


class _Idle:
    """Tasks that only wait in memory for somebody to ask, the least recently used first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[str, TaskLog] = OrderedDict()
        self._bytes = 0

    def use(self, entry: TaskLog) -> None:
        """Add, or note that somebody uses it."""
        if entry.id in self._entries:
            self._entries.move_to_end(entry.id)
        else:
            self._entries[entry.id] = entry
            self._bytes += entry.weight

    def drop(self, entry: TaskLog) -> None:
        """Not idle (any more)."""
        if self._entries.pop(entry.id, None) is not None:
            self._bytes -= entry.weight

    def weigh(self, entry: TaskLog, weight: int) -> None:
        """It takes so many bytes now."""
        if entry.id in self._entries:
            self._bytes += weight - entry.weight
        entry.weight = weight

    def shed(self, dirty: Mapping[str, TaskLog]) -> Sequence[str]:
        """Drop the least recently used ones that are not at work, not followed and not ``dirty``, until there
        are not too many: their ids."""
        number, size = len(self._entries) - self.limit, self._bytes - IDLE_BYTES
        found: list[str] = []
        if number > 0 or size > 0:
            for id, entry in self._entries.items():
                if number <= len(found) and size <= 0:
                    break
                if not (entry.watchers or id in dirty or entry.running):
                    found.append(id)
                    size -= entry.weight
            for id in found:
                self._bytes -= self._entries.pop(id).weight
        return found
