"""Asking a token endpoint (RFC 6749): client credentials, an authorization code, a refresh token.

On the gateway's own way out, because a URL from somebody's metadata must lead to the address that was checked
(``address``). What the server says in its own words stays unsaid: it may repeat what it was sent.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from ..gateway.errors import BadUpstream, GatewayError
from ..gateway.transport import Transport

Method = Literal["client_secret_basic", "client_secret_post", "none"]
TIMEOUT = 15.0  # seconds
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# RFC 6749, section 5.2, and RFC 8707, section 2: all that is repeated of an error.
_KNOWN = frozenset({
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "invalid_scope", "invalid_target",
})  # fmt: skip
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Client(msgspec.Struct, frozen=True):
    """Who asks where: the secret itself (not to be stored, shown or logged), ``address`` to connect to."""

    token_url: str
    client_id: str
    secret: str = ""
    method: Method = "none"
    address: str | None = None


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens. ``expires``: seconds since the epoch; None: not said."""

    access: str
    expires: float | None = None
    refresh: str | None = None
    scope: str | None = None


class Refused(BadUpstream):
    """The server said no. ``error``: its code, where it is one of the standard's, else ""."""

    def __init__(self, host: str, status: int, error: str) -> None:
        said = error or f"HTTP {status}"
        super().__init__(f"the authorization server {host} refuses the gateway ({said})")
        self.error = error


class _Body(msgspec.Struct):
    access_token: str = ""
    token_type: str = "Bearer"
    expires_in: float | str | None = None
    refresh_token: str | None = None
    scope: str | None = None
    error: str = ""


async def ask(transport: Transport, client: Client, form: Mapping[str, str]) -> Grant:
    """A token request. Raises Refused, UpstreamError for what keeps an answer from coming."""
    host = urlsplit(client.token_url).netloc
    headers = [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")]
    fields = dict(form)
    if client.method == "client_secret_basic":
        # Section 2.3.1: both are form-encoded first.
        pair = f"{quote(client.client_id, safe='')}:{quote(client.secret, safe='')}"
        headers.append(("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"))
    else:
        fields["client_id"] = client.client_id
        if client.method == "client_secret_post":
            fields["client_secret"] = client.secret
    sent = time.time()
    try:
        reply = await transport.request(
            "POST", client.token_url, headers=headers, body=urlencode(fields).encode(),
            timeout=TIMEOUT, address=client.address,
        )  # fmt: skip
    except GatewayError as e:
        raise type(e)(f"the authorization server {host} can't be reached") from None
    return _grant(reply.status, reply.body, host, sent)


def _grant(status: int, content: bytes, host: str, sent: float) -> Grant:
    try:
        body = msgspec.json.decode(content, type=_Body, strict=False)
    except (msgspec.DecodeError, RecursionError):
        body = _Body()
    if status != 200 or body.error:
        raise Refused(host, status, body.error if body.error in _KNOWN else "")
    if not _TOKEN.fullmatch(body.access_token) or body.token_type.lower() != "bearer":
        raise BadUpstream(f"the authorization server {host} gave no bearer token")
    lasts = _seconds(body.expires_in)
    return Grant(body.access_token, None if lasts is None else sent + lasts, body.refresh_token, body.scope)


def _seconds(value: float | str | None) -> float | None:
    """Some servers say how long as text."""
    try:
        return None if value is None else max(float(value), 0.0)
    except ValueError:
        return None


def is_safe(url: str) -> bool:
    """Whether secrets may go to the URL: https, or this machine (RFC 6749, section 3.2; RFC 8252)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))
