"""JSON Web Tokens of an OIDC issuer as credentials (RFC 9068, RFC 7519).

Signatures are checked against the issuer's keys, which are fetched at the start and again, at most every ten
seconds, when a token names one that is not known: so the issuer may rotate them. Only asymmetric algorithms
are taken, the one that the key is for. What a token grants is kept until it expires (``access``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import jwt
import msgspec

from .access import Grant
from .config import Auth
from .errors import GatewayError, Unauthenticated
from .model import Principal
from .transport import Transport

log = logging.getLogger("agentgw.auth")

AGAIN = 10.0  # seconds between two fetches of the issuer's keys that tokens ask for
STALE = 3600.0  # seconds after which they are fetched anew, in the background
PATIENCE = 5.0  # seconds that a token waits for them
MOST_KEYS = 100
LONGEST_SUBJECT = 255  # OpenID Connect Core 1.0, section 2
_DOCUMENT = 1 << 20  # bytes


Jwk = Mapping[str, Any]
T = TypeVar("T")
# What each type of key signs with, and what a token may call itself (RFC 9068, section 4; many say nothing).
_SIGNS = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("Ed",)}
_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_LEAST_BITS = 2048  # of an RSA key (RFC 7518, section 3.3)


class _Issuer(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


class IssuedTokens:
    """Tokens of the issuer in ``auth``, for this gateway: ``public_url`` and what is beneath it are
    audiences, too. ``clock``: for the time between two fetches."""

    def __init__(
        self,
        auth: Auth,
        public_url: str,
        transport: Transport,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auth = auth
        self._public = public_url.rstrip("/")
        self._transport = transport
        self._clock = clock
        self._keys: Sequence[Jwk] = ()
        self._fetched: float | None = None  # with success
        self._tried: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def grant(self, token: str) -> Grant:
        """What a token grants. Raises Unauthenticated, which says what is wrong with it."""
        try:
            head = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthenticated("the token is no JSON Web Token") from None
        algorithm = str(head.get("alg"))
        if algorithm not in self._auth.algorithms:
            raise Unauthenticated("the token is signed in a way that is not allowed here")
        if str(head.get("typ") or "").lower() not in _TYPES:
            raise Unauthenticated("the token is no access token")
        for key in await self._candidates(head.get("kid"), algorithm):
            try:
                return self._grant(self._claims(token, key, algorithm))
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise Unauthenticated("the token has expired") from None
            except (jwt.PyJWTError, ValueError, TypeError) as e:
                log.debug("a token is refused: %s", e)
                raise Unauthenticated("the token is not valid here") from None
        raise Unauthenticated("the token is not signed by the issuer")

    # --- claims ------------------------------------------------------------------------------

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
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
            raise ValueError("sub")
        scopes = _scopes(claims)
        agents = _joined(self._scoped(scopes), self._meant(claims["aud"]))
        principal = Principal(
            id=f"{self._auth.issuer}#{subject}",
            admin=bool(self._auth.admin_scope) and self._auth.admin_scope in scopes,
            agents=agents,
            name=subject,
        )
        return Grant(principal, float(claims["exp"]) + self._auth.leeway)

    def _scoped(self, scopes: set[str]) -> frozenset[str] | None:
        """The agents that the scopes stand for; None: all."""
        named = self._auth.scopes
        if not named:
            return None
        found = {agent for scope in scopes for agent in named.get(scope, ())}
        return None if "*" in found else frozenset(found)

    def _meant(self, audience: Any) -> frozenset[str] | None:
        """The agents that a token for this audience is meant for; None: all. Raises ValueError for a token
        that is meant for somebody else."""
        values = cast("list[Any]", audience if isinstance(audience, list) else [audience])
        agents: set[str] = set()
        ours = False
        for value in map(str, values):
            if value in self._auth.audience:
                return None
            if not self._public or not (value + "/").startswith(self._public + "/"):
                continue
            ours = True
            door, _, agent = value[len(self._public) :].strip("/").partition("/")
            if door not in ("mcp", "a2a") or not agent:
                return None
            agents.add(agent)
        if not ours:
            raise ValueError("aud")
        return frozenset(agents)

    # --- the issuer's keys -------------------------------------------------------------------

    async def _candidates(self, kid: Any, algorithm: str) -> Sequence[jwt.PyJWK]:
        """The keys that may have signed."""
        found = self._fitting(kid, algorithm)
        now = self._clock()
        if found:
            if self._fetched is not None and now - self._fetched > STALE:
                self._fetch()
            return found
        if self._fetching is None and self._tried is not None and now - self._tried < AGAIN:
            return ()
        await asyncio.wait([self._fetch()], timeout=PATIENCE)
        return self._fitting(kid, algorithm)

    def _fitting(self, kid: Any, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Those of this name (None: any); one without a name may be anyone's."""
        named = [key for key in self._keys if kid is None or key.get("kid") in (kid, None)]
        return [made for key in named if (made := _usable(key, algorithm)) is not None]

    def begin(self) -> None:
        """Fetch the keys now, in the background: the first token need not wait for them."""
        self._fetch()

    def _fetch(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._tried = self._clock()
            self._fetching = asyncio.create_task(self._fetched_anew())
        return self._fetching

    async def _fetched_anew(self) -> None:
        try:
            url = self._auth.jwks_url or await self._discovered()
            self._keys = (await self._document(url, _Keys)).keys[:MOST_KEYS]
            self._fetched = self._clock()
        except GatewayError as e:
            log.warning("the keys of %s can't be fetched: %s", self._auth.issuer, e.message)
        finally:
            self._fetching = None

    async def _discovered(self) -> str:
        """Where the issuer's keys are (OpenID Connect Discovery 1.0, section 4; RFC 8414, section 3)."""
        issuer = self._auth.issuer
        parts = urlsplit(issuer)
        path = f"/.well-known/oauth-authorization-server{parts.path.rstrip('/')}"
        try:
            found = await self._document(openid_url(issuer), _Issuer)
        except GatewayError:
            found = await self._document(f"{parts.scheme}://{parts.netloc}{path}", _Issuer)
        if found.issuer != issuer:
            raise GatewayError(f"it says that it is {found.issuer!r}")
        if not found.jwks_uri.startswith(("https://", f"{parts.scheme}://")):
            raise GatewayError("its keys are not offered over https")
        return found.jwks_uri

    async def _document(self, url: str, kind: type[T]) -> T:
        reply = await self._transport.request(
            "GET", url, headers=[("accept", "application/json")], timeout=PATIENCE
        )
        if reply.status != 200 or len(reply.body) > _DOCUMENT:
            raise GatewayError(f"{url} answers with HTTP {reply.status}")
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except msgspec.MsgspecError as e:
            raise GatewayError(f"{url} is not understood: {e}") from e

    async def aclose(self) -> None:
        """Stop what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)


def openid_url(issuer: str) -> str:
    """Where an issuer describes itself."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def _usable(found: Jwk, algorithm: str) -> jwt.PyJWK | None:
    """A public key that checks signatures of this algorithm; None for any other."""
    kind = found.get("kty")
    if found.get("use", "sig") != "sig" or not algorithm.startswith(_SIGNS.get(str(kind), ())):
        return None
    try:
        key = jwt.PyJWK(dict(found), algorithm if kind == "RSA" else None)
        if found.get("alg", algorithm) != algorithm or key.algorithm_name != algorithm:
            return None
        return key if kind != "RSA" or key.key.key_size >= _LEAST_BITS else None
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as e:
        log.debug("a key of the issuer is left out: %s", e)
        return None


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """``scope`` (RFC 9068: a text), or ``scp``, a list with some issuers."""
    said: Any = claims.get("scope", claims.get("scp", ""))
    return set(said.split()) if isinstance(said, str) else {str(s) for s in said}


def _joined(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    """What both reach; None: all."""
    if a is None or b is None:
        return b if a is None else a
    return a & b
