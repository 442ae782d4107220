"""Which interface of a card may be used, and with the registered credentials or not.

A card is what an agent says; a URL in it may point anywhere, also into the operator's own network. One on the
registered origin is always used, and credentials go only there. One elsewhere must be a public address, or in
``outbound.allow``.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit, urlunsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

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


async def may_reach(url: str, allow: Sequence[str]) -> bool:
    """Whether every address of the URL's host is public or in one of the networks of ``allow``."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.username:
        return False
    networks = [ipaddress.ip_network(n, strict=False) for n in allow]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, _port(parts))
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
    return bool(addresses) and all(_fits(a, networks) for a in addresses)


def _fits(address: Address, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_global or any(address in n for n in networks if n.version == address.version)
