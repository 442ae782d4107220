"""Calling an agent through the admin API, as ``agentgw call`` does: canonical JSON in, events out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
from litestar import post
from litestar.params import FromPath, JSONBody
from litestar.response import Stream

from .. import sse
from ..errors import Draining, GatewayError
from ..model import Invocation, Logged, Message, Part, Principal, Task, Trace
from ..ports import Engine, TaskHandle
from ..telemetry import Span, Template
from .asking import Ask, plane_of, principal_of
from .request import timeouts_in

KEEP_ALIVE = 15.0  # seconds of silence before a comment keeps the connection open
PROTOCOL = "cli"
_encode = msgspec.json.Encoder().encode


class CallBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to say to an agent; the names are those of ``agentgw call``'s options."""

    parts: list[Part]
    skill: str | None = None
    context_id: str | None = None
    task_id: str | None = None


async def begin(
    engine: Engine,
    name: str,
    body: CallBody,
    principal: Principal,
    trace: Trace,
    timeouts: tuple[float | None, float | None] = (None, None),
) -> AsyncIterator[bytes]:
    """Start the turn; the events of its stream. ``timeouts``: idle and total (see ``request.timeouts_in``).
    Raises GatewayError while there is no stream yet.

    ``task`` (the canonical task with ``trace_id``), then ``event`` for each event of the turn (``Logged``),
    then ``task`` again. Closing the stream does not cancel the task.
    """
    span = engine.tracer.start(_template(name), trace)
    span.principal = principal
    try:
        view = engine.agent(name, principal)
        if view.record.protocol == "auto":  # not found out yet
            view = await engine.described(name, principal)
        span.template = _template(name, view.record.protocol)
        after = (await engine.task(body.task_id, principal)).last_seq if body.task_id else 0
        handle = await engine.invoke(
            Invocation(
                agent=name,
                message=Message(role="user", parts=tuple(body.parts)),
                skill=body.skill,
                context_id=body.context_id,
                task_id=body.task_id,
                principal=principal,
                trace=span.trace,
                client_protocol=PROTOCOL,
                idle_timeout=timeouts[0],
                total_timeout=timeouts[1],
            )
        )
    except GatewayError as e:
        span.set("agentgw.state", "failed")
        span.end(e.code)
        raise
    except BaseException:
        span.end("internal")
        raise
    return _events(handle, after, span)


def _template(agent: str, protocol: str | None = None) -> Template:
    """``protocol``: the agent's, once it is known that there is one."""
    return Template(
        f"invoke_agent {agent}",
        "server",
        {
            "gen_ai.operation.name": "invoke_agent",
            "agentgw.client_protocol": PROTOCOL,
            "agentgw.agent": agent if protocol else None,
            "agentgw.agent_protocol": protocol,
        },
    )


async def _events(handle: TaskHandle, after: int, span: Span) -> AsyncGenerator[bytes]:
    try:
        yield sse.encode(_task(await handle.whole(), span), event="task")
        with contextlib.suppress(Draining):  # the next process goes on with it
            async with contextlib.aclosing(_or_silence(handle.events(after))) as log:
                async for logged in log:
                    yield b": \n\n" if logged is None else sse.encode(_encode(logged), event="event")
        yield sse.encode(_task(await handle.whole(), span), event="task")
    finally:
        task = handle.task
        span.set("agentgw.task", task.id)
        span.set("agentgw.state", task.state.value)
        span.end(task.fault.code if task.fault else None)


async def _or_silence(log: AsyncIterator[Logged]) -> AsyncGenerator[Logged | None]:
    """The log, with None whenever nothing came for a while."""
    waiting: asyncio.Task[Logged] | None = None
    try:
        while True:
            if waiting is None:
                waiting = asyncio.ensure_future(anext(log))  # pyright: ignore[reportArgumentType]
            await asyncio.wait([waiting], timeout=KEEP_ALIVE)
            if not waiting.done():
                yield None
                continue
            done, waiting = waiting, None
            try:
                yield done.result()
            except StopAsyncIteration:
                return
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


def _task(task: Task, span: Span) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(task)
    return _encode({**fields, "trace_id": span.trace_id})


@post("/api/agents/{name:str}/call", summary="Call an agent", status_code=200)
async def agents_call(request: Ask, name: FromPath[str], data: JSONBody[CallBody]) -> Stream:
    """An event stream: ``task``, then ``event`` for each event of the turn, then ``task`` as it is at the
    end. Closing it does not cancel the task. The headers ``agentgw-idle-timeout`` and
    ``agentgw-total-timeout`` (durations like "30s") lower what the agent is allowed."""
    trace = Trace(
        traceparent=request.headers.get("traceparent"),
        tracestate=request.headers.get("tracestate"),
        baggage=request.headers.get("baggage"),
    )
    timeouts = timeouts_in(lambda name: request.headers.get(name.decode()))
    events = await begin(plane_of(request).engine, name, data, principal_of(request), trace, timeouts)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(events, media_type="text/event-stream", headers=headers)


@post("/api/tasks/{task_id:str}/cancel", summary="Cancel a task at its agent", status_code=200)
async def tasks_cancel(request: Ask, task_id: FromPath[str]) -> Task:
    return (await plane_of(request).engine.cancel(task_id, principal_of(request))).task


HANDLERS = (agents_call, tasks_cancel)
