"""Opening a connection: names, addresses, TLS, and the tunnel through a proxy."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from typing import NamedTuple, cast

from .errors import NoRoom, Unconnected, UpstreamError
from .h1 import PEER, Connection
from .h1_request import connect_head
from .proxies import Proxy

_FULL = frozenset({errno.EMFILE, errno.ENFILE})


class Route(NamedTuple):
    """How an origin is reached. ``address``: what to connect to, whatever the host resolves to."""

    scheme: str
    host: str
    port: int
    address: str | None
    proxy: Proxy | None

    @property
    def tunnelled(self) -> bool:
        """Whether the proxy only passes bytes on: for TLS, and to an address that must be the very one."""
        return self.proxy is not None and (self.scheme == "https" or self.address is not None)


class Dialer:
    """``timeout``: seconds for a connection, all in all."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._context: ssl.SSLContext | None = None

    async def dial(self, route: Route, peer: str = PEER) -> Connection:
        """A new connection to ``peer``, as errors call it. Raises Unconnected: none came about."""
        connection = Connection()
        connection.peer = peer
        try:
            await self._reach(connection, route)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _reach(self, connection: Connection, route: Route) -> None:
        where, peer = f"{route.host}:{route.port}", connection.peer
        try:
            async with asyncio.timeout(self.timeout):
                await self._go(connection, route)
        except Unconnected:
            raise
        except ssl.SSLCertVerificationError as e:
            message = f"{peer}'s certificate is not trusted: {e.verify_message}"
            raise Unconnected(message, detail=f"{where}: {e!r}") from e
        except (OSError, TimeoutError, ValueError, UpstreamError) as e:  # a name may be unfit for DNS
            way = " through the system's proxy" if route.proxy else ""
            kind = NoRoom if isinstance(e, OSError) and e.errno in _FULL else Unconnected
            raise kind(f"{peer} can't be reached{way}{_reason(e)}", detail=f"{where}: {e!r}") from e

    async def _go(self, connection: Connection, route: Route) -> None:
        """All the way to the origin, or to a proxy that takes requests for it."""
        host, proxy = route.address or route.host, route.proxy
        tls_name = route.host if route.scheme == "https" else None
        if proxy is None:
            await self._connect(connection, host, route.port, tls_name)
            return
        secure = proxy.scheme == "https"
        await self._connect(connection, proxy.host, proxy.port, proxy.host if secure else None)
        if not route.tunnelled:
            return
        authority = f"[{host}]:{route.port}" if ":" in host else f"{host}:{route.port}"
        await connection.send("CONNECT", connect_head(authority, proxy.authorization))
        if connection.status >= 300:
            status = connection.status
            raise Unconnected(f"{connection.peer} can't be reached: the proxy answered with HTTP {status}")
        if tls_name is not None:
            await self._start_tls(connection, tls_name)

    async def _connect(self, connection: Connection, host: str, port: int, tls_name: str | None) -> None:
        """``tls_name``: the name that the certificate must have; None: no TLS."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        context = await self._tls() if tls_name is not None else None
        addresses = await _addresses(host, port)
        for n, address in enumerate(addresses):  # each has its share of the time that is left
            share = (deadline - loop.time()) / (len(addresses) - n)
            try:
                async with asyncio.timeout(share):
                    await loop.create_connection(
                        lambda: connection, address, port, ssl=context, server_hostname=tls_name
                    )
                return
            except ssl.SSLError:
                raise
            except (OSError, TimeoutError):
                if n == len(addresses) - 1:
                    raise

    async def _start_tls(self, connection: Connection, name: str) -> None:
        assert connection.transport is not None
        context = await self._tls()
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(connection.transport, connection, context, server_hostname=name)
        connection.transport = cast("asyncio.Transport", transport)

    async def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await asyncio.to_thread(_trusting_the_system)
        return self._context


def _reason(error: Exception) -> str:
    """What may be said of it: for whoever has to find out why."""
    match error:
        case TimeoutError():
            return ": no answer in time"
        case ConnectionRefusedError():
            return ": connection refused"
        case socket.gaierror() | UnicodeError():
            return ": its name has no address"
        case ssl.SSLError():
            return ": no TLS connection comes about"
        case OSError(errno=number) if number in _FULL:
            return ": the gateway has too many files open"
        case _:
            return ""


async def _addresses(host: str, port: int) -> list[str]:
    """The host's addresses in the order of the system."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(info[4][0]) for info in found))


def _trusting_the_system() -> ssl.SSLContext:
    """Trusts the system's authorities (or those of SSL_CERT_FILE, SSL_CERT_DIR); where Python knows of none,
    certifi's."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath:
        import certifi

        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
