"""A tool call that goes to a conversational agent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ....gateway.errors import CallerError, GatewayError, UnknownTask
from ....gateway.model import Invocation
from ....gateway.ports import AgentView, Engine, TaskHandle
from ....gateway.readable import UNREADABLE
from ....gateway.waiting import Timer
from .. import wire
from ..wire import RpcError
from . import answers, asking, tasks, tools
from .exchange import Exchange
from .kinds import Called
from .outbox import KEEP_ALIVE
from .tools import BadArguments, Turn

# From this revision on arguments that do not fit are the tool's own error, which the model gets to see and
# can mend (2025-11-25, server/tools: Error Handling); before, they were a protocol error.
_TOOL_ERRORS = "2025-11-25"
_QUESTIONS = 20  # in a row that one call puts to its client; the next one is its result


class _Called(msgspec.Struct):
    arguments: dict[str, Any] | None = None


_called = msgspec.json.Decoder(_Called)
_object = msgspec.json.Decoder(dict[str, Any] | None)


async def call_agent(
    engine: Engine,
    view: AgentView,
    exchange: Exchange,
    begun_task: Callable[[Exchange, TaskHandle], dict[str, Any]],
) -> dict[str, Any]:
    """Run one turn and return its CallToolResult. Raises RpcError, GatewayError.

    A client that can be asked is asked what the agent wants to know. A task that takes longer than
    ``limits.handover`` goes on by itself: the result says that it is still working and how to come back for
    it, before the host's own time-out loses it. A client that knows tasks gets what ``begun_task`` makes of
    it: at once (2025-11-25), or after a second (modern).
    """
    begun = None if exchange.head.state is None else await asking.resumed(engine, view, exchange)
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
    exchange.set_task(handle.id)
    wants_task = exchange.wants_task
    if wants_task and exchange.era == "handshake":
        return begun_task(exchange, handle)
    patience = tasks.AFTER if wants_task else engine.config.limits.handover
    comes_back = begun is None and bool(after)
    try:
        asked = await converse(engine, view, exchange, handle, after, patience)
    except asyncio.CancelledError:
        taken_back(engine, exchange, handle, only_waits=comes_back)
        raise
    if asked is None and wants_task and handle.state in answers.RUNNING:
        return begun_task(exchange, handle)
    task = await handle.whole()
    exchange.set_state(task.state.value)
    exchange.set_losses(task)
    return asked or answers.result(task, exchange.revision, note=note)


def taken_back(engine: Engine, exchange: Exchange, handle: TaskHandle, *, only_waits: bool = False) -> None:
    """A request that is taken back takes its task with it. Not where a modern client ``only_waits`` again for
    a task that outlived an earlier request: its connection may merely have been lost; in the handshake era it
    says so when it no longer wants it."""
    if not (only_waits and exchange.era == "modern"):
        job = asyncio.ensure_future(_cancel(engine, exchange, handle))
        _cancels.add(job)
        job.add_done_callback(_cancels.discard)


_cancels: set[asyncio.Future[None]] = set()


async def _cancel(engine: Engine, exchange: Exchange, handle: TaskHandle) -> None:
    with contextlib.suppress(GatewayError):
        await engine.cancel(handle.id, exchange.principal)


async def converse(
    engine: Engine,
    view: AgentView,
    exchange: Exchange,
    handle: TaskHandle,
    after: int,
    patience: float | None,
) -> dict[str, Any] | None:
    """Follow the task to its end, or for ``patience`` seconds (None: as long as it takes), and put its
    questions to the client. An InputRequiredResult, where that is how the client is asked."""
    numbers, token = itertools.count(1), exchange.progress_token
    within = None if patience is None else engine.timers.of(patience)
    for _ in range(_QUESTIONS):
        try:
            if token is None:
                await handle.settled(within)
            else:
                await follow(exchange, handle, after, numbers, token, within)
        except TimeoutError:
            return None
        params = asking.question(handle, exchange)
        turned = None if params is None else await asking.ask(engine, view, exchange, handle, params)
        if turned is None or isinstance(turned, dict):
            return turned
        handle, after = turned
    return None


def _arguments(exchange: Exchange) -> dict[str, Any]:
    params = exchange.params
    if isinstance(params, msgspec.UnsetType):
        return {}
    try:
        if isinstance(params, Called):
            given = params.arguments
            return {} if isinstance(given, msgspec.UnsetType) else _object.decode(given) or {}
        return _called.decode(params).arguments or {}
    except msgspec.ValidationError:
        raise RpcError(wire.INVALID_PARAMS, "arguments must be an object") from None
    except UNREADABLE:
        raise RpcError(wire.INVALID_PARAMS, "arguments can't be read") from None


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
        if turn.empty or handle.state not in answers.ASKING:
            return handle, after, _not_sent(turn)
    idle, total = exchange.timeouts
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
        idle_timeout=idle,
        total_timeout=total,
    )
    return await engine.invoke(call), after, ""


def _not_sent(turn: Turn) -> str:
    if turn.empty:
        return ""
    return (
        "The message was not sent: this task does not wait for an answer. "
        "To go on with the conversation, use context_id without task_id."
    )


async def follow(
    exchange: Exchange,
    handle: TaskHandle,
    after: int,
    numbers: Iterator[int],
    token: int | str | None,
    within: Timer | None = None,
) -> None:
    """Wait until the task has ended or asks, telling its progress to a client that wants it (``token``), and
    that it is still there when there is none. ``numbers`` must increase over the whole request; how much
    work there is, nobody knows. Raises TimeoutError when the time ``within`` which that shall be has passed.
    """
    if token is None:
        await handle.settled(within)
        return
    async with asyncio.timeout(None if within is None else within.seconds):
        await _narrate(exchange, handle, after, numbers, token)


async def _narrate(
    exchange: Exchange, handle: TaskHandle, after: int, numbers: Iterator[int], token: int | str
) -> None:
    narrator = answers.Narrator()
    async with contextlib.aclosing(handle.events(after)) as events:
        coming = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                await asyncio.wait((coming,), timeout=KEEP_ALIVE)
                if not coming.done():
                    told = {"progressToken": token, "progress": next(numbers)}
                    await exchange.notify(wire.PROGRESS, told)
                    continue
                logged = coming.result()
                if logged is None:
                    return
                coming = asyncio.ensure_future(anext(events, None))
                text = narrator.feed(logged.event)
                if text is not None:
                    told = {"progressToken": token, "progress": next(numbers), "message": text}
                    await exchange.notify(wire.PROGRESS, told)
        finally:
            coming.cancel()
            await asyncio.wait((coming,))
