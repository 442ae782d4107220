"""Tasks at the MCP doors: calls that become tasks, and ``tasks/*`` for those that the gateway runs. What a
server of the client's own era made a task is that server's: its methods are relayed, for its owner only."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from typing import Any, cast

import msgspec
from msgspec import Raw

from ....gateway.errors import Draining, GatewayError, NotActive, UnknownTask
from ....gateway.lifecycle import TERMINAL
from ....gateway.model import Data, Finished, Invocation, Message, Task, TaskState
from ....gateway.ports import AgentView, Engine, TaskHandle
from .. import wire
from ..upstream import following
from ..upstream.turns import RESULT
from ..upstream.upstream import McpUpstream
from ..wire import RpcError
from . import answers, asking, conversation, eras, tasks
from .exchange import Exchange
from .relay import Relay, server_of
from .sessions import Session
from .subscriptions import Subscription

PAGE = 100  # tasks in one answer to tasks/list
_REMEMBERED = 10_000  # progress tokens of tasks
_STOPS = 15.0  # seconds that tasks/cancel waits for the agent to stop
Tokens = OrderedDict[str, tuple[int | str, Iterator[int]]]


class TaskCalls:
    """What both kinds of door do about tasks. ``server_info``: what the gateway says of itself."""

    def __init__(self, engine: Engine, relay: Relay, server_info: dict[str, Any]) -> None:
        self._engine = engine
        self._relay = relay
        self._server_info = server_info
        self._tokens: Tokens = OrderedDict()

    # --- calls ---------------------------------------------------------------------------------

    def begun(self, exchange: Exchange, handle: TaskHandle) -> dict[str, Any]:
        """The CreateTaskResult for a task that goes on; from now on its session is told of its status."""
        if exchange.progress_token is not None:
            self._tokens[handle.task.id] = (exchange.progress_token, itertools.count(1))
            if len(self._tokens) > _REMEMBERED:
                self._tokens.popitem(last=False)
        if exchange.session is not None:
            exchange.session.keep(asyncio.create_task(self._tell(exchange.session, handle)))
        exchange.set_state(handle.task.state.value)
        return tasks.created(handle.task, exchange.era, asks=True)

    async def _tell(self, session: Session, handle: TaskHandle) -> None:
        asks = "elicitation" in session.client_capabilities
        known = tasks.status(handle.task, "handshake", asks)
        while known not in tasks.ENDED:
            try:
                await handle.changed()
            except Draining:  # the next process goes on with it
                return
            fields = tasks.shape(handle.task, "handshake", asks)
            if fields["status"] != known:
                session.push(wire.encode_notification(tasks.STATUS["handshake"], fields))
            known = fields["status"]

    def may_run(self, server: McpUpstream, exchange: Exchange) -> bool:
        """Whether the request may be one of which ``runs`` holds."""
        if exchange.method != wire.TOOLS_CALL:
            return False
        return exchange.wants_task if exchange.era == "handshake" else server.era != "modern"

    async def runs(self, view: AgentView, server: McpUpstream, exchange: Exchange, own: str) -> bool:
        """Whether a tool's call is run by the gateway as a task, because the server's tasks are of the other
        era than the client's."""
        if not self.may_run(server, exchange):
            return False
        caller = exchange.caller()
        hello = await server.hello(caller)
        if exchange.era == "handshake":
            if following.has_tasks(hello.capabilities):
                return False
            return tasks.known((await server.catalog()).capabilities)
        if hello.era == "modern" or not following.has_tasks(hello.capabilities):
            return False
        support = following.support((await server.catalog()).tool(own))
        return support == "required" or (support == "optional" and exchange.wants_task)

    async def call(self, view: AgentView, exchange: Exchange, own: str) -> dict[str, Any]:
        """Run the tool ``own`` of a server of the other era: its result, or the task that it is."""
        exchange.set_agent(view)
        begun = await asking.resumed(self._engine, view, exchange)
        if isinstance(begun, dict):
            return begun
        handle, after = begun or (await self._engine.invoke(self._invocation(view, exchange, own)), 0)
        exchange.set_task(handle.task.id)
        if exchange.era == "handshake":
            return self.begun(exchange, handle)
        patience = tasks.AFTER if exchange.wants_task else None
        try:
            asked = await conversation.converse(self._engine, view, exchange, handle, after, patience)
        except asyncio.CancelledError:
            conversation.taken_back(self._engine, exchange, handle)
            raise
        if asked is not None:
            return asked
        if handle.task.state in answers.RUNNING:
            return eras.completed(wire.TOOLS_CALL, self.begun(exchange, handle), self._server_info)
        exchange.set_state(handle.task.state.value)
        return await self._result(view, handle, exchange)

    def _invocation(self, view: AgentView, exchange: Exchange, own: str) -> Invocation:
        arguments: Any = exchange.arguments().get("arguments") or {}
        capabilities: dict[str, Any] = {"extensions": {wire.TASKS_EXTENSION: {}}}
        if "elicitation" in exchange.client_capabilities:
            capabilities["elicitation"] = exchange.client_capabilities["elicitation"]
        data = {"tool": own, "arguments": arguments}
        idle, total = exchange.timeouts
        return Invocation(
            agent=view.name,
            message=Message(role="user", parts=(Data(data=data),)),
            principal=exchange.principal,
            trace=exchange.trace,
            client_protocol="mcp",
            streaming=exchange.progress_token is not None,
            idle_timeout=idle,
            total_timeout=total,
            extra={"mcp": {"capabilities": capabilities, **data}},
        )

    # --- tasks/* -------------------------------------------------------------------------------

    async def request(self, exchange: Exchange, only: str | None) -> Raw | dict[str, Any]:
        """Answer a method of tasks. ``only``: the agent whose door it is. Raises RpcError, GatewayError."""
        if exchange.era == "modern" and not tasks.known(exchange.client_capabilities):
            raise tasks.missing()
        if exchange.method not in tasks.methods(exchange.era, exchange.revision):
            raise RpcError(wire.METHOD_NOT_FOUND, f"Method not found: {exchange.method}")
        if exchange.method == tasks.LIST:
            return await self._list(exchange, only)
        task_id = exchange.head.task_id
        if not isinstance(task_id, str):
            raise RpcError(wire.INVALID_PARAMS, "taskId is required: a string")
        if any(key.lower() == "taskid" and key != "taskId" for key in exchange.members()):
            # A server that tells no case might take it for the one that is meant, and it be another caller's.
            raise RpcError(wire.INVALID_PARAMS, "there must be one taskId")
        handle = await self._engine.task(task_id, exchange.principal)
        if only not in (None, handle.task.agent):
            raise UnknownTask(task_id)
        view = self._engine.agent(handle.task.agent, exchange.principal)
        server = server_of(view)
        if handle.relayed and server is not None:
            return await self._relayed(view, server, exchange)
        exchange.set_agent(view)
        return await self._own(view, handle, exchange)

    async def _own(self, view: AgentView, handle: TaskHandle, exchange: Exchange) -> dict[str, Any]:
        match exchange.method:
            case tasks.GET:
                if exchange.era == "handshake":
                    return tasks.shape(handle.task, exchange.era, self._asks(exchange, handle))
                result = await self._detailed(view, handle, exchange)
            case tasks.RESULT:
                return await self._awaited(view, handle, exchange)
            case tasks.CANCEL:
                result = await self._cancel(handle, exchange)
            case _:
                result = await self._update(view, handle, exchange)
        if exchange.era == "handshake":
            return result
        return eras.completed(exchange.method, result, self._server_info)

    def _asks(self, exchange: Exchange, handle: TaskHandle) -> bool:
        return asking.question(handle, exchange) is not None

    async def _detailed(self, view: AgentView, handle: TaskHandle, exchange: Exchange) -> dict[str, Any]:
        """The modern task, with what its status brings along: questions, result or error."""
        params = asking.question(handle, exchange)
        fields = tasks.shape(handle.task, "modern", params is not None)
        if params is not None:
            key = _key(handle)
            return {**fields, "inputRequests": {key: {"method": wire.ELICIT, "params": params}}}
        if fields["status"] != "completed":
            return fields
        try:
            return {**fields, "result": await self._result(view, handle, exchange)}
        except RpcError as e:
            error: dict[str, Any] = {"code": e.code, "message": e.message}
            if e.data is not msgspec.UNSET:
                error["data"] = e.data
            return {**fields, "status": "failed", "error": error}

    async def _result(self, view: AgentView, handle: TaskHandle, exchange: Exchange) -> dict[str, Any]:
        """What the call would have been answered with. Raises RpcError for a server's JSON-RPC error."""
        task = await handle.whole()
        exact = None if server_of(view) is None else await _exact(handle)
        if exact is None and task.state is TaskState.FAILED and server_of(view) is not None:
            raise _error(task)
        if exact is None:
            exchange.set_losses(task)
        result = answers.result(task, exchange.revision) if exact is None else exact
        return eras.to_client(wire.TOOLS_CALL, result, exchange.era, self._server_info)

    async def _awaited(self, view: AgentView, handle: TaskHandle, exchange: Exchange) -> dict[str, Any]:
        """Handshake era: wait for the end, putting the agent's questions to the client on the way. The
        progress that the call asked for comes here too."""
        task_id = handle.task.id
        token, numbers = self._tokens.get(task_id, (None, itertools.count(1)))
        after = 0
        while True:
            await conversation.follow(exchange, handle, after, numbers, token)
            params, after = asking.question(handle, exchange), handle.last_seq
            if params is None:
                break
            params = tasks.related(params, task_id)
            turned = await asking.ask(self._engine, view, exchange, handle, params)
            if not isinstance(turned, tuple):
                break
            handle, after = turned
        self._tokens.pop(task_id, None)
        return tasks.related(await self._result(view, handle, exchange), task_id)

    async def _cancel(self, handle: TaskHandle, exchange: Exchange) -> dict[str, Any]:
        try:
            await self._engine.cancel(handle.task.id, exchange.principal)
        except NotActive:
            if exchange.era == "handshake":
                raise
        if exchange.era == "modern":
            return {}
        with contextlib.suppress(TimeoutError):  # 2025-11-25: cancelled before it is answered
            async with asyncio.timeout(_STOPS):
                while handle.task.state not in TERMINAL:
                    await handle.changed()
        return tasks.shape(handle.task, exchange.era, asks=False)

    async def _update(self, view: AgentView, handle: TaskHandle, exchange: Exchange) -> dict[str, Any]:
        """Answer the open question; answers to any other are ignored, as they may come twice."""
        given = _object(_object(exchange.arguments().get("inputResponses")).get(_key(handle)))
        if given and handle.task.state in answers.ASKING:
            await asking.answer(self._engine, view, exchange, handle, handle.last_seq, given)
        return {}

    async def _list(self, exchange: Exchange, only: str | None) -> dict[str, Any]:
        """From the record, newest first."""
        found = await self._engine.tasks(exchange.principal, agent=only)
        cursor = exchange.arguments().get("cursor")
        start = 0
        if cursor is not None:
            start = next((i for i, task in enumerate(found, 1) if task.id == cursor), 0)
            if not start:
                raise RpcError(wire.INVALID_PARAMS, "Invalid cursor")
        page = found[start : start + PAGE]
        asks = "elicitation" in exchange.client_capabilities
        result: dict[str, Any] = {"tasks": [tasks.shape(task, "handshake", asks) for task in page]}
        return {**result, "nextCursor": page[-1].id} if len(found) > start + PAGE else result

    # --- tasks of servers ------------------------------------------------------------------------

    async def _relayed(
        self, view: AgentView, server: McpUpstream, exchange: Exchange
    ) -> Raw | dict[str, Any]:
        hello = await server.hello(exchange.caller())
        if hello.era != exchange.era:
            raise RpcError(wire.INVALID_PARAMS, "this task was begun in another era of the protocol")
        return await self._relay(view, server, exchange)

    # --- telling modern clients ------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def told(
        self, exchange: Exchange, subscription: Subscription, only: str | None
    ) -> AsyncGenerator[None]:
        """Inside the block a subscription is told how the tasks go that it names, as far as they are the
        client's own and run by the gateway; it keeps only those."""
        jobs: list[asyncio.Task[None]] = []
        own: list[str] = []
        for task_id in subscription.task_ids if tasks.known(exchange.client_capabilities) else ():
            with contextlib.suppress(GatewayError):
                handle = await self._engine.task(task_id, exchange.principal)
                view = self._engine.agent(handle.task.agent, exchange.principal)
                if only in (None, view.name) and not (handle.relayed and server_of(view) is not None):
                    jobs.append(asyncio.create_task(self._report(view, handle, exchange, subscription)))
                    own.append(task_id)
        subscription.task_ids = own
        try:
            yield
        finally:
            for job in jobs:
                job.cancel()

    async def _report(
        self, view: AgentView, handle: TaskHandle, exchange: Exchange, subscription: Subscription
    ) -> None:
        known = None
        while True:
            fields = await self._detailed(view, handle, exchange)
            if fields["status"] != known:
                subscription.task(fields)
            known = fields["status"]
            if handle.task.state in TERMINAL:
                return
            try:
                await handle.changed()
            except Draining:
                return


def _key(handle: TaskHandle) -> str:
    """The open question's key: another one for each question of a task."""
    return f"question-{handle.last_seq}"


async def _exact(handle: TaskHandle) -> dict[str, Any] | None:
    """The tool's result as the server sent it, where an MCP client's call was run as a task."""
    found: Any = None
    if handle.task.state in TERMINAL:
        async for logged in handle.events(max(handle.last_seq - 1, 0)):
            if isinstance(logged.event, Finished):
                found = logged.event.extra.get("mcp", {}).get(RESULT)
    return _object(found) or None


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _error(task: Task) -> RpcError:
    fault = task.fault
    if fault is None:
        return RpcError(wire.INTERNAL_ERROR, f"{task.agent} failed")
    code: Any = (fault.native or {}).get("code")
    data = msgspec.UNSET if fault.data is None else fault.data
    return RpcError(code if isinstance(code, int) else wire.INTERNAL_ERROR, fault.message, data)
