"""The way out: a small HTTP client port, and its implementation on connections of our own.

One pool and one TLS context for the whole process. Redirects are not followed (a POST must not silently
become a GET, and credentials must not leave their origin), there are no cookies, the system's proxies are
honoured.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from .errors import BadUpstream, UpstreamTimeout
from .h1 import HIGH_WATER, PEER, Connection
from .h1_request import Headers
from .pool import PER_ROUTE, TOTAL, Pool
from .waiting import Timer

LARGE = HIGH_WATER  # bytes of a body that need not be there as a whole before it is passed on
LIMIT = 64 * 1024 * 1024  # bytes of an answer that is read as a whole
Received = Sequence[tuple[str, str]]  # of an answer


class Reply(msgspec.Struct, frozen=True):
    """A whole answer. Header names are lower case."""

    status: int
    headers: Received
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header, stripped (``name`` in lower case)."""
        return _first(self.headers, name)


class Stream(Protocol):
    """An answer whose body is read piece by piece."""

    status: int
    headers: Received

    def header(self, name: str) -> str | None: ...

    @property
    def complete(self) -> bool:
        """Whether all of the body has come."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Body pieces as they arrive. Raises Unreachable when the connection breaks."""
        ...

    def offer(self, taker: Callable[[bytes], bool]) -> None:
        """While the reader of ``chunks`` waits, a piece that comes is offered to ``taker`` at once: True says
        that it has taken it, and the reader waits on. Until the block is left; a compressed body is not
        offered. What ``taker`` raises is raised where the reader waits."""
        ...

    async def beginning(self) -> bytes | None:
        """Waits for the body's first ``LARGE`` bytes, and takes nothing: what has come by then. None where
        it is all there before, or is compressed. Raises Unreachable when the connection breaks."""
        ...

    async def read(self, limit: int | None = None) -> bytes:
        """The rest of the body. Raises BadUpstream past ``limit`` bytes (None: the transport's own)."""
        ...

    def whole(self) -> bytes | None:
        """The rest of the body if it has all come; None: ``read`` it. Raises BadUpstream past the transport's
        own limit."""
        ...

    def settle(self) -> None:
        """The content is over: what is left of the answer is only its end, which need not be waited for to
        keep the connection."""
        ...

    def close(self) -> None:
        """Nothing more is read: the connection is closed, unless the body was read to its end."""
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
        patience: Timer | None = None,
    ) -> AbstractAsyncContextManager[Stream]:
        """Send, and read the body as it comes, in the block, whose end closes it. ``patience``: the block may
        begin as late as when all of an answer is there, if its head has not been there for so long before."""
        ...

    async def opened(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        address: str | None = None,
        patience: Timer | None = None,
    ) -> Stream:
        """Send, and wait for the head of the answer, which whoever gets it must ``close``. Cancelled, it
        closes the connection. ``patience``: see ``stream``."""
        ...

    async def aclose(self) -> None: ...


def _first(headers: Received, name: str) -> str | None:
    for key, value in headers:
        if key == name:
            return value.strip()
    return None


class HttpTransport:
    """Transport over HTTP/1.1. ``connect_timeout`` in seconds; ``limit``: bytes of one whole answer;
    ``per_route``, ``total``: connections in use at once; as many in all are kept for later."""

    def __init__(
        self,
        connect_timeout: float = 5.0,
        limit: int = LIMIT,
        *,
        per_route: int = PER_ROUTE,
        total: int = TOTAL,
    ) -> None:
        self._limit = limit
        self._pool = Pool(connect_timeout, per_route, total)
        self._peer = PEER

    def restrict(self, connect_timeout: float, limit: int) -> None:
        """Other limits for requests from now on."""
        self._limit = limit
        self._pool.restrict(connect_timeout)

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
        if timeout is None:
            return await self._whole(method, url, headers, body, address)
        try:
            async with asyncio.timeout(timeout):
                return await self._whole(method, url, headers, body, address)
        except TimeoutError as e:
            raise UpstreamTimeout(f"{self._peer} did not answer in time", detail=url) from e

    async def _whole(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | None,
        address: str | None,
    ) -> Reply:
        answer = await self.opened(method, url, headers=headers, body=body, address=address)
        try:
            return Reply(answer.status, answer.headers, await answer.read())
        finally:
            answer.close()

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        address: str | None = None,
        patience: Timer | None = None,
    ) -> AbstractAsyncContextManager[Stream]:
        return Block(self.opened(method, url, headers=headers, body=body, address=address, patience=patience))

    async def opened(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        address: str | None = None,
        patience: Timer | None = None,
    ) -> Stream:
        connection = await self._pool.open(method, url, headers, body, address, patience=patience)
        return Answer(connection, self._pool, self._limit)

    async def aclose(self) -> None:
        """Close every connection, whatever is under way on it."""
        await self._pool.aclose()


