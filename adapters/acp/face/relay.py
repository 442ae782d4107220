"""Both ends speak ACP: bytes pass, only names, sessions and crash texts are changed.

Run ids are the agent's own. What passed by is recorded with the engine, which thereby knows whose run it is;
``is_relayed`` tells these tasks from those that came through another door.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec
from msgspec import structs

from ....gateway import sse
from ....gateway.errors import BadUpstream, GatewayError, NotActive, UnknownTask, Unreachable, UpstreamTimeout
from ....gateway.http.request import ClientGone, EventStream
from ....gateway.lifecycle import TERMINAL
from ....gateway.model import Fault, Task, TaskState, Trace
from ....gateway.ports import AgentView
from ....gateway.tasklog import now
from ....gateway.telemetry import Attribute
from ....gateway.transport import Reply, Stream
from .. import rewrite
from ..decoding import request_of
from ..encoding import STATE, run_json
from ..faults import as_error, error_json, fault_of
from ..upstream.server import error_of
from ..upstream.upstream import ACPUpstream, session_id
from ..wire import JSON_TYPE, LAST_EVENTS, SERVER_ERROR, Mode, RunCreateHead, RunHead, RunResumeHead
from .exchange import Exchange

_RELAYED: Mapping[str, Mapping[str, Any]] = {"acp": {"relayed": True}}


def is_relayed(task: Task) -> bool:
    """Whether the task's id is a run id of its agent."""
    return bool(task.extra.get("acp", {}).get("relayed"))


class Passage:
    """What passes between one client and one agent: rewrites Runs and records them.

    ``session``: what the client calls the session, where the agent calls it something else.
    """

    def __init__(self, x: Exchange, agent: str, session: str | None) -> None:
        self._x = x
        self.agent = agent
        self._session = session
        self.run_id = ""

    def run(self, raw: bytes) -> bytes:
        """A Run for the client."""
        try:
            return rewrite.run(raw, self._change)
        except msgspec.DecodeError as e:
            raise BadUpstream(f"{self.agent} answered with what is no run", detail=str(e)) from e

    def event(self, raw: bytes) -> tuple[str, bytes]:
        """An event's type, and the event for the client."""
        try:
            kind, data = rewrite.event(raw, self._change)
            if kind == "error":
                return kind, self._crash_event(data)
        except msgspec.DecodeError as e:
            raise BadUpstream(f"{self.agent} sent an event that is not ACP", detail=str(e)) from e
        return kind, data

    def _change(self, run: RunHead) -> Mapping[str, Any]:
        self.run_id = run.run_id
        changes: dict[str, Any] = {"agent_name": self.agent}
        if self._session is not None:
            changes["session_id"] = self._session
        fault: Fault | None = None
        if run.status == "failed":
            fault, withheld = fault_of(run.error, self.agent)
            if withheld:
                self._x.engine.sanitize(self.agent, withheld)
            if run.error is None or run.error.code == SERVER_ERROR or run.error.message != fault.message:
                changes["error"] = error_json(fault, self._x.span.trace_id)
        self._record(run, fault)
        return changes

    def _crash_event(self, raw: bytes) -> bytes:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        fault, withheld = fault_of(as_error(fields.get("error")), self.agent)
        if withheld:
            self._x.engine.sanitize(self.agent, withheld)
        self._x.error = fault.code
        return rewrite.replaced(raw, "error", error_json(fault, self._x.span.trace_id))

    def _record(self, run: RunHead, fault: Fault | None) -> None:
        state = STATE.get(run.status, TaskState.WORKING)
        context_id = self._session or run.session_id or ""
        task = Task(
            id=run.run_id,
            context_id=context_id,
            agent=self.agent,
            state=state,
            input_request=request_of(run.await_request) if run.status == "awaiting" else None,
            fault=fault,
            created_at=run.created_at or "",
            updated_at=now(),
            extra=_RELAYED,
        )
        self._x.engine.observe(task, self._x.principal, upstream=self.agent)
        self._x.saw_task(task)


# --- requests ------------------------------------------------------------------------------------


async def create(
    x: Exchange, view: AgentView, upstream: ACPUpstream, head: RunCreateHead, session: str | None
) -> None:
    """POST /runs for an agent that speaks ACP."""
    keyed = x.principal.id != "anonymous"
    if keyed and session is None:
        session = str(uuid4())
    inner = session_id(x.principal.id, session) if session else None
    body = rewrite.create(await x.request.body(), await upstream.remote(), inner)
    passage = Passage(x, view.name, session if keyed else None)
    await _forward(x, upstream, "/runs", body, head.mode or "sync", passage)


async def resume(x: Exchange, upstream: ACPUpstream, task: Task) -> None:
    """POST /runs/{run_id}. The SDK's server would never answer for a run that does not wait."""
    head = await x.body(RunResumeHead)
    await upstream.must_await(task.id, x.span.trace)
    await _forward(x, upstream, _path(task), await x.request.body(), head.mode or "sync", _passage(x, task))


