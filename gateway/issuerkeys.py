"""The public keys of an OIDC issuer: found where it says, fetched anew when a token names an unknown one.

Whatever the issuer answers, it costs at most the keys that can't be used.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import jwt
import msgspec

from .config import Auth
from .errors import GatewayError
from .readable import UNREADABLE
from .transport import Transport

log = logging.getLogger("agentgw.auth")

AGAIN = 10.0  # seconds between two fetches of the issuer's keys that tokens ask for
STALE = 3600.0  # seconds after which they are fetched anew, in the background
PATIENCE = 5.0  # seconds that a token waits for them
MOST_KEYS = 100
_DOCUMENT = 1 << 20  # bytes
_SHOWN = 200  # characters of what the issuer says, in the log

T = TypeVar("T")
# What each type of key signs with.
_SIGNS = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("Ed",)}
_BITS = range(2048, 16385)  # of an RSA key: RFC 7518, section 3.3; what OpenSSL checks with


class _Issuer(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


class IssuerKeys:
    """The keys of the issuer in ``auth``. ``clock``: for the time between two fetches."""

    def __init__(self, auth: Auth, transport: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self._auth = auth
        self._transport = transport
        self._clock = clock
        self._keys: Sequence[_Key] = ()
        self._fetched: float | None = None  # with success
        self._tried: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def candidates(self, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """The keys that may have signed what names this key (None: it names none)."""
        found = self._fitting(kid, algorithm)
        now = self._clock()
        if found:
            if self._fetched is not None and now - self._fetched > STALE:
                self.fetch()
            return found
        if self._fetching is None and self._tried is not None and now - self._tried < AGAIN:
            return ()
        await asyncio.wait([self.fetch()], timeout=PATIENCE)
        return self._fitting(kid, algorithm)

    def _fitting(self, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Those of this name; one without a name may be anyone's."""
        named = [key for key in self._keys if kid is None or key.id in (kid, None)]
        return [made for key in named if (made := key.usable(algorithm)) is not None]

    def fetch(self) -> asyncio.Task[None]:
        """Fetch them, in the background; what is known stays good until then."""
        if self._fetching is None:
            self._tried = self._clock()
            self._fetching = asyncio.create_task(self._fetched_anew())
        return self._fetching

    async def _fetched_anew(self) -> None:
        try:
            url = self._auth.jwks_url or await self._discovered()
            found = await self._document(url, _Keys)
            self._keys = [_Key(key) for key in found.keys[:MOST_KEYS]]
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
            raise GatewayError(f"it says that it is {found.issuer[:_SHOWN]!r}")
        if not found.jwks_uri.startswith(("https://", f"{parts.scheme}://")):
            raise GatewayError("its keys are not offered over https")
        return found.jwks_uri

    async def _document(self, url: str, kind: type[T]) -> T:
        shown = url[:_SHOWN]
        try:
            reply = await self._transport.request(
                "GET", url, headers=[("accept", "application/json")], timeout=PATIENCE
            )
        except ValueError as e:  # what it says of where they are is no URL
            raise GatewayError(f"{shown!r} can't be asked") from e
        if reply.status != 200:
            raise GatewayError(f"{shown} answers with HTTP {reply.status}")
        if len(reply.body) > _DOCUMENT:
            raise GatewayError(f"{shown} answers with more than {_DOCUMENT} bytes")
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except UNREADABLE as e:
            raise GatewayError(f"{shown} is not understood: {str(e)[:_SHOWN]}") from e

    async def aclose(self) -> None:
        """Stop what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)


def openid_url(issuer: str) -> str:
    """Where an issuer describes itself."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


class _Key:
    """One of the issuer's keys (RFC 7517), made once for each algorithm."""

    __slots__ = ("_made", "_said", "id")

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = said
        self._made: dict[str, jwt.PyJWK | None] = {}
        self.id = said.get("kid")

    def usable(self, algorithm: str) -> jwt.PyJWK | None:
        """A public key that checks signatures of this algorithm (one of the configuration's); None for any
        other."""
        if algorithm not in self._made:
            self._made[algorithm] = _usable(self._said, algorithm)
        return self._made[algorithm]


def _usable(said: Mapping[str, Any], algorithm: str) -> jwt.PyJWK | None:
    kind = said.get("kty")
    if said.get("use", "sig") != "sig" or not algorithm.startswith(_SIGNS.get(str(kind), ())):
        return None
    try:
        key = jwt.PyJWK(dict(said), algorithm if kind == "RSA" else None)
        if said.get("alg", algorithm) != algorithm or key.algorithm_name != algorithm:
            return None
        return key if kind != "RSA" or key.key.key_size in _BITS else None
    except Exception as e:  # of three libraries, each with errors of its own
        log.debug("a key of the issuer is left out: %s", e)
        return None
