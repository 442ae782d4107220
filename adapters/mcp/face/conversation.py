"""A tool call that goes to a conversational agent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, cast

from ....gateway.errors import CallerError, GatewayError, UnknownTask
from ....gateway.model import Invocation
from ....gateway.ports import AgentView, Engine, TaskHandle
from .. import wire
from ..wire import RpcError
from . import answers, asking, tools
from .exchange import Exchange
from .tools import BadArguments, Turn

# From this revision on arguments that do not fit are the tool's own error, which the model gets to see and
# can mend (2025-11-25, server/tools: Error Handling); before, they were a protocol error.
_TOOL_ERRORS = "2025-11-25"
_QUESTIONS = 20  # in a row that one call puts to its client; the next one is its result


async def call_agent(engine: Engine, view: AgentView, exchange: Exchange) -> dict[str, Any]:
    """Run one turn and return its CallToolResult. Raises RpcError, GatewayError.

    A client that can be asked is asked what the agent wants to know. A task that takes longer than
    ``limits.handover`` goes on by itself: the result says that it is still working and how to come back for
    it, before the host's own time-out loses it.
    """
    begun = await asking.resumed(engine, view, exchange)
    if isinstance(begun, dict):
        return begun
    note = ""
    try:
        if begun is None:
            turn = tools.parse(_arguments(exchange))
            handle, after, note = await _begin(engine, view, exchange, turn)
        else:
            handle, after = begun
    except (BadArguments, CallerError) as e:
        return _refused(exchange, str(e))
    try:
        asked = await _converse(engine, view, exchange, handle, after)
    except asyncio.CancelledError:
        with contextlib.suppress(GatewayError):
            await engine.cancel(handle.task.id, exchange.principal)
        raise
    exchange.set_state(handle.task.state.value)
    return asked or answers.result(handle.task, exchange.revision, note=note)


async def _converse(
    engine: Engine, view: AgentView, exchange: Exchange, handle: TaskHandle, after: int
) -> dict[str, Any] | None:
    """Follow the task to its end, or to where it has to be handed over, and put its questions to the
    client. An InputRequiredResult, where that is how the client is asked."""
    numbers = itertools.count(1)
    for _ in range(_QUESTIONS):
        try:
            async with asyncio.timeout(engine.config.limits.handover):
                await _follow(exchange, handle, after, numbers)
        except TimeoutError:
            return None
        params = asking.question(handle, exchange)
        turned = None if params is None else await asking.ask(engine, view, exchange, handle, params)
        if turned is None or isinstance(turned, dict):
            return turned
        handle, after = turned
    return None


def _arguments(exchange: Exchange) -> dict[str, Any]:
    arguments = exchange.arguments().get("arguments")
    if not isinstance(arguments, dict | None):
        raise RpcError(wire.INVALID_PARAMS, "arguments must be an object")
    return cast("dict[str, Any]", arguments or {})


def _refused(exchange: Exchange, text: str) -> dict[str, Any]:
    if exchange.revision < _TOOL_ERRORS:
        raise RpcError(wire.INVALID_PARAMS, text)
    exchange.set_state("rejected")
    return answers.refusal(text)


async def _begin(
    engine: Engine, view: AgentView, exchange: Exchange, turn: Turn
) -> tuple[TaskHandle, int, str]:
    """Start the turn, or come back to the task it names: its handle, where to follow its log from, and a
    remark for the result."""
    principal, task_id = exchange.principal, turn.task_id
    if task_id is None and turn.context_id is not None:
        task_id = engine.open_question(view.name, turn.context_id, principal)
    after = 0
    if task_id is not None:
        handle = await engine.task(task_id, principal)
        if handle.task.agent != view.name:
            raise UnknownTask(task_id)
        after = handle.last_seq
        if turn.empty or handle.task.state not in answers.ASKING:
            return handle, after, _not_sent(turn)
    call = Invocation(
        agent=view.name,
        message=turn.message,
        skill=turn.skill,
        context_id=turn.context_id,
        task_id=task_id,
        principal=principal,
        trace=exchange.trace,
        client_protocol="mcp",
        streaming=exchange.progress_token is not None,
    )
    return await engine.invoke(call), after, ""


def _not_sent(turn: Turn) -> str:
    if turn.empty:
        return ""
    return (
        "The message was not sent: this task does not wait for an answer. "
        "To go on with the conversation, use context_id without task_id."
    )


async def _follow(exchange: Exchange, handle: TaskHandle, after: int, numbers: Iterator[int]) -> None:
    """Wait until the task has ended or asks, telling its progress to a client that wants it. ``numbers``
    must increase over the whole request; how much work there is, nobody knows."""
    token = exchange.progress_token
    if token is None:
        await handle.settled()
        return
    narrator = answers.Narrator()
    async for logged in handle.events(after):
        text = narrator.feed(logged.event)
        if text is not None:
            told = {"progressToken": token, "progress": next(numbers), "message": text}
            await exchange.notify(wire.PROGRESS, told)
