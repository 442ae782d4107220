"""The store port: what outlives the process. One file per engine; nothing else knows which one is there.

Everything is written in batches off the request's path: a crash may lose the last 200 ms of tasks, events
and spans, and of the pieces of an answer under way the last second; never a registration (``put_record``
returns once it is durable).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec

from .model import Agent, Logged, Record, Task, TaskRef, TaskState
from .telemetry import Span


class StoredTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task with what the gateway must know to go on with it. ``upstream``: the agent's own ids.
    ``last_seq``: the newest event that is folded into the task; the log of a running one goes on after it.
    ``relayed``: seen by a relay, its ids are the agent's own."""

    task: Task
    principal: str
    upstream: TaskRef | None = None
    last_seq: int = 0
    relayed: bool = False


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a task belongs."""

    id: str
    principal: str
    agent: str
    context_id: str


class StoredLog(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a task's events: those that can be read, in order. ``last``: the number of the newest
    there is, read or not; ``whole``: whether all could be read."""

    events: tuple[Logged, ...] = ()
    last: int = 0
    whole: bool = True


class StoredContext(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent calls a conversation that a principal knows as ``context_id`` ("": it has not said).
    ``turn``: it went to that agent last; False: the agent only named it."""

    principal: str
    agent: str
    context_id: str
    upstream_id: str
    turn: bool = True


class Batch(msgspec.Struct, kw_only=True):
    """What a store writes in one go.

    ``tasks``: to be added, or put in the place of what was known of them; one that another principal or agent
    has stays as it is. ``events``: what tasks have gained, by their ids; of unknown tasks they are left out.
    ``contexts``: to be added or put in place of what was known. ``spans``: ended ones, which nobody changes
    any more; names and attributes are cut to ``telemetry.LENGTH``.
    """

    tasks: Sequence[StoredTask] = ()
    events: Sequence[tuple[str, Sequence[Logged]]] = ()
    contexts: Sequence[StoredContext] = ()
    spans: Sequence[Span] = ()

    def __bool__(self) -> bool:
        return bool(self.tasks or self.events or self.contexts or self.spans)


class Store(ABC):
    """Registry, tasks, events, contexts, spans. Methods may be called from the event loop only.

    Raises ConfigError with one clear line when the data can't be read or written.
    """

    @abstractmethod
    async def open(self) -> None:
        """Open, migrate, lock where the engine needs a single owner."""

    @abstractmethod
    async def aclose(self) -> None:
        """Write what waits, close, unlock."""

    def keep(self, *, spans: int, tasks: int) -> None:
        """Keep so many from the next writing on. Of a store that is another process's nobody but that one
        decides."""
        return

    # --- registry ------------------------------------------------------------------------------

    @abstractmethod
    async def records(self) -> Sequence[Record]:
        """All registered agents (``source`` "store"), by name."""

    @abstractmethod
    async def put_record(self, record: Record) -> None:
        """Add or replace. Durable when it returns."""

    @abstractmethod
    async def remove_record(self, name: str) -> None:
        """Remove with its description; unknown names are fine. Durable when it returns."""

    @abstractmethod
    async def descriptions(self) -> dict[str, Agent]:
        """The last known description of each agent."""

    @abstractmethod
    async def put_description(self, name: str, agent: Agent) -> None:
        """Keep an agent's description for the next start."""

    # --- what calls leave ------------------------------------------------------------------------

    @abstractmethod
    async def save(self, batch: Batch) -> Sequence[int]:
        """Write all of it, or nothing. Past the configured numbers (the engine may wait until a few more are
        there) the oldest go: of tasks the ended ones, then those that wait for input, then the rest; of
        conversations the least recently changed. Returns the bytes that each task takes."""

    # --- tasks ---------------------------------------------------------------------------------

    @abstractmethod
    async def load_task(self, task_id: str) -> StoredTask | None:
        """One task by the gateway's id. Raises ConfigError for one that can't be read: the log says so, once,
        and methods that read several leave it out."""

    @abstractmethod
    async def load_known(self, task_ids: Sequence[str]) -> Sequence[StoredTask]:
        """Those of these tasks that there are, and that can be read."""

    @abstractmethod
    async def load_tasks(
        self,
        *,
        principal: str | None = None,
        agent: str | None = None,
        context_id: str | None = None,
        states: Sequence[TaskState] = (),
        limit: int = 1000,
    ) -> Sequence[StoredTask]:
        """The newest tasks that fit, newest first."""

    @abstractmethod
    async def load_places(self, states: Sequence[TaskState], limit: int) -> Sequence[Place]:
        """Where the newest tasks in these states belong, newest first. The tasks themselves aren't read."""

    @abstractmethod
    async def load_logs(self, wanted: Sequence[tuple[str, int]]) -> Sequence[StoredLog]:
        """The events of several tasks, each from a number of its own on."""

    @abstractmethod
    async def load_events(self, task_id: str, after: int = 0) -> Sequence[Logged]:
        """A task's events from ``after`` on, in order. Raises ConfigError where not all can be read, unless
        the task has failed: then those that can."""

    @abstractmethod
    async def find_context(self, principal: str, agent: str, context_id: str) -> StoredContext | None:
        """One conversation as it was last saved."""

    @abstractmethod
    async def context_agent(self, principal: str, context_id: str) -> str | None:
        """The agent that a conversation went to last, else the first that named it."""

    @abstractmethod
    async def context_owner(self, agent: str, upstream_id: str) -> str | None:
        """The first principal of whose conversations the agent called one ``upstream_id``."""

    async def rest(self) -> None:
        """Nothing is written for now: give back memory that would only make the next writing faster."""
        return

    async def settle(self) -> bool:
        """Have written what other processes, which use the same store, still hold. Whether there are any."""
        return False

    # --- items (``ports.Items``) -----------------------------------------------------------------

    @abstractmethod
    async def items(self, space: str) -> dict[str, bytes]:
        """What an adapter keeps in ``space``, by key."""

    @abstractmethod
    async def put_item(self, space: str, key: str, value: bytes) -> None:
        """Add or replace. Durable when it returns."""

    async def first_item(self, space: str, key: str, value: bytes) -> bytes:
        """Add, unless the key is there; its value now, whoever was first. Durable when it returns."""
        async with self._adding:
            found = (await self.items(space)).get(key)
            if found is None:
                await self.put_item(space, key, value)
            return value if found is None else found

    @cached_property
    def _adding(self) -> asyncio.Lock:
        return asyncio.Lock()

    @abstractmethod
    async def remove_item(self, space: str, key: str) -> None:
        """Remove; an unknown key is fine. Durable when it returns."""

    @abstractmethod
    async def replace_item(self, space: str, key: str, old: bytes, new: bytes) -> bool:
        """Replace, if the value is ``old``; whether it was. Durable when it returns."""

    @abstractmethod
    async def spaces(self) -> Sequence[str]:
        """The spaces that hold items."""

    # --- spans ---------------------------------------------------------------------------------

    @abstractmethod
    async def traces(self, limit: int = 50) -> Sequence[dict[str, Any]]:
        """The last calls, newest first: ``{trace_id, agent, client_protocol, agent_protocol, state,
        started_at, duration_ms}``, read from the spans' ``agentgw.*`` attributes."""

    @abstractmethod
    async def trace(self, trace_id: str) -> Sequence[dict[str, Any]]:
        """All spans of a trace (an id or its unambiguous beginning) as ``telemetry.span_json`` has them,
        oldest first; empty if unknown."""


class StoredItems:
    """``ports.Items`` on a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self, space: str) -> dict[str, bytes]:
        return await self._store.items(space)

    async def put(self, space: str, key: str, value: bytes) -> None:
        await self._store.put_item(space, key, value)

    async def first(self, space: str, key: str, value: bytes) -> bytes:
        return await self._store.first_item(space, key, value)

    async def remove(self, space: str, key: str) -> None:
        await self._store.remove_item(space, key)
