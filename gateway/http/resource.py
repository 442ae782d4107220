"""How clients find out where to get a token: the gateway as an OAuth protected resource (RFC 9728)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .request import Request
from .wire import Headers

WELL_KNOWN = ("/.well-known/oauth-", "/.well-known/openid-configuration")
_BEARER = 'Bearer realm="agentgw"'
_METADATA = "/.well-known/oauth-protected-resource"
# The resources that there are: the whole gateway, a protocol's door, one agent there (whether there is one is
# not told).
_RESOURCE = re.compile(r"|/mcp(/[-a-z0-9]{1,63})?|/a2a(/[-a-z0-9]{1,63})?|/acp")


async def describe(request: Request, issuer: str, scopes: Sequence[str]) -> None:
    """Answer what was asked below ``WELL_KNOWN``, by anybody: clients that look for an issuer must learn that
    there is none, too. ``issuer`` "": there is none. ``scopes``: what a client may ask the issuer for."""
    path = request.path.removeprefix(_METADATA)
    path = "" if path == "/" else path
    if not issuer or path == request.path or not _RESOURCE.fullmatch(path):
        error = {"code": "not_found", "message": "there is no such metadata here", "data": None}
        await request.json(404, {"error": error})
        return
    metadata = {
        "resource": request.base_url + path,
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "resource_name": "agentgw",
        **({"scopes_supported": list(scopes)} if scopes else {}),
    }
    await request.json(200, metadata)


def wanting(request: Request, issuer: str, scopes: Sequence[str]) -> Headers:
    """The same for a token that is good and reaches nothing: what to ask the issuer for (RFC 6750, section
    3.1)."""
    scope = " ".join(scopes)
    return [_said(f'{_BEARER}, error="insufficient_scope", scope="{scope}"', request, issuer)]


def _said(challenge: str, request: Request, issuer: str) -> tuple[bytes, bytes]:
    if issuer:
        path = request.path.rstrip("/")
        path = path if request.door != "root" and _RESOURCE.fullmatch(path) else ""
        challenge += f', resource_metadata="{request.base_url}{_METADATA}{path}"'
    return b"www-authenticate", challenge.encode("latin-1")


def challenges(request: Request, browser: bool, issuer: str) -> Headers:
    """What a refusal says of how to come in (RFC 6750, section 3; RFC 9728, section 5.1). ``browser``: asks
    its user for a key, which it sends as Basic."""
    challenge = _BEARER
    if b"authorization" in request.fields:
        challenge += ', error="invalid_token"'
    said = [_said(challenge, request, issuer)]
    if browser:
        said.append((b"www-authenticate", b'Basic realm="agentgw", charset="UTF-8"'))
    return said
