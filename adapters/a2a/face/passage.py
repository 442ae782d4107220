"""One request's way to an A2A agent and back: time limits, names of conversations, notes for the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec

from ....gateway.deadlines import Deadlines
from ....gateway.errors import BadUpstream, Unreachable, UpstreamTimeout
from ....gateway.lifecycle import fold
from ....gateway.model import Message, Task
from ....gateway.ports import AgentView, Engine
from ..codec import Malformed, task_to
from ..contexts import context_at_agent, renamed
from ..events import Item, Update, is_settled, item_to
from ..plain import item_at
from ..reader import updates_between
from ..upstream.channel import Params
from ..upstream.upstream import A2AUpstream
from ..wire import Op, Version
from .call import Call

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
MARK = "agentgw"  # in a task's ``extra``: that it is relayed, and what its agent calls the conversation


def is_relayed(task: Task) -> bool:
    """Whether the task lives at its agent and the hub only watched it pass."""
    return task.extra.get(MARK, {}).get("relayed") is True


class Passage:
    """``version``: the agent's; ``known``: the task that the request is about; ``message``: the client's."""

    def __init__(
        self,
        engine: Engine,
        deadlines: Deadlines,
        call: Call,
        view: AgentView,
        agent: A2AUpstream,
        version: Version,
        known: Task | None = None,
        message: Message | None = None,
    ) -> None:
        self._engine = engine
        self._deadlines = deadlines
        self._call = call
        self._view = view
        self._agent = agent
        self._version: Version = version
        self._message = message
        self._task = known
        self._ours = known.context_id if known else None  # what the client calls the conversation
        self._idle, total = call.limits(view.record, engine.config.limits)
        self._end = asyncio.get_running_loop().time() + total

    @property
    def task(self) -> Task | None:
        """The task that the request is about, as far as it has passed."""
        return self._task

    # --- names -------------------------------------------------------------------------------

    def context_sent(self, wanted: str | None) -> str | None:
        """What the agent is told where the client names the conversation ``wanted``. Raises Malformed for
        one that is not the task's (section 3.4.3)."""
        if not wanted:
            return wanted
        if self._task is not None:
            if wanted != self._task.context_id:
                raise Malformed(f"the task belongs to another context: {self._task.context_id}")
            return self._task.extra.get(MARK, {}).get("context") or wanted
        self._ours = wanted
        principal = self._call.principal
        known = self._engine.upstream_context(self._view.name, wanted, principal)
        others = self._engine.is_others_context(self._view.name, wanted, principal)
        return known or context_at_agent(wanted, principal, others=others)

    # --- calls -------------------------------------------------------------------------------

    async def call(self, op: Op, params: Params) -> msgspec.Raw:
        """A unary operation. Raises UpstreamTimeout when the agent takes too long."""
        call = self._call
        return await self._in_time(
            self._agent.call(
                op, params, trace=call.span.trace, extensions=call.extensions, activated=call.activated
            )
        )

    async def stream(self, op: Op, params: Params) -> AsyncGenerator[bytes]:
        """A streaming operation, for the client. A stream that breaks is taken up where it broke."""
        call = self._call
        source = self._agent.stream(
            op, params, trace=call.span.trace, extensions=call.extensions, activated=call.activated
        )
        passed, settled = False, False
        try:
            async with aclosing(source):
                while (result := await self._in_time(anext(source, None))) is not None:
                    item = self._read(result)
                    settled = item is not None and is_settled(item)
                    passed = True
                    yield self._written(result, item)
        except Unreachable:
            if not passed or self._task is None:
                raise
            if not settled:
                async with aclosing(self.rejoined()) as rest:
                    async for result in rest:
                        yield result

    async def rejoined(self, *, fresh: bool = False) -> AsyncGenerator[bytes]:
        """What has happened to the task since the client last heard of it, and what comes. ``fresh``: it has
        heard nothing, and gets the task as it is first."""
        assert self._task is not None
        source = self._agent.rejoined(self._task.id, self._call.span.trace)
        async with aclosing(source):
            while (item := await self._in_time(anext(source, None))) is not None:
                news: list[Item] = [item]
                if isinstance(item, Task) and not fresh:
                    news = list(updates_between(self._task, item))
                fresh = False
                self._noted(item)
                for each in news:
                    yield self._encoded(each)

    async def _in_time(self, step: Awaitable[T]) -> T:
        now = asyncio.get_running_loop().time()
        limit = self._deadlines.within(min(self._idle, self._end - now))
        try:
            with limit:
                return await step
        except TimeoutError:
            if not limit.expired:
                raise
            total = asyncio.get_running_loop().time() >= self._end
            passed = {"limit": "total_timeout" if total else "idle_timeout"}
            raise UpstreamTimeout(f"{self._view.name} did not answer in time", data=passed) from None

    # --- results -----------------------------------------------------------------------------

    def passed(self, result: msgspec.Raw) -> bytes:
        """A result for the client; it is noted."""
        return self._written(result, self._read(result))

    def passed_task(self, result: msgspec.Raw) -> bytes:
        """The same for a result that is a task."""
        try:
            task = self._agent.task(result, self._version)
        except BadUpstream:
            if self._version != self._call.version:
                raise
            return bytes(result)
        ours = self.note(task)
        if self._version != self._call.version:
            return _encode(task_to(msgspec.structs.replace(task, context_id=ours), self._call.version))
        return self._renamed(result, task.context_id)

    def _read(self, result: msgspec.Raw) -> Item | None:
        """What the agent said; it is noted. None: something newer than we know, which is the client's."""
        try:
            item = item_at(result, self._version)
        except (Malformed, msgspec.DecodeError) as e:
            if self._version == self._call.version:
                return None
            name = self._view.name
            raise BadUpstream(f"{name} gave an answer that is not A2A", detail=str(e)) from e
        self._noted(item)
        return item

    def _written(self, result: msgspec.Raw, item: Item | None) -> bytes:
        if item is None or self._version == self._call.version:
            return self._renamed(result, item.context_id if item is not None else None)
        return self._encoded(item)

    def _renamed(self, result: msgspec.Raw, theirs: str | None) -> bytes:
        if not theirs or not self._ours or theirs == self._ours:
            return bytes(result)
        return renamed(result, theirs, self._ours)

    def _encoded(self, item: Item) -> bytes:
        wire = _encode(item_to(item, self._call.version))
        theirs = item.context_id
        if theirs and self._ours and theirs != self._ours:
            return renamed(wire, theirs, self._ours)
        return wire

    # --- notes -------------------------------------------------------------------------------

    def _noted(self, item: Item) -> None:
        match item:
            case Message():
                if item.context_id:
                    self._ours = self._ours or item.context_id
                    self._engine.converse(self._view.name, self._ours, self._call.principal, item.context_id)
            case Task():
                if self._message is not None and "history" not in item.extra.get("a2a", {}):
                    item = msgspec.structs.replace(item, input=self._message)
                self.note(item)
            case Update():
                base = self._task
                if base is None or base.id != item.task_id:
                    base = Task(id=item.task_id, context_id=item.context_id, agent=self._view.name)
                theirs = item.context_id or base.extra.get(MARK, {}).get("context") or base.context_id
                self.note(msgspec.structs.replace(fold(base, item.event, item.at), context_id=theirs))

    def note(self, task: Task) -> str:
        """Tell the hub of the task as it is; returns the client's name for its conversation. A look that
        shows nothing new is no change of the task: lists are sorted by those."""
        theirs, known = task.context_id, self._task
        self._ours = ours = self._ours or theirs
        mark: dict[str, Any] = {"relayed": True}
        if ours != theirs:
            mark["context"] = theirs
        task = msgspec.structs.replace(
            task, agent=self._view.name, context_id=ours, extra={**task.extra, MARK: mark}
        )
        same = known is not None and known.id == task.id
        if known is not None and same:
            task = _with_history(task, known)
        self._task = task
        self._call.saw(task)
        if task.id and not (same and _seen(task) == _seen(known)):
            self._engine.observe(task, self._call.principal, upstream=self._view.name, context=theirs)
        return ours


def _seen(task: Task | None) -> Any:
    return task and (task.state, task.status_message, task.artifacts, task.metadata, task.context_id)


def _with_history(task: Task, known: Task) -> Task:
    """The task with the longer of its histories: who looks may have asked for less."""
    before = known.extra.get("a2a", {}).get("history", ())
    own = dict(task.extra.get("a2a", {}))
    if len(before) > len(own.get("history", ())):
        own["history"] = before
        task = msgspec.structs.replace(task, extra={**task.extra, "a2a": own})
    return msgspec.structs.replace(task, input=task.input or known.input)
