"""The MCP doors: ``/mcp`` for all agents, ``/mcp/{agent}`` for one, ``/`` for who points there."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from ....gateway.errors import GatewayError, UnknownAgent
from ....gateway.http.request import Request
from ....gateway.mentions import mentions
from ....gateway.model import Principal
from ....gateway.ports import AgentView, Engine, Handler
from .. import wire
from . import claims, named, rpc_errors
from . import http as face_http
from .checks import Said
from .dispatch import Dispatcher
from .handshake import H_SESSION, Handshake
from .http import Refused, or_refuse, refuse, refused
from .modern import Modern
from .relay import server_of
from .usual import Kinds

_OWN_HEADERS = (wire.H_VERSION.encode(), wire.H_METHOD.encode(), H_SESSION)


class McpFace:
    """Implements ``ports.Face``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dispatcher = Dispatcher(engine)
        self._kinds = Kinds()
        self._modern = Modern(engine, self._dispatcher)
        self._handshake = Handshake(engine, self._dispatcher)

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
        session = request.header(H_SESSION)
        return None if session is None or self._handshake.has(session) else session

    def start(self) -> None:
        """Nothing is left to take up: sessions end with their process."""

    def public(self, request: Request) -> bool:
        return False

    def refusal(self, request: Request, error: GatewayError) -> bytes:
        e = rpc_errors.rpc_error(error)
        return wire.encode_error(None, e.code, e.message, e.data)

    def drain(self) -> None:
        self._dispatcher.drain()
        self._handshake.drain()

    def cut(self) -> None:
        self._dispatcher.cut()

    async def aclose(self) -> None:
        self.drain()
        await self._handshake.aclose()
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
                return or_refuse(request, self._late(request, scope, said))
        except Refused as e:
            return refuse(request, e)
        return or_refuse(request, self._other(request, scope))

    async def _late(self, request: Request, scope: str, said: Said) -> None:
        """A POST whose body has not come yet."""
        await self._post(request, scope, said, await request.body())

    async def _other(self, request: Request, scope: str) -> None:
        """Anything but a POST."""
        match request.method:
            case "GET":
                await self._handshake.listen(request, scope)
            case "DELETE":
                await self._handshake.end(request, scope)
            case _:
                await request.respond(405, headers=[(b"allow", b"GET, POST, DELETE")])

    def _post(self, request: Request, scope: str, said: Said, body: bytes) -> Awaitable[None]:
        """What answers it. Raises Refused."""
        found = self._kinds.read(said, body)
        if found is not None:
            kind, call = found
            view = self._known(scope, request.principal, call.id) if scope else None
            if self._engine.homes.count == 1 or self._begins(view, body):
                if kind.era == "modern":
                    return self._modern.called(request, scope, view, kind, call.id, call.params)
                session = self._handshake.session(request, scope, said)
                return self._handshake.called(request, session, scope, view, kind, call.id, call.params)
        message = face_http.read_message(body)
        era, head = face_http.era_of(said, message)
        view = self._known(scope, request.principal, message.id) if scope else None
        if era == "modern":
            return self._modern.answer(request, scope, view, message, head, said)
        if message.method == wire.INITIALIZE:
            return self._handshake.initialize(request, scope, view, message, head)
        return self._handshake.answer(request, scope, view, message, head, said)

    def _begins(self, view: AgentView | None, body: bytes) -> bool:
        """Whether a usual call goes on with nothing that another process may have: the ids in the arguments
        of a server's own tool are that server's."""
        return (view is not None and server_of(view) is not None) or not mentions(body, *named.NAMES)

    def _known(self, scope: str, principal: Principal, id: Any) -> AgentView:
        try:
            return self._engine.agent(scope, principal)
        except UnknownAgent as e:
            raise Refused(404, rpc_errors.rpc_error(e), id if isinstance(id, int | str) else None) from None
