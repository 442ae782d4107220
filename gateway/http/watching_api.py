"""What the gateway is and does, to look at: metrics, the console, the last calls."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from ..control import GatewayInfo, UnknownTrace
from ..errors import Forbidden
from . import console
from .asking import MOST, Ask, Limit, listed, plane_of, principal_of


@get("/metrics", summary="Counters for Prometheus", include_in_schema=False)
async def prometheus(request: Ask) -> Response[bytes]:
    from .metrics import CONTENT_TYPE, exposition

    plane = plane_of(request)
    await plane.metrics.gather()
    text = exposition(plane.metrics, await listed(request), principal_of(request).agents)
    return Response(text, media_type=CONTENT_TYPE)


@get("/", include_in_schema=False)
async def home(request: Ask) -> Response[str]:
    page = console.page(await listed(request), str(request.base_url).rstrip("/"))
    return Response(page, media_type="text/html", headers=console.HEADERS)


@get("/api/gateway", summary="The gateway itself")
async def gateway_show(request: Ask) -> GatewayInfo:
    """Its version, and what says who can call it; for admins."""
    if not (principal_of(request).admin or principal_of(request).owner):
        raise Forbidden("only an admin may ask this: the owner's command line, or an admin key")
    config = plane_of(request).engine.config
    server = config.server
    return GatewayInfo(
        version=version("agentgw"),
        host=server.host,
        public_url=server.public_url,
        hosts=server.hosts,
        allow_anonymous=server.allow_anonymous,
        issuer=config.auth.issuer,
    )


@get("/api/traces", summary="The last calls")
async def traces_list(request: Ask, limit: Limit = 50) -> list[dict[str, Any]]:
    principal = principal_of(request)
    rows = await plane_of(request).control.traces(limit if principal.agents is None else MOST)
    return [row for row in rows if principal.reaches(row["agent"])][:limit]


@get("/api/traces/{trace_id:str}", summary="One call with its spans")
async def traces_show(request: Ask, trace_id: FromPath[str]) -> dict[str, Any]:
    """By its id or the unambiguous beginning of it."""
    found = await plane_of(request).control.trace(trace_id)
    principal = principal_of(request)
    if principal.agents is None:
        return found
    if not principal.reaches(found["agent"]):
        raise UnknownTrace(trace_id)
    agents = [(s["attributes"].get("agentgw.agent", found["agent"]), s) for s in found["spans"]]
    return {**found, "spans": [span for agent, span in agents if principal.reaches(agent)]}


HANDLERS = (prometheus, home, gateway_show, traces_list, traces_show)
