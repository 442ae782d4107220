"""The control plane on Litestar: metrics, the admin API with its OpenAPI document, the console.

It gets only requests that no door took. What it serves stands in the modules beside it, each with its
``HANDLERS``; who may ask for what: ``asking``.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from litestar import Litestar, post
from litestar.datastructures import State
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from .. import errors
from ..control import Control
from ..metrics import Metrics
from ..ports import Engine
from ..reloading import Reloaded
from . import agents_api, api_errors, call_api, keys_api, logins_api, watching_api
from .asking import Ask, Plane, Reload, plane_of, principal_of


@post("/api/reload", summary="Read the configuration again", status_code=200)
async def configuration_reload(request: Ask) -> Reloaded:
    """What can change while the gateway runs has changed when it answers, all of it or nothing; what needs a
    restart is named. Not for admins of some agents: the answer names others, as do the file's mistakes."""
    principal = principal_of(request)
    if not (principal.owner or (principal.admin and principal.agents is None)):
        raise errors.Forbidden(
            "only an admin of all agents may change this: the owner's command line, or an admin key"
        )
    reload = plane_of(request).reload
    if reload is None:
        raise errors.Unsupported("this gateway has no configuration to read again")
    return await reload()


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
    handlers: list[Any] = [*call_api.HANDLERS]
    if control is not None:
        for module in (agents_api, logins_api, keys_api, watching_api):
            handlers += module.HANDLERS
        handlers.append(configuration_reload)
    return Litestar(
        route_handlers=handlers,
        state=State({"plane": Plane(control, engine, counted, reload)}),
        exception_handlers=api_errors.HANDLERS,
        openapi_config=OpenAPIConfig(
            title="agentgw",
            version=version("agentgw"),
            description="The admin API: registered agents, their health, calls, traces and client keys.",
            path="/api/schema",
            render_plugins=[JsonRenderPlugin(path="/")],
        ),
        debug=False,
        logging_config=None,
        request_max_body_size=None,  # the front has read it, within its own limit
    )
