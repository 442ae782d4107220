"""Sessions at the door: a session is a conversation; its history are messages that the gateway serves.

A resource is named ``{run}-{n}``, the n-th message of a run, or ``{agent}.{id}``, a resource of an agent
that speaks ACP, fetched from its own server only. So any worker can answer, and no URL is ever followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urlsplit

import msgspec

from ....gateway.errors import BadUpstream, GatewayError, InvalidRequest
from ....gateway.model import Task
from ....gateway.ports import AgentView
from .. import codec
from ..encoding import is_uuid
from ..upstream.server import error_of
from ..upstream.upstream import ACPUpstream, session_id
from ..wire import JSON_TYPE, Json
from .exchange import Exchange
from .runs import current

_LIMIT = 100  # runs of a conversation that its history tells of: the newest


class NotThere(GatewayError):
    """A session or resource that does not exist, or is another's."""

    code = "unknown_task"


async def read(x: Exchange, name: str) -> None:
    """GET /session/{id} and /sessions/{id}."""
    if not is_uuid(name):
        raise codec.wrong("session_id", "expected a UUID")
    name = name.lower()
    agent = x.engine.context_agent(name, x.principal)
    view = next((v for v in x.engine.agents(x.principal) if v.name == agent), None)
    if view is not None and isinstance(view.upstream, ACPUpstream):
        x.about(view)
        session = await _theirs(x, view, view.upstream, name)
        if session is not None:
            await x.request.json(200, session)
            return
    history = [
        f"{x.base}/resources/{task.id}-{n}"
        for task in await _tasks(x, name)
        for n in range(len(await _messages(x, task.id)))
    ]
    if not history and agent is None:
        raise NotThere(f"unknown session: {name}")
    await x.request.json(200, {"id": name, "history": history, "state": None})


async def _theirs(x: Exchange, view: AgentView, upstream: ACPUpstream, name: str) -> Json | None:
    """The session as an ACP agent has it, its URLs turned to the gateway; None where it knows none."""
    inner = session_id(x.principal.id, name)
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
    except msgspec.DecodeError as e:
        raise BadUpstream(f"{view.name} answered with what is no session", detail=str(e)) from e
    history = cast(list[Any], session["history"]) if isinstance(session.get("history"), list) else []
    changes: Json = {"id": name, "history": [_ours(x, view, upstream, url) for url in history]}
    if session.get("state") is not None:
        changes["state"] = _ours(x, view, upstream, session["state"])
    return session | changes


def _ours(x: Exchange, view: AgentView, upstream: ACPUpstream, url: Any) -> Any:
    """The gateway's URL for a resource at the agent's own server; other URLs stay as they are."""
    if not isinstance(url, str):
        return url
    name = url.rpartition("/")[2]
    theirs = urlsplit(url).netloc == urlsplit(upstream.base).netloc and is_uuid(name)
    return f"{x.base}/resources/{view.name}.{name}" if theirs else url


async def resource(x: Exchange, name: str) -> None:
    """GET /resources/{id}: the bytes."""
    agent, dot, inner = name.partition(".")
    if dot:
        await _fetched(x, agent, inner)
        return
    run_id, _, number = name.rpartition("-")
    if not is_uuid(run_id) or not re.fullmatch(r"\d{1,6}", number):
        raise NotThere(f"unknown resource: {name}")
    messages = await _messages(x, run_id)
    if int(number) >= len(messages):
        raise NotThere(f"unknown resource: {name}")
    await x.request.json(200, messages[int(number)])


async def _fetched(x: Exchange, agent: str, inner: str) -> None:
    view = x.engine.agent(agent, x.principal)
    if not isinstance(view.upstream, ACPUpstream) or not is_uuid(inner):
        raise NotThere(f"unknown resource: {agent}.{inner}")
    reply = await view.upstream.request("GET", f"/resources/{quote(inner)}", trace=x.span.trace)
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
    except (msgspec.DecodeError, InvalidRequest):
        return False
    return True
