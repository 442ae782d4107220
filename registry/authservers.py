"""Which authorization server an agent wants tokens of, and where its endpoints are.

RFC 9728 (the agent says who), RFC 8414 or OpenID Connect Discovery (the server says where). Every URL that is
read here came from somebody else: it leads to an address that was checked, and secrets go over TLS.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from ..gateway.errors import BadUpstream, GatewayError
from ..gateway.model import Record
from ..gateway.transport import Reply, Transport
from .logins import address_of
from .tokenendpoint import TIMEOUT, is_safe

log = logging.getLogger("agentgw.registry")
T = TypeVar("T")

SIZE = 1 << 20  # bytes of metadata
_RESOURCE = "/.well-known/oauth-protected-resource"
_OAUTH, _OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
_PARAMETER = re.compile(r'(?<![A-Za-z_])([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_ASK = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


class Resource(msgspec.Struct, frozen=True):
    """What an agent says of itself (RFC 9728, section 2)."""

    resource: str = ""
    authorization_servers: Sequence[str] = ()
    scopes_supported: Sequence[str] = ()


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What an authorization server says of itself (RFC 8414, section 2)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str = ""
    revocation_endpoint: str = ""
    scopes_supported: Sequence[str] = ()
    code_challenge_methods_supported: Sequence[str] = ()
    token_endpoint_auth_methods_supported: Sequence[str] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Found(msgspec.Struct, frozen=True):
    """``resource``: what the token is to be for (RFC 8707); ``scope``: what the agent asks for."""

    server: Server
    resource: str
    scope: str


class Discovery:
    """Looks for one agent. ``allow``: networks of ``outbound.allow``."""

    def __init__(self, transport: Transport, record: Record, allow: Sequence[str]) -> None:
        self._transport = transport
        self._record = record
        self._url = record.url or ""
        self._allow = allow

    async def find(self) -> Found:
        """Raises BadUpstream, which says what is missing."""
        wants = await self._challenge()
        about = await self._about(wants.get("resource_metadata", ""))
        if about is None:  # 2025-03-26: the agent's origin is the server
            server = await self._server(_origin(self._url))
            return Found(server, self._url.partition("#")[0], wants.get("scope", ""))
        self._check(about)
        if not about.authorization_servers:
            raise BadUpstream(f"{self._record.name} names no authorization server")
        server = await self._server(about.authorization_servers[0])
        scope = wants.get("scope") or " ".join(about.scopes_supported)
        return Found(server, about.resource, scope)

    # --- the agent -----------------------------------------------------------------------------

    async def _challenge(self) -> dict[str, str]:
        """The parameters of ``WWW-Authenticate: Bearer`` in the agent's refusal; none if it has none."""
        headers = [
            ("accept", "application/json, text/event-stream"), ("content-type", "application/json"),
        ]  # fmt: skip
        reply = await self._transport.request("POST", self._url, headers=headers, body=_ASK, timeout=TIMEOUT)
        if reply.status != 401:
            return {}
        return bearer_challenge(reply.header("www-authenticate") or "")

    async def _about(self, said: str) -> Resource | None:
        parts = urlsplit(self._url)
        origin, path = _origin(self._url), parts.path.rstrip("/")
        places = [said] if said else [*([origin + _RESOURCE + path] if path else []), origin + _RESOURCE]
        for place in places:
            found = await self._read(place, Resource)
            if found is not None:
                return found
        if said:
            raise BadUpstream(f"{self._record.name} names metadata that is not to be had")
        return None

    def _check(self, about: Resource) -> None:
        """RFC 9728, section 3.3: else a token for one agent could be had by another."""
        here, there = urlsplit(self._url), urlsplit(about.resource)
        beneath = f"{here.path.rstrip('/')}/".startswith(f"{there.path.rstrip('/')}/")
        same = (here.scheme, here.netloc.lower()) == (there.scheme, there.netloc.lower())
        if not same or not beneath or there.fragment:
            raise BadUpstream(f"the metadata of {self._record.name} is of another resource")

    # --- the authorization server --------------------------------------------------------------

    async def _server(self, issuer: str) -> Server:
        if not is_safe(issuer):
            raise BadUpstream(f"{self._record.name} names an authorization server without TLS")
        origin, path = _origin(issuer), urlsplit(issuer).path.rstrip("/")
        places = [origin + _OAUTH + path, origin + _OPENID + path]
        if path:
            places.append(origin + path + _OPENID)
        for place in places:
            found = await self._read(place, Server)
            if found is None:
                continue
            if found.issuer.rstrip("/") != issuer.rstrip("/"):
                raise BadUpstream("the authorization server's metadata is of another issuer")
            self._usable(found)
            return found
        raise BadUpstream(f"the authorization server of {self._record.name} says nothing of itself")

    def _usable(self, server: Server) -> None:
        if "S256" not in server.code_challenge_methods_supported:
            raise BadUpstream("the authorization server does not offer PKCE with S256")
        used = (server.authorization_endpoint, server.token_endpoint)
        optional = (server.registration_endpoint, server.revocation_endpoint)
        if not all(is_safe(url) for url in (*used, *(url for url in optional if url))):
            raise BadUpstream("the authorization server names an endpoint without TLS")

    # --- reading -------------------------------------------------------------------------------

    async def _read(self, url: str, kind: type[T]) -> T | None:
        """A metadata document; None where there is none. Raises BadUpstream where none may be looked for."""
        if not is_safe(url) and _origin(url) != _origin(self._url):
            raise BadUpstream(f"{self._record.name} names metadata at a URL without TLS")
        reply: Reply
        try:
            address = await address_of(url, self._url, self._allow)
            reply = await self._transport.request(
                "GET", url, headers=[("accept", "application/json")], timeout=TIMEOUT, address=address
            )
        except GatewayError as e:
            raise BadUpstream(f"metadata of {self._record.name} is not to be had: {e.message}") from e
        if reply.status != 200 or len(reply.body) > SIZE:
            return None
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except (msgspec.MsgspecError, RecursionError):
            log.debug("what is at %s is not %s", url, kind.__name__)
            return None


def bearer_challenge(value: str) -> dict[str, str]:
    """The parameters of a ``WWW-Authenticate`` header (RFC 6750, section 3); none for another scheme. In time
    that grows with its length alone, whatever an agent writes there."""
    scheme, _, rest = value.partition(" ")
    if scheme.lower() != "bearer":
        return {}
    return {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
