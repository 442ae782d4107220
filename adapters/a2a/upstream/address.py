"""Which interface of a card lies on the registered origin, and is used with the registered credentials.

A card is what an agent says; a URL in it may point anywhere. One elsewhere must pass ``gateway.outbound``,
anew at every use.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit, urlunsplit

_SELF = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::", "::1"})
_PORTS = {"http": 80, "https": 443}


def _port(url: SplitResult) -> int | None:
    try:
        return url.port or _PORTS.get(url.scheme)
    except ValueError:
        return None


def same_origin(url: str, registered: str) -> str | None:
    """``url`` as it is reached on the registered origin; None when it lies elsewhere. Names of this very
    machine count as one on the same port (servers write their bind address into cards): the registered name
    is the one to use."""
    there, here = urlsplit(url), urlsplit(registered)
    if there.scheme != here.scheme or _port(there) != _port(here) or _port(here) is None:
        return None
    host, known = (there.hostname or "").lower(), (here.hostname or "").lower()
    if host == known:
        return url
    if host in _SELF and known in _SELF:
        return urlunsplit(there._replace(netloc=here.netloc))
    return None
