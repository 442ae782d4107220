"""What each agent offers at ``/mcp``: read when it is first asked for, kept until the agent changes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ....gateway.errors import GatewayError
from ....gateway.model import Agent, Principal, Skill
from ....gateway.ports import AgentView, Engine
from ..upstream.upstream import McpUpstream
from ..wire import Catalog, RpcError
from . import eras, names, tasks, tools
from .relay import server_of

PATIENCE = 3.0  # seconds a list waits for what was never known
_DOWN = frozenset({"down", "needs-auth"})
Kind = Literal["tools", "prompts", "resources", "resourceTemplates"]
# What a client makes of tools: "modern" as they are; "handshake" without what older clients can't read;
# "tasks" (2025-11-25) also marked where the gateway runs calls as tasks.
Form = Literal["modern", "handshake", "tasks"]
_KEYS: Mapping[Kind, str] = {"resources": "uri", "resourceTemplates": "uriTemplate"}


class Found(msgspec.Struct, frozen=True):
    """Where a name at ``/mcp`` leads: the agent, and the item's own name (None: the agent itself)."""

    offer: Offer
    own: str | None = None

    @property
    def view(self) -> AgentView:
        return self.offer.view

    @property
    def server(self) -> McpUpstream | None:
        return self.offer.server


class Offer:
    """One agent with what it offers. ``server`` None: a conversational agent, which is one tool. ``catalog``:
    the server's, as last read, else what its description still knows (None: nothing).

    The very same object until something that is listed may be another.
    """

    def __init__(self, view: AgentView, server: McpUpstream | None, catalog: Catalog | None) -> None:
        self.view = view
        self.server = server
        self.catalog = catalog
        known = view.agent is not None or catalog is not None
        self.available = known and view.health.status not in _DOWN
        self._read = None if server is None else server.last_catalog
        self._named: dict[Kind, Mapping[str, str | None]] = {}
        self._patterns: Sequence[tuple[str, re.Pattern[str]]] | None = None

    def fits(self, view: AgentView) -> bool:
        """Whether this is what the agent, as it is now, offers."""
        if view is not self.view:
            if not _same(view, self.view):
                return False
            self.view = view
        return self.settled

    @property
    def settled(self) -> bool:
        """Whether it stands until the agent changes. Not so where there was nothing to know yet, or the
        server has said that its lists changed: then it is asked again."""
        if self.server is None:
            return self.view.agent is not None or self.view.health.checked_at is not None
        if self.view.health.status in _DOWN:
            return self.server.last_catalog is self._read
        return self.catalog is not None and self.server.known_catalog is self.catalog

    def like(self, other: Offer) -> bool:
        """Whether both list the same, and for the same reasons."""
        same = self.catalog is other.catalog and self._read is other._read
        return same and _same(self.view, other.view)

    # --- what is listed ----------------------------------------------------------------------

    def items(self, kind: Kind, form: Form = "modern", name: str | None = None) -> Iterator[dict[str, Any]]:
        """The items under their names at ``/mcp``; tools and resources each once. ``name``: the agent's at
        its own door."""
        if kind == "tools":
            yield from self._tools(form, name)
        elif kind == "prompts":
            for prompt in self._own(kind):
                yield {**prompt, "name": self._qualified(prompt)}
        else:
            first: dict[str, dict[str, Any]] = {}
            for item in self._own(kind):
                first.setdefault(key_of(item, kind), item)
            yield from first.values()

    def _tools(self, form: Form, name: str | None) -> Iterator[dict[str, Any]]:
        if self.server is None:
            tool = tools.definition(name or names.fit(self.view.name), self.view)
            yield tasks.optional(tool) if form == "tasks" else tool
            return
        marked = form == "tasks" and self.catalog is not None and tasks.known(self.catalog.capabilities)
        listed: set[str] = set()
        for own in self._own("tools"):
            tool = {**own, "name": self._qualified(own)}
            if tool["name"] in listed:
                continue
            listed.add(tool["name"])
            tool = tasks.optional(tool) if marked else tool
            yield tool if form == "modern" else eras.aged_tool(tool)

    def _own(self, kind: Kind) -> Sequence[dict[str, Any]]:
        if self.catalog is None:
            return ()
        return self.catalog.resource_templates if kind == "resourceTemplates" else getattr(self.catalog, kind)

    def _qualified(self, item: Mapping[str, Any]) -> str:
        return names.qualified(self.view.name, str(item.get("name")))

    # --- looking up --------------------------------------------------------------------------

    def named(self, kind: Kind) -> Mapping[str, str | None]:
        """Tools and prompts: own names (None: the agent itself) by names at ``/mcp``; else the URIs."""
        known = self._named.get(kind)
        if known is None:
            known = self._named[kind] = self._names(kind)
        return known

    def _names(self, kind: Kind) -> Mapping[str, str | None]:
        if kind == "tools" and self.server is None:
            return {names.fit(self.view.name): None}
        if kind in _KEYS:
            return dict.fromkeys(key_of(item, kind) for item in self._own(kind))
        return {self._qualified(item): str(item.get("name")) for item in reversed(self._own(kind))}

    def find(self, name: str, kind: Kind) -> Found | None:
        """The tool or prompt of this name."""
        named = self.named(kind)
        return Found(self, named[name]) if name in named else None

    @property
    def patterns(self) -> Sequence[tuple[str, re.Pattern[str]]]:
        """The server's URI templates, with what they can expand to."""
        if self._patterns is None:
            templates = [str(item.get("uriTemplate")) for item in self._own("resourceTemplates")]
            self._patterns = [(template, template_pattern(template)) for template in templates]
        return self._patterns


