"""What ``agents login`` obtained: tokens, sealed in the store, refreshed when they end.

Only the process that has the store refreshes: a refresh token is good for one use where the server rotates
them (RFC 9700, section 4.14.2).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

import msgspec

from ..gateway import outbound
from ..gateway.errors import ConfigError, GatewayError, InvalidRequest, NeedsAuth, for_operator
from ..gateway.model import Record
from ..gateway.seal import Sealer
from ..gateway.store import Store
from ..gateway.transport import Transport
from . import references
from .bearer import LEEWAY, Header, Issued, issued
from .tokenendpoint import LOOPBACK, Client, Grant, Method, Refused, ask

log = logging.getLogger("agentgw.registry")
SPACE = "registry.logins"  # of the store's items, and what they are sealed for


class Login(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent's. ``url``: the agent's when it was logged in to; ``grant`` None: it is over, and only who
    the gateway is to the ``issuer`` is remembered (``redirects``: for which redirect URIs)."""

    url: str
    issuer: str
    token_url: str
    client_id: str
    secret: str = ""
    secret_reference: str = ""  # the operator's, in place of one that the server gave
    method: Method = "none"
    resource: str = ""
    scope: str = ""
    redirects: tuple[str, ...] = ()
    revocation_url: str = ""
    grant: Grant | None = None


Lasting = Callable[[], AbstractAsyncContextManager[Store]]


class Logins:
    """All logins. ``allow``: networks of ``outbound.allow``. ``lasting``: where ``store`` ends with
    this process, the one that does not, for as long as nobody else may write to it."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        transport: Transport,
        allow: Sequence[str],
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.time,
        lasting: Lasting | None = None,
    ) -> None:
        self._store = store
        self._lasting = lasting
        self._sealer = sealer
        self._transport = transport
        self.allow = allow
        self._environ = environ
        self._clock = clock
        self._known: dict[str, Login] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def load(self) -> None:
        """Read all. Raises ConfigError when the store can't be read."""
        await self._load(self._store)

    async def _load(self, store: Store) -> None:
        for name, sealed in (await store.items(SPACE)).items():
            try:
                data = self._sealer.unseal(sealed.decode(), SPACE)
                self._known[name] = msgspec.json.decode(data, type=Login)
            except (InvalidRequest, msgspec.DecodeError, UnicodeDecodeError):
                log.warning("the login to %s can't be read any more: agentgw agents login %s", name, name)

    def of(self, name: str) -> Login | None:
        return self._known.get(name)

    def is_in(self, record: Record) -> bool:
        """Whether there was a login to this very agent, good or over."""
        login = self._known.get(record.name)
        return login is not None and login.url == record.url and record.oauth is None

    async def keep(self, name: str, login: Login, store: Store | None = None) -> None:
        """Durable when it returns. Raises ConfigError."""
        sealed = self._sealer.seal(msgspec.json.encode(login), SPACE)
        self._known[name] = login  # first: who forgets it meanwhile has the last word
        await (store or self._store).put_item(SPACE, name, sealed.encode())

    async def forget(self, name: str) -> None:
        if self._known.pop(name, None) is not None:
            await self._store.remove_item(SPACE, name)

    async def obtain(self, record: Record, refused: Header | None) -> Issued:
        """The agent's token: as it is kept, else refreshed. Raises NeedsAuth, which says what to do."""
        async with self._turns.setdefault(record.name, asyncio.Lock()):
            known = self._good(record, refused)
            if known is not None:
                return known
            if self._lasting is None:
                return await self._refreshed(record, self._store)
            try:
                async with self._lasting() as store:
                    await self._load(store)  # another process may have been faster
                    return self._good(record, refused) or await self._refreshed(record, store)
            except ConfigError as e:
                raise _unavailable(record.name, e) from None

    def _good(self, record: Record, refused: Header | None) -> Issued | None:
        """The token that is kept, if it can be used. Raises NeedsAuth where there is no login."""
        login = self._known.get(record.name)
        if login is None or login.url != record.url or login.grant is None:
            raise wants_login(record.name)
        known = issued(login.grant.access, login.grant.expires)
        lasts = known.expires is None or known.expires - LEEWAY > self._clock()
        return known if known.header != refused and lasts else None

    async def _refreshed(self, record: Record, store: Store) -> Issued:
        login = self._known[record.name]
        grant = login.grant
        if grant is None or grant.refresh is None:
            await self.keep(record.name, msgspec.structs.replace(login, grant=None), store)
            raise wants_login(record.name)
        form = {"grant_type": "refresh_token", "refresh_token": grant.refresh, "resource": login.resource}
        try:
            client = await self.client(login)
            new = await ask(self._transport, client, {k: x for k, x in form.items() if x})
        except GatewayError as e:
            if self._known.get(record.name) is not login:
                return self._since(record)
            if isinstance(e, Refused) and e.error:
                log.info("the login to %s is over: %s", record.name, e.message)
                await self.keep(record.name, msgspec.structs.replace(login, grant=None), store)
                raise wants_login(record.name) from None
            raise _unavailable(record.name, e) from None
        if self._known.get(record.name) is not login:
            return self._since(record)
        new = msgspec.structs.replace(new, refresh=new.refresh or grant.refresh)
        await self.keep(record.name, msgspec.structs.replace(login, grant=new), store)
        return issued(new.access, new.expires)

    def _since(self, record: Record) -> Issued:
        """What there is since somebody logged out, or in anew, while a refresh was under way: what that got
        counts no more. Raises NeedsAuth."""
        found = self._good(record, None)
        if found is None:
            raise wants_login(record.name)
        return found

    async def client(self, login: Login) -> Client:
        """Who asks the login's token endpoint. Raises GatewayError where that may not be reached, or the
        secret can't be read."""
        secret = login.secret
        if login.secret_reference:
            agent = urlsplit(login.url).hostname or ""
            secret = references.resolved("client secret", login.secret_reference, self._environ, agent=agent)
        address = await address_of(login.token_url, login.url, self.allow)
        return Client(login.token_url, login.client_id, secret, login.method, address)


def wants_login(name: str) -> NeedsAuth:
    """The error of an agent that nobody has logged in to, or not any more."""
    return NeedsAuth(f"{name} wants a login: run agentgw agents login {name}")


def _unavailable(name: str, error: GatewayError) -> NeedsAuth:
    words = f"{name} wants a token that the gateway can't get now"
    return NeedsAuth(words, operator=for_operator(error))


async def address_of(url: str, registered: str, allow: Sequence[str]) -> str | None:
    """The address to connect to for a URL that came in metadata: checked now; None on the registered agent's
    own host, which the operator named. Raises GatewayError."""
    there, here = urlsplit(url).hostname, urlsplit(registered).hostname
    if there == here or {there, here} <= LOOPBACK:
        return None
    return await outbound.checked(url, allow)
