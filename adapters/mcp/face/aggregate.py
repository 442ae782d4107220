"""``/mcp``: every agent's tools, prompts and resources in one list. Also the door of a single agent that
is no MCP server: a list of one tool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Raw

from .... import __version__
from ....gateway.errors import GatewayError
from ....gateway.model import Principal
from ....gateway.ports import AgentView, Engine
from .. import wire
from ..upstream.upstream import McpUpstream
from ..wire import RpcError
from . import eras, listing, names, subscriptions, tasks
from .changes import Changes
from .conversation import call_agent
from .door import Card, Door
from .exchange import Exchange
from .listing import Found, Source
from .relay import SET_LEVEL, Relay, level_of
from .sessions import Session
from .task_calls import TaskCalls
from .watching import SUBSCRIBE, UNSUBSCRIBE

SERVER_INFO: dict[str, Any] = {"name": "agentgw", "version": __version__}
_INSTRUCTIONS = (
    "Each tool is an agent, or a tool of an agent ({agent}__{tool}). An agent's result names its context_id: "
    "pass it again to go on with the conversation. When the state is input_required, call the same tool with "
    "the task_id and the answer as message."
)


class Aggregate(Door):
    """``only``: the one agent behind this door; None for all of them."""

    def __init__(
        self,
        engine: Engine,
        relay: Relay,
        task_calls: TaskCalls,
        only: str | None = None,
        sources: listing.Sources | None = None,
    ) -> None:
        self._engine = engine
        self._relay = relay
        self._tasks = task_calls
        self._only = only
        self._known = listing.Sources(engine) if sources is None else sources
        self._methods: dict[str, Callable[[Exchange], Awaitable[Raw | dict[str, Any]]]] = {
            wire.TOOLS_LIST: self._tools_list,
            wire.TOOLS_CALL: self._tools_call,
            wire.PROMPTS_LIST: self._prompts_list,
            wire.PROMPTS_GET: self._prompts_get,
            wire.RESOURCES_LIST: self._resources_list,
            wire.TEMPLATES_LIST: self._templates_list,
            wire.RESOURCES_READ: self._resources_read,
            SUBSCRIBE: self._subscribe,
            UNSUBSCRIBE: self._subscribe,
            "completion/complete": self._complete,
            SET_LEVEL: self._set_level,
        }

    async def card(self, exchange: Exchange) -> Card:
        if self._only is None:
            lists = {"listChanged": True}
            capabilities: dict[str, Any] = {"tools": lists, "prompts": lists}
            capabilities |= {"resources": {**lists, "subscribe": True}, "completions": {}, "logging": {}}
            capabilities = tasks.offered(capabilities, exchange.era, exchange.revision)
            return Card(server_info=SERVER_INFO, capabilities=capabilities, instructions=_INSTRUCTIONS)
        view = await self._engine.described(self._only, exchange.principal)
        info: dict[str, Any] = {"name": view.name, "version": (view.agent and view.agent.version) or ""}
        if view.agent is not None and view.agent.name != view.name:
            info["title"] = view.agent.name
        return Card(
            server_info=info,
            capabilities=tasks.offered({"tools": {"listChanged": True}}, exchange.era, exchange.revision),
            instructions=view.description or None,
        )

    async def request(self, exchange: Exchange) -> Raw | dict[str, Any]:
        if exchange.method in tasks.METHODS:
            return await self._tasks.request(exchange, self._only)
        handler = self._methods.get(exchange.method)
        if handler is None or (self._only is not None and not exchange.method.startswith("tools/")):
            raise RpcError(wire.METHOD_NOT_FOUND, f"Method not found: {exchange.method}")
        return await handler(exchange)

    async def input_schema(self, exchange: Exchange) -> Any:
        found = await self._find(exchange, "tools")
        if found is None or found.own is None or found.source.catalog is None:
            return None
        return self._relay.rules.schema(found.source.view.name, found.source.catalog, found.own)

    async def lists(self, principal: Principal) -> dict[str, Any]:
        found = await self._sources(principal)
        resources = [listing.resource_list(found), listing.resource_list(found, "uriTemplate")]
        return {
            "tools": self._tools(found),
            "prompts": listing.prompt_list(found),
            "resources": resources,
        }

    async def _sources(self, principal: Principal) -> Sequence[Source]:
        return await self._known.all(principal, self._only)

    # --- lists -------------------------------------------------------------------------------

    async def _listed(
        self, exchange: Exchange, key: str, make: Callable[[Sequence[Source]], list[dict[str, Any]]]
    ) -> dict[str, Any]:
        found = await self._sources(exchange.principal)
        exchange.set_state("completed")
        result = {key: make(found), **listing.unavailable(found)}
        if exchange.era == "handshake":
            # Servers of the modern era may list what older clients cannot read.
            return eras.to_client(exchange.method, result, exchange.era, SERVER_INFO)
        return eras.completed(exchange.method, result, (await self.card(exchange)).server_info)

    async def _tools_list(self, exchange: Exchange) -> dict[str, Any]:
        may = exchange.era == "handshake" and exchange.revision >= tasks.SINCE
        return await self._listed(exchange, "tools", lambda found: self._tools(found, may))

    def _tools(self, found: Sequence[Source], may_be_tasks: bool = False) -> list[dict[str, Any]]:
        return listing.tool_list(found, alone=self._only is not None, may_be_tasks=may_be_tasks)

    async def _prompts_list(self, exchange: Exchange) -> dict[str, Any]:
        return await self._listed(exchange, "prompts", listing.prompt_list)

    async def _resources_list(self, exchange: Exchange) -> dict[str, Any]:
        return await self._listed(exchange, "resources", listing.resource_list)

    async def _templates_list(self, exchange: Exchange) -> dict[str, Any]:
        return await self._listed(
            exchange, "resourceTemplates", lambda found: listing.resource_list(found, "uriTemplate")
        )

    # --- what has one owner --------------------------------------------------------------------

    async def _tools_call(self, exchange: Exchange) -> Raw | dict[str, Any]:
        found = await self._find(exchange, "tools")
        if found is None:
            raise RpcError(wire.INVALID_PARAMS, f"Unknown tool: {exchange.name}")
        view, server = found.source.view, found.source.server
        if server is not None and found.own is not None:
            if await self._tasks.runs(view, server, exchange, found.own):
                return await self._tasks.call(view, exchange, found.own)
            return await self._relay(view, server, exchange, name=found.own)
        exchange.set_agent(view.name, view.record.protocol)
        result = await call_agent(self._engine, view, exchange, self._tasks.begun)
        if result.get("isError"):
            exchange.error_type = "tool_error"
        if exchange.era == "modern":
            return eras.completed(exchange.method, result, SERVER_INFO)
        return result

    async def _prompts_get(self, exchange: Exchange) -> Raw | dict[str, Any]:
        found = await self._find(exchange, "prompts")
        if found is None or found.source.server is None:
            raise RpcError(wire.INVALID_PARAMS, f"Unknown prompt: {exchange.name}")
        return await self._relay(found.source.view, found.source.server, exchange, name=found.own)

    async def _resources_read(self, exchange: Exchange) -> Raw | dict[str, Any]:
        view, server = await self._owner(exchange)
        return await self._relay(view, server, exchange)

    async def _owner(self, exchange: Exchange) -> tuple[AgentView, McpUpstream]:
        uri = exchange.head.uri
        owner = listing.find_resource(await self._sources(exchange.principal), str(uri))
        if owner is None or owner.server is None:
            code = wire.INVALID_PARAMS if exchange.era == "modern" else wire.RESOURCE_NOT_FOUND
            raise RpcError(code, "Resource not found", {"uri": uri})
        return owner.view, owner.server

    async def _subscribe(self, exchange: Exchange) -> Raw | dict[str, Any]:
        """Handshake era: the session subscribes to a resource where that is, or no longer does."""
        session = exchange.session
        if session is None:
            raise RpcError(wire.METHOD_NOT_FOUND, f"Method not found: {exchange.method}")
        view, server = await self._owner(exchange)
        caller = session.caller(self._engine.config.limits.question)
        if (await server.hello(caller)).era == "modern":
            await self._relay.watches.change(session, server, exchange.method, str(exchange.head.uri), caller)
            return {}
        session.servers.add(server)
        await server.listen(caller)
        return await self._relay(view, server, exchange)

    async def listen(self, exchange: Exchange, changes: Changes, closing: asyncio.Event) -> dict[str, Any]:
        """Modern era: changes that the gateway finds itself, and updates of resources from where they are."""
        subscription = subscriptions.Subscription(exchange)
        card = await self.card(exchange)
        async with contextlib.AsyncExitStack() as stack:
            subscription.resources = await self._watched(exchange, subscription, stack)
            await stack.enter_async_context(self._tasks.told(exchange, subscription, self._only))
            told = subscription.changed
            await stack.enter_async_context(changes.watch(lambda: self.lists(exchange.principal), told))
            return await subscription.run(card.capabilities, closing)

    async def _watched(
        self, exchange: Exchange, subscription: subscriptions.Subscription, stack: contextlib.AsyncExitStack
    ) -> list[str]:
        """Watch what is asked for at its owners; the URIs that somebody owns."""
        sources = await self._sources(exchange.principal)
        owned: dict[McpUpstream, list[str]] = {}
        for uri in subscription.resources:
            owner = listing.find_resource(sources, uri)
            if owner is not None and owner.server is not None:
                owned.setdefault(owner.server, []).append(uri)
        found: list[str] = []
        for server, uris in owned.items():
            with contextlib.suppress(GatewayError, RpcError):
                watch = self._relay.watches.watched(server, uris, exchange.caller(), subscription.told)
                await stack.enter_async_context(watch)
                found += uris
        return found

    async def notified(self, session: Session, method: str, params: dict[str, Any]) -> None:
        """To every server that the session has come to: it may have asked for what changed."""
        caller = session.caller(self._engine.config.limits.question)
        for source in await self._sources(session.principal):
            if source.server is not None and source.server in session.servers:
                await source.server.notify(method, params, caller)

    async def _complete(self, exchange: Exchange) -> Raw | dict[str, Any]:
        """Completion goes to the owner of the prompt or template that it is for."""
        match exchange.arguments().get("ref"):
            case {"type": "ref/prompt", "name": str(name)} as ref:
                found = await self._find_named(exchange.principal, name, "prompts")
                if found is not None and found.source.server is not None:
                    source, ref = found.source, {**ref, "name": found.own}
                    return await self._relay(source.view, found.source.server, exchange, ref=ref)
            case {"type": "ref/resource", "uri": str(uri)}:
                owner = listing.find_resource(await self._sources(exchange.principal), uri)
                if owner is not None and owner.server is not None:
                    return await self._relay(owner.view, owner.server, exchange)
            case _:
                pass
        raise RpcError(wire.INVALID_PARAMS, "ref names no prompt or resource template here")

    async def _set_level(self, exchange: Exchange) -> dict[str, Any]:
        """Kept for the session; each server is told when the session first comes to it."""
        if exchange.session is None:
            raise RpcError(wire.METHOD_NOT_FOUND, f"Method not found: {SET_LEVEL}")
        exchange.session.log_level = level_of(exchange)
        return {}

    # --- names ---------------------------------------------------------------------------------

    async def _find(self, exchange: Exchange, kind: str) -> Found | None:
        if exchange.name is None:
            raise RpcError(wire.INVALID_PARAMS, "name is required: a string")
        return await self._find_named(exchange.principal, exchange.name, kind)

    async def _find_named(self, principal: Principal, name: str, kind: str) -> Found | None:
        """Look where an uncut name points first: usually only one agent's list has to be read. A name
        that nobody knows may be new: that agent's list is read afresh."""
        parts = names.split(name)
        agent = parts[0] if parts else name
        with contextlib.suppress(GatewayError):
            view = self._engine.agent(agent, principal)
            if self._only in (None, agent):
                source = await self._known.one(view, principal)
                found = self._found([source], name, kind)
                if found is None and source.server is not None:
                    source = await self._known.one(view, principal, fresh=True)
                    found = self._found([source], name, kind)
                if found is not None:
                    return found
        return self._found(await self._sources(principal), name, kind)

    def _found(self, sources: Sequence[Source], name: str, kind: str) -> Found | None:
        return listing.find_named(sources, name, kind, alone=self._only is not None)
