"""Who may come in: from the Authorization header of a request to a principal, by one look into a table.

The table maps the SHA-256 of each credential to what it grants; it is replaced when keys change. As long as
there is no key, callers without one come in where the gateway is open; with the first key, also a revoked or
expired one, every door wants a valid one. So revoking the last key does not open the doors again.

Credentials are random secrets of 256 bits, so that a plain hash is enough to keep them, and looking one up by
its hash tells nothing through the time that it takes.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Protocol

import msgspec

from .errors import ConfigError, Unauthenticated
from .model import Principal

FOREVER = float("inf")
KEPT_TOKENS = 10_000  # of an issuer, whose signatures were checked
SPACE = "gateway.keys"  # of the store's items
NOBODY = Principal(id="nobody", agents=frozenset())  # who asks for what is public where keys are wanted
_ANYBODY = Principal().id
_KEY = "key:"  # what ids of principals with a key begin with
_MISSING = "this gateway wants a key: send the header Authorization: Bearer KEY"
_INVALID = "this key is unknown, expired or revoked"


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A client key as it is kept. ``hash``: SHA-256 of the secret, in hexadecimal. ``agents`` None: all.
    Times are seconds since 1970. ``rate``: requests a second that it may make, 0: any number, None: as many
    as ``limits.rate`` says."""

    name: str
    id: str
    hash: str
    agents: tuple[str, ...] | None = None
    admin: bool = False
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    rate: float | None = None

    def state(self, now: float) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def principal(self) -> Principal:
        agents = None if self.agents is None else frozenset(self.agents)
        return Principal(id=f"{_KEY}{self.id}", admin=self.admin, agents=agents, name=self.name)


_decode = msgspec.json.Decoder(Key).decode


def read_keys(items: Mapping[str, bytes]) -> list[Key]:
    """The keys out of the store's items of ``SPACE``, by name. Raises ConfigError."""
    try:
        return [_decode(items[name]) for name in sorted(items)]
    except msgspec.MsgspecError as e:
        raise ConfigError(f"the stored keys can't be read: {e}") from e


class Grant:
    """What a credential grants, to whom, until when (seconds since 1970). ``ended``: it was taken back.
    ``whose``: the principal whose requests under way are bounded; "" where they are not: the owner's, and
    those of all who come in without a credential. ``rate``: see ``Key``. ``wanting``: it is a token that
    reaches no agent, and would with one of these scopes."""

    __slots__ = ("ended", "principal", "rate", "until", "wanting", "whose")

    def __init__(
        self,
        principal: Principal,
        until: float = FOREVER,
        rate: float | None = None,
        wanting: tuple[str, ...] = (),
    ) -> None:
        self.wanting = wanting
        self.principal = principal
        self.until = until
        self.rate = rate
        self.ended = False
        self.whose = "" if principal.owner or principal.id == _ANYBODY else principal.id

    def holds(self, now: float) -> bool:
        return not self.ended and now < self.until


class Issuer(Protocol):
    """Who issues tokens that are credentials here (``issuer.IssuedTokens``)."""

    async def grant(self, token: str) -> Grant:
        """What a token grants. Raises Unauthenticated."""
        ...


