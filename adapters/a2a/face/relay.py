"""A2A client, A2A agent: nothing is translated where both speak one revision; the bytes pass.

What passes is read on the side (see ``passage``), so that the hub knows the task: for lists, for other doors,
and to let no one reach a task that is not theirs. Tasks that came about this way carry a mark: their ids are
the agent's own, and what is asked about them is asked of the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from ....gateway.errors import BadUpstream, GatewayError
from ....gateway.lifecycle import PAUSED, TERMINAL
from ....gateway.limits import CallLimits, allowed
from ....gateway.model import Fault, Message, Task, TaskState
from ....gateway.ports import AgentView, Engine
from ....gateway.readable import UNREADABLE
from ..card import relayed_card
from ..codec import Malformed, task_to
from ..contexts import in_context, once_named
from ..params import Send, translated
from ..problems import EXTENSION_REQUIRED, TASK_NOT_FOUND, UNSUPPORTED, Problem
from ..pushconfig import unpushed
from ..upstream.upstream import A2AUpstream
from ..wire import V03, V10, Json, Op, Version
from .call import Call
from .passage import Passage, is_relayed
from .push import Push

_encode = msgspec.json.Encoder().encode
REFRESHED, REFRESH_TIME = 20, 2.0  # tasks of a list that are asked after, and the seconds for all of it


class Relay:
    """Hands the operations of A2A clients on to A2A agents."""

    def __init__(self, engine: Engine, push: Push) -> None:
        self._engine = engine
        self._push = push

    # --- messages ----------------------------------------------------------------------------

    async def send(self, call: Call, view: AgentView, agent: A2AUpstream, send: Send) -> bytes:
        version = (agent.known or await agent.interface()).version
        message = send.message
        known = (await self._engine.task(message.task_id, call.principal)).task if message.task_id else None
        passage = self._begun(call, view, agent, version, known, message)
        try:
            theirs = message.context_id and await passage.context_sent(message.context_id)
            params = _params(call, version, send, theirs)
            with passage.limits:
                result = await passage.asked(Op.SEND, params, passes=send.push is None)
            if passage.has_passed:
                return b""
            answer = passage.passed(result)
            if send.push is not None and passage.task is not None:
                return await self._followed(call, passage, send, answer)
            return answer
        finally:
            passage.close()

    async def _followed(self, call: Call, passage: Passage, send: Send, answer: bytes) -> bytes:
        """The client has a webhook: the agent was told not to wait, which is done here."""
        task = passage.task
        assert task is not None
        assert send.push is not None
        await self._push.add(call, task, send.push)
        if not send.wait or task.state in TERMINAL | PAUSED:
            return answer
        async with aclosing(passage.rejoined()) as results:
            async for _ in results:
                pass
        length = {} if send.history_length is None else {"historyLength": send.history_length}
        with passage.limits:
            result = await passage.asked(Op.GET, {"id": task.id, **length})
        answer = passage.passed_task(result)
        return b'{"task":' + answer + b"}" if call.version == V10 else answer

    async def stream(
        self, call: Call, view: AgentView, agent: A2AUpstream, send: Send
    ) -> AsyncGenerator[bytes]:
        version = (agent.known or await agent.interface()).version
        message = send.message
        known = (await self._engine.task(message.task_id, call.principal)).task if message.task_id else None
        passage = self._begun(call, view, agent, version, known, message)
        push = send.push
        try:
            theirs = message.context_id and await passage.context_sent(message.context_id)
            params = _params(call, version, send, theirs)
            async with aclosing(passage.stream(Op.STREAM, params)) as results:
                async for result in results:
                    if push is not None and passage.task is not None:
                        await self._push.add(call, passage.task, push)
                        push = None
                    yield result
        finally:
            passage.close()

    def _begun(
        self,
        call: Call,
        view: AgentView,
        agent: A2AUpstream,
        version: Version,
        known: Task | None,
        message: Message,
    ) -> Passage:
        """The message's way. Raises Problem where the client lacks an extension."""
        if agent.required_extensions:
            _check_extensions(call, agent)
        return Passage(self._engine, call, view, agent, version, known, message)

    # --- tasks -------------------------------------------------------------------------------

    async def task(self, call: Call, view: AgentView, agent: A2AUpstream, known: Task) -> bytes:
        """GetTask and CancelTask. A task that its agent has forgotten is failed, not unknown."""
        version = (agent.known or await agent.interface()).version
        passage = Passage(self._engine, call, view, agent, version, known)
        try:
            with passage.limits:
                result = await passage.asked(call.op, call.params, passes=True)
            return b"" if passage.has_passed else passage.passed_task(result)
        except GatewayError as e:
            if call.op is not Op.GET or (e.native or {}).get("code") != TASK_NOT_FOUND:
                raise
            if known.state not in TERMINAL:
                fault = Fault(code="upstream_failed", message=f"{view.name} no longer knows the task")
                known = msgspec.structs.replace(
                    known, state=TaskState.FAILED, fault=fault, status_message=None, input_request=None
                )
                passage.note(known)
            call.saw(known)
            return _encode(task_to(known, call.version))
        finally:
            passage.close()

    async def subscribe(
        self, call: Call, view: AgentView, agent: A2AUpstream, known: Task
    ) -> AsyncGenerator[bytes]:
        if known.state in TERMINAL:
            raise Problem(UNSUPPORTED, f"the task has ended: it is {known.state.value}")
        version = (agent.known or await agent.interface()).version
        passage = Passage(self._engine, call, view, agent, version, known)
        # A 0.3 agent does not begin with the task as it is, which 1.0 promises.
        plain = version == V10 or call.version == V03
        source = passage.stream(Op.SUBSCRIBE, call.params) if plain else passage.rejoined(fresh=True)
        try:
            async with aclosing(source) as results:
                async for result in results:
                    yield result
        finally:
            passage.close()

    async def refresh(self, call: Call, views: dict[str, AgentView], tasks: Sequence[Task]) -> bool:
        """Ask after tasks that were under way when they were last seen: nobody may have followed them since.
        Those that wait for their client come last, for they wait for long. Returns whether any was asked
        after; what could not be learnt stays as it was."""
        open_ = [t for t in tasks if is_relayed(t) and t.state not in TERMINAL]
        open_ = sorted(open_, key=lambda t: t.state in PAUSED)[:REFRESHED]
        jobs = [self._refreshed(call, views[t.agent], t) for t in open_ if t.agent in views]
        try:
            async with asyncio.timeout(REFRESH_TIME):
                await asyncio.gather(*jobs, return_exceptions=True)
        except TimeoutError:
            pass
        return bool(jobs)

    async def _refreshed(self, call: Call, view: AgentView, known: Task) -> None:
        agent = view.upstream
        if isinstance(agent, A2AUpstream):
            version = (agent.known or await agent.interface()).version
            result = await agent.call(Op.GET, {"id": known.id}, trace=call.span.trace)
            passage = Passage(self._engine, call, view, agent, version, known)
            try:
                passage.note(agent.task(result, version))
            finally:
                passage.close()

    # --- the extended card -------------------------------------------------------------------

    async def card(self, call: Call, view: AgentView, agent: A2AUpstream) -> Json:
        """The agent's extended card as the gateway shows it, but for its interfaces. Raises UpstreamTimeout
        when the agent takes too long."""
        seconds = allowed(view.record, self._engine.config.limits, call.timeouts)
        limits = CallLimits(self._engine.timers, view.name, *seconds)
        try:
            with limits:
                result = await agent.call(Op.CARD, {}, trace=call.span.trace, extensions=call.extensions)
        finally:
            limits.close()
        try:
            value: Any = msgspec.json.decode(result)
            await agent.verify(value)
            return relayed_card(value, view.name, view.record.description or "")
        except (*UNREADABLE, Malformed, AttributeError) as e:
            raise BadUpstream(f"{view.name} gave a card that is none", detail=str(e)) from e


def _params(call: Call, version: Version, send: Send, theirs: str | None) -> Json | bytes:
    """What an agent of this revision gets, which calls the conversation ``theirs``. Where the client has a
    webhook, the agent is to name the task at once, so that it can be followed."""
    message = send.message
    wait = send.wait and (send.push is None or call.op is Op.STREAM)
    if version != call.version:
        message = msgspec.structs.replace(message, context_id=theirs)
        return translated(msgspec.structs.replace(send, message=message, wait=wait), version)
    raw = bytes(call.raw)  # once: what is large takes its time
    if send.push is not None:
        raw = _encode(unpushed(call.params, version, wait=wait))
    return once_named(raw, theirs) if theirs == message.context_id else in_context(raw, theirs)


def _check_extensions(call: Call, agent: A2AUpstream) -> None:
    """Raises Problem (-32008) where the agent's card requires an extension that the client does not declare
    (section 3.3.4)."""
    declared = {uri.strip() for uri in (call.extensions or "").split(",")}
    missing = [uri for uri in agent.required_extensions if uri not in declared]
    if missing:
        words = f"this agent requires the client to support: {', '.join(missing)}"
        raise Problem(EXTENSION_REQUIRED, words, data={"extensions": missing})
