"""The hub: takes calls from the doors, runs them on agents, keeps every task's log.

A call becomes a task; a runner of its own drains the agent's events into the task's log, so that a client
may leave and come back, several may watch, and nothing is lost between. State that outlives the process is
written in batches by ``flush``, off the request's path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4

import msgspec

from .config import Config
from .conversations import Conversations
from .errors import (
    BadUpstream,
    Draining,
    GatewayError,
    InvalidRequest,
    NotActive,
    UnknownAgent,
    UnknownTask,
    UpstreamFailed,
    UpstreamTimeout,
)
from .lifecycle import PAUSED, TERMINAL
from .model import (
    Data,
    Event,
    Finished,
    InputReply,
    InputRequired,
    Invocation,
    Principal,
    Started,
    StateChanged,
    Task,
    TaskRef,
    TaskState,
)
from .ports import AgentView, Items
from .seal import Sealer
from .store import Store, StoredItems, StoredTask
from .tasklog import TaskLog, now
from .telemetry import Tracer
from .transport import PyreqwestTransport, Transport

log = logging.getLogger("agentgw.engine")

ENDED_IN_MEMORY = 64 * 1024 * 1024  # bytes of ended tasks kept beside the store
CANCEL_GRACE = 5.0  # seconds an agent has to stop before the gateway stops listening to it


class Directory(Protocol):
    """The agents, as the engine asks for them (``registry.directory`` has it)."""

    def views(self) -> Mapping[str, AgentView]: ...

    async def described(self, name: str, timeout: float = 3.0) -> AgentView | None: ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]: ...


class Hub:
    """Implements ``ports.Engine``."""

    def __init__(
        self,
        directory: Directory,
        store: Store,
        tracer: Tracer,
        config: Config,
        sealer: Sealer | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.config = config
        self.tracer = tracer
        self.items: Items = StoredItems(store)
        self.sealer = sealer or Sealer()
        self.transport = transport or PyreqwestTransport(config.limits.connect_timeout)
        self.draining = False
        self._directory = directory
        self._store = store
        self._tasks: dict[str, TaskLog] = {}
        self._dirty: dict[str, TaskLog] = {}
        self._ended: dict[str, TaskLog] = {}
        self._waiting: dict[str, TaskLog] = {}  # tasks with an open question
        self._conversations = Conversations()
        self._running = 0
        self._background: set[asyncio.Task[None]] = set()

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load conversations; tasks that a former process left running are failed, not working for ever."""
        self._conversations.load(await self._store.load_contexts())
        running = [s for s in TaskState if s not in TERMINAL and s not in PAUSED]
        for stored in await self._store.load_tasks(states=running, limit=self.config.limits.tasks):
            task = self._restored(stored)
            fault = UpstreamFailed(task.task.agent).fault()
            task.append(
                Finished(
                    state=TaskState.FAILED,
                    fault=msgspec.structs.replace(fault, message="the gateway was restarted"),
                )
            )
            self._dirty[task.task.id] = task
        await self.flush()

    async def drain(self) -> None:
        """Refuse new calls and wait for the running ones; the caller bounds the wait."""
        self.draining = True
        runners = [t.runner for t in self._tasks.values() if t.runner is not None and not t.runner.done()]
        if runners:
            await asyncio.wait(runners)

    async def stop(self) -> None:
        """End what still runs: its tasks are failed, and whoever watches them is told."""
        self.draining = True
        runners = [t for t in self._tasks.values() if t.runner is not None and not t.runner.done()]
        for task in runners:
            assert task.runner is not None
            task.runner.cancel()
        await asyncio.gather(*(t.runner for t in runners if t.runner), return_exceptions=True)

    async def aclose(self) -> None:
        """End what still runs and write everything out."""
        await self.stop()
        background = list(self._background)
        for job in background:
            job.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self.flush()

    @property
    def running(self) -> int:
        """How many tasks have a runner at work."""
        return self._running

    async def flush(self) -> None:
        """Write changed tasks, their new events and conversations in one go; forget old ended tasks."""
        dirty, self._dirty = self._dirty, {}
        if dirty:
            events = [(t.task.id, e) for t in dirty.values() for e in t.unsaved()]
            snapshots = [t.snapshot() for t in dirty.values()]
            try:
                await self._store.save_tasks(snapshots, events)
            except BaseException:
                self._dirty = dirty | self._dirty  # nothing is forgotten: the next flush tries again
                raise
            for task, snapshot in zip(dirty.values(), snapshots, strict=True):
                task.stored = snapshot.last_seq
        if contexts := self._conversations.drain():
            await self._store.save_contexts(contexts)
        self._evict()

    def _evict(self) -> None:
        total = sum(t.weight for t in self._ended.values())
        for task_id in list(self._ended):
            if total <= ENDED_IN_MEMORY and len(self._ended) <= self.config.limits.tasks:
                break
            if task_id in self._dirty:
                continue
            total -= self._ended.pop(task_id).weight
            self._tasks.pop(task_id, None)

    # --- agents ------------------------------------------------------------------------------

    def agents(self, principal: Principal) -> Sequence[AgentView]:
        views = self._directory.views()
        return [views[name] for name in sorted(views)]

    def agent(self, name: str, principal: Principal) -> AgentView:
        view = self._directory.views().get(name)
        if view is None:
            raise UnknownAgent(name)
        return view

    async def described(self, name: str, principal: Principal) -> AgentView:
        self.agent(name, principal)
        return await self._directory.described(name) or self.agent(name, principal)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._directory.on_change(callback)

    def sanitize(self, agent: str, text: str) -> str:
        log.debug("%s failed: %s", agent, text)
        return f"{agent} failed"

    # --- calls -------------------------------------------------------------------------------

    async def invoke(self, call: Invocation) -> TaskLog:
        if self.draining:
            raise Draining
        view = self.agent(call.agent, call.principal)
        if call.task_id:
            return await self._answer(call, view)
        context_id = call.context_id or str(uuid4())
        known = self._conversations.get(call.principal, call.agent, context_id)
        self._conversations.touch(call.principal, call.agent, context_id)
        call = msgspec.structs.replace(call, context_id=context_id, upstream_context=known)
        at = now()
        task = Task(
            id=call.new_task_id or str(uuid4()),
            context_id=context_id,
            agent=call.agent,
            input=call.message,
            created_at=at,
            updated_at=at,
        )
        entry = TaskLog(task, call.principal.id, self._store.load_events)
        self._tasks[task.id] = self._dirty[task.id] = entry
        call = msgspec.structs.replace(call, task_id=task.id)
        self._launch(entry, view, call, view.upstream.invoke(call))
        return entry

    async def _answer(self, call: Invocation, view: AgentView) -> TaskLog:
        """Go on with a task that waits for input."""
        assert call.task_id is not None
        entry = await self.task(call.task_id, call.principal)
        task = entry.task
        if task.agent != call.agent:
            raise UnknownTask(call.task_id)
        if call.context_id and call.context_id != task.context_id:
            raise InvalidRequest(f"the task belongs to another context: {task.context_id}")
        while entry.runner is not None and not entry.runner.done() and entry.task.state in PAUSED:
            await asyncio.wait([entry.runner])  # it has asked; let it finish its last step
        # From here to the launch nothing waits: of several answers at once one goes on.
        if entry.task.state not in PAUSED:
            raise NotActive(f"the task does not wait for input: it is {entry.task.state.value}")
        call = msgspec.structs.replace(
            call,
            context_id=task.context_id,
            upstream_context=self._conversations.get(call.principal, call.agent, task.context_id),
        )
        ref = entry.upstream or TaskRef(task_id=task.id)
        entry.append(StateChanged(state=TaskState.WORKING))
        self._settled(entry)
        reply = InputReply(message=call.message, action=_action(call))
        self._launch(entry, view, call, view.upstream.reply(ref, call, reply))
        return entry

    def _launch(
        self, entry: TaskLog, view: AgentView, call: Invocation, events: AsyncIterator[Event]
    ) -> None:
        entry.runner = asyncio.create_task(self._run(entry, view, call, events), name=f"task {entry.task.id}")

    async def _run(
        self, entry: TaskLog, view: AgentView, call: Invocation, events: AsyncIterator[Event]
    ) -> None:
        """Drain the agent's events into the log; whatever happens, the task ends or waits for input."""
        self._running += 1
        try:
            await self._drain(entry, view, call, events)
            if not entry.settled_now and entry.canceled_by_client:
                entry.append(Finished(state=TaskState.CANCELED))  # it asked instead of stopping
            elif not entry.settled_now:
                raise BadUpstream(f"{call.agent} ended its answer without a result")
        except GatewayError as e:
            if e.detail:
                log.debug("%s: %s: %s", call.agent, e.message, e.detail)
            entry.append(Finished(state=TaskState.FAILED, fault=e.fault()))
        except asyncio.CancelledError:
            if entry.canceled_by_client:
                entry.append(Finished(state=TaskState.CANCELED))
            else:
                entry.append(Finished(state=TaskState.FAILED, fault=Draining().fault()))
        except Exception:
            log.debug("%s failed", call.agent, exc_info=True)
            entry.append(Finished(state=TaskState.FAILED, fault=UpstreamFailed(call.agent).fault()))
        finally:
            self._running -= 1
            self._settled(entry)

    def _settled(self, entry: TaskLog) -> None:
        """Keep the books of a task that may have ended or may wait for input now."""
        task = entry.task
        self._dirty[task.id] = entry
        if task.state in PAUSED:
            self._waiting[task.id] = entry
        else:
            self._waiting.pop(task.id, None)
        if task.state in TERMINAL:
            self._ended[task.id] = entry

    async def _drain(
        self, entry: TaskLog, view: AgentView, call: Invocation, events: AsyncIterator[Event]
    ) -> None:
        limits = self.config.limits
        idle = view.record.idle_timeout or limits.idle_timeout
        loop = asyncio.get_running_loop()
        end = loop.time() + (view.record.total_timeout or limits.total_timeout)
        try:
            async with (
                asyncio.timeout_at(min(loop.time() + idle, end)) as timer,
                contextlib.aclosing(_generator(events)) as stream,
            ):
                async for event in stream:
                    if isinstance(event, Started) and event.context_id:
                        self._conversations.put(
                            call.principal, call.agent, entry.task.context_id, event.context_id
                        )
                    entry.append(event)
                    self._dirty[entry.task.id] = entry
                    if isinstance(event, Finished | InputRequired):
                        return
                    timer.reschedule(min(loop.time() + idle, end))
        except TimeoutError:
            passed = "total_timeout" if loop.time() >= end else "idle_timeout"
            raise UpstreamTimeout(f"{call.agent} did not answer in time", data={"limit": passed}) from None

    # --- tasks -------------------------------------------------------------------------------

    async def task(self, task_id: str, principal: Principal) -> TaskLog:
        entry = self._tasks.get(task_id)
        if entry is None:
            stored = await self._store.load_task(task_id)
            if stored is None:
                raise UnknownTask(task_id)
            entry = self._tasks.get(task_id) or self._restored(stored)
        if entry.principal != principal.id and not principal.owner:
            raise UnknownTask(task_id)
        return entry

    def _restored(self, stored: StoredTask) -> TaskLog:
        entry = TaskLog(
            stored.task,
            stored.principal,
            self._store.load_events,
            upstream=stored.upstream,
            last_seq=stored.last_seq,
        )
        self._tasks[stored.task.id] = entry
        self._settled(entry)
        return entry

    async def tasks(
        self,
        principal: Principal,
        *,
        agent: str | None = None,
        context_id: str | None = None,
        state: TaskState | None = None,
    ) -> Sequence[Task]:
        await self.flush()
        stored = await self._store.load_tasks(
            principal=None if principal.owner else principal.id,
            agent=agent,
            context_id=context_id,
            states=() if state is None else (state,),
        )
        return [s.task for s in stored]

    async def cancel(self, task_id: str, principal: Principal) -> TaskLog:
        entry = await self.task(task_id, principal)
        if entry.task.state in TERMINAL:
            raise NotActive(f"the task has ended: it is {entry.task.state.value}")
        if entry.task.state is not TaskState.CANCELING:
            paused = entry.task.state in PAUSED
            entry.canceled_by_client = True
            entry.append(StateChanged(state=TaskState.CANCELING))
            self._dirty[task_id] = entry
            job = asyncio.create_task(self._stop(entry, paused))
            self._background.add(job)
            job.add_done_callback(self._background.discard)
        return entry

    async def _stop(self, entry: TaskLog, paused: bool) -> None:
        """Ask the agent to stop; if it does not say that it did, stop listening."""
        task = entry.task
        view = self._directory.views().get(task.agent)
        try:
            async with asyncio.timeout(CANCEL_GRACE):
                if view is not None and entry.upstream is not None:
                    await view.upstream.cancel(entry.upstream)
                    if not paused:
                        await entry.ended()
        except Exception:  # whatever it says, the task ends
            log.debug("cancelling at %s", task.agent, exc_info=True)
        if entry.runner is not None and not entry.runner.done():
            entry.runner.cancel()
            await asyncio.wait([entry.runner])
        entry.append(Finished(state=TaskState.CANCELED))
        self._settled(entry)

    def observe(self, task: Task, principal: Principal, *, upstream: str) -> None:
        entry = self._tasks.get(task.id)
        if entry is None:
            at = now()
            task = msgspec.structs.replace(
                task,
                agent=upstream,
                created_at=task.created_at or at,
                updated_at=task.updated_at or at,
            )
            entry = TaskLog(task, principal.id, self._store.load_events, upstream=TaskRef(task_id=task.id))
            self._tasks[task.id] = entry
        elif entry.principal == principal.id and entry.task.agent == upstream and entry.runner is None:
            created = entry.task.created_at
            entry.replace(msgspec.structs.replace(task, created_at=created, updated_at=now()))
        else:
            return  # another's id, or a task of the gateway's own: never overwritten
        if task.context_id:
            self._conversations.put(principal, upstream, task.context_id, task.context_id)
        self._settled(entry)

    def open_question(self, agent: str, context_id: str, principal: Principal) -> str | None:
        waiting = [
            t.task.id
            for t in self._waiting.values()
            if t.task.context_id == context_id and t.task.agent == agent and t.principal == principal.id
        ]
        return waiting[0] if len(waiting) == 1 else None

    def context_agent(self, context_id: str, principal: Principal) -> str | None:
        return self._conversations.agent(principal, context_id)


def _action(call: Invocation) -> Any:
    """``{"action": "decline"|"cancel"}`` as the only part declines (the contract's form at every door)."""
    match call.message.parts:
        case (Data(data={"action": "decline" | "cancel" as action}),):
            return action
        case _:
            return "accept"


async def _generator(events: AsyncIterator[Event]) -> AsyncGenerator[Event]:
    """An async generator around any iterator, so that it can be closed."""
    try:
        async for event in events:
            yield event
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
