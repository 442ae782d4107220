"""The control plane on Litestar: metrics, the admin API with its OpenAPI document, the console.

It gets only requests that no door took. Who asks stands in ``scope["state"]["principal"]``; the front lets
admins in, and while callers need no key, anybody: they may look and call. Who changes something must be an
admin, and a command is registered for the owner only: it is code that runs here. An admin who reaches some
agents only sees and changes those, and no keys.
Errors are ``{"error": {"code", "message", "data"}}``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Annotated, Any, cast

import msgspec
from litestar import Litestar, Request, Response, delete, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath, FromQuery, JSONBody, Parameter
from litestar.response import Stream

from .. import errors
from ..agentlog import Lines
from ..control import (
    AddAgent,
    Added,
    AddKey,
    AgentInfo,
    Control,
    KeyInfo,
    LoginAsked,
    LoginBegun,
    NewKey,
    Rotated,
    UnknownTrace,
)
from ..metrics import Metrics
from ..model import Principal, Task, Trace
from ..ports import Engine
from ..reloading import Reloaded
from . import call_api, console
from .call_api import CallBody
from .request import timeouts_in
from .wire import retry_after

log = logging.getLogger("agentgw.http")

_REASONS = {"name_taken": 409, "unknown_trace": 404, "unknown_key": 404, "configuration": 400}
_STATUS: tuple[tuple[type[errors.GatewayError], int], ...] = (
    (errors.UnknownAgent, 404),
    (errors.UnknownTask, 404),
    (errors.NotActive, 409),
    (errors.TooLarge, 413),
    (errors.HeadTooLarge, 431),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.CallerError, 400),
    (errors.UpstreamTimeout, 504),
    (errors.CircuitOpen, 503),
    (errors.UpstreamError, 502),
    (errors.Draining, 503),
    (errors.Busy, 503),
    (errors.RateLimited, 429),
)

Reload = Callable[[], Awaitable[Reloaded]]
Ask = Request[Any, Any, State]
MOST = 1000
Limit = Annotated[int, Parameter(ge=1, le=MOST, description="How many, the newest first.")]


class Plane(msgspec.Struct, frozen=True):
    """What the handlers work on."""

    control: Any  # a Control, where the handlers are served that ask it
    engine: Engine
    metrics: Metrics
    reload: Reload | None = None


def build_control_app(
    control: Control | None,
    engine: Engine,
    *,
    metrics: Metrics | None = None,
    reload: Reload | None = None,
) -> Any:
    """The ASGI app. ``control`` None: only calls are served here, all else by another process. ``reload``
    reads the configuration again."""
    counted = metrics or Metrics()
    counted.gauge(
        "spans_dropped", "Spans lost because they came faster than they were written.",
        lambda: engine.tracer.dropped + counted.elsewhere.dropped,
    )  # fmt: skip
    handlers: list[Any] = [agents_call, tasks_cancel]
    if control is not None:
        handlers += [
            prometheus, home, agents_list, agents_add, agents_show, agents_remove,
            agents_enable, agents_disable, agents_check, agents_logs, agents_login,
            agents_login_finish, agents_logout, seal_rotate, traces_list, traces_show,
            configuration_reload, keys_list, keys_create, keys_revoke, keys_remove,
        ]  # fmt: skip
    return Litestar(
        route_handlers=handlers,
        state=State({"plane": Plane(control, engine, counted, reload)}),
        exception_handlers={
            errors.GatewayError: _gateway_error, HTTPException: _http_error, UnicodeDecodeError: _no_text,
            Exception: _crash,
        },
        openapi_config=OpenAPIConfig(
            title="agentgw",
            version=version("agentgw"),
            description="The admin API: registered agents, their health, calls, traces and client keys.",
            path="/api/schema",
            render_plugins=[JsonRenderPlugin(path="/")],
        ),
        debug=False,
        logging_config=None,
        request_max_body_size=engine.config.limits.body,
    )  # fmt: skip


def _plane(request: Ask) -> Plane:
    return request.app.state["plane"]


def _principal(request: Ask) -> Principal:
    scope: Mapping[str, Any] = request.scope
    return scope["state"].get("principal") or Principal(admin=True)


def _reached(request: Ask, name: str) -> str:
    """An agent's name, for who looks at it. Raises UnknownAgent where it is not to be known."""
    if not _principal(request).reaches(name):
        raise errors.UnknownAgent(name)
    return name


