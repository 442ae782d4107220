"""A session's request that goes on with what another process has, where several are one gateway.

A session lives in one process; the task or conversation that it comes back to may live in another, since it
was begun in an earlier session or at another door. Such a request is served where that lives, with what the
client said of itself when its session began. Answers to questions would not find their way there, so the
client counts as one that can't be asked: an agent's question is the call's result.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ....gateway.errors import InvalidRequest, UnknownAgent
from ....gateway.http.request import Request
from ....gateway.ports import AgentView, Engine
from .. import wire
from ..wire import Envelope
from . import named
from .kinds import Head
from .relay import server_of
from .sessions import Session

HEADER = b"agentgw-session"  # between the processes only; sealed
PURPOSE = "mcp.session"
_AGE = 60.0  # seconds that it may be under way
_ASKED = ("elicitation", "sampling", "roots")


class _Lent(msgspec.Struct, frozen=True):
    id: str
    principal: str
    scope: str
    revision: str
    capabilities: dict[str, Any]
    info: dict[str, Any]


class Lending:
    """Gives sessions along, and takes them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wanted(self, session: Session, view: AgentView | None, message: Envelope, head: Head) -> str | None:
        """The id of what the request goes on with, if another process has that."""
        if session.lent or not self._is_ours(session, view, message, head):
            return None
        id = named.state(message)
        return None if id is None or self._engine.homes.here(id) else id

    async def pass_on(self, request: Request, session: Session, id: str) -> None:
        """Have the process that has what is called so answer the request."""
        capabilities = {k: v for k, v in session.client_capabilities.items() if k not in _ASKED}
        lent = _Lent(
            session.id,
            session.principal.id,
            session.scope,
            session.revision,
            capabilities,
            session.client_info,
        )
        sealed = self._engine.sealer.seal(msgspec.json.encode(lent), PURPOSE)
        await self._engine.pass_on(request, id, [(HEADER, sealed.encode())])

    def _is_ours(self, session: Session, view: AgentView | None, message: Envelope, head: Head) -> bool:
        """Whether the gateway itself reads the ids in the request: those in the arguments of a server's own
        tool are that server's."""
        if message.method != wire.TOOLS_CALL:
            return isinstance(message.method, str) and message.method.startswith("tasks/")
        try:
            agent = view or self._engine.agent(str(head.name), session.principal)
        except UnknownAgent:
            return False
        return server_of(agent) is None

    def taken(self, request: Request, scope: str) -> Session | None:
        """The session that came along with a request from another process; None for a client's request."""
        sealed = request.header(HEADER)
        if sealed is None:
            return None
        try:
            data = self._engine.sealer.unseal(sealed, PURPOSE, max_age=_AGE)
            lent = msgspec.json.decode(data, type=_Lent)
        except (InvalidRequest, msgspec.MsgspecError):
            return None
        if (lent.principal, lent.scope) != (request.principal.id, scope):
            return None
        said = {"capabilities": lent.capabilities, "clientInfo": lent.info}
        session = Session(request.principal, scope, lent.revision, said)
        session.id, session.lent = lent.id, True
        return session
