"""From a request to its answer: which door, whose error, one span ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ....gateway.errors import Draining, GatewayError
from ....gateway.http.request import ClientGone
from ....gateway.model import Principal
from ....gateway.ports import AgentView, Engine
from .. import wire
from ..wire import RpcError
from . import eras, rpc_errors
from .aggregate import SERVER_INFO, Aggregate
from .changes import Changes
from .checks import SUPPORTED
from .door import Door
from .exchange import Exchange
from .listing import Lists
from .offers import Offers
from .relay import Relay, server_of
from .relay_door import RelayDoor
from .reply import Outcome
from .task_calls import TaskCalls

log = logging.getLogger("agentgw.mcp.face")

# Methods that the gateway answers itself, in one era or the other.
_OWN = frozenset({wire.INITIALIZE, wire.PING, wire.DISCOVER, wire.SUBSCRIPTIONS_LISTEN})
_CANCELLED = -32800  # what the official servers answer with when the client took a request back


class Dispatcher:
    """Answers requests at any door. ``scope``: the agent's name, "" for all agents."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._relay = Relay(engine)
        self._offers = Offers(engine)
        self._lists = Lists(engine, self._offers)
        self._tasks = TaskCalls(engine, self._relay, SERVER_INFO)
        self._everyone = Aggregate(engine, self._relay, self._tasks, None, self._offers, self._lists)
        self._changes: Changes | None = None
        self._closing = asyncio.Event()

    def drain(self) -> None:
        """End subscriptions."""
        self._closing.set()

    def cut(self) -> None:
        """Tell those that still wait for servers that the gateway stops."""
        self._relay.cut()

    def close(self) -> None:
        """Watch no more, and give up what waits for clients."""
        self._relay.close()
        if self._changes is not None:
            self._changes.close()

    @property
    def changes(self) -> Changes:
        """What tells of changed lists; it listens from its first use on."""
        if self._changes is None:
            self._changes = Changes(self._engine)
        return self._changes

    def door(self, scope: str, principal: Principal, view: AgentView | None = None) -> Door:
        """What stands behind an address; ``view``: the agent there, if it has been looked up. Raises
        UnknownAgent."""
        if not scope:
            return self._everyone
        view = view or self._engine.agent(scope, principal)
        server = server_of(view)
        if server is None:
            return Aggregate(self._engine, self._relay, self._tasks, view, self._offers, self._lists)
        return RelayDoor(self._engine, view, server, self._relay, self._tasks)

    async def answer(self, exchange: Exchange, door: Door, settled: Callable[[], None] | None = None) -> None:
        """Handle the request, end its span and send what has come of it, once that was ``settled``. Raises
        only CancelledError, where it is not the exchange that was canceled, and Draining before anything was
        sent: the front has a status for it."""
        try:
            own = exchange.method in _OWN
            result = await (self._result(exchange, door) if own else door.request(exchange))
            outcome = Outcome(wire.encode_result(exchange.id, result))
        except asyncio.CancelledError:
            exchange.set_state("canceled")
            if not exchange.canceled:
                exchange.error_type = "cancelled"
                exchange.reply.abandon()
                raise
            outcome = self._failed(exchange, RpcError(_CANCELLED, "Request cancelled"))
        except Exception as e:
            outcome = self._wrong(exchange, e)
        finally:
            exchange.end()
        if settled is not None:
            settled()
        await exchange.reply.finish(outcome)

    def _wrong(self, exchange: Exchange, error: Exception) -> Outcome:
        """What to say of an error. Raises Draining."""
        if isinstance(error, RpcError):
            return self._failed(exchange, error)
        if isinstance(error, GatewayError):
            if error.detail:
                log.debug("%s: %s", error.message, error.detail)
            outcome = self._failed(exchange, rpc_errors.rpc_error(error, exchange.trace_id))
            if isinstance(error, Draining) and exchange.reply.can_pass:
                raise error
            return outcome
        if isinstance(error, ClientGone):  # while a large result passed to it
            exchange.set_state("canceled")
            exchange.error_type = "cancelled"
            return Outcome(b"")
        log.error("%s failed", exchange.method, exc_info=error)
        return self._failed(exchange, RpcError(wire.INTERNAL_ERROR, "internal error"))

    def _failed(self, exchange: Exchange, error: RpcError) -> Outcome:
        exchange.error_type = str(error.code)
        if error.code != _CANCELLED:
            exchange.set_state("failed")
        body = wire.encode_error(exchange.id, error.code, error.message, error.data)
        return Outcome(body, rpc_errors.status(error.code, exchange.era))

    async def _result(self, exchange: Exchange, door: Door) -> wire.Result:
        match exchange.era, exchange.method:
            case "handshake", wire.INITIALIZE:
                return await self._initialized(exchange, door)
            case "handshake", wire.PING:
                return {}
            case "modern", wire.INITIALIZE:  # over stdio a server might take it for a change of era
                raise RpcError(wire.METHOD_NOT_FOUND, f"Method not found: {wire.INITIALIZE}")
            case "modern", wire.DISCOVER:
                return await self._discovered(exchange, door)
            case "modern", wire.SUBSCRIPTIONS_LISTEN:
                return await door.listen(exchange, self.changes, self._closing)
            case _:
                return await door.request(exchange)

    async def _initialized(self, exchange: Exchange, door: Door) -> dict[str, Any]:
        card = await door.card(exchange)
        result: dict[str, Any] = {
            "protocolVersion": exchange.revision,
            "capabilities": card.capabilities,
            "serverInfo": card.server_info,
        }
        return result if card.instructions is None else {**result, "instructions": card.instructions}

    async def _discovered(self, exchange: Exchange, door: Door) -> dict[str, Any]:
        card = await door.card(exchange)
        result: dict[str, Any] = {
            "supportedVersions": list(SUPPORTED),
            "capabilities": card.capabilities,
        }
        if card.instructions is not None:
            result["instructions"] = card.instructions
        return eras.completed(wire.DISCOVER, result, card.server_info or SERVER_INFO)