class Block(AbstractAsyncContextManager[Stream]):
    """The block in which an answer is read that ``opening`` gets. (A generator's costs twice as much.)"""

    __slots__ = ("_answer", "_opening")

    def __init__(self, opening: Coroutine[Any, Any, Stream]) -> None:
        self._opening = opening

    async def __aenter__(self) -> Stream:
        opening = self._opening
        del self._opening  # the answer may be open for long
        self._answer = await opening
        return self._answer

    async def __aexit__(self, *_: object) -> None:
        self._answer.close()


class Answer:
    """Implements ``Stream``. We ask for no compression; what comes as gzip all the same is unpacked."""

    __slots__ = ("_connection", "_limit", "_peer", "_pool", "headers", "status")

    def __init__(self, connection: Connection, pool: Pool, limit: int) -> None:
        self._connection = connection
        self._pool = pool
        self._limit = limit
        self._peer = connection.peer
        self.status = connection.status
        self.headers: Received = connection.headers

    def close(self) -> None:
        self._connection.taker = None
        self._pool.release(self._connection)

    def header(self, name: str) -> str | None:
        return _first(self.headers, name)

    @property
    def complete(self) -> bool:
        return self._connection.complete

    def chunks(self) -> AsyncIterator[bytes]:
        coding = self._connection.coding or "identity"
        if coding == "identity":
            return self._connection
        if coding in ("gzip", "x-gzip"):
            return self._unpacked()
        raise BadUpstream(f"{self._peer}'s answer is compressed ({coding}), which nobody asked for")

    async def _unpacked(self) -> AsyncIterator[bytes]:
        """In pieces of bounded size, however much a little of it unpacks to."""
        packed, size = zlib.decompressobj(wbits=31), 256 * 1024
        begun = False
        try:
            async for chunk in self._connection:
                begun = True
                while chunk and not packed.eof:
                    if piece := packed.decompress(chunk, size):
                        yield piece
                    chunk = packed.unconsumed_tail
        except zlib.error as e:
            raise BadUpstream(f"{self._peer}'s answer is not valid gzip", detail=str(e)) from e
        if begun and not packed.eof:
            raise BadUpstream(f"{self._peer}'s answer is not valid gzip", detail="it ends too early")

    def offer(self, taker: Callable[[bytes], bool]) -> None:
        if not self._connection.coding:
            self._connection.taker = taker

    async def beginning(self) -> bytes | None:
        return None if self._connection.coding else await self._connection.beginning(LARGE)

    def settle(self) -> None:
        self._connection.over = True

    def whole(self, limit: int | None = None) -> bytes | None:
        whole = None if self._connection.coding else self._connection.whole()
        if whole is not None and len(whole) > (limit := self._limit if limit is None else limit):
            raise BadUpstream(f"{self._peer}'s answer is larger than {limit} bytes")
        return whole

    async def read(self, limit: int | None = None) -> bytes:
        if (whole := self.whole(limit)) is not None:
            return whole
        limit = self._limit if limit is None else limit
        pieces: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise BadUpstream(f"{self._peer}'s answer is larger than {limit} bytes")
            pieces.append(chunk)
        return b"".join(pieces)
