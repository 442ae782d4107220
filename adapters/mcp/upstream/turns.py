"""Calls of tools as turns of tasks: choosing the tool, progress while it runs, questions in between.

A question can be the gateway's own (which tool?) or the server's (elicitation): in the handshake era the
tool's call stays open while the client thinks, in the modern one it is repeated with the answer. A call that
becomes a task of the server's is followed to its end (see ``following``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property
from typing import Any, Protocol, cast

import msgspec

from ....gateway.errors import AgentError, BadUpstream, NotActive, UpstreamFailed
from ....gateway.model import (
    Event,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    Progress,
    Started,
    TaskRef,
    TaskState,
)
from ....gateway.ports import Tell
from ....gateway.waiting import Timer
from .. import wire
from ..codec import MCP, log_event, progress_event, result_events
from ..losses import of_request, phrases
from ..wire import Caller, Catalog, RpcError
from . import following, questions
from .begun import Begun
from .choice import Chosen, Named, choose, merged
from .turn import Asked, Turn

TOGETHER = 0.01  # seconds after which a call is said to have begun, unless its answer has come
MAX_TURNS = 2000  # that wait for an answer or run; the oldest is given up
MAX_ROUNDS = 20  # times one call may ask back
CAPABILITIES: dict[str, Any] = {**questions.CAPABILITIES, "extensions": {wire.TASKS_EXTENSION: {}}}
RESULT = "result"  # under ``Finished.extra["mcp"]``: the tool's result as it came, for MCP's own clients


class Server(Protocol):
    """What a turn needs of the upstream (see ``McpUpstream``)."""

    async def catalog(self, refresh: bool = False) -> Catalog: ...

    async def current_catalog(self) -> Catalog: ...

    async def request(
        self, method: str, params: dict[str, Any] | None, *, caller: Caller, losses: tuple[str, ...] = ()
    ) -> msgspec.Raw: ...


class Turns:
    """All tasks of one server that run or wait for an answer. ``patience``: seconds that a tool's open call
    waits for the answer to a question of its own; then it is told that there is none."""

    def __init__(self, agent: str, server: Server, patience: Callable[[], float]) -> None:
        self._agent = agent
        self._server = server
        self._patience = patience
        self._turns: dict[str, Turn] = {}
        self._tools: tuple[Catalog, Named] | None = None
        self._cancelling: set[asyncio.Task[None]] = set()
        self._soon = Timer(TOGETHER)
        self._meta = wire.KeptMeta({})

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The one in which all calls run: to ask asyncio for it costs a system call."""
        return asyncio.get_running_loop()

    # --- the port ----------------------------------------------------------------------------

    async def invoke(self, call: Invocation, tell: Tell) -> None:
        started = Started(task_id=call.task_id, context_id=call.context_id)
        if call.streaming:
            tell(started)
            await self._choose(Turn(call), call.message, call.skill, tell)
            return
        begun = Begun(tell, started, self._soon)
        try:
            await self._choose(Turn(call), call.message, call.skill, begun)
        finally:
            begun.now()

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply, tell: Tell) -> None:
        tell(Started(task_id=task.task_id, context_id=call.context_id))
        turn = self._turns.get(task.task_id)
        if turn is None:
            # Forgotten, e.g. by a restart: the answer may be complete in itself.
            turn = Turn(msgspec.structs.replace(call, task_id=task.task_id))
            await self._choose(turn, call.message, call.skill, tell)
        elif turn.choosing:
            await self._choice_made(turn, call, reply, tell)
        else:
            await self._answered(turn, reply, tell)

    def knows(self, task: TaskRef) -> bool:
        """Whether the task runs here, or waits for an answer."""
        return task.task_id in self._turns

    async def cancel(self, task: TaskRef) -> None:
        turn = self._turns.pop(task.task_id, None)
        if turn is None:
            raise NotActive("the call has ended")
        turn.stop()

    def close(self) -> None:
        """Give up all calls."""
        for turn in self._turns.values():
            turn.stop()
        self._turns.clear()

    # --- which tool --------------------------------------------------------------------------

    async def _choice_made(self, turn: Turn, call: Invocation, reply: InputReply, tell: Tell) -> None:
        if reply.action != "accept":
            self._forget(turn)
            tell(Finished(state=TaskState.CANCELED))
            return
        catalog = await self._server.catalog()
        message, named = merged(turn.call.message, reply.message, self._named(catalog))
        turn.call = msgspec.structs.replace(turn.call, message=message, trace=call.trace)
        await self._choose(turn, message, named or call.skill or turn.call.skill, tell)

    async def _choose(self, turn: Turn, message: Message, skill: str | None, tell: Tell) -> None:
        """Call the tool that is meant, or ask which."""
        chosen = _exact(turn.call) or choose(message, skill, self._named(await self._server.catalog()))
        if isinstance(chosen, InputRequest):
            chosen = choose(message, skill, self._named(await self._server.current_catalog()))
        turn.choosing = isinstance(chosen, InputRequest)
        self._keep(turn)
        if isinstance(chosen, InputRequest):
            tell(InputRequired(request=chosen))
            return
        turn.chosen = chosen
        self._start(turn)
        await self._follow(turn, tell)

    def _named(self, catalog: Catalog) -> Named:
        if self._tools is None or self._tools[0] is not catalog:
            self._tools = catalog, Named(catalog.tools)
        return self._tools[1]

    # --- running -----------------------------------------------------------------------------

    def _start(self, turn: Turn) -> None:
        """Call the tool as soon as somebody follows it, with answers where it asked for some."""
        assert turn.chosen is not None
        params: dict[str, Any] = {"name": turn.chosen.name, "arguments": turn.chosen.arguments}
        if turn.call.streaming:
            params["_meta"] = {"progressToken": 0}  # the link puts its own in its place
        if turn.answers:
            params["inputResponses"] = turn.answers
        if turn.state is not None:
            params["requestState"] = turn.state
        turn.answers, turn.state = {}, None
        caller = Caller(
            trace=turn.call.trace,
            principal=turn.call.principal,
            client_capabilities=_own(turn.call).get("capabilities", CAPABILITIES),
            on_notification=lambda method, params: _notified(turn, method, params),
            on_request=lambda method, params: _requested(turn, method, params, self._patience()),
        )
        turn.prepared, turn.running = (params, caller), None

    async def _called(self, turn: Turn) -> list[Event] | None:
        """The events of a call that can be waited for; None: it goes on in a task of its own. Servers of the
        handshake era may ask in the middle of one, which lasts while the client thinks."""
        assert turn.prepared is not None and turn.chosen is not None
        (params, caller), turn.prepared = turn.prepared, None
        turn.direct = current = asyncio.current_task(self._loop)
        assert current is not None
        try:
            catalog = await self._server.catalog()
            if catalog.era == "handshake":
                if following.wants_task(catalog, turn.chosen.name, bool(_own(turn.call))):
                    params["task"] = {}
                self._runs(turn, self._whole(turn, turn.chosen, params, caller))
                return None
            params.setdefault("_meta", self._meta)
            result = await self._asked(turn, turn.chosen, params, caller)
        except asyncio.CancelledError:
            if not turn.stopped:
                raise
            current.uncancel()
            return [Finished(state=TaskState.CANCELED)]
        except RpcError as e:
            return self._must_open(turn, e)
        finally:
            turn.direct = None
        task = following.created(result)
        if task is None:
            return self._told(turn, result)
        self._runs(turn, self._followed(turn, task, caller))
        return None

    def _runs(self, turn: Turn, call: Coroutine[Any, Any, msgspec.Raw]) -> None:
        turn.running = self._loop.create_task(call)
        turn.running.add_done_callback(turn.wake)

    def _asked(
        self, turn: Turn, chosen: Chosen, params: dict[str, Any], caller: Caller
    ) -> Coroutine[Any, Any, msgspec.Raw]:
        losses = (*chosen.losses, *phrases(of_request(turn.call)))
        return self._server.request(wire.TOOLS_CALL, params, caller=caller, losses=losses)

    async def _whole(self, turn: Turn, chosen: Chosen, params: dict[str, Any], caller: Caller) -> msgspec.Raw:
        """The tool's result, through a task of the server's where it makes one."""
        result = await self._asked(turn, chosen, params, caller)
        task = following.created(result)
        return result if task is None else await self._followed(turn, task, caller)

    async def _followed(self, turn: Turn, task: following.Created, caller: Caller) -> msgspec.Raw:
        """The result of a task of the server's."""
        upstream = following.Following(
            self._agent,
            self._server,
            task,
            caller,
            told=lambda text: turn.tell(Progress(message=text)),
            ask=lambda method, params: _requested(turn, method, params, self._patience()),
        )
        try:
            return await upstream.result()
        except asyncio.CancelledError:
            job = asyncio.create_task(upstream.cancel())
            self._cancelling.add(job)
            job.add_done_callback(self._cancelling.discard)
            raise

    async def _follow(self, turn: Turn, tell: Tell) -> None:
        """Tell what the running call says, up to its end or the server's next question."""
        waiting = False
        turn.listen(tell)
        try:
            while True:
                if turn.asked:
                    waiting = True
                    tell(InputRequired(request=turn.asked[0].request))
                    return
                if turn.running is None:
                    events = await self._called(turn)
                elif turn.running.done():
                    events = self._outcome(turn, turn.running)
                else:
                    await turn.news()
                    continue
                waiting = turn.question is not None
                if events:
                    tell(*events)
                    return
        finally:
            turn.listen(None)
            if not waiting:
                turn.stop()
                self._forget(turn)

    def _outcome(self, turn: Turn, ended: asyncio.Task[msgspec.Raw]) -> list[Event]:
        """The ended call's events; none if it goes on at once."""
        if ended.cancelled():
            return [Finished(state=TaskState.CANCELED)]
        error = ended.exception()
        if isinstance(error, following.Cancelled):
            return [Finished(state=TaskState.CANCELED)]
        if isinstance(error, RpcError):
            return self._must_open(turn, error)
        if error is not None:
            raise error
        return self._told(turn, ended.result())

    def _told(self, turn: Turn, answer: msgspec.Raw) -> list[Event]:
        assert turn.chosen is not None
        try:
            result = wire.fields(answer)
        except ValueError as e:
            raise BadUpstream(f"{self._agent} answered with something else", detail=str(e)) from e
        kind = result.get("resultType", "complete")
        if kind == "complete":
            events = result_events(turn.chosen.name, result)
            if _own(turn.call) and isinstance(events[-1], Finished):
                events[-1] = msgspec.structs.replace(events[-1], extra={MCP: {RESULT: result}})
            return events
        if kind != "input_required":
            raise BadUpstream(f"{self._agent} answered with a result of another kind: {kind}")
        return self._asks(turn, result)

    def _must_open(self, turn: Turn, error: RpcError) -> list[Event]:
        """The error's end, or the addresses that the user has to open before the call is made again."""
        turn.rounds += 1
        turn.to_ask |= questions.links(error) if turn.rounds <= MAX_ROUNDS else {}
        question = turn.question
        if question is None:
            raise fault_of(self._agent, error)
        turn.links = error
        return [InputRequired(request=question)]

    def _asks(self, turn: Turn, result: dict[str, Any]) -> list[Event]:
        """A modern server wants input, or merely to be asked again (basic/patterns/mrtr)."""
        turn.rounds += 1
        if turn.rounds > MAX_ROUNDS:
            raise BadUpstream(f"{self._agent} keeps asking")
        turn.state = result.get("requestState")
        requests: Any = result.get("inputRequests")
        for key, request in cast("dict[str, dict[str, Any]]", requests or {}).items():
            if request.get("method") != wire.ELICIT:
                raise BadUpstream(f"{self._agent} asks for something that the gateway does not offer")
            turn.to_ask[key] = questions.asked(request.get("params") or {}, key)
        question = turn.question
        if question is None:
            self._start(turn)
            return []
        return [InputRequired(request=question)]

    # --- answers -----------------------------------------------------------------------------

    async def _answered(self, turn: Turn, reply: InputReply, tell: Tell) -> None:
        question = turn.question
        if question is None:
            raise NotActive("the task does not wait for input")
        answer = questions.answered(question, reply)
        if answer is None:
            tell(InputRequired(request=question))
            return
        if turn.asked:
            asked = turn.asked.popleft()
            if not asked.answer.done():
                asked.answer.set_result(answer)
        else:
            if turn.links is not None and answer["action"] != "accept":
                self._forget(turn)
                raise fault_of(self._agent, turn.links)
            key = next(iter(turn.to_ask))
            del turn.to_ask[key]
            if turn.links is None:
                turn.answers[key] = answer
            if turn.question is not None:
                tell(InputRequired(request=turn.question))
                return
            turn.links = None
            self._start(turn)
        await self._follow(turn, tell)

    # --- books -------------------------------------------------------------------------------

    def _keep(self, turn: Turn) -> None:
        if turn.call.task_id is None:
            return
        self._turns[turn.call.task_id] = turn
        if len(self._turns) > MAX_TURNS:
            self._turns.pop(next(iter(self._turns))).stop()

    def _forget(self, turn: Turn) -> None:
        task_id = turn.call.task_id
        if task_id is not None and self._turns.get(task_id) is turn:
            del self._turns[task_id]