async def read(x: Exchange, upstream: ACPUpstream, task: Task) -> None:
    """GET /runs/{run_id}. A run that its agent forgot is answered from the record: failed if it had not
    ended."""
    with _hop(x, upstream, "GET /runs/{run_id}") as trace:
        reply = await upstream.request("GET", _path(task), trace=trace)
    if reply.status == 404:
        task = _forgotten(x, task)
        x.saw_task(task)
        await x.run(200, run_json(task, (), x.span.trace_id).value, task.id)
        return
    await x.run(200, _passage(x, task).run(_body(reply, task.agent)), task.id)


async def events(x: Exchange, upstream: ACPUpstream, task: Task) -> None:
    """GET /runs/{run_id}/events."""
    with _hop(x, upstream, "GET /runs/{run_id}/events") as trace:
        reply = await upstream.request("GET", f"{_path(task)}/events", trace=trace)
    body = _body(reply, task.agent)
    passage = _passage(x, task)
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(fields.get("events", b"[]"), type=list[msgspec.Raw])
    except msgspec.DecodeError as e:
        raise BadUpstream(f"{task.agent} answered with what is no list of events", detail=str(e)) from e
    passed = [msgspec.Raw(passage.event(bytes(item))[1]) for item in items]
    await x.request.respond(200, rewrite.replaced(body, "events", passed))


async def cancel(x: Exchange, upstream: ACPUpstream, task: Task) -> None:
    """POST /runs/{run_id}/cancel."""
    with _hop(x, upstream, "POST /runs/{run_id}/cancel") as trace:
        reply = await upstream.request("POST", f"{_path(task)}/cancel", trace=trace)
    if reply.status == 403:
        raise NotActive("the run has ended: it can't be cancelled")
    if reply.status == 404:
        _forgotten(x, task)
        raise UnknownTask(task.id)
    await x.run(202, _passage(x, task).run(_body(reply, task.agent)), task.id)


def _path(task: Task) -> str:
    return f"/runs/{quote(task.id, safe='')}"


def _passage(x: Exchange, task: Task) -> Passage:
    return Passage(x, task.agent, task.context_id if x.principal.id != "anonymous" else None)


def _body(reply: Reply, agent: str) -> bytes:
    if reply.status >= 300:
        raise error_of(reply, agent)
    return reply.body


def _forgotten(x: Exchange, task: Task) -> Task:
    if task.state in TERMINAL:
        return task
    fault = Fault(code="upstream_failed", message=f"{task.agent} does not know the run any more")
    failed = structs.replace(task, state=TaskState.FAILED, fault=fault, updated_at=now())
    x.engine.observe(failed, x.principal, upstream=task.agent)
    return failed


# --- forwarding ----------------------------------------------------------------------------------


async def _forward(
    x: Exchange, upstream: ACPUpstream, path: str, body: bytes, mode: Mode, passage: Passage
) -> None:
    with _hop(x, upstream, f"POST {path if path == '/runs' else '/runs/{run_id}'}") as trace:
        if mode == "stream":
            async with upstream.stream("POST", path, body, trace) as stream:
                if stream.status >= 300:
                    raise error_of(Reply(stream.status, stream.headers, await stream.read()), passage.agent)
                await _stream(x, stream, passage, upstream.idle_timeout)
            return
        reply = await upstream.request("POST", path, body, trace=trace, timeout=upstream.total_timeout)
        run = passage.run(_body(reply, passage.agent))
    await x.run(reply.status, run, passage.run_id)


@contextlib.contextmanager
def _hop(x: Exchange, upstream: ACPUpstream, name: str) -> Generator[Trace]:
    """The client span of one request to the agent; yields the context to send along."""
    attributes: dict[str, Attribute] = {"http.request.method": name.partition(" ")[0], **upstream.address}
    span = x.engine.tracer.start(name, "client", x.span.trace, attributes)
    error: str | None = "canceled"
    try:
        yield span.trace
        error = None
    except GatewayError as e:
        error = e.code
        raise
    finally:
        span.end(error)


async def _stream(x: Exchange, stream: Stream, passage: Passage, idle: float) -> None:
    """Pass events on. When the client leaves, go on reading: the record must learn how the run ends."""
    if (stream.header("content-type") or "").startswith(JSON_TYPE):
        run = passage.run(await stream.read())
        await x.run(stream.status, run, passage.run_id)
        return
    async with x.streaming(stream.header("run-id")) as out:
        last = ""
        async with contextlib.aclosing(_items(stream, idle, passage.agent)) as items:
            async for raw in items:
                last, data = passage.event(raw)
                await _send(out, data)
        if last not in LAST_EVENTS:
            raise Unreachable(f"the connection to {passage.agent} broke; the run may go on")


async def _items(stream: Stream, idle: float, agent: str) -> AsyncGenerator[bytes]:
    """The data of each event; ``idle``: seconds to wait for the next bytes."""
    reader = sse.Decoder()
    chunks = stream.chunks()
    while True:
        try:
            async with asyncio.timeout(idle):
                chunk = await anext(chunks, None)
        except TimeoutError:
            limit = {"limit": "idle_timeout"}
            raise UpstreamTimeout(f"{agent} did not answer in time", data=limit) from None
        if chunk is None:
            return
        for item in reader.feed(chunk):
            yield item.data


async def _send(out: EventStream, data: bytes) -> None:
    with contextlib.suppress(ClientGone):
        await out.send(data)
