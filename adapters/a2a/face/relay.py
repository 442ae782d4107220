"""A2A client, A2A agent: nothing is translated where both speak one revision; the bytes pass.

What passes is read on the side, so that the hub knows the task: for lists, for other doors, and to let no one
reach a task that is not theirs. Tasks that came about this way carry a mark: their ids are the agent's own,
and what is asked about them is asked of the agent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from ....gateway.errors import BadUpstream, GatewayError
from ....gateway.lifecycle import TERMINAL, fold
from ....gateway.model import Fault, Message, Principal, Task, TaskState
from ....gateway.ports import AgentView, Engine
from ..card import relayed_card
from ..codec import Malformed, task_from, task_to
from ..events import Item, item_from, item_to
from ..params import Send, translated
from ..problems import TASK_NOT_FOUND
from ..upstream.upstream import A2AUpstream
from ..wire import Json, Op, Version
from .call import Call

_encode = msgspec.json.Encoder().encode
_MARK = {"agentgw": {"relayed": True}}


def is_relayed(task: Task) -> bool:
    """Whether the task lives at its agent and the hub only watched it pass."""
    return task.extra.get("agentgw", {}).get("relayed") is True


class Relay:
    """Hands the operations of A2A clients on to A2A agents."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- messages ----------------------------------------------------------------------------

    async def send(self, call: Call, view: AgentView, agent: A2AUpstream, send: Send) -> bytes:
        version = (await agent.interface()).version
        params = call.raw if version == call.version else translated(send, version)
        result = await agent.call(Op.SEND, params, trace=call.span.trace, extensions=call.extensions)
        watch = _Watch(self._engine, call, view, send.message)
        return await watch.passed(result, version)

    async def stream(
        self, call: Call, view: AgentView, agent: A2AUpstream, send: Send
    ) -> AsyncGenerator[bytes]:
        version = (await agent.interface()).version
        params = call.raw if version == call.version else translated(send, version)
        watch = _Watch(self._engine, call, view, send.message)
        source = agent.stream(Op.STREAM, params, trace=call.span.trace, extensions=call.extensions)
        async with aclosing(source) as results:
            async for result in results:
                yield await watch.passed(result, version)

    # --- tasks -------------------------------------------------------------------------------

    async def task(self, call: Call, view: AgentView, agent: A2AUpstream, known: Task) -> bytes:
        """GetTask and CancelTask. A task that its agent has forgotten is failed, not unknown."""
        version = (await agent.interface()).version
        try:
            result = await agent.call(call.op, call.raw, trace=call.span.trace, extensions=call.extensions)
        except GatewayError as e:
            if call.op is not Op.GET or (e.native or {}).get("code") != TASK_NOT_FOUND:
                raise
            if known.state not in TERMINAL:
                fault = Fault(code="upstream_failed", message=f"{view.name} no longer knows the task")
                known = msgspec.structs.replace(
                    known, state=TaskState.FAILED, fault=fault, status_message=None, input_request=None
                )
                self._engine.observe(known, call.principal, upstream=view.name)
            call.saw(known)
            return _encode(task_to(known, call.version))
        task = _read_task(result, version)
        if task is not None:
            _observe(self._engine, task, call, view)
        if version == call.version:
            return bytes(result)
        if task is None:
            raise BadUpstream(f"{view.name} gave an answer that is not A2A")
        return _encode(task_to(task, call.version))

    async def subscribe(
        self, call: Call, view: AgentView, agent: A2AUpstream, known: Task
    ) -> AsyncGenerator[bytes]:
        version = (await agent.interface()).version
        watch = _Watch(self._engine, call, view, None, known)
        source = agent.stream(Op.SUBSCRIBE, call.raw, trace=call.span.trace, extensions=call.extensions)
        async with aclosing(source) as results:
            async for result in results:
                yield await watch.passed(result, version)

    # --- the extended card -------------------------------------------------------------------

    async def card(self, call: Call, view: AgentView, agent: A2AUpstream) -> Json:
        """The agent's extended card as the gateway shows it, but for its interfaces."""
        result = await agent.call(Op.CARD, {}, trace=call.span.trace, extensions=call.extensions)
        try:
            value: Any = msgspec.json.decode(result)
            return relayed_card(value, view.name, view.record.description or "")
        except (msgspec.DecodeError, Malformed, AttributeError) as e:
            raise BadUpstream(f"{view.name} gave a card that is none", detail=str(e)) from e


class _Watch:
    """Follows what passes of one task. ``message``: the client's, which began it."""

    def __init__(
        self, engine: Engine, call: Call, view: AgentView, message: Message | None, task: Task | None = None
    ) -> None:
        self._engine = engine
        self._call = call
        self._view = view
        self._message = message
        self._task = task

    async def passed(self, result: msgspec.Raw, version: Version) -> bytes:
        """Take note of a result; it, for the client."""
        same = version == self._call.version
        try:
            item = item_from(msgspec.json.decode(result), version)
        except (Malformed, msgspec.DecodeError) as e:
            if same:
                return bytes(result)  # a newer agent may say what we do not know: that is the client's
            raise BadUpstream(f"{self._view.name} gave an answer that is not A2A", detail=str(e)) from e
        await self._note(item)
        return bytes(result) if same else _encode(item_to(item, self._call.version))

    async def _note(self, item: Item) -> None:
        if isinstance(item, Message):
            return
        if isinstance(item, Task):
            self._task = item
            if self._message is not None and "history" not in item.extra.get("a2a", {}):
                self._task = msgspec.structs.replace(item, input=self._message)
        else:
            base = self._task or await self._known(item.task_id, self._call.principal)
            base = base or Task(id=item.task_id, context_id=item.context_id, agent=self._view.name)
            self._task = fold(base, item.event, item.at)
        _observe(self._engine, self._task, self._call, self._view)

    async def _known(self, task_id: str, principal: Principal) -> Task | None:
        try:
            return (await self._engine.task(task_id, principal)).task
        except GatewayError:
            return None


def _observe(engine: Engine, task: Task, call: Call, view: AgentView) -> None:
    call.saw(task)
    if task.id:
        marked = msgspec.structs.replace(task, agent=view.name, extra={**task.extra, **_MARK})
        engine.observe(marked, call.principal, upstream=view.name)


def _read_task(result: msgspec.Raw, version: Version) -> Task | None:
    try:
        return task_from(msgspec.json.decode(result), version)
    except (Malformed, msgspec.DecodeError):
        return None