def _own(call: Invocation) -> Mapping[str, Any]:
    """What an MCP client's call brings along, when the gateway runs it as a task: ``tool``, ``arguments``,
    and ``capabilities``, those for the server to see. Empty for callers of other protocols."""
    return call.extra.get(MCP, {})


def _exact(call: Invocation) -> Chosen | None:
    """The call as an MCP client made it: nothing is read into it."""
    own = _own(call)
    return Chosen(name=own["tool"], arguments=dict(own["arguments"])) if "tool" in own else None


async def _notified(turn: Turn, method: str, params: dict[str, Any]) -> None:
    if method == wire.PROGRESS:
        turn.tell(progress_event(params))
    elif method == wire.LOG:
        turn.tell(log_event(params))


async def _requested(turn: Turn, method: str, params: dict[str, Any], patience: float) -> dict[str, Any]:
    if method != wire.ELICIT:
        raise RpcError(wire.METHOD_NOT_FOUND, f"{method} is not supported by this client")
    if turn.direct is not None:  # the server was a modern one when the call began
        return {"action": "cancel"}
    asked = Asked(questions.asked(params), asyncio.get_running_loop().create_future())
    turn.ask(asked)
    try:
        async with asyncio.timeout(patience):
            return await asked.answer
    except TimeoutError:
        return {"action": "cancel"}


def fault_of(agent: str, error: RpcError) -> AgentError | UpstreamFailed:
    """A server's JSON-RPC error as ours: its own words, unless they may be crash text."""
    native = {"protocol": "mcp", "code": error.code}
    if error.crash:
        data = "" if error.data is msgspec.UNSET else f": {error.data!r}"
        return UpstreamFailed(agent, native=native, detail=error.message + data)
    return AgentError(error.message, data=None if error.data is msgspec.UNSET else error.data, native=native)
