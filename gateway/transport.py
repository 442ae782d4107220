"""The way out: a small HTTP client port and its implementation on pyreqwest.

One client, one connection pool and one TLS context for the whole process. Redirects are not followed
(a POST must not silently become a GET, and credentials must not leave their origin), system proxies are
honoured, loopback never goes through one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
import pyreqwest.exceptions as px
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.response import Response as _Response

from . import h1
from .errors import BadUpstream, TooLarge, Unreachable, UpstreamTimeout

Headers = Sequence[tuple[str, str]]


class Reply(msgspec.Struct, frozen=True):
    """A whole answer. Header names are lower case."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header, stripped (``name`` in lower case)."""
        return _first(self.headers, name)


class Stream(Protocol):
    """An answer whose body is read piece by piece."""

    status: int
    headers: Headers

    def header(self, name: str) -> str | None: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Body pieces as they arrive. Raises Unreachable when the connection breaks."""
        ...

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """The rest of the body. Raises TooLarge past ``limit`` bytes."""
        ...


class Transport(Protocol):
    """An HTTP client. Raises Unreachable, UpstreamTimeout, BadUpstream; never for a status."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        timeout: float | None = None,
        address: str | None = None,
    ) -> Reply:
        """Send, read the whole answer. ``timeout``: seconds for all of it, None: no limit. ``address``: the
        IP address to connect to (see ``outbound.checked``); the name in Host and TLS stays the URL's."""
        ...

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        address: str | None = None,
    ) -> AbstractAsyncContextManager[Stream]:
        """Send, and read the body as it comes. Leaving the block, or being cancelled before the head has
        come, closes the connection, unless the body was read to its end."""
        ...

    async def aclose(self) -> None: ...


def _first(headers: Headers, name: str) -> str | None:
    for key, value in headers:
        if key == name:
            return value.strip()
    return None


class PyreqwestTransport:
    """Transport on pyreqwest; streamed requests on ``h1``, as pyreqwest can't abort one before its head has
    come (through a proxy it must do). ``connect_timeout`` in seconds; ``limit``: bytes of one answer's body.
    """

    def __init__(self, connect_timeout: float = 5.0, limit: int = 64 * 1024 * 1024) -> None:
        self._limit = limit
        self._h1 = h1.Client(connect_timeout)
        self._proxies = getproxies()
        self._client: Client = (
            ClientBuilder()
            .connect_timeout(timedelta(seconds=connect_timeout))
            .pool_idle_timeout(timedelta(seconds=h1.IDLE))  # its own 90 s outlast the server's 5
            .follow_redirects(False)
            .default_cookie_store(False)
            .user_agent("agentgw")
            .tcp_nodelay(True)
            .gzip(True)
            .build()
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        timeout: float | None = None,
        address: str | None = None,
    ) -> Reply:
        if address is not None:
            return await self._pinned(method, url, headers, body, timeout, address)
        with _translated(url):
            builder = self._client.request(method, url).headers(list(headers))
            if body is not None:
                builder = builder.body_bytes(body)
            if timeout is not None:
                builder = builder.timeout(timedelta(seconds=timeout))
            async with builder.build_streamed() as response:
                stream = _PyreqwestStream(response, url)
                return Reply(stream.status, stream.headers, await stream.read(self._limit))

    async def _pinned(
        self, method: str, url: str, headers: Headers, body: bytes | None, timeout: float | None, address: str
    ) -> Reply:
        try:
            async with (
                asyncio.timeout(timeout),
                self.stream(method, url, headers=headers, body=body, address=address) as answer,
            ):
                return Reply(answer.status, answer.headers, await answer.read(self._limit))
        except TimeoutError as e:
            raise UpstreamTimeout("the agent did not answer in time", detail=url) from e

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        address: str | None = None,
    ) -> AsyncGenerator[Stream]:
        if address is None and self._proxied(url):
            async with self._streamed(method, url, headers, body) as stream:
                yield stream
            return
        connection, origin = await self._h1.open(method, url, headers, body, address)
        try:
            yield h1.Answer(connection)
        finally:
            self._h1.release(connection, origin)

    def _proxied(self, url: str) -> bool:
        """Whether the system wants this URL to go through a proxy."""
        parts = urlsplit(url)
        name = parts.hostname or ""
        if name in ("localhost", "::1") or name.startswith("127."):
            return False
        known = parts.scheme in self._proxies or "all" in self._proxies
        return known and not proxy_bypass(name)

    @contextlib.asynccontextmanager
    async def _streamed(
        self, method: str, url: str, headers: Headers, body: bytes | None
    ) -> AsyncGenerator[Stream]:
        with _translated(url):
            # Without a limit of 0 the client reads 64 KiB ahead before it hands over even the head.
            builder = self._client.request(method, url).headers(list(headers)).streamed_read_buffer_limit(0)
            if body is not None:
                builder = builder.body_bytes(body)
            request = builder.build_streamed()
            response = await request.__aenter__()
        try:
            yield _PyreqwestStream(response, url)
        finally:
            await request.__aexit__(None, None, None)

    async def aclose(self) -> None:
        self._h1.close()
        await self._client.close()


class _PyreqwestStream:
    def __init__(self, response: _Response, url: str) -> None:
        self._response = response
        self._url = url
        self.status = response.status
        self.headers: Headers = list(response.headers.items())

    def header(self, name: str) -> str | None:
        return _first(self.headers, name)

    async def chunks(self) -> AsyncIterator[bytes]:
        reader = self._response.body_reader
        while True:
            with _translated(self._url):
                chunk = await reader.read_chunk()
            if chunk is None:
                return
            yield bytes(chunk)

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise TooLarge("the agent's answer is too large")
            pieces.append(chunk)
        return b"".join(pieces)


@contextlib.contextmanager
def _translated(url: str) -> Generator[None]:
    """pyreqwest's errors as ours. The URL may hold secrets: it is only in ``detail``."""
    try:
        yield
    except px.RequestTimeoutError as e:
        raise UpstreamTimeout("the agent did not answer in time", detail=f"{url}: {e}") from e
    except (px.ConnectError, px.NetworkError, px.ClientClosedError) as e:
        raise Unreachable("the agent can't be reached", detail=f"{url}: {e}") from e
    except (px.PyreqwestError, ValueError) as e:
        raise BadUpstream("the agent's answer is not valid HTTP", detail=f"{url}: {e}") from e
