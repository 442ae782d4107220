"""Where a URL that came in a message may lead: the guard against requests into the operator's own network.

A client's webhook, an interface in an agent's card: such a URL may point anywhere. It has to lead to public
addresses, or into a network of ``outbound.allow``. Whoever uses it connects to the very address that was
checked (``Transport.request(address=…)``): a name may resolve to another one a moment later.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from .errors import Forbidden, InvalidRequest, Unreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RESOLVE_TIMEOUT = 5.0  # seconds
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is assigned for use in the public Internet
# What ``is_global`` takes for public, in some Python version or other, and is not; the second is Azure's
# metadata service (the others' lie in link-local, private or shared ranges).
_NEVER = [
    ipaddress.ip_network(n)
    for n in ("192.0.0.0/24", "168.63.129.16/32", "192.88.99.0/24", "2001::/23", "3fff::/20")
]


async def checked(url: str, allow: Sequence[str], turn: int = 0) -> str:
    """The address to connect to for an http(s) URL; ``allow``: networks in CIDR form.

    Every address of the name must be fit; the first one is returned, or, for those who try again, the one
    whose ``turn`` it is (counted from 0, round and round). Raises InvalidRequest for what is no
    such URL (or carries a user and password), Forbidden for an address that is not to be reached, Unreachable
    for a name that has none. Each names the host alone: the rest of the URL may hold secrets.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise InvalidRequest("the URL is not valid", detail=f"{url}: {e}") from e
    if parts.scheme not in _PORTS or not host or port == 0:
        raise InvalidRequest("the URL must be an http or https one", detail=url)
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("the URL must not carry a user name or password")
    addresses = await _addresses(host, port or _PORTS[parts.scheme])
    networks = [ipaddress.ip_network(n, strict=False) for n in allow]
    for address in addresses:
        if not fit(address, networks):
            raise Forbidden(
                f"{host} is not a public address, nor in a network of outbound.allow", detail=str(address)
            )
    distinct = list(dict.fromkeys(addresses))
    chosen = distinct[turn % len(distinct)]
    return str(getattr(chosen, "ipv4_mapped", None) or chosen)


def fit(address: Address, allow: Sequence[Network]) -> bool:
    """Whether an address may be reached: it, and the IPv4 address inside it if any, is public or allowed."""
    forms = [address, *_embedded(address)]
    if any(form in network for form in forms for network in allow):
        return True
    return _public(forms[-1])


def _embedded(address: Address) -> Iterator[Address]:
    """The IPv4 address to which a gateway of the network would pass on what is sent to an IPv6 one."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address in _NAT64 or address in _COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    elif (inner := address.ipv4_mapped or address.sixtofour) is not None:
        yield inner


def _public(address: Address) -> bool:
    if any(address in network for network in _NEVER) or address.is_multicast or not address.is_global:
        return False
    return isinstance(address, ipaddress.IPv4Address) or address in _UNICAST


async def _addresses(host: str, port: int) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as e:
        raise Unreachable(f"{host} has no address", detail=repr(e)) from e
    if not found:
        raise Unreachable(f"{host} has no address")
    return [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
