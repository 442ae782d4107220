"""The handshake era's requests (until 2025-11-25): sessions, their messages, their streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from ....gateway.errors import GatewayError
from ....gateway.http.request import Request
from ....gateway.ports import AgentView, Engine
from .. import wire
from ..wire import Envelope, Id, RpcError
from .checks import Said, read_headers
from .dispatch import Dispatcher
from .exchange import Exchange
from .http import Refused, refused, wants_events
from .kinds import Called, Head, Kind
from .lending import Lending
from .reply import Reply, ResumableReply
from .sessions import Session, Sessions

log = logging.getLogger("agentgw.mcp.face")

H_SESSION = wire.H_SESSION.encode()
_LAST_EVENT = wire.H_LAST_EVENT.encode()
_PRIMED = "2025-11-25"  # from here on clients know events without data


class Handshake:
    """Answers requests of clients that have a session, or begin one."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._sessions = Sessions(self._ended)
        self._lending = Lending(engine)
        self._background: set[asyncio.Task[Any]] = set()

    def drain(self) -> None:
        """End the sessions' streams."""
        self._sessions.end_streams()

    async def aclose(self) -> None:
        """End all sessions."""
        self._sessions.close_all()
        await asyncio.gather(*self._background, return_exceptions=True)

    def has(self, id: str) -> bool:
        """Whether there is such a session here."""
        return id in self._sessions

    def session(self, request: Request, scope: str, said: Said | None = None) -> Session:
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

    def end(self, request: Request, scope: str) -> Awaitable[None]:
        """DELETE: the session is over. Raises Refused."""
        self._sessions.close(self.session(request, scope))
        return request.respond(204)

    def initialize(
        self, request: Request, scope: str, view: AgentView | None, message: Envelope, head: Head
    ) -> Awaitable[None]:
        """What answers the request that begins a session. Raises Refused."""
        if not isinstance(message.id, int | str):
            raise refused(400, "Invalid Request: initialize needs an id")
        params = wire.fields(message.params)
        asked = params.get("protocolVersion")
        revision = asked if asked in wire.HANDSHAKE_VERSIONS else wire.LATEST_HANDSHAKE
        session = Session(request.principal, scope, str(revision), params, self._engine.homes)
        reply = Reply(request, self._engine.timers, [(H_SESSION, session.id.encode())])
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

    def answer(
        self,
        request: Request,
        scope: str,
        view: AgentView | None,
        message: Envelope,
        head: Head,
        said: Said,
    ) -> Awaitable[None]:
        """What answers a message of a session. Raises Refused."""
        session = self.session(request, scope, said)
        if not isinstance(message.id, int | str) or message.method is UNSET:
            return self._noted(request, session, scope, message)
        if self._engine.homes.count > 1 and (id := self._lending.wanted(session, view, message, head)):
            return self._lending.pass_on(request, session, id)
        kind = Kind(str(message.method), head, "handshake")
        return self.called(request, session, scope, view, kind, message.id, message.params)

    def called(
        self,
        request: Request,
        session: Session,
        scope: str,
        view: AgentView | None,
        kind: Kind,
        id: Id,
        params: Called | Raw | UnsetType,
    ) -> Awaitable[None]:
        """What answers a request of a session. Raises Refused."""
        if id in session.running:
            raise Refused(400, RpcError(wire.INVALID_REQUEST, "Invalid Request: this id is in use"), id)
        headers = [(H_SESSION, session.id.encode())]
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

    async def listen(self, request: Request, scope: str) -> None:
        """GET: the client's own stream, or with ``Last-Event-ID`` the rest of the stream it names."""
        wants_events(request)
        session = self.session(request, scope)
        request.listens()
        headers = [(H_SESSION, session.id.encode())]
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
