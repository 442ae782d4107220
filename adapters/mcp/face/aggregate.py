"""``/mcp``: every agent's tools, prompts and resources in one list. Also the door of a single agent that
is no MCP server: a list of one tool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

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
from .listing import Lists
from .offers import Form, Found, Kind, Offer, Offers
from .relay import SET_LEVEL, Relay, level_of, server_of
from .sessions import Session
from .task_calls import TaskCalls
from .watching import SUBSCRIBE, UNSUBSCRIBE

SERVER_INFO: dict[str, Any] = {"name": "agentgw", "version": __version__}
_INSTRUCTIONS = (
    "Each tool is an agent, or a tool of an agent ({agent}__{tool}). An agent's result names its context_id: "
    "pass it again to go on with the conversation. When the state is input_required, call the same tool with "
    "the task_id and the answer as message."
)


_LISTS: Mapping[str, Kind] = {
    wire.TOOLS_LIST: "tools",
    wire.PROMPTS_LIST: "prompts",
    wire.RESOURCES_LIST: "resources",
    wire.TEMPLATES_LIST: "resourceTemplates",
}
_HANDLERS = {  # methods of Aggregate
    **dict.fromkeys(_LISTS, "_list"),
    wire.TOOLS_CALL: "_tools_call",
    wire.PROMPTS_GET: "_prompts_get",
    wire.RESOURCES_READ: "_resources_read",
    SUBSCRIBE: "_subscribe",
    UNSUBSCRIBE: "_subscribe",
    "completion/complete": "_complete",
    SET_LEVEL: "_set_level",
}


class Aggregate(Door):
    """``only``: the one agent behind this door, which is no MCP server; None for all of them."""

    def __init__(
        self,
        engine: Engine,
        relay: Relay,
        task_calls: TaskCalls,
        only: AgentView | None = None,
        offers: Offers | None = None,
        lists: Lists | None = None,
    ) -> None:
        self._engine = engine
        self._relay = relay
        self._tasks = task_calls
        self._agent = only
        self._only = None if only is None else only.name
        self._offers = offers or Offers(engine)
        self._lists = lists or Lists(engine, self._offers)

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

    def request(self, exchange: Exchange) -> Coroutine[Any, Any, wire.Result]:
        if exchange.method in tasks.METHODS:
            return self._tasks.request(exchange, self._only)
        name = _HANDLERS.get(exchange.method)
        if name is None or (self._only is not None and not exchange.method.startswith("tools/")):
            raise RpcError(wire.METHOD_NOT_FOUND, f"Method not found: {exchange.method}")
        handler: Callable[[Exchange], Coroutine[Any, Any, wire.Result]] = getattr(self, name)
        return handler(exchange)

    @property
    def may_mirror(self) -> bool:
        return self._only is None

    async def input_schema(self, exchange: Exchange) -> Any:
        found = exchange.found = await self._find(exchange, "tools")
        if found is None or found.own is None:
            return None
        server, catalog = found.offer.server, found.offer.catalog
        return None if server is None or catalog is None else server.mirroring(catalog).get(found.own)

    async def lists(self, principal: Principal) -> Mapping[str, Sequence[bytes]]:
        if self._only is not None:
            items = list((await self._own(principal)).items("tools", name=self._only))
            return {"tools": [wire.encode(items)]}
        listed = await self._lists.of(principal)
        return {
            "tools": [listed.page("tools")],
            "prompts": [listed.page("prompts")],
            "resources": [listed.page("resources"), listed.page("resourceTemplates")],
        }

    async def _own(self, principal: Principal) -> Offer:
        """What the one agent behind this door offers."""
        assert self._only is not None
        return await self._offers.one(self._engine.agent(self._only, principal), principal)

    # --- lists -------------------------------------------------------------------------------

    async def _list(self, exchange: Exchange) -> wire.Result:
        kind = _LISTS[exchange.method]
        form: Form = "modern"
        if kind == "tools" and exchange.era == "handshake":
            form = "tasks" if exchange.revision >= tasks.SINCE else "handshake"
        if self._only is None:
            listed = await self._lists.of(exchange.principal)
            page, result = listed.page(kind, form), listed.unavailable()
        else:
            own = await self._own(exchange.principal)
            page, result = wire.encode(list(own.items(kind, form, self._only))), listing.unavailable([own])
        exchange.set_state("completed")
        if exchange.era == "modern":
            result = eras.completed(exchange.method, result, (await self.card(exchange)).server_info)
        return wire.with_member(result, kind, page)

    # --- what has one owner --------------------------------------------------------------------

    async def _tools_call(self, exchange: Exchange) -> wire.Result:
        view = self._agent
        if view is None or exchange.name != view.name:
            found: Found | None = exchange.found or await self._find(exchange, "tools")
            if found is None:
                raise RpcError(wire.INVALID_PARAMS, f"Unknown tool: {exchange.name}")
            view, server = found.view, found.server
            if server is not None and found.own is not None:
                if await self._tasks.runs(view, server, exchange, found.own):
                    return await self._tasks.call(view, exchange, found.own)
                return await self._relay(view, server, exchange, name=found.own)
        exchange.set_agent(view)
        result = await call_agent(self._engine, view, exchange, self._tasks.begun)
        if result.get("isError"):
            exchange.error_type = "tool_error"
        if exchange.era == "modern":
            return eras.completed(exchange.method, result, SERVER_INFO)
        return result

    async def _prompts_get(self, exchange: Exchange) -> wire.Result:
        found = await self._find(exchange, "prompts")
        if found is None or found.server is None:
            raise RpcError(wire.INVALID_PARAMS, f"Unknown prompt: {exchange.name}")
        return await self._relay(found.view, found.server, exchange, name=found.own)

    async def _resources_read(self, exchange: Exchange) -> wire.Result:
        view, server = await self._owner(exchange)
        return await self._relay(view, server, exchange)

    async def _owner(self, exchange: Exchange) -> tuple[AgentView, McpUpstream]:
        uri = exchange.head.uri
        owner = (await self._lists.of(exchange.principal)).find_resource(str(uri))
        if owner is None or owner.server is None:
            code = wire.INVALID_PARAMS if exchange.era == "modern" else wire.RESOURCE_NOT_FOUND
            raise RpcError(code, "Resource not found", {"uri": uri})
        return owner.view, owner.server

    async def _subscribe(self, exchange: Exchange) -> wire.Result:
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
        listed = await self._lists.of(exchange.principal)
        owned: dict[McpUpstream, list[str]] = {}
        for uri in subscription.resources:
            owner = listed.find_resource(uri)
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
        for view in self._engine.agents(session.principal):
            server = server_of(view)
            if server is not None and server in session.servers:
                await server.notify(method, params, caller)

    async def _complete(self, exchange: Exchange) -> wire.Result:
        """Completion goes to the owner of the prompt or template that it is for."""
        match exchange.arguments().get("ref"):
            case {"type": "ref/prompt", "name": str(name)} as ref:
                found = await self._find_named(exchange.principal, name, "prompts")
                if found is not None and found.server is not None:
                    ref = {**ref, "name": found.own}
                    return await self._relay(found.view, found.server, exchange, ref=ref)
            case {"type": "ref/resource", "uri": str(uri)}:
                owner = (await self._lists.of(exchange.principal)).find_resource(uri)
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

    async def _find(self, exchange: Exchange, kind: Kind) -> Found | None:
        if exchange.name is None:
            raise RpcError(wire.INVALID_PARAMS, "name is required: a string")
        return await self._find_named(exchange.principal, exchange.name, kind)

    async def _find_named(self, principal: Principal, name: str, kind: Kind) -> Found | None:
        """Look where an uncut name points first: only one agent's list has to be read. A name that nobody
        knows may be new: that agent's list is read afresh."""
        if self._only is not None:
            own = await self._own(principal)
            if own.server is None:
                return Found(own) if kind == "tools" and name == self._only else None
        parts = names.split(name)
        agent = parts[0] if parts else name
        with contextlib.suppress(GatewayError):
            view = self._engine.agent(agent, principal)
            if self._only in (None, agent):
                offer = await self._offers.one(view, principal)
                found = offer.find(name, kind)
                if found is None and offer.server is not None:
                    found = (await self._offers.one(view, principal, fresh=True)).find(name, kind)
                if found is not None:
                    return found
        if self._only is not None:
            return (await self._own(principal)).find(name, kind)
        return (await self._lists.of(principal)).find(name, kind)
