"""Agents at the admin API: listed, registered, changed, their stderr read. A command is registered for the
owner only, unless the configuration says otherwise: it is code that runs here."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody

from .. import errors
from ..agentlog import Lines
from ..control import AddAgent, Added, AgentInfo
from ..model import Principal
from .asking import Ask, Limit, changed_by, keyed, listed, plane_of, principal_of, reached, tell_about


@get("/api/agents", summary="All registered agents")
async def agents_list(request: Ask) -> list[AgentInfo]:
    """Disabled ones too, by name."""
    return await listed(request)


@post("/api/agents", summary="Register an agent")
async def agents_add(request: Ask, data: JSONBody[AddAgent]) -> Added:
    """A command, and a reference to a secret, need the owner's token; a command is also taken from an admin
    key for all agents where ``server.remote_commands`` says so. Durable, and visible at every door, when it
    answers."""
    _may_add(request, data)
    if not principal_of(request).owner:
        may_run = plane_of(request).engine.config.server.remote_commands and keyed(principal_of(request))
        what = "a command" if data.command and not may_run else ""
        if any("${" in value for value in (*data.headers.values(), *data.env.values())) or data.oauth:
            what = "a reference to a secret of the gateway's"
        if what:
            raise errors.Forbidden(
                f"only the gateway's owner may register {what}: run agentgw agents add on its machine"
            )
    added: Added = await plane_of(request).control.add_agent(data)
    tell_about(request, *(agent.name for agent in added.agents))
    return added


def _may_add(request: Ask, spec: AddAgent) -> None:
    """Who reaches some agents only may register only those. Raises Forbidden."""
    if principal_of(request).agents is None:
        changed_by(request, spec.name or "")
    elif spec.all or not principal_of(request).reaches(spec.name or ""):
        raise errors.Forbidden("this key may register only the agents that it reaches, by their names")


@get("/api/agents/{name:str}", summary="One agent")
async def agents_show(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await plane_of(request).control.show_agent(reached(request, name))


@delete("/api/agents/{name:str}", summary="Forget an agent")
async def agents_remove(request: Ask, name: FromPath[str]) -> None:
    await plane_of(request).control.remove_agent(changed_by(request, name))


@post("/api/agents/{name:str}/enable", summary="Make an agent reachable again", status_code=200)
async def agents_enable(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await plane_of(request).control.set_enabled(changed_by(request, name), True)


@post("/api/agents/{name:str}/disable", summary="Make an agent unknown at every door", status_code=200)
async def agents_disable(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await plane_of(request).control.set_enabled(changed_by(request, name), False)


@post("/api/agents/{name:str}/check", summary="Speak to an agent now", status_code=200)
async def agents_check(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await plane_of(request).control.check_agent(reached(request, name))


@get("/api/agents/{name:str}/logs", summary="What a stdio agent wrote on stderr")
async def agents_logs(
    request: Ask, name: FromPath[str], lines: Limit = 200, after: FromQuery[str | None] = None
) -> Lines:
    """The last ``lines``, or those ``after`` the ``next`` of an earlier answer. For the owner and admin keys:
    what agents write may be anything."""
    principal = principal_of(request)
    if not (principal.owner or (principal.admin and principal.id != Principal().id)):
        raise errors.Forbidden("what agents write is for the owner's command line, and for admin keys")
    return await plane_of(request).control.agent_logs(reached(request, name), lines, after)


HANDLERS = (
    agents_list, agents_add, agents_show, agents_remove, agents_enable, agents_disable, agents_check,
    agents_logs,
)  # fmt: skip
