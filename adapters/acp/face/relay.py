"""Both ends speak ACP: bytes pass, only names, sessions and crash texts are changed.

Run ids are the agent's own. What passed by is recorded with the engine, which thereby knows whose run it is;
``is_relayed`` tells these tasks from those that came through another door.
"""

from __future__ import annotations

from collections.abc import Awaitable
from urllib.parse import quote

import msgspec
from msgspec import structs

from ....gateway.errors import BadUpstream, NotActive, UnknownTask
from ....gateway.lifecycle import TERMINAL
from ....gateway.model import Fault, Task, TaskState
from ....gateway.ports import AgentView
from ....gateway.readable import UNREADABLE
from ....gateway.timestamps import now
from .. import codec, rewrite
from ..run import run_json
from ..upstream.upstream import ANONYMOUS, ACPUpstream, session_id
from ..wire import RunCreateHead, RunResumeHead
from .exchange import Exchange
from .forward import Hop, answered, follow, forward
from .passage import Passage

_RESUME_HEAD = msgspec.json.Decoder(RunResumeHead)


def create(
    x: Exchange,
    view: AgentView,
    upstream: ACPUpstream,
    named: str,
    head: RunCreateHead,
    raw: bytes,
    session: str | None,
) -> Awaitable[None]:
    """What answers POST /runs for an agent that speaks ACP, and is ``named`` so at its server. ``raw``: the
    body that has this ``head``."""
    if not head.input:
        raise codec.wrong("input", "expected at least one message")
    keyed = x.principal.id != ANONYMOUS
    noted = session is not None or not keyed  # who does not come back needs no record
    if session is not None:
        inner = session_id(x.principal.id, session, x.engine.owned.are(session, x.principal.id))
    else:
        inner = session = x.engine.owned.new(x.principal.id) if keyed else None
    body = rewrite.create(raw, named, inner)
    passage = Passage(x, view.name, session if keyed or session != inner else None, noted=noted)
    return forward(x, upstream, "/runs", body, head.mode or "sync", passage)


async def resume(x: Exchange, upstream: ACPUpstream, task: Task) -> None:
    """POST /runs/{run_id}. The SDK's server would never answer for a run that does not wait."""
    raw = await x.request.body()
    head = x.decoded(raw, _RESUME_HEAD)
    await upstream.must_await(task.id, x.span.trace)
    body = rewrite.resume(raw)
    await forward(x, upstream, _path(task), body, head.mode or "sync", _passage(x, task, noted=True))


async def read(x: Exchange, upstream: ACPUpstream, task: Task) -> None:
    """GET /runs/{run_id}. A run that its agent forgot before it had ended has failed; what one that had ended
    said is known to nobody any more."""
    with Hop(x, upstream, "GET", "/runs/{run_id}") as trace:
        reply = await upstream.request("GET", _path(task), trace=trace)
    if reply.status == 404 and task.state not in TERMINAL:
        task = _forgotten(x, task)
        x.saw_task(task)
        await x.run(200, run_json(task, (), x.span.trace_id).value, task.id)
        return
    await x.run(200, _passage(x, task).run(answered(reply, task.agent)), task.id)


async def events(x: Exchange, upstream: ACPUpstream, task: Task) -> None:
    """GET /runs/{run_id}/events."""
    with Hop(x, upstream, "GET", "/runs/{run_id}/events") as trace:
        reply = await upstream.request("GET", f"{_path(task)}/events", trace=trace)
    body = answered(reply, task.agent)
    passage = _passage(x, task)
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(fields.get("events", b"[]"), type=list[msgspec.Raw])
    except UNREADABLE as e:
        raise BadUpstream(f"{task.agent} answered with what is no list of events", detail=str(e)) from e
    passed = [msgspec.Raw(passage.event(bytes(item))[1]) for item in items]
    await x.request.respond(200, rewrite.replaced(body, "events", passed))


async def cancel(x: Exchange, upstream: ACPUpstream, task: Task) -> None:
    """POST /runs/{run_id}/cancel."""
    timeouts = x.request.timeouts  # what is wrong with them is said before anything is done
    with Hop(x, upstream, "POST", "/runs/{run_id}/cancel") as trace:
        reply = await upstream.request("POST", f"{_path(task)}/cancel", trace=trace)
    if reply.status == 403:
        raise NotActive("the run has ended: it can't be cancelled")
    if reply.status == 404:
        _forgotten(x, task)
        raise UnknownTask(task.id)
    passage = _passage(x, task)
    await x.run(202, passage.run(answered(reply, task.agent)), task.id)
    x.house.background(task.id, follow(x, upstream, passage, timeouts))


def _path(task: Task) -> str:
    return f"/runs/{quote(task.id, safe='')}"


def _passage(x: Exchange, task: Task, *, noted: bool = False) -> Passage:
    """For a run that is known: its conversation keeps its name."""
    return Passage(x, task.agent, task.context_id or None, task.id, noted=noted)


def _forgotten(x: Exchange, task: Task) -> Task:
    if task.state in TERMINAL:
        return task
    fault = Fault(code="upstream_failed", message=f"{task.agent} does not know the run any more")
    failed = structs.replace(task, state=TaskState.FAILED, fault=fault, updated_at=now())
    x.engine.observe(failed, x.principal, upstream=task.agent)
    return failed