def _changed(request: Ask, name: str) -> str:
    """An agent's name, for who changes it. Raises Forbidden, UnknownAgent."""
    if not (_principal(request).admin or _principal(request).owner):
        raise errors.Forbidden("only an admin may change this: the owner's command line, or an admin key")
    return _reached(request, name)


def _keeper(request: Ask) -> Control:
    """The control plane, for who may know of keys. Raises Forbidden."""
    principal = _principal(request)
    if not (principal.owner or _keyed(principal)):
        raise errors.Forbidden(
            "keys are the business of the owner's command line, and of admin keys for all agents"
        )
    return _plane(request).control


def _keyed(principal: Principal) -> bool:
    """Whether it is an admin key's, for all agents."""
    return principal.admin and principal.agents is None and principal.id != Principal().id


def _about(request: Ask, *names: str) -> None:
    """Whom the request is about, where its path does not say so: for the audit log."""
    scope: Mapping[str, Any] = request.scope
    scope["state"]["subject"] = ", ".join(names)


# --- looking ---------------------------------------------------------------------------------


@get("/metrics", summary="Counters for Prometheus", include_in_schema=False)
async def prometheus(request: Ask) -> Response[bytes]:
    from .metrics import CONTENT_TYPE, exposition

    plane = _plane(request)
    await plane.metrics.gather()
    text = exposition(plane.metrics, await _listed(request), _principal(request).agents)
    return Response(text, media_type=CONTENT_TYPE)


@get("/", include_in_schema=False)
async def home(request: Ask) -> Response[str]:
    page = console.page(await _listed(request), str(request.base_url).rstrip("/"))
    return Response(page, media_type="text/html", headers=console.HEADERS)


# --- agents ----------------------------------------------------------------------------------


@get("/api/agents", summary="All registered agents")
async def agents_list(request: Ask) -> list[AgentInfo]:
    """Disabled ones too, by name."""
    return await _listed(request)


async def _listed(request: Ask) -> list[AgentInfo]:
    principal = _principal(request)
    return [a for a in await _plane(request).control.list_agents() if principal.reaches(a.name)]


@post("/api/agents", summary="Register an agent")
async def agents_add(request: Ask, data: JSONBody[AddAgent]) -> Added:
    """A command, and a reference to a secret, need the owner's token; a command is also taken from an admin
    key for all agents where ``server.remote_commands`` says so. Durable, and visible at every door, when it
    answers."""
    _may_add(request, data)
    if not _principal(request).owner:
        may_run = _plane(request).engine.config.server.remote_commands and _keyed(_principal(request))
        what = "a command" if data.command and not may_run else ""
        if any("${" in value for value in (*data.headers.values(), *data.env.values())) or data.oauth:
            what = "a reference to a secret of the gateway's"
        if what:
            raise errors.Forbidden(
                f"only the gateway's owner may register {what}: run agentgw agents add on its machine"
            )
    added: Added = await _plane(request).control.add_agent(data)
    _about(request, *(agent.name for agent in added.agents))
    return added


def _may_add(request: Ask, spec: AddAgent) -> None:
    """Who reaches some agents only may register only those. Raises Forbidden."""
    if _principal(request).agents is None:
        _changed(request, spec.name or "")
    elif spec.all or not _principal(request).reaches(spec.name or ""):
        raise errors.Forbidden("this key may register only the agents that it reaches, by their names")


