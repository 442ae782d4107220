"""All tasks: those in memory, over those in the store.

A task stays in memory while an agent works on it, while somebody follows it, and until it is written;
after that the least recently used go first once they take too much room, and come back from the store when
they are asked for. What changes is written in batches by ``flush``, off the request's path.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from .errors import UnknownTask
from .lifecycle import PAUSED, TERMINAL
from .model import Logged, Principal, Task, TaskRef, TaskState
from .store import Store, StoredTask
from .tasklog import TaskLog, now

log = logging.getLogger("agentgw.engine")

IDLE_BYTES = 64 * 1024 * 1024  # of tasks that only wait in memory for somebody to ask


class TaskBook:
    """``limit``: how many idle tasks, and how many open questions, are kept in memory."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._tasks: dict[str, TaskLog] = {}
        self._dirty: dict[str, TaskLog] = {}
        self._idle: OrderedDict[str, TaskLog] = OrderedDict()
        # Where a conversation has an open question; without the task, which may be in the store only.
        self._asking: OrderedDict[str, tuple[str, str, str]] = OrderedDict()
        self._unproved: dict[str, TaskLog] = {}  # observed, perhaps with the id of a stored task: not written
        self._flushing = asyncio.Lock()

    # --- at the start ------------------------------------------------------------------------

    async def interrupted(self) -> Sequence[TaskLog]:
        """The tasks that a former process left at work, as far as their events were written; remembers
        which conversations have an open question."""
        for stored in await self._store.load_tasks(states=[*PAUSED], limit=self._limit):
            task = stored.task
            self._asking[task.id] = (stored.principal, task.agent, task.context_id)
        running = [s for s in TaskState if s not in TERMINAL and s not in PAUSED]
        found: list[TaskLog] = []
        for stored in await self._store.load_tasks(states=running, limit=self._limit):
            if not stored.relayed:  # an agent's own task goes on without the gateway
                entry = self._restored(stored)
                entry.restore(await self._store.load_events(entry.id, stored.last_seq))
                found.append(entry)
        return found

    # --- finding -----------------------------------------------------------------------------

    @property
    def running(self) -> Sequence[TaskLog]:
        """Those with a runner at work."""
        return [entry for entry in self._tasks.values() if entry.running]

    async def get(self, task_id: str, principal: Principal) -> TaskLog:
        """The principal's task. Raises UnknownTask, for another's too."""
        if (new := self._unproved.get(task_id)) is not None:
            await self._prove(new)
        entry = self._tasks.get(task_id)
        if entry is None:
            stored = await self._store.load_task(task_id)
            if stored is None:
                raise UnknownTask(task_id)
            entry = self._tasks.get(task_id) or self._restored(stored)
        if entry.principal != principal.id and not principal.owner:
            raise UnknownTask(task_id)
        if task_id in self._idle:
            self._idle.move_to_end(task_id)
        return entry

    async def list(
        self, principal: Principal, agent: str | None, context_id: str | None, state: TaskState | None
    ) -> Sequence[Task]:
        """The principal's tasks that fit, newest first."""
        await self.flush()
        stored = await self._store.load_tasks(
            principal=None if principal.owner else principal.id,
            agent=agent,
            context_id=context_id,
            states=() if state is None else (state,),
        )
        # The store has a running task as it was at its last change of state.
        live = [(self._tasks.get(s.task.id), s.task) for s in stored]
        return [kept if entry is None else entry.task for entry, kept in live]

    def open_question(self, agent: str, context_id: str, principal: Principal) -> str | None:
        """The one task of this conversation that waits for input; None if none or several do."""
        wanted = (principal.id, agent, context_id)
        waiting = [task_id for task_id, where in self._asking.items() if where == wanted]
        return waiting[0] if len(waiting) == 1 else None

    # --- changing ----------------------------------------------------------------------------

    def add(self, task: Task, principal: Principal) -> TaskLog:
        """A new task."""
        entry = TaskLog(task, principal.id, self._store.load_events)
        self._tasks[task.id] = entry
        self.changed(entry)
        return entry

    def observe(self, task: Task, principal: Principal, agent: str) -> bool:
        """What a relay saw; False if the id is another's, or of a task of the gateway's own."""
        entry = self._tasks.get(task.id)
        if entry is None:
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
        elif entry.relayed and (entry.principal, entry.agent) == (principal.id, agent):
            created = entry.task.created_at
            entry.replace(msgspec.structs.replace(task, agent=agent, created_at=created, updated_at=now()))
        else:
            return False
        self.changed(entry)
        return True

    def changed(self, entry: TaskLog) -> None:
        """Keep the books of a task that has changed."""
        self._dirty[entry.id] = entry
        if entry.state in PAUSED:
            self._asking[entry.id] = (entry.principal, entry.agent, entry.context_id)
            if len(self._asking) > self._limit:
                self._asking.popitem(last=False)
        else:
            self._asking.pop(entry.id, None)
        if entry.settled_now or entry.relayed:
            self._idle[entry.id] = entry
            self._idle.move_to_end(entry.id)
        else:
            self._idle.pop(entry.id, None)

    def _restored(self, stored: StoredTask) -> TaskLog:
        entry = TaskLog(
            stored.task,
            stored.principal,
            self._store.load_events,
            upstream=stored.upstream,
            last_seq=stored.last_seq,
            relayed=stored.relayed,
        )
        self._tasks[entry.id] = entry
        if entry.settled_now or entry.relayed:
            self._idle[entry.id] = entry
        return entry

    async def _prove(self, entry: TaskLog) -> None:
        """An observed task with the id of a stored one that is not the same relayed task is forgotten."""
        stored = await self._store.load_task(entry.id)
        if self._unproved.get(entry.id) is not entry:
            return  # somebody else asked, too
        del self._unproved[entry.id]
        if stored is None:
            return
        if stored.relayed and (stored.principal, stored.task.agent) == (entry.principal, entry.agent):
            entry.replace(msgspec.structs.replace(entry.task, created_at=stored.task.created_at))
            return
        log.debug("%s reports a task of another's id: %s", entry.agent, entry.id)
        for index in (self._tasks, self._dirty, self._idle, self._asking):
            index.pop(entry.id, None)

    # --- writing -----------------------------------------------------------------------------

    async def flush(self) -> None:
        """Write changed tasks and their new events in one go; forget idle ones that take too much room."""
        async with self._flushing:
            for entry in list(self._unproved.values()):
                await self._prove(entry)
            dirty = {id: entry for id, entry in self._dirty.items() if id not in self._unproved}
            self._dirty = {id: entry for id, entry in self._dirty.items() if id in self._unproved}
            if dirty:
                await self._write(dirty)
            self._evict()

    async def _write(self, dirty: dict[str, TaskLog]) -> None:
        entries = list(dirty.values())
        snapshots = [entry.snapshot() for entry in entries]
        seqs = [entry.last_seq for entry in entries]
        events: list[tuple[str, Logged]] = [(entry.id, e) for entry in entries for e in entry.unsaved()]
        try:
            await self._store.save_tasks([s for s in snapshots if s is not None], events)
        except BaseException:
            self._dirty = dirty | self._dirty  # nothing is forgotten: the next flush tries again
            raise
        for entry, snapshot, seq in zip(entries, snapshots, seqs, strict=True):
            entry.saved(snapshot, seq)

    def _evict(self) -> None:
        total = sum(entry.weight for entry in self._idle.values())
        for entry in list(self._idle.values()):
            if total <= IDLE_BYTES and len(self._idle) <= self._limit:
                return
            if entry.id in self._dirty or entry.watchers or entry.running:
                continue
            total -= entry.weight
            del self._idle[entry.id]
            self._tasks.pop(entry.id, None)
