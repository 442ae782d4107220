"""A store that forgets: for tests, and for gateways that live as long as one command."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..gateway.lifecycle import PAUSED, TERMINAL
from ..gateway.model import Agent, Logged, Record, TaskState
from ..gateway.store import Batch, Place, Store, StoredContext, StoredLog, StoredTask
from ..gateway.telemetry import Span, span_json
from . import traces

CONTEXTS = 10_000  # conversations kept; the oldest go first

_encode = msgspec.json.Encoder().encode


class MemoryStore(Store):
    """``gateway.store.Store`` in memory. ``records``, ``descriptions`` and ``items`` (by space): what it
    holds at first; ``spans`` and ``tasks``: how many are kept, the oldest go first (of tasks, those that have
    ended)."""

    def __init__(
        self,
        *,
        records: Sequence[Record] = (),
        descriptions: Mapping[str, Agent] | None = None,
        items: Mapping[str, Mapping[str, bytes]] | None = None,
        spans: int = 20_000,
        tasks: int = 1_000,
    ) -> None:
        self._records = {r.name: r for r in records}
        self._descriptions = dict(descriptions or {})
        self._tasks: dict[str, StoredTask] = {}
        self._events: dict[str, dict[int, Logged]] = {}
        self._contexts: dict[tuple[str, str, str], StoredContext] = {}
        self._context_agents: dict[tuple[str, str], str] = {}
        self._context_owners: dict[tuple[str, str], str] = {}
        there = (items or {}).items()
        self._items = {(space, key): value for space, kept in there for key, value in kept.items()}
        self._tasks_kept = tasks
        self._spans: deque[Span] = deque(maxlen=spans)

    async def open(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    # --- registry ------------------------------------------------------------------------------

    async def records(self) -> Sequence[Record]:
        return [self._records[name] for name in sorted(self._records)]

    async def put_record(self, record: Record) -> None:
        self._records[record.name] = record

    async def remove_record(self, name: str) -> None:
        self._records.pop(name, None)
        self._descriptions.pop(name, None)

    async def descriptions(self) -> dict[str, Agent]:
        return dict(self._descriptions)

    async def put_description(self, name: str, agent: Agent) -> None:
        self._descriptions[name] = agent

    # --- tasks ---------------------------------------------------------------------------------

    async def save(self, batch: Batch) -> Sequence[int]:
        for t in batch.tasks:
            old = self._tasks.get(t.task.id, t)
            if (old.principal, old.task.agent) == (t.principal, t.task.agent):
                self._tasks[t.task.id] = t
        for task_id, events in batch.events:
            self._events.setdefault(task_id, {}).update({event.seq: event for event in events})
        for task_id in self._surplus():
            del self._tasks[task_id]
            self._events.pop(task_id, None)
        self._save_contexts(batch.contexts)
        for span in batch.spans:
            span.cut()
        self._spans.extend(batch.spans)
        return [len(_encode(t)) for t in batch.tasks]

    def _surplus(self) -> list[str]:
        number = len(self._tasks) - self._tasks_kept
        if number <= 0:
            return []

        def rank(task: StoredTask) -> int:
            return 0 if task.task.state in TERMINAL else 1 if task.task.state in PAUSED else 2

        return [t.task.id for t in sorted(self._tasks.values(), key=rank)[:number]]

    async def load_task(self, task_id: str) -> StoredTask | None:
        return self._tasks.get(task_id)

    async def load_known(self, task_ids: Sequence[str]) -> Sequence[StoredTask]:
        return [self._tasks[id] for id in task_ids if id in self._tasks]

    async def load_tasks(
        self,
        *,
        principal: str | None = None,
        agent: str | None = None,
        context_id: str | None = None,
        states: Sequence[TaskState] = (),
        limit: int = 1000,
    ) -> Sequence[StoredTask]:
        found = [
            t
            for t in reversed(self._tasks.values())
            if principal in (None, t.principal)
            and agent in (None, t.task.agent)
            and context_id in (None, t.task.context_id)
            and (not states or t.task.state in states)
        ]
        return sorted(found, key=lambda t: t.task.created_at, reverse=True)[:limit]

    async def load_places(self, states: Sequence[TaskState], limit: int) -> Sequence[Place]:
        found = await self.load_tasks(states=states, limit=limit)
        return [Place(s.task.id, s.principal, s.task.agent, s.task.context_id) for s in found]

    async def load_logs(self, wanted: Sequence[tuple[str, int]]) -> Sequence[StoredLog]:
        found = [await self.load_events(id, after) for id, after in wanted]
        return [StoredLog(tuple(log), log[-1].seq) if log else StoredLog() for log in found]

    async def load_events(self, task_id: str, after: int = 0) -> Sequence[Logged]:
        log = self._events.get(task_id, {})
        return [log[seq] for seq in sorted(log) if seq > after]

    def _save_contexts(self, contexts: Sequence[StoredContext]) -> None:
        for c in contexts:
            key, place = (c.principal, c.agent, c.context_id), (c.principal, c.context_id)
            self._contexts.pop(key, None)
            self._contexts[key] = c
            if c.turn or place not in self._context_agents:
                self._context_agents[place] = c.agent
            if c.upstream_id:
                self._context_owners.setdefault((c.agent, c.upstream_id), c.principal)
        for known in (self._contexts, self._context_agents, self._context_owners):
            for key in list(known)[: max(len(known) - CONTEXTS, 0)]:
                del known[key]  # pyright: ignore[reportArgumentType]

    async def find_context(self, principal: str, agent: str, context_id: str) -> StoredContext | None:
        return self._contexts.get((principal, agent, context_id))

    async def context_agent(self, principal: str, context_id: str) -> str | None:
        return self._context_agents.get((principal, context_id))

    async def context_owner(self, agent: str, upstream_id: str) -> str | None:
        return self._context_owners.get((agent, upstream_id))

    # --- items ---------------------------------------------------------------------------------

    async def items(self, space: str) -> dict[str, bytes]:
        return {key: value for (there, key), value in sorted(self._items.items()) if there == space}

    async def put_item(self, space: str, key: str, value: bytes) -> None:
        self._items[space, key] = value

    async def remove_item(self, space: str, key: str) -> None:
        self._items.pop((space, key), None)

    async def replace_item(self, space: str, key: str, old: bytes, new: bytes) -> bool:
        same = self._items.get((space, key)) == old
        if same:
            self._items[space, key] = new
        return same

    async def spaces(self) -> Sequence[str]:
        return sorted({space for space, _ in self._items})

    # --- spans ---------------------------------------------------------------------------------

    async def traces(self, limit: int = 50) -> Sequence[dict[str, Any]]:
        return traces.listing(map(span_json, self._spans), limit)

    async def trace(self, trace_id: str) -> Sequence[dict[str, Any]]:
        return traces.one(map(span_json, self._spans), trace_id)