@get("/api/agents/{name:str}", summary="One agent")
async def agents_show(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await _plane(request).control.show_agent(_reached(request, name))


@delete("/api/agents/{name:str}", summary="Forget an agent")
async def agents_remove(request: Ask, name: FromPath[str]) -> None:
    await _plane(request).control.remove_agent(_changed(request, name))


@post("/api/agents/{name:str}/enable", summary="Make an agent reachable again", status_code=200)
async def agents_enable(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await _plane(request).control.set_enabled(_changed(request, name), True)


@post("/api/agents/{name:str}/disable", summary="Make an agent unknown at every door", status_code=200)
async def agents_disable(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await _plane(request).control.set_enabled(_changed(request, name), False)


@post("/api/agents/{name:str}/check", summary="Speak to an agent now", status_code=200)
async def agents_check(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await _plane(request).control.check_agent(_reached(request, name))


@get("/api/agents/{name:str}/logs", summary="What a stdio agent wrote on stderr")
async def agents_logs(
    request: Ask, name: FromPath[str], lines: Limit = 200, after: FromQuery[str | None] = None
) -> Lines:
    """The last ``lines``, or those ``after`` the ``next`` of an earlier answer. For the owner and admin keys:
    what agents write may be anything."""
    principal = _principal(request)
    if not (principal.owner or (principal.admin and principal.id != Principal().id)):
        raise errors.Forbidden("what agents write is for the owner's command line, and for admin keys")
    return await _plane(request).control.agent_logs(_reached(request, name), lines, after)


# --- calls -----------------------------------------------------------------------------------


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
    events = await call_api.begin(_plane(request).engine, name, data, _principal(request), trace, timeouts)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(events, media_type="text/event-stream", headers=headers)


@post("/api/tasks/{task_id:str}/cancel", summary="Cancel a task at its agent", status_code=200)
async def tasks_cancel(request: Ask, task_id: FromPath[str]) -> Task:
    return (await _plane(request).engine.cancel(task_id, _principal(request))).task


# --- logging in to agents --------------------------------------------------------------------


def _owned(request: Ask, name: str) -> Control:
    """The control plane, for the gateway's owner. Raises Forbidden."""
    if not _principal(request).owner:
        raise errors.Forbidden(
            f"only the gateway's owner may do this: run agentgw agents login {name} on its machine"
        )
    return _plane(request).control


class LoginAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``pending``: as the first step gave it; ``answer``: the query that came to the redirect URI."""

    pending: str
    answer: dict[str, str]


@post("/api/agents/{name:str}/login", summary="Begin to log in to an agent", status_code=200)
async def agents_login(request: Ask, name: FromPath[str], data: JSONBody[LoginAsked]) -> LoginBegun:
    """The URL for the owner's browser."""
    return await _owned(request, name).begin_login(name, data)


@post("/api/agents/{name:str}/login/finish", summary="Finish it", status_code=200)
async def agents_login_finish(request: Ask, name: FromPath[str], data: JSONBody[LoginAnswer]) -> AgentInfo:
    """With what came back to the redirect URI."""
    return await _owned(request, name).finish_login(name, data.pending, data.answer)


@post("/api/agents/{name:str}/logout", summary="Forget an agent's tokens", status_code=200)
async def agents_logout(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await _owned(request, name).logout(name)


# --- the keys that seal ----------------------------------------------------------------------


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``keep``: seconds that the former key still opens."""

    keep: Annotated[float, msgspec.Meta(ge=0)]


@post("/api/seal/rotate", summary="Seal with a new key", status_code=200)
async def seal_rotate(request: Ask, data: JSONBody[Keep]) -> Rotated:
    """Sealed state that clients hold, and secrets in the store. The gateway's owner only."""
    if not _principal(request).owner:
        raise errors.Forbidden("only the gateway's owner may do this: run agentgw seal rotate on its machine")
    return await _plane(request).control.rotate_seal(data.keep)


# --- traces ----------------------------------------------------------------------------------


@get("/api/traces", summary="The last calls")
async def traces_list(request: Ask, limit: Limit = 50) -> list[dict[str, Any]]:
    principal = _principal(request)
    rows = await _plane(request).control.traces(limit if principal.agents is None else MOST)
    return [row for row in rows if principal.reaches(row["agent"])][:limit]


@get("/api/traces/{trace_id:str}", summary="One call with its spans")
async def traces_show(request: Ask, trace_id: FromPath[str]) -> dict[str, Any]:
    """By its id or the unambiguous beginning of it."""
    found = await _plane(request).control.trace(trace_id)
    principal = _principal(request)
    if principal.agents is None:
        return found
    if not principal.reaches(found["agent"]):
        raise UnknownTrace(trace_id)
    agents = [(s["attributes"].get("agentgw.agent", found["agent"]), s) for s in found["spans"]]
    return {**found, "spans": [span for agent, span in agents if principal.reaches(agent)]}


# --- keys ------------------------------------------------------------------------------------


@get("/api/keys", summary="All client keys")
async def keys_list(request: Ask) -> list[KeyInfo]:
    """Expired and revoked ones too, by name; without their secrets, which nobody keeps."""
    return list(await _keeper(request).list_keys())


@post("/api/keys", summary="Make a client key")
async def keys_create(request: Ask, data: JSONBody[AddKey]) -> NewKey:
    """The answer alone holds the secret. Durable, and good at every door, when it answers."""
    keeper = _keeper(request)
    _about(request, data.name)
    return await keeper.create_key(data)


@post("/api/keys/{name:str}/revoke", summary="Have a client key let nobody in any more", status_code=200)
async def keys_revoke(request: Ask, name: FromPath[str]) -> KeyInfo:
    return await _keeper(request).revoke_key(name)


@delete("/api/keys/{name:str}", summary="Revoke and forget a client key")
async def keys_remove(request: Ask, name: FromPath[str]) -> None:
    await _keeper(request).remove_key(name)


# --- configuration ---------------------------------------------------------------------------


@post("/api/reload", summary="Read the configuration again", status_code=200)
async def configuration_reload(request: Ask) -> Reloaded:
    """What can change while the gateway runs has changed when it answers, all of it or nothing; what needs a
    restart is named. Not for admins of some agents: the answer names others, as do the file's mistakes."""
    principal = _principal(request)
    if not (principal.owner or (principal.admin and principal.agents is None)):
        raise errors.Forbidden(
            "only an admin of all agents may change this: the owner's command line, or an admin key"
        )
    reload = _plane(request).reload
    if reload is None:
        raise errors.Unsupported("this gateway has no configuration to read again")
    return await reload()


# --- errors ----------------------------------------------------------------------------------


def status_of(error: errors.GatewayError) -> int:
    """The HTTP status of an error."""
    reason = _in(error.data, "reason")
    if reason in _REASONS:
        return _REASONS[reason]
    if isinstance(error, errors.ConfigError):  # a reference to nothing is the registration's fault
        return 500 if not {"variable", "reference"} & _keys(error.data) else 400
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _in(data: Any, key: str) -> Any:
    return cast(dict[str, Any], data).get(key) if isinstance(data, dict) else None


def _keys(data: Any) -> set[str]:
    return set(cast(dict[str, Any], data)) if isinstance(data, dict) else set()


def _gateway_error(request: ASGIConnection[Any, Any, Any, Any], error: errors.GatewayError) -> Response[Any]:
    if error.detail:
        log.debug("%s: %s", error.message, error.detail)
    answer = _error(status_of(error), error.code, errors.for_operator(error), error.data)
    answer.headers.update({name.decode(): value.decode() for name, value in retry_after(error.data)})
    return answer


def _http_error(request: ASGIConnection[Any, Any, Any, Any], error: HTTPException) -> Response[Any]:
    extra: Any = error.extra
    message = error.detail
    if isinstance(extra, list) and extra:  # what does not fit, field by field
        items: list[dict[str, Any]] = extra  # pyright: ignore[reportUnknownVariableType]
        message = "; ".join(f"{i.get('key', 'body')}: {i.get('message', '')}" for i in items)
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    return _error(error.status_code, codes.get(error.status_code, "invalid_request"), message, None)


def _no_text(request: ASGIConnection[Any, Any, Any, Any], error: Exception) -> Response[Any]:
    """Litestar knows of no JSON that is not UTF-8."""
    return _error(400, "invalid_request", "the request body is not valid JSON", None)


def _crash(request: ASGIConnection[Any, Any, Any, Any], error: Exception) -> Response[Any]:
    log.error("the admin API failed: %s", request.scope["path"], exc_info=error)
    return _error(500, "internal", "internal error", None)


def _error(status: int, code: str, message: str, data: Any) -> Response[Any]:
    body = {"error": {"code": code, "message": message, "data": data}}
    return Response(body, status_code=status, media_type="application/json")
