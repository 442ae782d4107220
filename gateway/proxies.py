"""The proxies that the system wants used: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY in either case, or
what macOS and Windows have in their settings."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .errors import Unconnected
from .h1_request import Target


class Proxy(NamedTuple):
    """``scheme`` (http or https), ``host`` and ``port``: how it is reached; ``authorization``: the value of
    Proxy-Authorization, None where the setting names no user."""

    scheme: str
    host: str
    port: int
    authorization: str | None


class Proxies:
    """The settings as they were when this was made. Loopback never goes through a proxy."""

    def __init__(self) -> None:
        self._known: Mapping[str, str] = getproxies()

    def of(self, target: Target) -> Proxy | None:
        """The proxy on the way to a URL; None: there is none. Raises Unconnected for a setting that can't be
        used."""
        setting = self._known.get(target.scheme) or self._known.get("all")
        if not setting or _is_loopback(target.host) or self._bypassed(target.host, target.port):
            return None
        return _proxy(setting)

    def _bypassed(self, host: str, port: int) -> bool:
        if proxy_bypass(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(_holds(n.strip(), address) for n in self._known.get("no", "").split(","))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an entry of NO_PROXY is a network or address that ``address`` belongs to."""
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _proxy(setting: str) -> Proxy:
    try:
        parts = urlsplit(setting if "://" in setting else f"http://{setting}")
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise Unconnected("the system's proxy setting is not a URL", detail=str(e)) from e
    if parts.scheme not in ("http", "https") or not host:
        raise Unconnected(f"the system's proxy is of a kind that is not supported: {parts.scheme}")
    authorization = None
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Proxy(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), authorization)
