"""Tokens for agents that want OAuth: where they come from, and who shares one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..gateway.errors import ConfigError, GatewayError, NeedsAuth
from ..gateway.model import OAuth, Record
from ..gateway.transport import Transport
from . import references
from .bearer import Bearer, Header, Issued, issued
from .logins import Logins
from .tokenendpoint import Client, ask

Key = tuple[str, OAuth | str | None]


class Bearers(Protocol):
    """Gives a record's upstream its token."""

    def bearer(self, record: Record) -> Bearer | None:
        """None for an agent without OAuth. The same for the same settings at one origin, whatever the agent's
        name: those who are not at one place get tokens of their own, so that what one does with its token
        (refuse it, have it revoked) is no other's trouble."""
        ...


class NoTokens:
    """Where no agent has OAuth."""

    def bearer(self, record: Record) -> Bearer | None:
        return None


class Shared(ABC):
    """``Bearers`` that knows them for as long as somebody has them. ``changed`` is told the names of agents
    whose token can't be had any more, or is to be had again."""

    def __init__(self, changed: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self._changed = changed
        self._clock = clock
        self._bearers: WeakValueDictionary[Key, Bearer] = WeakValueDictionary()
        self._users: WeakKeyDictionary[Bearer, set[str]] = WeakKeyDictionary()

    def bearer(self, record: Record) -> Bearer | None:
        key = _key(record)
        if key is None:
            return None
        bearer = self._bearers.get(key)
        if bearer is None:
            users: set[str] = set()

            async def obtain(refused: Header | None) -> Issued:
                return await self.obtain(record, refused)

            bearer = self._bearers[key] = Bearer(obtain, lambda: self._turned(users), self._clock)
            self._users[bearer] = users
        self._users[bearer].add(record.name)
        return bearer

    @abstractmethod
    async def obtain(self, record: Record, refused: Header | None) -> Issued:
        """A token for the record: another than ``refused``. Raises GatewayError."""

    def forget(self, name: str) -> None:
        """The agent's login is another one, or none."""
        for (whose, _), bearer in list(self._bearers.items()):
            if whose == name:
                bearer.forget()

    def close(self) -> None:
        for bearer in list(self._bearers.values()):
            bearer.close()

    def _turned(self, users: set[str]) -> None:
        for name in users:
            self._changed(name)


def _key(record: Record) -> Key | None:
    """Whose token it is: that of all with the same settings at one origin, or of one agent's login, which is
    good at its URL alone."""
    if record.oauth is not None:
        parts = urlsplit(record.url or "")
        return f"{parts.scheme}://{parts.netloc.lower()}", record.oauth
    return (record.name, record.url) if record.login else None


class Tokens(Shared):
    """Those of the process that has the store: it alone asks token endpoints."""

    def __init__(
        self,
        transport: Transport,
        environ: Mapping[str, str],
        logins: Logins,
        changed: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(changed, clock)
        self._transport = transport
        self._environ = environ
        self.logins = logins

    async def obtain(self, record: Record, refused: Header | None) -> Issued:
        if record.oauth is None:
            return await self.logins.obtain(record, refused)
        return await self._for_client(record.oauth)

    async def _for_client(self, oauth: OAuth) -> Issued:
        """Client credentials (RFC 6749, section 4.4). Errors name no agent: all that share the token get
        them, and who may call one may not know of the others."""
        secret = references.resolved("client_secret", oauth.client_secret, self._environ)
        wanted = {
            "grant_type": "client_credentials", "scope": oauth.scope, "audience": oauth.audience,
            "resource": oauth.resource,
        }  # fmt: skip
        client = Client(oauth.token_url, oauth.client_id, secret, oauth.method)
        try:
            grant = await ask(self._transport, client, {k: x for k, x in wanted.items() if x})
        except ConfigError:
            raise
        except GatewayError as e:
            words = "the agent wants a token that the gateway can't get now"
            raise NeedsAuth(words, operator=e.message) from None
        return issued(grant.access, grant.expires)
