"""Sessions at the door: a session is a conversation; its history are messages that the gateway serves.

A resource is named ``{run}-{n}``, the n-th message of a run, or ``{agent}.{session}.{id}``, a resource of an
agent that speaks ACP, fetched from its own server only, and only for whom the session belongs to. So any
worker can answer, and no URL is ever followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urlsplit

import msgspec

from ....gateway.errors import BadUpstream, GatewayError, InvalidRequest, UnknownAgent
from ....gateway.model import Task
from ....gateway.ports import AgentView
from ....gateway.readable import UNREADABLE
from .. import codec
from ..ids import as_uuid, is_uuid
from ..upstream.server import error_of
from ..upstream.upstream import ACPUpstream, session_id
from ..wire import JSON_TYPE, Json
from .exchange import Exchange
from .passage import is_relayed
from .runs import current

_LIMIT = 100  # runs of a conversation that its history tells of: the newest


class NotThere(GatewayError):
    """A session or resource that does not exist, or is another's."""

    code = "unknown_task"


async def read(x: Exchange, name: str) -> None:
    """GET /session/{id} and /sessions/{id}: what was said, first as the gateway has it, then as an ACP agent
    has it; the state that such an agent keeps."""
    if not is_uuid(name):
        raise codec.wrong("session_id", "expected a UUID")
    context_id = await x.house.ids.original(name.lower())
    agent = await x.engine.context_agent(context_id, x.principal)
    tasks = await _tasks(x, context_id)
    if agent is None and not tasks:
        raise NotThere(f"unknown session: {name}")
    session: Json = {"id": as_uuid(context_id), "history": [], "state": None}
    view = _speaks_acp(x, agent)
    if view is not None:
        x.about(view)
        theirs = await _theirs(x, view, context_id)
        session, view = (theirs, view) if theirs else (session, None)
    ours = [
        f"{x.base}/resources/{as_uuid(task.id)}-{n}"
        for task in tasks
        if view is None or not _told_there(task, view)
        for n in range(len(await _messages(x, task.id)))
    ]
    session["history"] = ours + session["history"]
    await x.request.json(200, session)


def _speaks_acp(x: Exchange, agent: str | None) -> AgentView | None:
    try:
        view = x.engine.agent(agent, x.principal) if agent is not None else None
    except UnknownAgent:
        return None
    return view if view is not None and isinstance(view.upstream, ACPUpstream) else None


def _told_there(task: Task, view: AgentView) -> bool:
    """Whether the agent's own session tells of the run."""
    return task.agent == view.name or is_relayed(task)


async def _theirs(x: Exchange, view: AgentView, context_id: str) -> Json | None:
    """The session as an ACP agent has it, its URLs turned to the gateway; None where it knows none."""
    upstream = cast(ACPUpstream, view.upstream)
    owned = x.engine.owned.are(context_id, x.principal.id)
    inner = session_id(x.principal.id, context_id, owned)
    for path in (f"/sessions/{inner}", f"/session/{inner}"):  # the SDK's, the specification's
        reply = await upstream.request("GET", path, trace=x.span.trace)
        if reply.status != 404:
            break
    else:
        return None
    if reply.status >= 300:
        raise error_of(reply, view.name)
    try:
        session = msgspec.json.decode(reply.body, type=dict[str, Any])
    except UNREADABLE as e:
        raise BadUpstream(f"{view.name} answered with what is no session", detail=str(e)) from e
    history = cast(list[Any], session["history"]) if isinstance(session.get("history"), list) else []
    ours = f"{x.base}/resources/{view.name}.{as_uuid(context_id)}"
    changes: Json = {
        "id": as_uuid(context_id),
        "history": [_ours(upstream, url, ours) for url in history],
        "state": _ours(upstream, session.get("state"), ours),
    }
    return session | changes


def _ours(upstream: ACPUpstream, url: Any, ours: str) -> Any:
    """The gateway's URL for a resource at the agent's own server; other URLs stay as they are."""
    if not isinstance(url, str):
        return url
    name = url.rpartition("/")[2]
    theirs = urlsplit(url).netloc == urlsplit(upstream.base).netloc and is_uuid(name)
    return f"{ours}.{name}" if theirs else url


async def resource(x: Exchange, name: str) -> None:
    """GET /resources/{id}: the bytes."""
    if "." in name:
        await _fetched(x, name)
        return
    run_id, _, number = name.rpartition("-")
    if not is_uuid(run_id) or not re.fullmatch(r"\d{1,6}", number):
        raise NotThere(f"unknown resource: {name}")
    messages = await _messages(x, await x.house.ids.original(run_id))
    if int(number) >= len(messages):
        raise NotThere(f"unknown resource: {name}")
    await x.request.json(200, messages[int(number)])


async def _fetched(x: Exchange, name: str) -> None:
    """A resource of an agent's server. Its session must be the caller's, and tell of it."""
    agent, _, rest = name.partition(".")
    session, _, inner = rest.partition(".")
    view = _speaks_acp(x, agent)
    if view is None or not (is_uuid(session) and is_uuid(inner)):
        raise NotThere(f"unknown resource: {name}")
    context_id = await x.house.ids.original(session.lower())
    upstream = cast(ACPUpstream, view.upstream)
    place = (x.principal.id, agent, session, inner)
    if place not in x.house.seen:
        known = await x.engine.context_agent(context_id, x.principal) is not None
        found = await _theirs(x, view, context_id) if known else None
        mine = f"{x.base}/resources/{name}"
        if found is None or mine not in (*found["history"], found["state"]):
            raise NotThere(f"unknown resource: {name}")
        x.house.seen.add(place)
    reply = await upstream.request("GET", f"/resources/{quote(inner)}", trace=x.span.trace)
    if reply.status >= 300:
        raise error_of(reply, view.name)
    # Never the agent's own type: its HTML must not run as the gateway's.
    kind = JSON_TYPE if _is_json(reply.body) else "application/octet-stream"
    await x.request.respond(200, reply.body, media_type=kind)


async def _tasks(x: Exchange, context_id: str) -> list[Task]:
    """The conversation's runs, oldest first."""
    tasks = await x.engine.tasks(x.principal, context_id=context_id)
    return list(reversed(tasks[:_LIMIT]))


async def _messages(x: Exchange, run_id: str) -> list[Mapping[str, Any]]:
    """What was said in a run: the input, then the output."""
    handle = await x.engine.task(run_id, x.principal)
    run = await current(handle, x)
    task = handle.task
    return [*(codec.input_json(task.input).value if task.input else ()), *run["output"]]


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (*UNREADABLE, InvalidRequest):
        return False
    return True
