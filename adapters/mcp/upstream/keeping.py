"""Tasks that the server itself keeps and that relays saw begin: asking after them in whoever's name.

A server of the handshake era may know a task only in the session in which it was begun: as long as that is
open it is asked there, later as the same principal without it. (Over stdio a session's process goes with it.)
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

import msgspec

from ....gateway.errors import BadUpstream, NotActive, UnknownTask, UpstreamTimeout
from ....gateway.model import Principal, Task, TaskState
from ....gateway.readable import UNREADABLE
from .. import wire
from ..codec import MCP
from ..wire import Caller, RpcError
from .following import SeenTask
from .turns import CAPABILITIES, fault_of

REMEMBERED = 10_000  # tasks whose beginnings are in memory
PATIENCE = 30.0  # seconds for one answer
# The codes by which a server says that it knows no such task, or no tasks any more. Whatever else goes wrong
# may be over the next time.
_UNKNOWN = frozenset({wire.INVALID_PARAMS, wire.METHOD_NOT_FOUND, wire.RESOURCE_NOT_FOUND})
_seen = msgspec.json.Decoder(SeenTask)


class Server(Protocol):
    """The way to the server (see ``McpUpstream``)."""

    @property
    def era(self) -> wire.Era | None: ...

    def has_session(self, session: str) -> bool: ...

    async def request(self, method: str, params: dict[str, Any] | None, *, caller: Caller) -> msgspec.Raw: ...

    async def end_session(self, session: str) -> None: ...


class Keeping:
    """The tasks of one server."""

    def __init__(self, agent: str, server: Server) -> None:
        self._agent = agent
        self._server = server
        self._begun: OrderedDict[str, Caller] = OrderedDict()

    def began(self, task_id: str, caller: Caller) -> None:
        """A task has begun, in this caller's name."""
        self._begun[task_id] = Caller(
            principal=caller.principal,
            session=caller.session,
            client_capabilities=caller.client_capabilities,
            protocol_version=caller.protocol_version,
        )
        if len(self._begun) > REMEMBERED:
            self._begun.popitem(last=False)

    async def stands(self, task: Task, principal: Principal) -> TaskState:
        """See ``ports.Keeps``."""
        era: wire.Era | None = task.extra.get(MCP, {}).get("era")
        async with self._caller(task.id, principal, era) as caller:
            try:
                async with asyncio.timeout(PATIENCE):
                    result = await self._server.request("tasks/get", {"taskId": task.id}, caller=caller)
                return _seen.decode(result).state
            except TimeoutError:
                raise UpstreamTimeout(f"{self._agent} did not say in time how a task stands") from None
            except RpcError as e:
                if e.code in _UNKNOWN:
                    raise UnknownTask(task.id) from e
                raise fault_of(self._agent, e) from e
            except UNREADABLE as e:
                raise BadUpstream(
                    f"{self._agent} answered tasks/get with something else", detail=str(e)
                ) from e

    def kept_until(self, task: Task) -> float:
        """See ``ports.Keeps``."""
        kept: float = task.extra.get(MCP, {}).get("kept") or 0.0
        return datetime.fromisoformat(task.created_at).timestamp() + kept if kept else 0.0

    async def cancel(self, task_id: str) -> None:
        """Ask the server to stop one. Raises NotActive."""
        async with self._caller(task_id, Principal(), None) as caller:
            try:
                await self._server.request("tasks/cancel", {"taskId": task_id}, caller=caller)
            except RpcError as e:
                raise NotActive("the call has ended") from e

    @asynccontextmanager
    async def _caller(
        self, task_id: str, principal: Principal, era: wire.Era | None
    ) -> AsyncGenerator[Caller]:
        """In whose name to ask. A server that speaks both eras is asked in the task's own."""
        begun = self._begun.get(task_id) or Caller(principal=principal, client_capabilities=CAPABILITIES)
        if begun.session is not None and self._server.has_session(begun.session):
            yield begun
            return
        session = secrets.token_urlsafe(24) if (era, self._server.era) == ("handshake", "modern") else None
        try:
            yield msgspec.structs.replace(begun, session=session)
        finally:
            if session is not None:
                await self._server.end_session(session)
