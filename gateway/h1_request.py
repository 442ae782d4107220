"""From a URL and headers to the head of an HTTP/1.1 request."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from .errors import BadUpstream

PORTS = {"http": 80, "https": 443}
_SAFE = "!$%&'()*+,/:;=?@-._~[]"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Of the connection, not of the request: decided here.
_OWN = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Target(NamedTuple):
    """A URL taken apart. ``authority``: as in Host; ``path``: with the query; ``authorization``: from a user
    and password in the URL."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str
    authorization: str | None


@lru_cache(maxsize=1024)
def target_of(url: str) -> Target:
    """Raises BadUpstream for what is no http(s) URL."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError as e:
        raise BadUpstream("the agent's URL is not valid", detail=f"{url}: {e}") from e
    if parts.scheme not in PORTS or not host or port == 0 or re.search(r"[\s\x00-\x1f]", host):
        raise BadUpstream("the agent's URL is not valid", detail=url)
    authorization = None
    if parts.username:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    path = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        path += f"?{quote(parts.query, safe=_SAFE)}"
    name = f"[{host}]" if ":" in host else host
    authority = name if port is None else f"{name}:{port}"
    return Target(parts.scheme, host, port or PORTS[parts.scheme], authority, path, authorization)


def head_of(
    method: str,
    target: Target,
    headers: Sequence[tuple[str, str]],
    length: int | None,
    proxied: bool = False,
    proxy_authorization: str | None = None,
) -> bytes:
    """The head of a request. ``length``: bytes of its body, None: it has none. ``proxied``: in the form for a
    proxy, with the whole URL. Headers about the connection and the framing are left out: they are not the
    caller's. Raises BadUpstream for a header that cannot be sent."""
    path = f"{target.scheme}://{target.authority}{target.path}" if proxied else target.path
    lines = [f"{method} {path} HTTP/1.1"]
    names: set[str] = set()
    for name, value in headers:
        key = _key(name)
        if key is None:
            raise BadUpstream("a header for the agent is not valid", detail=repr(name))
        if key:
            names.add(key)
            lines.append(f"{name}: {value}")
    if "host" not in names:
        lines.insert(1, f"host: {target.authority}")
    if "user-agent" not in names:
        lines.append("user-agent: agentgw")
    if "accept-encoding" not in names:
        lines.append("accept-encoding: identity")
    if target.authorization and "authorization" not in names:
        lines.append(f"authorization: {target.authorization}")
    if proxy_authorization:
        lines.append(f"proxy-authorization: {proxy_authorization}")
    if length is not None or method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {length or 0}")
    lines.append("\r\n")
    head = "\r\n".join(lines)
    if not head.count("\r") == head.count("\n") == len(lines) or "\0" in head:
        raise BadUpstream("a header for the agent is not valid", detail="it holds a line break")
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError as e:
        raise BadUpstream("a header for the agent is not valid", detail=str(e)) from e


@lru_cache(maxsize=1024)
def _key(name: str) -> str | None:
    """The name in lower case; "" for one that is decided here, None for what is no name."""
    if not _TOKEN.fullmatch(name):
        return None
    return "" if name.lower() in _OWN else name.lower()


def connect_head(authority: str, authorization: str | None) -> bytes:
    """The head of the request for a tunnel through a proxy (RFC 9110, 9.3.6)."""
    more = f"proxy-authorization: {authorization}\r\n" if authorization else ""
    return f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{more}\r\n".encode("latin-1")
