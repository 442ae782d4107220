"""The MCP doors: ``/mcp`` for all agents, ``/mcp/{agent}`` for one, ``/`` for who points there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from ....gateway.errors import GatewayError, UnknownAgent
from ....gateway.http.request import Request
from ....gateway.mentions import mentions
from ....gateway.model import Principal
from ....gateway.ports import AgentView, Engine, Handler
from .. import wire
from ..wire import Envelope, Id, RpcError
from . import claims, named, rpc_errors, usual
from . import http as face_http
from .checks import Said, check, check_params, read_headers
from .dispatch import Dispatcher
from .door import Door
from .exchange import Exchange
from .http import Refused, refused
from .kinds import Called, Head, Kind
from .lending import Lending
from .reply import Reply, ResumableReply
from .sessions import Session, Sessions

log = logging.getLogger("agentgw.mcp.face")

_SESSION = wire.H_SESSION.encode()
_LAST_EVENT = wire.H_LAST_EVENT.encode()
_PRIMED = "2025-11-25"  # from here on clients know events without data
_OWN_HEADERS = (wire.H_VERSION.encode(), wire.H_METHOD.encode(), _SESSION)


class McpFace:
    """Implements ``ports.Face``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dispatcher = Dispatcher(engine)
        self._sessions = Sessions(self._ended)
        self._lending = Lending(engine)
        self._background: set[asyncio.Task[Any]] = set()

    def mounts(self) -> Sequence[tuple[str, Handler]]:
        return [("/mcp", self._serve)]

    def claims(self, request: Request, envelope: Mapping[str, Any] | None) -> bool:
        if request.path != "/":
            return False
        if request.method == "POST":
            own = any(request.header(name) is not None for name in _OWN_HEADERS)
            return claims.claims_post(own, envelope or {})
        return claims.claims_other(request.method, request.header(b"accept"))

    async def root(self, request: Request) -> None:
        request.rest = ""
        await self._serve(request)

    def home(self, request: Request, body: bytes) -> str | None:
        session = request.header(_SESSION)
        if session is not None:
            return None if session in self._sessions else session
        if not mentions(body, *named.NAMES):
            return None
        try:
            return named.state(face_http.read_message(body))
        except Refused:
            return None

    def start(self) -> None:
        """Nothing is left to take up: sessions end with their process."""

    def public(self, request: Request) -> bool:
        return False

    def refusal(self, request: Request, error: GatewayError) -> bytes:
        e = rpc_errors.rpc_error(error)
        return wire.encode_error(None, e.code, e.message, e.data)

    def drain(self) -> None:
        self._dispatcher.drain()
        self._sessions.end_streams()

    def cut(self) -> None:
        self._dispatcher.cut()

    async def aclose(self) -> None:
        self.drain()
        self._sessions.close_all()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._dispatcher.close()

    # --- HTTP --------------------------------------------------------------------------------

    def _serve(self, request: Request) -> Awaitable[None]:
        """What answers a request."""
        try:
            scope = request.rest.strip("/")
            if "/" in scope:
                raise refused(404, "Not Found: there is /mcp, and /mcp/{agent}")
            if request.method == "POST":
                said = face_http.said_in(request)
                body = request.at_hand()
                if body is not None:
                    return self._post(request, scope, said, body)
                return self._or_refuse(request, self._late(request, scope, said))
        except Refused as e:
            return self._refuse(request, e)
        return self._or_refuse(request, self._other(request, scope))

    def _refuse(self, request: Request, refused: Refused) -> Awaitable[None]:
        error = refused.error
        body = wire.encode_error(refused.id, error.code, error.message, error.data)
        return request.respond(refused.status, body)

    async def _or_refuse(self, request: Request, answering: Awaitable[None]) -> None:
        """For what may find out only when it waits that the request is to be refused."""
        try:
            await answering
        except Refused as e:
            await self._refuse(request, e)

    async def _late(self, request: Request, scope: str, said: Said) -> None:
        """A POST whose body has not come yet."""
        await self._post(request, scope, said, await request.body())

    async def _other(self, request: Request, scope: str) -> None:
        """Anything but a POST."""
        match request.method:
            case "GET":
                await self._listen(request, scope)
            case "DELETE":
                self._sessions.close(self._session(request, scope))
                await request.respond(204)
            case _:
                await request.respond(405, headers=[(b"allow", b"GET, POST, DELETE")])

    def _post(self, request: Request, scope: str, said: Said, body: bytes) -> Awaitable[None]:
        """What answers it. Raises Refused."""
        found = usual.read(said, body)
        if found is not None:
            kind, call = found
            if kind.era == "modern":
                view = self._known(scope, request.principal, call.id) if scope else None
                return self._called(request, scope, view, kind, call.id, call.params)
            if self._engine.homes.count == 1 or not mentions(body, *named.NAMES):
                view = self._known(scope, request.principal, call.id) if scope else None
                session = self._session(request, scope, said)
                return self._called_in(request, session, scope, view, kind, call.id, call.params)
        message = face_http.read_message(body)
        era, head = face_http.era_of(said, message)
        view = self._known(scope, request.principal, message.id) if scope else None
        if era == "modern":
            return self._modern(request, scope, view, message, head, said)
        if message.method == wire.INITIALIZE:
            return self._initialize(request, scope, view, message, head)
        return self._handshaken(request, scope, view, message, head, said)

    def _known(self, scope: str, principal: Principal, id: Any) -> AgentView:
        try:
            return self._engine.agent(scope, principal)
        except UnknownAgent as e:
            raise Refused(404, rpc_errors.rpc_error(e), id if isinstance(id, int | str) else None) from None

    # --- the handshake era ---------------------------------------------------------------------

    def _session(self, request: Request, scope: str, said: Said | None = None) -> Session:
        """The request's session. Raises Refused: 400 without one, 404 for an unknown one. ``said``: what its
        headers say, if they have been read."""
        said = said or read_headers(request)
        version, given = said.version, said.session
        if version in wire.MODERN_VERSIONS:
            raise refused(405, f"Method Not Allowed: {version} has no sessions and no GET stream")
        if given is None:
            raise refused(400, "Bad Request: Mcp-Session-Id is missing; begin with initialize")
        session = self._lending.taken(request, scope)
        session = session or self._sessions.get(given, request.principal, scope)
        if session is None:
            raise refused(404, "Not Found: unknown or expired session; begin again with initialize")
        if version is not None and version not in wire.HANDSHAKE_VERSIONS:
            known = ", ".join(wire.HANDSHAKE_VERSIONS)
            raise refused(400, f"Bad Request: unsupported protocol version {version}; there are {known}")
        return session

    def _initialize(
        self, request: Request, scope: str, view: AgentView | None, message: Envelope, head: Head
    ) -> Awaitable[None]:
        if not isinstance(message.id, int | str):
            raise refused(400, "Invalid Request: initialize needs an id")
        params = wire.fields(message.params)
        asked = params.get("protocolVersion")
        revision = asked if asked in wire.HANDSHAKE_VERSIONS else wire.LATEST_HANDSHAKE
        session = Session(request.principal, scope, str(revision), params, self._engine.homes)
        reply = Reply(request, self._engine.timers, [(_SESSION, session.id.encode())])
        kind = Kind(wire.INITIALIZE, head, "handshake")
        exchange = Exchange(self._engine, request, kind, message.id, message.params, session, reply)
        exchange.begin(self._engine.tracer, request.trace, view)

        def settled() -> None:
            if exchange.error_type is None:
                self._sessions.add(session)
            else:
                self._ended(session)
                reply.headers = ()

        return self._dispatcher.answer(
            exchange, self._dispatcher.door(scope, exchange.principal, view), settled
        )

    def _handshaken(
        self,
        request: Request,
        scope: str,
        view: AgentView | None,
        message: Envelope,
        head: Head,
        said: Said,
    ) -> Awaitable[None]:
        """What answers a message of a session."""
        session = self._session(request, scope, said)
        if not isinstance(message.id, int | str) or message.method is UNSET:
            return self._noted(request, session, scope, message)
        if self._engine.homes.count > 1 and (id := self._lending.wanted(session, view, message, head)):
            return self._lending.pass_on(request, session, id)
        kind = Kind(str(message.method), head, "handshake")
        return self._called_in(request, session, scope, view, kind, message.id, message.params)

    def _called_in(
        self,
        request: Request,
        session: Session,
        scope: str,
        view: AgentView | None,
        kind: Kind,
        id: Id,
        params: Called | Raw | UnsetType,
    ) -> Awaitable[None]:
        """What answers a request of a session."""
        if id in session.running:
            raise Refused(400, RpcError(wire.INVALID_REQUEST, "Invalid Request: this id is in use"), id)
        headers = [(_SESSION, session.id.encode())]
        primes = session.revision >= _PRIMED
        if session.lent:  # events have ids where the session is
            reply = Reply(request, self._engine.timers, headers)
        else:
            reply = ResumableReply(request, self._engine.timers, headers, session.streams.new, primes=primes)
        exchange = Exchange(self._engine, request, kind, id, params, session, reply)
        exchange.begin(self._engine.tracer, request.trace, view)
        door = self._dispatcher.door(scope, exchange.principal, view)
        session.running[id] = exchange
        reply.watch(exchange.cancel)
        return self._dispatcher.answer(exchange, door)

    async def _noted(self, request: Request, session: Session, scope: str, message: Envelope) -> None:
        await request.respond(202)
        await self._one_way(session, scope, message)

    async def _one_way(self, session: Session, scope: str, message: Envelope) -> None:
        """A notification, or an answer to what was asked. What does not fit is ignored."""
        if not isinstance(message.method, str):
            if not session.answered(message):
                log.debug("an answer to nothing that was asked: %r", message.id)
            return
        try:
            params = wire.fields(message.params)
            if message.method == wire.CANCELLED:
                session.cancel(params.get("requestId"))
            elif message.method != wire.INITIALIZED:
                await self._dispatcher.door(scope, session.principal).notified(
                    session, message.method, params
                )
        except (ValueError, GatewayError) as e:
            log.debug("%s was lost: %s", message.method, e)

    def _ended(self, session: Session) -> None:
        for server in session.servers:
            self._keep(asyncio.create_task(server.end_session(session.id)))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _listen(self, request: Request, scope: str) -> None:
        """GET: the client's own stream, or with ``Last-Event-ID`` the rest of the stream it names."""
        face_http.wants_events(request)
        session = self._session(request, scope)
        request.listens()
        headers = [(_SESSION, session.id.encode())]
        last = request.header(_LAST_EVENT)
        found = (session.own, session.own.last) if not last else session.streams.find(last)
        if found is None:
            raise refused(400, f"Bad Request: there is no event {last} to go on from")
        stream, after = found
        if stream is not session.own:
            await stream.serve(request, headers, after, prime=False)
            return
        prime = session.revision >= _PRIMED and not last
        async with self._dispatcher.door(scope, request.principal).attached(
            session, self._dispatcher.changes
        ):
            await stream.serve(request, headers, after, prime=prime)

    # --- the modern era ------------------------------------------------------------------------

    def _modern(
        self,
        request: Request,
        scope: str,
        view: AgentView | None,
        message: Envelope,
        head: Head,
        said: Said,
    ) -> Awaitable[None]:
        """What answers a request that has all with it."""
        if message.method is UNSET:
            raise refused(400, "Invalid Request: answers are not sent in this revision")
        if not isinstance(message.id, int | str):
            return request.respond(202)  # the revision has no notification that would mean anything here
        if message.method == wire.SUBSCRIPTIONS_LISTEN:
            request.listens()
        kind = Kind(message.method, head, "modern")
        try:
            kind.revision = check(said, kind)
        except RpcError as e:
            raise Refused(400, e, message.id) from None
        return self._called(request, scope, view, kind, message.id, message.params)

    def _called(
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
            return self._or_refuse(request, self._mirrored(request, exchange, door, view))
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
