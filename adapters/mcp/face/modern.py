"""The modern era's requests (from 2026-07-28): each has all with it."""

from __future__ import annotations

from collections.abc import Awaitable

from msgspec import UNSET, Raw, UnsetType

from ....gateway.errors import GatewayError
from ....gateway.http.request import Request
from ....gateway.ports import AgentView, Engine
from .. import wire
from ..wire import Envelope, Id, RpcError
from . import named
from .checks import Said, check, check_params
from .dispatch import Dispatcher
from .door import Door
from .exchange import Exchange
from .http import Refused, or_refuse, refused
from .kinds import Called, Head, Kind
from .reply import Reply


class Modern:
    """Answers requests of clients without sessions."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher) -> None:
        self._engine = engine
        self._dispatcher = dispatcher

    def answer(
        self,
        request: Request,
        scope: str,
        view: AgentView | None,
        message: Envelope,
        head: Head,
        said: Said,
    ) -> Awaitable[None]:
        """What answers a message. Raises Refused."""
        if message.method is UNSET:
            raise refused(400, "Invalid Request: answers are not sent in this revision")
        if not isinstance(message.id, int | str):
            return request.respond(202)  # the revision has no notification that would mean anything here
        if self._engine.homes.count > 1:
            state = named.state(message)
            if state is not None and not self._engine.homes.here(state):
                return self._engine.pass_on(request, state, ())
        if message.method == wire.SUBSCRIPTIONS_LISTEN:
            request.listens()
        kind = Kind(message.method, head, "modern")
        try:
            kind.revision = check(said, kind)
        except RpcError as e:
            raise Refused(400, e, message.id) from None
        return self.called(request, scope, view, kind, message.id, message.params)

    def called(
        self,
        request: Request,
        scope: str,
        view: AgentView | None,
        kind: Kind,
        id: Id,
        params: Called | Raw | UnsetType,
    ) -> Awaitable[None]:
        """What answers a request of the kind, which has been checked."""
        reply = Reply(request, self._engine.timers)
        exchange = Exchange(self._engine, request, kind, id, params, None, reply)
        door = self._dispatcher.door(scope, exchange.principal, view)
        if exchange.method == wire.TOOLS_CALL and door.may_mirror:
            return or_refuse(request, self._mirrored(request, exchange, door, view))
        return self._checked(request, exchange, door, view)

    def _checked(
        self, request: Request, exchange: Exchange, door: Door, view: AgentView | None
    ) -> Awaitable[None]:
        exchange.begin(self._engine.tracer, request.trace, view)
        exchange.reply.watch(exchange.cancel)  # 2026-07-28: closing the response cancels the request
        return self._dispatcher.answer(exchange, door)

    async def _mirrored(
        self, request: Request, exchange: Exchange, door: Door, view: AgentView | None
    ) -> None:
        """The same for a call of a tool whose arguments may have to be in the headers, too."""
        try:
            await self._check_params(request, exchange, door)
        except RpcError as e:
            raise Refused(400, e, exchange.id) from None
        await self._checked(request, exchange, door, view)

    async def _check_params(self, request: Request, exchange: Exchange, door: Door) -> None:
        try:
            schema = await door.input_schema(exchange)
        except (GatewayError, RpcError):
            return  # the call itself will say what is wrong
        if schema is not None:
            check_params(request.headers, schema, exchange.arguments().get("arguments"))
