"""Who may come in under which name: Host and Origin checks (DNS rebinding, cross-site requests).

A browser that was lured to another site still sends that site's Host or Origin; both must be ours. What is
answered its pages may read only from origins that the configuration names (CORS, the Fetch standard).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from .wire import Headers

# A name or a bracketed address, and a port: nothing else (no user, no path) may stand in a card's URL.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.ASCII)
# Headers that pages may read beside those that every page may.
_EXPOSED = b"Mcp-Session-Id, Run-ID, A2A-Extensions, X-A2A-Extensions, WWW-Authenticate, Retry-After"
_NAMES = re.compile(rb"[\w, -]{0,2000}", re.ASCII)
KEPT = 256  # Host headers that are remembered as allowed
_VARY = ((b"vary", b"Origin"),)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Doors:
    """The allowed names.

    ``hosts``: further host names (with or without port; a leading dot allows subdomains); ``origins``:
    further origins (``https://app.example``), ``*`` allows any. ``public_url`` adds its host and origin.
    Pages of ``origins`` may read answers, too.
    """

    def __init__(
        self, bind: str, public_url: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()
    ) -> None:
        self._public_url = public_url.rstrip("/")
        names = {*LOOPBACK, *(h.lower() for h in hosts)}
        if bind not in ("0.0.0.0", "::", ""):
            names.add(bind.lower())
        if public_url:
            names.add((urlsplit(public_url).hostname or "").lower())
        self._names = frozenset(names)
        self._origins = frozenset(o.rstrip("/").lower() for o in origins)
        self._allowed: set[str] = set()  # Host headers that were looked at; clients send few

    def host_allowed(self, host: str | None) -> bool:
        """Whether a Host header names the gateway. HTTP/1.1 requires one; without it: no."""
        if not host:
            return False
        if host in self._allowed:
            return True
        name = host.lower()
        if not _HOST.fullmatch(name) or not (self._known(hostname(name)) or name in self._names):
            return False
        if len(self._allowed) < KEPT:
            self._allowed.add(host)
        return True

    def origin_allowed(self, origin: str | None) -> bool:
        """Whether an Origin header is one of ours. Without one the request is not a browser's: yes."""
        if origin is None:
            return True
        origin = origin.lower()
        if "*" in self._origins or origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and self._known(parts.hostname or "")
        except ValueError:
            return False

    def readable(self, origin: str | None) -> Headers:
        """The headers with which an answer may be read by the pages of ``origin``, if it is one of
        ``origins``; without an Origin, what keeps caches from giving them what has none."""
        if not self._origins:
            return ()
        if origin is None or ("*" not in self._origins and origin.lower() not in self._origins):
            return _VARY
        allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
        return (*_VARY, allowed, (b"access-control-expose-headers", _EXPOSED))

    def _known(self, name: str) -> bool:
        return name in self._names or any(n[0] == "." and name.endswith(n) for n in self._names if n)

    def base_url(self, scheme: str, host: str) -> str:
        """How a client with this (allowed) Host reaches the gateway, without a final slash."""
        return self._public_url or f"{scheme}://{host}"


def preflight(wanted: bytes) -> Headers:
    """What a page may send that has asked first. ``wanted``: the headers that it names. Whatever they are: of
    an origin that the configuration names nothing is kept."""
    return (
        (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE"),
        (b"access-control-allow-headers", wanted if _NAMES.fullmatch(wanted) else b""),
        (b"access-control-max-age", b"3600"),
    )


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def only_local(bind: str, public_url: str) -> bool:
    """Whether only this machine can call a gateway that listens on ``bind``: not one that has a URL for the
    world, from where a proxy leads to loopback."""
    return is_loopback(bind) and (not public_url or is_loopback(urlsplit(public_url).hostname or ""))


def hostname(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.rpartition(":")[0] if ":" in host else host
