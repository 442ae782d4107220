"""JSON Web Tokens of an OIDC issuer as credentials (RFC 9068, RFC 7519).

Signatures are checked against the issuer's keys (``issuerkeys``), so that it may rotate them. Only asymmetric
algorithms are taken, the one that the key is for. What a token grants is kept until it expires (``access``).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import jwt

from .access import Grant
from .config import Auth, offered
from .errors import Unauthenticated
from .issuerkeys import IssuerKeys
from .model import Principal
from .transport import Transport

log = logging.getLogger("agentgw.auth")

ANY = "*"  # as a scope: whatever the token's are; as an agent: all
LONGEST_TOKEN = 16 * 1024  # bytes; to look at more would cost milliseconds, whoever sends it
LONGEST_SUBJECT = 255  # OpenID Connect Core 1.0, section 2
_LAST = 253_402_300_799  # of the year 9999: no time that a token names is later
# What a token may call itself (RFC 9068, section 4; many say nothing).
_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
# What of this gateway a token may be for: all of it, a door, one agent there.
_RESOURCE = re.compile(r"|/acp|/(?:mcp|a2a)(?:/([-a-z0-9]{1,63}))?")


class IssuedTokens:
    """Tokens of the issuer in ``auth``, for this gateway: ``public_url``, its doors and their agents are
    audiences, too. ``clock``: see ``IssuerKeys``."""

    def __init__(
        self,
        auth: Auth,
        public_url: str,
        transport: Transport,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auth = auth
        self.public_url = public_url
        self._keys = IssuerKeys(auth, transport, clock)

    def begin(self) -> None:
        """Fetch the issuer's keys now, in the background: the first token need not wait for them."""
        self._keys.fetch()

    async def aclose(self) -> None:
        """Stop what is under way."""
        await self._keys.aclose()

    async def grant(self, token: str) -> Grant:
        """What a token grants. Raises Unauthenticated, which says what is wrong with it."""
        if len(token) > LONGEST_TOKEN:
            raise Unauthenticated(f"the token is longer than {LONGEST_TOKEN} bytes")
        try:
            head = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthenticated("the token is no JSON Web Token") from None
        algorithm = str(head.get("alg"))
        if algorithm not in self._auth.algorithms:
            raise Unauthenticated("the token is signed in a way that is not allowed here")
        if str(head.get("typ") or "").lower() not in _TYPES:
            raise Unauthenticated("the token is no access token")
        for key in await self._keys.candidates(head.get("kid"), algorithm):
            try:
                return self._grant(self._claims(token, key, algorithm))
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise Unauthenticated("the token has expired") from None
            except Exception as e:  # whatever can't be checked is not good
                log.debug("a token is refused: %s", e)
                raise Unauthenticated("the token is not valid here") from None
        raise Unauthenticated("the token is not signed by the issuer")

    def _claims(self, token: str, key: jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            key=key,
            algorithms=[algorithm],
            issuer=self._auth.issuer,
            leeway=self._auth.leeway,
            options={"require": ["exp", "iss", "sub", "aud"], "verify_aud": False},
        )

    def _grant(self, claims: Mapping[str, Any]) -> Grant:
        """Raises ValueError for claims that say nothing that holds."""
        subject = _subject(claims)
        until, _, _ = (_time(claims, name) for name in ("exp", "nbf", "iat"))
        scopes = _scopes(claims)
        agents = _joined(self._scoped(scopes), self._meant(claims["aud"]))
        principal = Principal(
            id=f"{self._auth.issuer}#{subject}",
            admin=bool(self._auth.admin_scope) and self._auth.admin_scope in scopes,
            agents=agents,
            name=subject,
        )
        wanting = () if agents is None or agents else offered(self._auth)
        return Grant(principal, until + self._auth.leeway, wanting=wanting)

    def _scoped(self, scopes: set[str]) -> frozenset[str] | None:
        """The agents that the scopes stand for; None: all."""
        named = self._auth.scopes
        found = {agent for scope in (*scopes, ANY) for agent in named.get(scope, ())}
        return None if ANY in found else frozenset(found)

    def _meant(self, audience: Any) -> frozenset[str] | None:
        """The agents that a token for this audience is meant for; None: all. Raises ValueError for a token
        that is meant for somebody else, which may be at an address beneath ours."""
        values = cast("list[Any]", audience if isinstance(audience, list) else [audience])
        agents: set[str] = set()
        ours = False
        for value in values:
            if not isinstance(value, str):
                raise ValueError("aud")
            if value in self._auth.audience:
                return None
            public = self.public_url.rstrip("/")
            if not public or not value.startswith(public):
                continue
            resource = _RESOURCE.fullmatch(value[len(public) :].removesuffix("/"))
            if resource is None:
                continue
            if resource[1] is None:
                return None
            ours = True
            agents.add(resource[1])
        if not ours:
            raise ValueError("aud")
        return frozenset(agents)


def _subject(claims: Mapping[str, Any]) -> str:
    """Whose token it is. Printable, for it names a principal in logs and in the store. Raises ValueError."""
    value = claims["sub"]
    if isinstance(value, str) and 0 < len(value) <= LONGEST_SUBJECT and value.isprintable():
        return value
    raise ValueError("sub")


def _time(claims: Mapping[str, Any], name: str) -> float:
    """A time among the claims, seconds since 1970 (RFC 7519, section 2: a number); 0 where there is none.
    Raises ValueError for anything else."""
    value = claims.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST:
        raise ValueError(name)
    return float(value)


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """``scope`` (RFC 9068: a text), or ``scp``, a list with some issuers."""
    said: Any = claims.get("scope", claims.get("scp", ""))
    return set(said.split()) if isinstance(said, str) else {str(s) for s in said}


def _joined(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    """What both reach; None: all."""
    if a is None or b is None:
        return b if a is None else a
    return a & b
