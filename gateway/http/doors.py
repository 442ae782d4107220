"""Who may come in under which name: Host and Origin checks (DNS rebinding, cross-site requests).

A browser that was lured to another site still sends that site's Host or Origin; both must be ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

# A name or a bracketed address, and a port: nothing else (no user, no path) may stand in a card's URL.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s@/?#\[\]:]+)(:\d{1,5})?")
KEPT = 256  # Host headers that are remembered as allowed
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Doors:
    """The allowed names.

    ``hosts``: further host names (with or without port; a leading dot allows subdomains); ``origins``:
    further origins (``https://app.example``), ``*`` allows any. ``public_url`` adds its host and origin.
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

    def _known(self, name: str) -> bool:
        return name in self._names or any(n[0] == "." and name.endswith(n) for n in self._names if n)

    def base_url(self, scheme: str, host: str) -> str:
        """How a client with this (allowed) Host reaches the gateway, without a final slash."""
        return self._public_url or f"{scheme}://{host}"


def hostname(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.rpartition(":")[0] if ":" in host else host
