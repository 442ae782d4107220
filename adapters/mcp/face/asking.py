"""The questions of conversational agents, put to clients that can be asked while a tool call runs.

Handshake era: a request on the call's own stream. Modern: an InputRequiredResult, and the call again with
the answer (2026-07-28, basic/patterns/mrtr); its ``requestState`` names the task, sealed.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ....gateway.errors import NotActive
from ....gateway.model import Invocation, Message
from ....gateway.ports import AgentView, Engine, TaskHandle
from .. import wire
from ..wire import RpcError
from . import answers, elicitation, eras
from .exchange import Exchange

PURPOSE = "mcp.question"
KEY = "answer"


class _State(msgspec.Struct, frozen=True):
    """Which question a ``requestState`` is about, and whose: it works for nobody else."""

    task_id: str
    seq: int
    agent: str
    principal: str


def question(handle: TaskHandle, exchange: Exchange) -> dict[str, Any] | None:
    """The task's open question as ``elicitation/create`` params; None when there is none, or this client
    can't be asked it."""
    if handle.state not in answers.ASKING or (request := handle.task.input_request) is None:
        return None
    return elicitation.asked(request, exchange.client_capabilities)


async def ask(
    engine: Engine, view: AgentView, exchange: Exchange, handle: TaskHandle, params: dict[str, Any]
) -> tuple[TaskHandle, int] | dict[str, Any] | None:
    """Ask the client ``params``: the task that goes on with the answer and where to follow its log from;
    an InputRequiredResult; None for a client that did not answer."""
    if exchange.era == "modern":
        return _input_required(engine, view, exchange, handle, params)
    seq = handle.last_seq
    try:
        result = await exchange.ask(wire.ELICIT, eras.question(params, exchange.era))
    except RpcError:
        return None
    return await answer(engine, view, exchange, handle, seq, result)


async def resumed(
    engine: Engine, view: AgentView, exchange: Exchange
) -> tuple[TaskHandle, int] | dict[str, Any] | None:
    """Go on with the task that a repeated call is about; None for a call that is no such. Raises RpcError
    for a state that is not this client's."""
    if exchange.era != "modern" or exchange.head.state is None:
        return None
    given = exchange.arguments()
    state = _opened(engine, view, exchange, exchange.head.state)
    handle = await engine.task(state.task_id, exchange.principal)
    result = _object(_object(given.get("inputResponses")).get(KEY))
    params = question(handle, exchange)
    if params is not None and not result:
        return _input_required(engine, view, exchange, handle, params)
    return await answer(engine, view, exchange, handle, state.seq, result)


def _opened(engine: Engine, view: AgentView, exchange: Exchange, sealed: Any) -> _State:
    limit = engine.config.limits.question
    data = engine.sealer.unseal(str(sealed), PURPOSE, max_age=limit)
    state = msgspec.json.decode(data, type=_State)
    if (state.agent, state.principal) != (view.name, exchange.principal.id):
        raise RpcError(wire.INVALID_PARAMS, "requestState belongs to another call")
    return state


def _input_required(
    engine: Engine, view: AgentView, exchange: Exchange, handle: TaskHandle, params: dict[str, Any]
) -> dict[str, Any]:
    state = _State(handle.task.id, handle.last_seq, view.name, exchange.principal.id)
    sealed = engine.sealer.seal(msgspec.json.encode(state), PURPOSE)
    engine.homes.claim(sealed)
    return {
        "resultType": "input_required",
        "inputRequests": {KEY: {"method": wire.ELICIT, "params": params}},
        "requestState": sealed,
    }


async def answer(
    engine: Engine, view: AgentView, exchange: Exchange, handle: TaskHandle, seq: int, result: dict[str, Any]
) -> tuple[TaskHandle, int]:
    """Answer the question that stood at ``seq``. Where it no longer stands (answered already, by a lost
    attempt of this client or at another door) the task is merely followed."""
    request = handle.task.input_request
    if request is None or handle.last_seq != seq or handle.task.state not in answers.ASKING:
        return handle, seq
    call = answer_call(view, exchange, handle, elicitation.answered(request, result))
    try:
        return await engine.invoke(call), seq
    except NotActive:
        return handle, seq


def answer_call(view: AgentView, exchange: Exchange, handle: TaskHandle, message: Message) -> Invocation:
    """The turn that answers a task's question with ``message``."""
    return Invocation(
        agent=view.name,
        message=message,
        context_id=handle.task.context_id,
        task_id=handle.task.id,
        principal=exchange.principal,
        trace=exchange.trace,
        client_protocol="mcp",
        streaming=exchange.progress_token is not None,
    )


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
