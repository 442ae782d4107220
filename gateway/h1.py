"""HTTP/1.1 with a request's life in our hands: cancelling the awaiting task closes the connection.

That is how a client cancels in MCP 2026-07-28, and how any server learns that nobody waits. pyreqwest leaves
a request running whose task was cancelled before the answer's head came, so streamed requests go this way.
asyncio's transports and httptools' parser do the work; connections are kept and used again.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httptools

from .errors import BadUpstream, TooLarge, Unreachable

HIGH_WATER = 256 * 1024  # bytes of a body that wait before reading pauses
IDLE = 4.0  # seconds that a connection is kept: many servers close after 5
MAX_HEAD = 64 * 1024  # bytes of an answer's head
MAX_IDLE = 64  # kept per origin
_SAFE = "!$%&'()*+,/:;=?@-._~[]"
_FORBIDDEN = frozenset("\r\n\0")


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.idle_since = 0.0
        self._reset()

    def _reset(self) -> None:
        self._parser = cast("Any", httptools.HttpResponseParser(self))
        self._head = asyncio.get_running_loop().create_future()
        self._chunks: deque[bytes] = deque()
        self._size = self._head_size = 0
        self._paused = False
        self._wake: asyncio.Future[None] | None = None
        self._complete = self._keep = False
        self._error: Exception | None = None
        self._begun = False

    # --- for the pool ------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send a request; returns when the head of the answer is there."""
        self._reset()
        assert self.transport is not None
        self._begun = True
        self.transport.write(data)
        await self._head

    async def read(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        while not self._chunks:
            if self._complete:
                return None
            if self._error is not None:
                raise self._error
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._paused and self._size < HIGH_WATER and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return chunk

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        open_ = self.transport is not None and not self.transport.is_closing()
        unread = self._paused or bool(self._chunks)
        return open_ and self._complete and self._error is None and self._keep and not unread

    def close(self) -> None:
        """Close at once, whatever is under way."""
        if self.transport is not None:
            self.transport.abort()

    # --- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._begun or self._complete:
            self.close()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as e:
            self._fail(BadUpstream("the agent's answer is not valid HTTP", detail=str(e)))
            self.close()
        except httptools.HttpParserUpgrade:
            self._fail(BadUpstream("the agent's answer is not valid HTTP", detail="upgrade"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        names = {name for name, _ in self.headers}
        framed = "content-length" in names or "transfer-encoding" in names
        if self._head.done() and not framed and exc is None:
            self.on_message_complete()  # the end of the connection is the end of such a body
        if not self._complete:
            self._fail(Unreachable("the agent closed the connection", detail=repr(exc)))

    # --- httptools ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer")  # nobody asked: the parser ends, the connection closes
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD:
            raise ValueError("the head is too large")
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200 and not self._head.done():
            self._head.set_result(None)

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._size += len(body)
        if self._size >= HIGH_WATER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._awake()

    def on_message_complete(self) -> None:
        if self.status >= 200:
            self._keep = bool(self._parser.should_keep_alive())
            self._complete = True
            self._awake()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        if not self._head.done():
            self._head.set_exception(error)
            self._head.exception()  # perhaps nobody waits for it
        self._awake()


class Answer:
    """A streamed answer: implements ``transport.Stream``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.status = connection.status
        self.headers: Sequence[tuple[str, str]] = connection.headers

    def header(self, name: str) -> str | None:
        for key, value in self.headers:
            if key == name:
                return value.strip()
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._connection.read()) is not None:
            yield chunk

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise TooLarge("the agent's answer is too large")
            pieces.append(chunk)
        return b"".join(pieces)


Origin = tuple[str, str, int, str]  # scheme, host, port, address to connect to


class Client:
    """Connections by origin. ``connect_timeout`` in seconds."""

    def __init__(self, connect_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._idle: dict[Origin, list[Connection]] = {}
        self._tls: ssl.SSLContext | None = None

    async def open(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        address: str | None = None,
    ) -> tuple[Connection, Origin]:
        """Send a request, wait for the head. ``address``: where to connect to, whatever the host resolves to.
        Give the connection to ``release`` afterwards. Raises Unreachable, BadUpstream."""
        parts = urlsplit(url)
        try:
            host = parts.hostname or ""
            port = parts.port or (443 if parts.scheme == "https" else 80)
            origin = (parts.scheme, host, port, address or host)
            data = _request(method, parts, headers, body)
        except ValueError as e:
            raise BadUpstream("the agent's URL or a header is not valid", detail=f"{url}: {e}") from e
        connection = self._kept(origin) or await self._connect(origin)
        try:
            await connection.send(data)
        except BaseException:
            connection.close()
            raise
        return connection, origin

    def release(self, connection: Connection, origin: Origin) -> None:
        """Keep the connection if its answer was read to the end, else close it."""
        kept = self._idle.setdefault(origin, [])
        if connection.reusable and len(kept) < MAX_IDLE:
            connection.idle_since = time.monotonic()
            kept.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the kept connections."""
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()

    def _kept(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin, [])
        oldest = time.monotonic() - IDLE
        while kept:
            connection = kept.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin) -> Connection:
        scheme, host, port, address = origin
        if scheme == "https" and self._tls is None:
            self._tls = await asyncio.to_thread(_tls)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                tls, name = (self._tls, host) if scheme == "https" else (None, None)
                _, connection = await loop.create_connection(
                    Connection, address, port, ssl=tls, server_hostname=name
                )
        except (OSError, TimeoutError, ValueError) as e:  # ssl.SSLError is an OSError; a name may be unfit
            raise Unreachable("the agent can't be reached", detail=f"{host}:{port}: {e!r}") from e
        return connection


def _tls() -> ssl.SSLContext:
    """Trusts the system's authorities or, where Python knows of none, certifi's."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath:
        import certifi

        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _request(
    method: str, parts: SplitResult, headers: Sequence[tuple[str, str]], body: bytes | None
) -> bytes:
    """The request's bytes. Raises ValueError for what cannot stand in one."""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http URL")
    target = quote(parts.path or "/", safe=_SAFE) + (
        f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    )
    host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
    host = f"[{host}]" if ":" in host else host
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}" + (f":{parts.port}" if parts.port else "")]
    if "user-agent" not in names:
        lines.append("user-agent: agentgw")
    if parts.username and "authorization" not in names:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"authorization: Basic {base64.b64encode(user.encode()).decode()}")
    for name, value in headers:
        if not _FORBIDDEN.isdisjoint(name) or not _FORBIDDEN.isdisjoint(value):
            raise ValueError(f"header {name!r} holds a line break")
        lines.append(f"{name}: {value}")
    if body is not None or method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {len(body or b'')}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")