class Access:
    """All credentials that hold. ``open``: whether callers without a key come in as long as there is no key;
    ``local``: they are this machine's own, and may use the admin API. ``issuer``: whose tokens are good, too,
    and ``openid``: where it describes itself; with it nobody comes in without a credential."""

    def __init__(
        self,
        owner_token: str,
        *,
        open: bool = True,
        local: bool = True,
        issuer: Issuer | None = None,
        openid: str = "",
    ) -> None:
        self._owner = {sha256(owner_token.encode()).digest(): Grant(_OWNER)} if owner_token else {}
        self._grants: dict[bytes, Grant] = dict(self._owner)
        self._anonymous = Grant(Principal(admin=local))
        self.public = Grant(NOBODY)
        """What somebody without a credential may have."""
        self._open = open and issuer is None
        self._issuer = issuer
        self._tokens: dict[bytes, Grant] = {}
        self._schemes = {"bearer": "", "openid": openid} if issuer is not None else _BEARER
        self._keys: dict[str, Key] = {}
        self._by_id: dict[str, Grant] = {}  # of keys
        self._seen: set[str] = set()  # of keys that were good at some time since ``keys_ended`` was asked
        self._due = FOREVER  # when the next grant ends
        self._on_end: list[Callable[[], None]] = []
        self.closed = not self._open
        """Whether every caller must have a credential."""

    @property
    def schemes(self) -> Mapping[str, str]:
        """How callers show who they are: ``bearer``, and with an issuer ``openid``, whose value is where it
        describes itself; none while everybody comes in. The same object as long as that stays."""
        return self._schemes if self.closed else _NONE

    def take(self, keys: Iterable[Key]) -> None:
        """These are the keys now. What a key that is gone or revoked has open ends with the next ``tick``."""
        new = {key.hash: key for key in keys}
        grants = dict(self._owner)
        for hash, key in new.items():
            digest = bytes.fromhex(hash)
            if key.revoked_at is not None:
                continue
            known = self._grants.get(digest) if self._keys.get(hash) == key else None
            grants[digest] = known or Grant(key.principal(), key.expires_at or FOREVER, key.rate)
        before, self._grants, self._keys = self._grants, grants, new
        self._by_id = {grant.principal.id: grant for grant in grants.values()}
        self._seen |= self._good_keys()
        self.closed = bool(new) or not self._open
        for digest, grant in before.items():
            grant.ended = grants.get(digest) is not grant
        self._anonymous.ended = self.closed
        self._due = 0.0

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back, from ``tick``, when grants have ended: taken back, or their time has come."""
        self._on_end.append(callback)

    def tick(self) -> None:
        """To be called several times a second."""
        now = time.time()
        if now >= self._due:
            self._tokens = {digest: g for digest, g in self._tokens.items() if g.until > now}
            ends = [g.until for g in (*self._grants.values(), *self._tokens.values()) if g.until > now]
            self._due = min(ends, default=FOREVER)
            for callback in self._on_end:
                callback()

    def stands(self, principal: str) -> bool:
        """Whether the principal of this id may come in still: for what the gateway does in its name later. Of
        an issuer's subjects nobody here knows: they may come with another token at any time."""
        if principal == self._anonymous.principal.id:
            return not self.closed
        grant = self._by_id.get(principal)
        return not principal.startswith(_KEY) if grant is None else grant.holds(time.time())

    def keys_ended(self) -> bool:
        """Whether a key has ended since this was last asked, if it was good only in between, too."""
        before, self._seen = self._seen, self._good_keys()
        return not before <= self._seen

    def _good_keys(self) -> set[str]:
        """The principals of all keys that are good now."""
        now = time.time()
        return {id for id, g in self._by_id.items() if id.startswith(_KEY) and g.holds(now)}

    def lost_its_key(self, principal: str) -> bool:
        """Whether the principal had a key that is not good any more."""
        return principal.startswith(_KEY) and not self.stands(principal)

    @property
    def keys(self) -> Sequence[Key]:
        """All that were taken."""
        return list(self._keys.values())

    # --- requests ----------------------------------------------------------------------------

    def grant(self, authorization: bytes | None) -> Grant:
        """What a request with this Authorization header may do. Raises Unauthenticated.

        While everybody may come in, a header that is none of ours is ignored: hosts send what they were once
        told."""
        if authorization is not None:
            scheme, _, secret = authorization.strip().partition(b" ")
            if scheme == b"Bearer" or scheme.lower() == b"bearer":
                digest = sha256(secret.strip()).digest()
                grant = self._grants.get(digest) or self._tokens.get(digest)
                if grant is not None and time.time() < grant.until:
                    return grant
        if not self.closed:
            return self._anonymous
        raise Unauthenticated(_MISSING if authorization is None else _INVALID)

    async def issued(self, authorization: bytes | None) -> Grant:
        """What a token of the issuer grants, when ``grant`` does not know it: kept until it expires. Raises
        Unauthenticated."""
        scheme, _, secret = (authorization or b"").strip().partition(b" ")
        token = secret.strip()
        if self._issuer is None or scheme.lower() != b"bearer" or token.count(b".") != 2:
            raise Unauthenticated(_MISSING if authorization is None else _INVALID)
        grant = await self._issuer.grant(token.decode("latin-1"))
        if len(self._tokens) >= KEPT_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[sha256(token).digest()] = grant
        self._due = min(self._due, grant.until)
        return grant

    def doubt_tokens(self) -> None:
        """What the issuer's tokens must say is another: all are looked at anew. What they have open ends with
        the next ``tick``."""
        for grant in self._tokens.values():
            grant.ended = True
        self._tokens = {}
        self._due = 0.0

    def password(self, authorization: bytes | None) -> Grant:
        """The same for a browser, which sends a key as the password of Basic authentication (RFC 7617)."""
        scheme, _, coded = (authorization or b"").strip().partition(b" ")
        if scheme.lower() == b"basic":
            try:
                secret = base64.b64decode(coded, validate=True).partition(b":")[2]
            except binascii.Error:
                secret = b""
            authorization = b"Bearer " + secret
        return self.grant(authorization)


_OWNER = Principal(id="owner", owner=True, admin=True, name="owner")
_BEARER: Mapping[str, str] = {"bearer": ""}
_NONE: Mapping[str, str] = {}