def key_of(item: Mapping[str, Any], kind: Kind) -> str:
    """What tells a listed item from the others."""
    return str(item.get(_KEYS.get(kind, "name")))


def _same(one: AgentView, other: AgentView) -> bool:
    """Whether nothing that is listed is another: not the words about an agent's health, for one."""
    return (
        one.record is other.record
        and one.agent is other.agent
        and one.upstream is other.upstream
        and (one.health.status in _DOWN) == (other.health.status in _DOWN)
    )


# --- reading ---------------------------------------------------------------------------------


class Offers:
    """Reads agents into offers and keeps these. ``edition`` counts what servers said of their catalogs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: dict[str, Offer] = {}
        self.edition = 0

    def known(self, view: AgentView) -> Offer | None:
        """The offer, where nobody has to be asked for it."""
        offer = self._made.get(view.name)
        if offer is not None and offer.fits(view):
            return offer
        if view.agent is not None and server_of(view) is None:
            return self._keep(Offer(view, None, None))
        return None

    async def one(self, view: AgentView, principal: Principal, *, fresh: bool = False) -> Offer:
        """One agent's; a first description is waited for, and so is a catalog. A server that is known to be
        down is not asked. ``fresh``: a name is looked up that the catalog in memory does not know."""
        known = None if fresh else self.known(view)
        return known or await self._ask(view, principal, fresh)

    async def _ask(self, view: AgentView, principal: Principal, fresh: bool) -> Offer:
        if view.agent is None:
            view = await self._engine.described(view.name, principal)
        server, catalog = server_of(view), None
        if server is not None:
            server.tell(self._changed)
            if view.health.status not in _DOWN:
                catalog = await _read(server, fresh)
            catalog = catalog or server.last_catalog or (view.agent and remembered(view.agent))
        return self._keep(Offer(view, server, catalog))

    def _keep(self, made: Offer) -> Offer:
        """What stands now: the old one, if it lists the same."""
        old = self._made.get(made.view.name)
        if old is not None and old.like(made):
            return old
        self._made[made.view.name] = made
        return made

    def _changed(self) -> None:
        self.edition += 1

    def forget(self, views: Sequence[AgentView]) -> None:
        """Let go of agents that are gone; ``views``: those that are there."""
        if len(self._made) > 2 * len(views) + 100:
            there = {view.name for view in views}
            self._made = {name: offer for name, offer in self._made.items() if name in there}


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
