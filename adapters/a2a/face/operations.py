"""The operations, whichever binding brings them and whatever protocol the agent behind speaks.

Results are JSON in the form of JSON-RPC of the client's revision. An agent that speaks A2A is relayed to; the
others are called through the engine, and always answer with a task.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from ....gateway.errors import NotActive, UnknownTask, Unsupported
from ....gateway.lifecycle import TERMINAL
from ....gateway.light import is_light
from ....gateway.model import Invocation, Message, Principal, Task
from ....gateway.ports import AgentView, Engine, TaskHandle
from ..card import as_v03, grpc_interface, with_interfaces
from ..codec import list_at, task_to
from ..events import item_to
from ..losses import Loss, of_task
from ..params import Send, count_at, send_at, send_from, task_id_of
from ..plain import task_json
from ..problems import EXTENDED_CARD, NOT_CANCELABLE, UNSUPPORTED, Problem
from ..pushconfig import task_of
from ..upstream.upstream import A2AUpstream
from ..wire import PUSH, V03, V10, Op
from .call import Call
from .heads import OWN
from .listing import listed, page, query_from
from .ownagent import OwnAgent, Question, Route
from .push import Push
from .relay import Relay, is_relayed
from .signer import Signer
from .updates import Updates

_ANONYMOUS = Principal().id
_encode = msgspec.json.Encoder().encode


async def _only(result: bytes) -> AsyncGenerator[bytes]:
    yield result


class Operations:
    """Runs clients' operations. Raises Problem, GatewayError and Malformed."""

    def __init__(self, engine: Engine, signer: Signer, push: Push) -> None:
        self._engine = engine
        self._signer = signer
        self._push = push
        self._relay = Relay(engine, push)
        self._own = OwnAgent(engine)

    def unary(self, call: Call) -> Awaitable[bytes]:
        """Any operation but the streaming ones."""
        match call.op:
            case Op.SEND:
                return self._send(call)
            case Op.GET | Op.CANCEL:
                return self._task(call)
            case Op.LIST:
                return self._list(call)
            case Op.CARD:
                return self._card(call)
            case op if op in PUSH:
                return self._configured(call)
            case _:
                raise Problem(UNSUPPORTED, f"{call.op.value} is a streaming operation")

    def stream(self, call: Call) -> Awaitable[AsyncGenerator[bytes]]:
        """SendStreamingMessage and SubscribeToTask: the results as they come, once it is known whose."""
        return self._send_stream(call) if call.op is Op.STREAM else self._subscribe(call)

    # --- messages ----------------------------------------------------------------------------

    def _said(self, call: Call) -> Send:
        send = send_at(call.raw, call.version) or send_from(call.params, call.version)
        if send.message.message_id:
            call.attributes["a2a.message.id"] = send.message.message_id
        return send

    async def _routed(self, call: Call, send: Send) -> tuple[Route, A2AUpstream | None]:
        """Where a message goes, and the A2A agent to relay to. None of that where the engine is to run the
        turn: for agents of other protocols, and for tasks of an A2A agent that the engine runs already
        (another door began them)."""
        if send.message.extra:
            await self._check_referenced(call, send.message)
        if send.push is not None:
            await self._push.check(call, send.push, send.message.task_id)
        if call.agent == OWN:
            route = await self._own.route(send, call.principal)
        else:
            view = self._engine.agent(call.agent, call.principal)
            route = Route(send, view)
        view = route.view
        if view is None:
            return route, None
        call.goes_to(view.name, view.record.protocol)
        agent, task_id = view.upstream, route.send.message.task_id
        if route.new_task_id or not isinstance(agent, A2AUpstream):
            return route, None
        if task_id:
            known = (await self._engine.task(task_id, call.principal)).task
            if known.agent != view.name:
                raise UnknownTask(task_id)
            if not is_relayed(known):
                return route, None
        return route, agent

    async def _check_referenced(self, call: Call, message: Message) -> None:
        """To an agent all callers are one: it may read in any task that it is referred to. Raises UnknownTask
        for one that is not the caller's, Malformed."""
        ids = list_at(message.extra.get("a2a", {}), "referenceTaskIds")
        if call.principal.id != _ANONYMOUS:
            for task_id in ids:
                with suppress(Unsupported):  # it is the caller's, and at work in another process
                    await self._engine.task(str(task_id), call.principal)

    def _send(self, call: Call) -> Awaitable[bytes]:
        send = self._said(call)
        message = send.message
        # What begins something at one agent: nothing has to be looked up.
        if not (call.agent == OWN or message.task_id or message.extra or send.push):
            view = self._engine.agent(call.agent, call.principal)
            if isinstance(view.upstream, A2AUpstream):
                call.goes_to(view.name, view.record.protocol)
                return self._relay.send(call, view, view.upstream, send)
        return self._sent(call, send)

    async def _sent(self, call: Call, send: Send) -> bytes:
        route, agent = await self._routed(call, send)
        if agent is not None and route.view is not None:
            return await self._relay.send(call, route.view, agent, send)
        if route.question is not None:
            return await self._asked(call, route.question, send)
        handle = await self._invoke(call, route, send)
        if send.wait:
            await handle.settled()
        task = await handle.whole()
        call.saw(task)
        call.lost(of_task(task))
        return task_json(task, call.version, send.history_length)

    async def _send_stream(self, call: Call) -> AsyncGenerator[bytes]:
        send = self._said(call)
        route, agent = await self._routed(call, send)
        if agent is not None and route.view is not None:
            return self._relay.stream(call, route.view, agent, send)
        if route.question is not None:
            return _only(await self._asked(call, route.question, send))
        handle = await self._invoke(call, route, send)
        call.raw = msgspec.Raw()  # it holds all of the request
        return self._followed(call, handle, send.history_length)

    async def _invoke(self, call: Call, route: Route, send: Send) -> TaskHandle:
        assert route.view is not None
        message = route.send.message
        idle, total = call.timeouts
        if route.send.modes and not isinstance(route.view.upstream, A2AUpstream):
            call.lost({Loss.MODES})
        handle = await self._engine.invoke(
            Invocation(
                agent=route.view.name,
                message=message,
                skill=route.skill if call.agent == OWN else send.meta("skill"),
                context_id=message.context_id or None,
                task_id=None if route.new_task_id else message.task_id or None,
                new_task_id=route.new_task_id,
                principal=call.principal,
                trace=call.span.trace,
                client_protocol="a2a",
                streaming=call.op is Op.STREAM or not route.send.wait or send.push is not None,
                metadata=route.send.metadata,
                idle_timeout=idle,
                total_timeout=total,
                extra={"a2a": {"acceptedOutputModes": list(route.send.modes)}} if route.send.modes else {},
            )
        )
        if route.new_task_id:
            self._push.moved(route.new_task_id)
        if send.push is not None:
            await self._push.add(call, handle.task, send.push)
        return handle

    async def _followed(
        self, call: Call, handle: TaskHandle, history_length: int | None = None
    ) -> AsyncGenerator[bytes]:
        """The task as it is, then its updates in the log's order."""
        seq = handle.last_seq
        task = await handle.whole(seq)
        call.saw(task)
        call.lost(of_task(task))
        yield task_json(task, call.version, history_length)
        updates = Updates(call, task)
        del task  # it may be long until there is another
        try:
            async with aclosing(handle.events(seq, updates.take, updates.more)) as log:
                async for logged in log:
                    for result in updates.written(logged):
                        yield result
        finally:
            call.saw(handle.task)

    async def _asked(self, call: Call, question: Question, send: Send) -> bytes:
        call.saw(question.task)
        if send.push is not None:
            await self._push.add(call, question.task, send.push)
        return _encode(item_to(question.task, call.version))

    # --- tasks -------------------------------------------------------------------------------

    async def _known(self, call: Call) -> tuple[TaskHandle, AgentView | None]:
        """The caller's task of this door, and its agent. Raises UnknownTask."""
        params = call.params
        task_id = task_of(call.op, params, call.version) if call.op in PUSH else task_id_of(params)
        handle = await self._engine.task(task_id, call.principal)
        name = handle.task.agent
        if call.agent not in (OWN, name):
            raise UnknownTask(task_id)
        view = None if name == OWN else self._engine.agent(name, call.principal)
        if view is not None:
            call.goes_to(name, view.record.protocol)
        call.saw(handle.task)
        return handle, view

    async def _configured(self, call: Call) -> bytes:
        """The operations on push notification configurations."""
        return await self._push.run(call, (await self._known(call))[0].task)

    async def _task(self, call: Call) -> bytes:
        """GetTask and CancelTask."""
        handle, view = await self._known(call)
        if view is not None and isinstance(view.upstream, A2AUpstream) and is_relayed(handle.task):
            return await self._relay.task(call, view, view.upstream, handle.task)
        if call.op is Op.CANCEL:
            task = await self._canceled(call, handle, view)
        else:
            task = await handle.whole()
        call.lost(of_task(task))
        length = count_at(call.params, "historyLength")
        return _encode(task_to(task, call.version, history_length=length))

    async def _canceled(self, call: Call, handle: TaskHandle, view: AgentView | None) -> Task:
        if view is None:
            task = self._own.cancel(handle.task, call.principal)
        else:
            try:
                canceled = await self._engine.cancel(handle.task.id, call.principal)
                await canceled.settled()
                task = await canceled.whole()
            except NotActive as e:
                raise Problem(NOT_CANCELABLE, e.message, hub=e.code) from e
        call.saw(task)
        return task

    async def _subscribe(self, call: Call) -> AsyncGenerator[bytes]:
        handle, view = await self._known(call)
        if view is not None and isinstance(view.upstream, A2AUpstream) and is_relayed(handle.task):
            return self._relay.subscribe(call, view, view.upstream, handle.task)
        if handle.task.state in TERMINAL:
            raise Problem(UNSUPPORTED, f"the task has ended: it is {handle.task.state.value}")
        return self._followed(call, handle)

    async def _list(self, call: Call) -> bytes:
        query = query_from(call.params, call.version)
        if call.agent != OWN:
            self._engine.agent(call.agent, call.principal)
        agent = None if call.agent == OWN else call.agent
        tasks = await self._engine.tasks(call.principal, agent=agent, context_id=query.context_id)
        views = {view.name: view for view in self._engine.agents(call.principal)}
        if query.token is None and await self._relay.refresh(call, views, tasks):
            tasks = await self._engine.tasks(call.principal, agent=agent, context_id=query.context_id)
        shown, more = page(tasks, query)
        if query.artifacts:
            shown = [await self._whole(call, task) if is_light(task) else task for task in shown]
        return _encode({**listed(shown, query, call.version), **more})

    async def _whole(self, call: Call, task: Task) -> Task:
        return await (await self._engine.task(task.id, call.principal)).whole()

    # --- the extended card -------------------------------------------------------------------

    async def _card(self, call: Call) -> bytes:
        """Relayed for an A2A agent (which also says itself that it has none); the others have none."""
        view = None if call.agent == OWN else self._engine.agent(call.agent, call.principal)
        if view is None or not isinstance(view.upstream, A2AUpstream):
            code = UNSUPPORTED if call.version == V10 else EXTENDED_CARD
            raise Problem(code, "there is no extended agent card")
        card: Any = await self._relay.card(call, view, view.upstream)
        url = f"{call.base_url}/a2a/{view.name}/"
        grpc = grpc_interface(self._engine.config.server, call.base_url, view.name)
        card = as_v03(card, url) if call.version == V03 else with_interfaces(card, url, grpc)
        return _encode(await self._signer.signed(card, call.base_url))
