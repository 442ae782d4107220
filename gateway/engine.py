"""The hub: takes calls from the doors, runs them on agents, keeps every task's log.

A call becomes a task; a runner of its own drains the agent's events into the task's log, so that a client
may leave and come back, several may watch, and nothing is lost between. State that outlives the process is
written in batches by ``flush``, off the request's path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from .access import Access
from .calloff import CallOff
from .config import Config
from .conversations import Conversations
from .errors import (
    Draining,
    InvalidRequest,
    NotActive,
    UnknownAgent,
    UnknownTask,
    Unsupported,
)
from .homes import Homes
from .http.request import Request
from .http.wire import Headers
from .lifecycle import PAUSED, TERMINAL
from .limits import Timeouts, allowed
from .model import (
    Data,
    Finished,
    InputReply,
    Invocation,
    Principal,
    Record,
    Started,
    StateChanged,
    Task,
    TaskRef,
    TaskState,
    Text,
)
from .names import is_valid
from .owned import OwnedIds
from .pickup import Pickup, Seen, persistently
from .ports import AgentView, Items, PassOn
from .readable import UNREADABLE
from .seal import Sealer
from .store import Store, StoredItems
from .taskbook import TaskBook
from .tasklog import TaskLog
from .telemetry import Span, Tracer
from .timestamps import now
from .transport import HttpTransport, Transport
from .turn import Turn, Work
from .waiting import Timers

log = logging.getLogger("agentgw.engine")

KEPT_VIEWS = 1000  # sets of agents that keys may reach, whose agents are kept as one tuple each
CANCEL_GRACE = 5.0  # seconds an agent has to stop before the gateway stops listening to it


class Directory(Protocol):
    """The agents, as the engine asks for them (``registry.directory`` has it)."""

    def views(self) -> Mapping[str, AgentView]:
        """Never changed; another mapping when something changed."""
        ...

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
        homes: Homes | None = None,
        access: Access | None = None,
    ) -> None:
        self.config = config
        self.access = access or Access("")
        self.homes = homes or Homes()
        self.pass_on: PassOn = _nowhere
        self.tracer = tracer
        self.items: Items = StoredItems(store)
        self.sealer = sealer or Sealer()
        self.owned = OwnedIds()
        self.transport = transport or HttpTransport(config.limits.connect_timeout, config.limits.body)
        self.timers = Timers()
        self.draining = False
        self._directory = directory
        self._book = TaskBook(store, config.limits.tasks, self._pick_up, self.homes)
        self._store = store
        self._pickup = Pickup(directory.views, self._book, self._patience)
        self._conversations = Conversations(store)
        # By the names that may be reached: the snapshot that was looked at, and those of it.
        self._agents: dict[frozenset[str] | None, tuple[Any, tuple[AgentView, ...]]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._call_off = CallOff(
            self.access, self._book, self._pickup, directory.views, self._cancel, self._in_background
        )
        self.access.on_end(self._call_off.look)

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Tasks that a former process left running are picked up in the background, or failed: they are not
        working for ever. One that is asked for before its turn is picked up then."""
        await self.owned.load(StoredItems(self._store), self.sealer)
        await self._book.open()
        self._in_background(self._pick_up_all())

    async def _pick_up_all(self) -> None:
        relayed: dict[Seen, None] = {}

        async def interrupted() -> None:
            async for some in self._book.interrupted():
                relayed.update({(s.task.id, s.principal): None for s in some if s.relayed})
                await asyncio.sleep(0)  # calls go first

        await persistently(interrupted, "tasks of the last run can't be picked up")
        await self._pickup.look_after(list(relayed))

    def reconfigure(self, config: Config) -> None:
        """Other settings hold from now on."""
        self.config = config
        self._book.bound(config.limits.tasks)

    def _pick_up(self, entry: TaskLog, whole: bool) -> None:
        """``whole``: all that was written of it could be read."""
        if self.draining:
            entry.leave()
            return
        canceling = entry.state is TaskState.CANCELING
        if (reason := self._pickup.hopeless(entry, whole)) is not None:
            state = TaskState.CANCELED if canceling else TaskState.FAILED
            entry.append(Finished(state=state, fault=None if canceling else reason.fault()))
            self._book.changed(entry)
            return
        entry.canceled_by_client = canceling
        record = self._directory.views()[entry.agent].record
        turn = self._turn(entry, record, (None, None), None)
        entry.runner = asyncio.create_task(turn.run(partial(self._pickup.rejoined, entry)))
        self._pickup.expect(entry, entry.runner)
        if canceling:
            self._in_background(self._stop(entry, paused=False))

    async def drain(self) -> None:
        """Refuse new calls and wait for the running ones; the caller bounds the wait."""
        self.draining = True
        for entry in list(self._pickup.unheard):
            self._leave(entry)
        if runners := [entry.runner for entry in self._book.running if entry.runner]:
            await asyncio.wait(runners)

    async def stop(self) -> None:
        """End what still runs here. A task that its agent can be asked about is left to the next process,
        the others are failed; whoever watches them is told."""
        self.draining = True
        running = list(self._book.running)
        for entry in running:
            self._leave(entry)
        await asyncio.gather(*(entry.runner for entry in running if entry.runner), return_exceptions=True)

    def _leave(self, entry: TaskLog) -> None:
        if self._pickup.hopeless(entry) is None:
            entry.leave()
        if entry.runner is not None:
            entry.runner.cancel()

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
        return len(self._book.running)

    async def flush(self, spans: Sequence[Span] = (), *, whole: bool = True) -> None:
        """Write changed tasks, their new events, conversations and ``spans``, all or nothing; forget what is
        old and idle. Unless ``whole``, pieces of answers under way may wait, for five times at most."""
        async with self._book.writing(whole=whole) as tasks, self._conversations.writing() as contexts:
            batch = tasks.batch
            batch.contexts, batch.spans = contexts, spans
            if batch:
                tasks.sizes = await self._store.save(batch)

    # --- agents ------------------------------------------------------------------------------

    def agents(self, principal: Principal) -> Sequence[AgentView]:
        views = self._directory.views()
        snapshot, found = self._agents.get(principal.agents, (None, ()))
        if snapshot is not views:
            if snapshot is None and len(self._agents) >= KEPT_VIEWS:
                del self._agents[next(iter(self._agents))]
            found = _those(views, principal.agents, found)
            self._agents[principal.agents] = views, found
        return found

    def agent(self, name: str, principal: Principal) -> AgentView:
        view = self._directory.views().get(name)
        if view is None or (principal.agents is not None and name not in principal.agents):
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
        known = None
        if call.context_id:
            self.homes.claim(call.context_id)
            self._must_be_here(call.context_id)
            known = await self._conversations.get(call.principal, call.agent, call.context_id)
            if self.draining:
                raise Draining
            context_id = call.context_id
            self._conversations.touch(call.principal, call.agent, context_id)
        else:
            context_id = self.homes.new()
            self._conversations.begin(call.principal, call.agent, context_id)
        at = now()
        task = Task(
            id=call.new_task_id or self.homes.new(),
            context_id=context_id,
            agent=call.agent,
            input=call.message,
            created_at=at,
            updated_at=at,
        )
        entry = self._book.add(task, call.principal, fresh=call.new_task_id is None)
        call = msgspec.structs.replace(
            call,
            context_id=context_id,
            owned=bool(call.context_id) and self.owned.are(context_id, call.principal.id),
            upstream_context=known,
            task_id=task.id,
        )
        self._launch(entry, view, call, partial(view.upstream.invoke, call))
        return entry

    async def _answer(self, call: Invocation, view: AgentView) -> TaskLog:
        """Go on with a task that waits for input."""
        assert call.task_id is not None
        entry = await self.task(call.task_id, call.principal)
        if entry.agent != call.agent:
            raise UnknownTask(call.task_id)
        if call.context_id and call.context_id != entry.context_id:
            raise InvalidRequest(f"the task belongs to another context: {entry.context_id}")
        entry.watchers += 1  # it stays in memory meanwhile
        try:
            while entry.running and entry.state in PAUSED:
                assert entry.runner is not None
                await asyncio.wait([entry.runner])  # it has asked; let it finish its last step
            known = await self._conversations.get(call.principal, call.agent, entry.context_id)
        finally:
            entry.watchers -= 1
        # From here to the launch nothing waits: of several answers at once one goes on.
        if entry.state not in PAUSED:
            raise NotActive(f"the task does not wait for input: it is {entry.state.value}")
        call = msgspec.structs.replace(call, context_id=entry.context_id, upstream_context=known)
        ref = entry.upstream or TaskRef(task_id=entry.id)
        entry.append(StateChanged(state=TaskState.WORKING))
        self._book.changed(entry)
        reply = InputReply(message=call.message, action=_action(call))
        self._launch(entry, view, call, partial(view.upstream.reply, ref, call, reply))
        return entry

    def _launch(self, entry: TaskLog, view: AgentView, call: Invocation, work: Work) -> None:
        turn = self._turn(entry, view.record, (call.idle_timeout, call.total_timeout), self._named)
        entry.runner = self.timers.loop.create_task(turn.run(work))

    def _named(self, entry: TaskLog, event: Started) -> None:
        if event.context_id:
            self._conversations.put(entry.principal, entry.agent, entry.context_id, event.context_id)

    def _patience(self, record: Record) -> float:
        return allowed(record, self.config.limits)[1]

    def _turn(
        self,
        entry: TaskLog,
        record: Record,
        less: Timeouts,
        started: Callable[[TaskLog, Started], None] | None,
    ) -> Turn:
        idle, total = allowed(record, self.config.limits, less)
        return Turn(entry, idle, total, self._book.changed, started, self.timers)

    # --- tasks -------------------------------------------------------------------------------

    async def task(self, task_id: str, principal: Principal) -> TaskLog:
        entry = await self._book.get(task_id, principal)
        if not _reaches(principal, entry.agent):
            raise UnknownTask(task_id)
        if entry.state not in TERMINAL:
            self._must_be_here(task_id)
        return entry

    def _must_be_here(self, id: str) -> None:
        """Raises Unsupported for what another process has in memory: requests are served where that is, but
        one may name two things."""
        if not self.homes.here(id):
            raise Unsupported("this request names two things that different processes of the gateway have")

    async def tasks(
        self,
        principal: Principal,
        *,
        agent: str | None = None,
        context_id: str | None = None,
        state: TaskState | None = None,
    ) -> Sequence[Task]:
        found = await self._book.list(principal, agent, context_id, state)
        return found if principal.agents is None else [t for t in found if _reaches(principal, t.agent)]

    async def cancel(self, task_id: str, principal: Principal) -> TaskLog:
        entry = await self.task(task_id, principal)
        if entry.state in TERMINAL:
            raise NotActive(f"the task has ended: it is {entry.state.value}")
        self._cancel(entry)
        return entry

    def _cancel(self, entry: TaskLog) -> None:
        if entry.state is not TaskState.CANCELING:
            paused = entry.state in PAUSED
            entry.canceled_by_client = True
            entry.append(StateChanged(state=TaskState.CANCELING))
            self._book.changed(entry)
            self._in_background(self._stop(entry, paused))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.create_task(work)
        self._background.add(job)
        job.add_done_callback(self._background.discard)

    async def _stop(self, entry: TaskLog, paused: bool) -> None:
        """Ask the agent to stop; if it does not say that it did, stop listening."""
        view = self._directory.views().get(entry.agent)
        try:
            async with asyncio.timeout(CANCEL_GRACE):
                # An agent that has not yet said what it calls the task could not be told which to stop.
                ref = await entry.begun()
                if view is not None and ref is not None and entry.state not in TERMINAL:
                    await view.upstream.cancel(ref)
                    if not paused:
                        await entry.ended()
        except Exception:  # whatever it says, the task ends
            log.debug("cancelling at %s", entry.agent, exc_info=True)
        if entry.left:
            return
        if entry.runner is not None and entry.running:
            entry.runner.cancel()
            await asyncio.wait([entry.runner])
        entry.append(Finished(state=TaskState.CANCELED))
        self._book.changed(entry)

    def observe(self, task: Task, principal: Principal, *, upstream: str, context: str | None = None) -> None:
        seen = self._book.observe(task, principal, upstream)
        if seen and task.context_id and context != "":
            self.converse(upstream, task.context_id, principal, context or task.context_id)

    def look_after(self, task_id: str, principal: Principal) -> None:
        self._in_background(self._pickup.follow((task_id, principal.id)))

    async def upstream_context(self, agent: str, context_id: str, principal: Principal) -> str | None:
        return await self._conversations.get(principal, agent, context_id)

    async def is_others_context(self, agent: str, upstream_id: str, principal: Principal) -> bool:
        return await self._conversations.is_others(principal, agent, upstream_id)

    def converse(self, agent: str, context_id: str, principal: Principal, upstream_id: str) -> None:
        if self._conversations.put(principal.id, agent, context_id, upstream_id):
            self.homes.claim(context_id)

    def open_question(self, agent: str, context_id: str, principal: Principal) -> str | None:
        return self._book.open_question(agent, context_id, principal)

    async def context_agent(self, context_id: str, principal: Principal) -> str | None:
        agent = await self._conversations.agent(principal, context_id)
        if agent is None and self.owned.are(context_id, principal.id):
            tasks = await self.tasks(principal, context_id=context_id)
            agent = tasks[0].agent if tasks else None
        return agent


def _those(
    views: Mapping[str, AgentView], only: frozenset[str] | None, before: tuple[AgentView, ...]
) -> tuple[AgentView, ...]:
    """The agents of these names (None: all); ``before`` itself where they are the same."""
    found = tuple(views[name] for name in sorted(views) if only is None or name in only)
    same = len(found) == len(before) and all(a is b for a, b in zip(found, before, strict=True))
    return before if same else found


def _reaches(principal: Principal, agent: str) -> bool:
    """Whether a task of ``agent`` may be seen; what no agent is called is the gateway's own part."""
    return principal.reaches(agent) or not is_valid(agent)


async def _nowhere(request: Request, id: str, headers: Headers) -> None:
    raise UnknownTask(id)


def _action(call: Invocation) -> Any:
    """``{"action": "decline"|"cancel"}`` as the only part, data or JSON text, declines, at every door."""
    match call.message.parts:
        case (Data(data=said),):
            pass
        case (Text(text=text),) if text.lstrip().startswith("{"):
            try:
                said = msgspec.json.decode(text)
            except UNREADABLE:
                return "accept"
        case _:
            return "accept"
    match said:
        case {"action": "decline" | "cancel" as action, **rest} if not rest:
            return action
        case _:
            return "accept"
