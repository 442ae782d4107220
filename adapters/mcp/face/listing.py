"""The lists at ``/mcp``: what every agent gives, from its last known description."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ....gateway.errors import GatewayError
from ....gateway.model import Agent, Principal, Skill
from ....gateway.ports import AgentView, Engine
from ..upstream.upstream import McpUpstream
from ..wire import Catalog, RpcError
from . import names, tasks, tools
from .relay import server_of

PATIENCE = 3.0  # seconds a list waits for what was never known
UNAVAILABLE = "agentgw/unavailable"
_DOWN = frozenset({"down", "needs-auth"})


class Source(msgspec.Struct, frozen=True):
    """One agent with what it offers. ``server`` None: a conversational agent, which is one tool."""

    view: AgentView
    server: McpUpstream | None = None
    catalog: Catalog | None = None

    @property
    def available(self) -> bool:
        known = self.view.agent is not None or self.catalog is not None
        return known and self.view.health.status not in _DOWN


class Found(msgspec.Struct, frozen=True):
    """Where a name at ``/mcp`` leads: the agent, and the item's own name (None: the agent itself)."""

    source: Source
    own: str | None = None


class Sources:
    """Reads agents into sources, and remembers the last catalog of each server for when it is down."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: dict[str, tuple[McpUpstream, Catalog]] = {}

    async def all(self, principal: Principal, only: str | None) -> Sequence[Source]:
        """All agents (or ``only`` one), those that were never described waited for in parallel."""
        engine = self._engine
        views = engine.agents(principal) if only is None else [engine.agent(only, principal)]
        return await asyncio.gather(*(self.one(view, principal) for view in views))

    async def one(self, view: AgentView, principal: Principal, *, fresh: bool = False) -> Source:
        """One agent. A server that is known to be down is not asked. ``fresh``: a name is looked up that
        the catalog in memory does not know."""
        if view.agent is None:
            view = await self._engine.described(view.name, principal)
        server = server_of(view)
        if server is None:
            return Source(view)
        catalog = None if view.health.status in _DOWN else await _read(server, fresh)
        if catalog is not None:
            self._last[view.name] = (server, catalog)
            return Source(view, server, catalog)
        last = self._last.get(view.name)
        if last is not None and last[0] is server:
            return Source(view, server, last[1])
        return Source(view, server, None if view.agent is None else remembered(view.agent))


async def _read(server: McpUpstream, fresh: bool) -> Catalog | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await (server.current_catalog() if fresh else server.catalog())
    except (TimeoutError, GatewayError, RpcError):
        return None


def remembered(agent: Agent) -> Catalog:
    """What a stored description still knows of a server: its tools."""
    own = tuple(tool_of(skill) for skill in agent.skills)
    return Catalog(protocol_version="", era="handshake", tools=own)


def tool_of(skill: Skill) -> dict[str, Any]:
    """A skill that was a tool, as that tool (the way back from ``codec.skill_of``)."""
    tool: dict[str, Any] = {"name": skill.id}
    if skill.name != skill.id:
        tool["title"] = skill.name
    if skill.description:
        tool["description"] = skill.description
    tool["inputSchema"] = skill.input_schema or {"type": "object"}
    if skill.output_schema is not None:
        tool["outputSchema"] = skill.output_schema
    return {**tool, **skill.extra.get("mcp", {})}


# --- lists -----------------------------------------------------------------------------------


def tool_list(
    found: Iterable[Source], alone: bool = False, may_be_tasks: bool = False
) -> list[dict[str, Any]]:
    """All tools under their names at ``/mcp``. ``alone``: at the door of one agent, which keeps its name.
    ``may_be_tasks``: a client of 2025-11-25 is told that the gateway runs calls as tasks."""
    marked = tasks.optional if may_be_tasks else dict[str, Any]
    listed: dict[str, dict[str, Any]] = {}
    for source in found:
        if source.server is None:
            name = source.view.name if alone else names.fit(source.view.name)
            listed.setdefault(name, marked(tools.definition(name, source.view)))
        else:
            across = source.catalog is not None and tasks.known(source.catalog.capabilities)
            for tool in source.catalog.tools if source.catalog else ():
                name = names.qualified(source.view.name, str(tool.get("name")))
                named = {**tool, "name": name}
                listed.setdefault(name, marked(named) if across else named)
    return list(listed.values())


def prompt_list(found: Iterable[Source]) -> list[dict[str, Any]]:
    """All prompts under their names at ``/mcp``."""
    return [
        {**prompt, "name": names.qualified(source.view.name, str(prompt.get("name")))}
        for source in found
        if source.catalog is not None
        for prompt in source.catalog.prompts
    ]


def resource_list(found: Iterable[Source], key: str = "uri") -> list[dict[str, Any]]:
    """All resources by ``uri`` (templates by ``uriTemplate``); the first owner of one wins."""
    listed: dict[str, dict[str, Any]] = {}
    for source in found:
        for item in _resources(source.catalog, key):
            listed.setdefault(str(item.get(key)), item)
    return list(listed.values())


def _resources(catalog: Catalog | None, key: str) -> Sequence[dict[str, Any]]:
    if catalog is None:
        return ()
    return catalog.resources if key == "uri" else catalog.resource_templates


def unavailable(found: Iterable[Source]) -> dict[str, Any]:
    """The ``_meta`` that names agents which do not answer; their last tools are listed all the same."""
    missing = [source.view.name for source in found if not source.available]
    return {"_meta": {UNAVAILABLE: missing}} if missing else {}


# --- looking up ------------------------------------------------------------------------------


def find_named(found: Iterable[Source], name: str, kind: str, alone: bool = False) -> Found | None:
    """The owner of a tool or prompt (``kind``: ``tools`` or ``prompts``) by its name at ``/mcp``; ``alone``
    as in ``tool_list``."""
    for source in found:
        agent = source.view.name if alone else names.fit(source.view.name)
        if kind == "tools" and source.server is None and agent == name:
            return Found(source)
        items: Sequence[Mapping[str, Any]] = getattr(source.catalog, kind) if source.catalog else ()
        for item in items:
            own = str(item.get("name"))
            if names.qualified(source.view.name, own) == name:
                return Found(source, own)
    return None


def find_resource(found: Sequence[Source], uri: str) -> Source | None:
    """The owner of a URI: who lists it, else whose template it fits, else the only server there is."""
    for source in found:
        if any(item.get("uri") == uri for item in _resources(source.catalog, "uri")):
            return source
    for source in found:
        for item in _resources(source.catalog, "uriTemplate"):
            template = str(item.get("uriTemplate"))
            if template == uri or template_pattern(template).fullmatch(uri):
                return source
    servers = [source for source in found if source.server is not None]
    return servers[0] if len(servers) == 1 else None


_EXPRESSION = re.compile(r"\{([^{}]*)\}")


def template_pattern(template: str) -> re.Pattern[str]:
    """What URIs a template (RFC 6570) can expand to, roughly: simple expressions stay within a segment,
    reserved and exploded ones may hold slashes."""
    pieces: list[str] = []
    for i, piece in enumerate(_EXPRESSION.split(template)):
        if i % 2 == 0:
            pieces.append(re.escape(piece))
        elif piece[:1] in ("?", "&", "#", "/", ";", ".", "+") or piece.endswith("*"):
            pieces.append(".*")
        else:
            pieces.append("[^/?#]*")
    return re.compile("".join(pieces))
