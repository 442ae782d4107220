"""What stands behind one MCP address: a server that is relayed, or a list made of many agents."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from ....gateway.model import Principal
from .. import wire
from .changes import Changes
from .exchange import Exchange
from .sessions import Session


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What ``initialize`` and ``server/discover`` say."""

    server_info: dict[str, Any]
    capabilities: dict[str, Any]
    instructions: str | None = None


class Door(ABC):
    """Answers requests; never ``initialize``, ``ping``, ``server/discover``, ``subscriptions/listen``."""

    @abstractmethod
    async def card(self, exchange: Exchange) -> Card:
        """Who is here, as this client may know it."""

    @abstractmethod
    def request(self, exchange: Exchange) -> Coroutine[Any, Any, wire.Result]:
        """The result, ready for the client's era. Raises RpcError, GatewayError."""

    @property
    def may_mirror(self) -> bool:
        """Whether a tool here may mirror arguments; False: ``input_schema`` has nothing to say."""
        return True

    @abstractmethod
    async def input_schema(self, exchange: Exchange) -> Any:
        """The inputSchema of the tool that is called, if it mirrors arguments into headers; else None."""

    @contextlib.asynccontextmanager
    async def attached(self, session: Session, changes: Changes) -> AsyncGenerator[None]:
        """While the session's own stream is open: what happens here is sent on it."""
        async with changes.watch(lambda: self.lists(session.principal), session.list_changed):
            yield

    @abstractmethod
    async def listen(self, exchange: Exchange, changes: Changes, closing: asyncio.Event) -> dict[str, Any]:
        """``subscriptions/listen``: its result, when the client leaves or ``closing`` is set."""

    @abstractmethod
    async def notified(self, session: Session, method: str, params: dict[str, Any]) -> None:
        """A client's notification that is meant for servers."""

    @abstractmethod
    async def lists(self, principal: Principal) -> Mapping[str, Sequence[bytes]]:
        """What is listed now: ``tools``, ``prompts``, ``resources`` (with templates), each the lists that
        it is made of, as JSON that stays the same while they say the same."""
