"""``/mcp/{agent}`` with an MCP server behind it: its own names, lists and pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw

from ....gateway.errors import GatewayError
from ....gateway.model import Principal
from ....gateway.ports import AgentView, Engine
from .. import wire
from ..upstream.upstream import McpUpstream
from ..wire import Caller, RpcError
from . import eras, subscriptions, tasks
from .changes import Changes
from .door import Card, Door
from .exchange import Exchange
from .relay import SET_LEVEL, Relay, level_of
from .sessions import Session
from .task_calls import TaskCalls
from .watching import SUBSCRIBE, UNSUBSCRIBE, listening

_HANDLED = tasks.METHODS | {SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE}


class RelayDoor(Door):
    """The door of one server, for one request."""

    def __init__(
        self, engine: Engine, view: AgentView, server: McpUpstream, relay: Relay, task_calls: TaskCalls
    ) -> None:
        self._engine = engine
        self._view = view
        self._server = server
        self._relay = relay
        self._tasks = task_calls

    async def card(self, exchange: Exchange) -> Card:
        if exchange.session is not None:
            exchange.session.servers.add(self._server)
        hello = await self._server.hello(exchange.caller())
        return Card(
            server_info=hello.server_info,
            capabilities=eras.capabilities(hello.capabilities, hello.era, exchange.era, exchange.revision),
            instructions=hello.instructions,
        )

    def request(self, exchange: Exchange) -> Coroutine[Any, Any, Raw | dict[str, Any]]:
        if exchange.method in _HANDLED or self._tasks.may_run(self._server, exchange):
            return self._handled(exchange)
        return self._relay(self._view, self._server, exchange)

    async def _handled(self, exchange: Exchange) -> Raw | dict[str, Any]:
        """What is more than to be relayed."""
        session = exchange.session
        if session is not None and exchange.method in (SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE):
            if exchange.method == SET_LEVEL:
                session.log_level = session.levels[self._server] = level_of(exchange)
            if (await self._server.hello(exchange.caller())).era == "modern":
                await self._watch(session, exchange)
                return {}
        if exchange.method in tasks.METHODS:
            return await self._tasks.request(exchange, self._view.name)
        own = exchange.name
        if (
            exchange.method == wire.TOOLS_CALL
            and own is not None
            and await self._tasks.runs(self._view, self._server, exchange, own)
        ):
            return await self._tasks.call(self._view, exchange, own)
        return await self._relay(self._view, self._server, exchange)

    @property
    def may_mirror(self) -> bool:
        mirrors = self._server.mirrors
        return mirrors is None or bool(mirrors)

    async def input_schema(self, exchange: Exchange) -> Any:
        catalog = self._server.known_catalog or await self._server.catalog()
        mirroring = self._server.mirroring(catalog)
        return mirroring.get(exchange.name or "") if mirroring else None

    async def lists(self, principal: Principal) -> Mapping[str, Sequence[bytes]]:
        catalog = await self._server.catalog()
        return {
            "tools": [wire.encode(catalog.tools)],
            "prompts": [wire.encode(catalog.prompts)],
            "resources": [wire.encode(catalog.resources), wire.encode(catalog.resource_templates)],
        }

    async def notified(self, session: Session, method: str, params: dict[str, Any]) -> None:
        session.servers.add(self._server)
        await self._server.notify(method, params, self._caller(session))

    def _caller(self, session: Session) -> Caller:
        return session.caller(self._engine.config.limits.question)

    # --- what happens outside of calls -----------------------------------------------------------

    @contextlib.asynccontextmanager
    async def attached(self, session: Session, changes: Changes) -> AsyncGenerator[None]:
        """The server itself tells the session, each in its own way. Where it can't the gateway looks what
        changed."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                await self._told(session, stack)
            except (GatewayError, RpcError):
                await stack.enter_async_context(super().attached(session, changes))
            yield

    async def _told(self, session: Session, stack: contextlib.AsyncExitStack) -> None:
        session.servers.add(self._server)
        caller = self._caller(session)
        hello = await self._server.hello(caller)
        if hello.era == "handshake":
            await self._server.listen(caller)
        elif lists := subscriptions.lists(hello.capabilities):
            await stack.enter_async_context(listening(self._server, lists, caller, session.tell))

    async def listen(self, exchange: Exchange, changes: Changes, closing: asyncio.Event) -> dict[str, Any]:
        """A modern server gets the subscription as it is, with the client's id in what it sends."""
        if (await self._server.hello(exchange.caller())).era == "handshake":
            return await self._listen_by_session(exchange, changes, closing)

        async def told(method: str, params: dict[str, Any]) -> None:
            await exchange.reply.send(wire.encode_notification(method, _tagged(params, exchange.id)))

        caller = msgspec.structs.replace(exchange.caller(), on_notification=told)
        request = asyncio.create_task(
            self._server.request(exchange.method, exchange.members(), caller=caller)
        )
        end = asyncio.create_task(closing.wait())
        try:
            await asyncio.wait((request, end), return_when=asyncio.FIRST_COMPLETED)
            result = wire.fields(request.result()) if request.done() else {"resultType": "complete"}
            return _tagged(result, exchange.id)
        finally:
            request.cancel()
            end.cancel()

    async def _listen_by_session(
        self, exchange: Exchange, changes: Changes, closing: asyncio.Event
    ) -> dict[str, Any]:
        """For a handshake server: what it says outside of calls, and the resources subscribed to."""
        subscription = subscriptions.Subscription(exchange)
        card = await self.card(exchange)
        told, uris = subscription.told, subscription.resources
        async with (
            self._relay.watches.told(self._server, uris, exchange.caller(), told),
            self._tasks.told(exchange, subscription, self._view.name),
        ):
            return await subscription.run(card.capabilities, closing)

    async def _watch(self, session: Session, exchange: Exchange) -> None:
        """Keep the session's subscriptions to single resources at a modern server."""
        uri = exchange.head.uri
        if exchange.method != SET_LEVEL and isinstance(uri, str):
            caller = self._caller(session)
            await self._relay.watches.change(session, self._server, exchange.method, uri, caller)


def _tagged(params: dict[str, Any], id: wire.Id) -> dict[str, Any]:
    meta: Any = params.get("_meta")
    tagged = dict(cast("dict[str, Any]", meta)) if isinstance(meta, dict) else {}
    return {**params, "_meta": {**tagged, wire.META_SUBSCRIPTION: id}}
