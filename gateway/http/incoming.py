"""One request on a connection of our own, as it comes in, and the bytes of its answer (RFC 9112)."""

from __future__ import annotations

import asyncio
import http
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from .heads import NO_HEAD, Head
from .wire import ClientGone, Headers

HIGH_WATER = 64 * 1024  # bytes of a body that wait before reading pauses
_JOINED = 64 * 1024  # a longer body is written by itself: joining would copy it
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_breaks = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search  # RFC 9110, 5.5
_BODYLESS = frozenset({204, 304})
_STATUS = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in http.HTTPStatus}


class Line(Protocol):
    """What an incoming request needs of its connection. ``paused``: the client is slow to read."""

    paused: bool

    @property
    def peer(self) -> str: ...

    def send(self, data: bytes) -> None: ...

    async def room(self) -> None: ...

    def hold(self) -> None: ...

    def go_on(self) -> None: ...

    def answered(self, incoming: Incoming) -> None: ...

    def end(self) -> None: ...


class Incoming:
    """Implements ``Wire``. ``keep_alive``: whether another request may follow; ``chunked``: whether the
    client knows the chunked coding; ``body``: all of it, where it has come; ``complete``: the body is all
    there; ``begun``, ``done``: the answer is.
    """

    __slots__ = (
        "_bodyless", "_chunks", "_line", "_on_gone", "_size", "_wake", "begun", "chunked",
        "complete", "continues", "done", "gone", "head", "keep_alive", "method", "too_large",
    )  # fmt: skip

    def __init__(
        self, line: Line, head: Head, keep_alive: bool, chunked: bool, body: bytes | None = None
    ) -> None:
        self._line = line
        self.head = head
        self.method = head.method
        self.keep_alive = keep_alive
        self.chunked = chunked
        self.continues = self.too_large = False
        self.complete = body is not None
        self.begun = self.done = False
        self.gone = False
        self._bodyless = False  # the answer
        self._chunks: list[bytes] = [body] if body else []
        self._size = len(body) if body else 0
        if self._size >= HIGH_WATER:
            line.hold()
        self._wake: asyncio.Future[None] | None = None
        self._on_gone: list[Callable[[], object]] = []

    @property
    def peer(self) -> str:
        return self._line.peer

    # --- from the connection -------------------------------------------------------------------

    def feed(self, piece: bytes) -> None:
        """A piece of the body came."""
        if self.done:
            return
        self.continues = False
        self._chunks.append(piece)
        self._size += len(piece)
        if self._size >= HIGH_WATER:
            self._line.hold()
        if self._wake is not None:
            self._awake()

    def finish(self) -> None:
        """The body has come to its end."""
        self.complete = True
        if self._wake is not None:
            self._awake()

    def leave(self) -> None:
        """The client has left."""
        self.gone = True
        self._awake()
        callbacks, self._on_gone = self._on_gone, []
        for callback in callbacks:
            callback()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # --- the request ---------------------------------------------------------------------------

    def whole(self) -> bytes | None:
        return self._taken() if self.complete else None

    async def read(self) -> bytes:
        while not self._chunks:
            if self.complete:
                return b""
            if self.gone:
                raise ClientGone
            if self.continues and not self.begun:
                self.continues = False
                self._line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._taken()

    def _taken(self) -> bytes:
        """What has come of the body."""
        chunks, self._chunks = self._chunks, []
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._size >= HIGH_WATER:
            self._line.go_on()
        self._size = 0
        return body

    def on_gone(self, callback: Callable[[], object]) -> None:
        if self.gone:
            asyncio.get_running_loop().call_soon(callback)
        elif not self.done:
            self._on_gone.append(callback)

    # --- the answer ----------------------------------------------------------------------------

    async def answer(self, status: int, base: Headers, more: Headers, body: bytes) -> None:
        head = _head(status, base)
        if status in _BODYLESS:
            head, body = b"%b%b\r\n" % (head, self._more(more)), b""
        else:
            plain = self.keep_alive and not more and (self.complete or not self.continues)
            head = b"%bcontent-length: %d\r\n%b\r\n" % (head, len(body), b"" if plain else self._more(more))
        self.begun = True
        if self.method == "HEAD" or not body:
            self._line.send(head)
        elif len(body) <= _JOINED:
            self._line.send(head + body)
        else:
            self._line.send(head)
            self._line.send(body)
        if self._line.paused:
            await self._line.room()
        self._over()

    async def start(self, status: int, base: Headers, more: Headers) -> None:
        self._bodyless = self.method == "HEAD" or status in _BODYLESS
        self.chunked = self.chunked and status not in _BODYLESS
        coding = b"transfer-encoding: chunked\r\n" if self.chunked else b""
        head = b"%b%b%b\r\n" % (_head(status, base), coding, self._more(more))
        self.head = NO_HEAD  # nobody reads it any more
        self.begun = True
        self._line.send(head)

    async def write(self, piece: bytes) -> None:
        if not piece or self.gone or self._bodyless:
            return
        self._line.send(b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece)
        if self._line.paused:
            await self._line.room()

    def write_now(self, piece: bytes) -> bool:
        line = self._line
        if not self.chunked or self.gone or line.paused or self._bodyless:
            return False
        if piece:
            line.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    async def end(self) -> None:
        if self.chunked and not self._bodyless:
            self._line.send(b"0\r\n\r\n")
        self._over()

    def last(self) -> None:
        self.keep_alive = False

    def cut(self) -> None:
        self._line.end()

    def _over(self) -> None:
        if not self.done:
            self.done = True
            self._on_gone.clear()
            self._chunks = []
            self._line.answered(self)

    def _more(self, more: Headers) -> bytes:
        if self.continues and not self.complete:
            self.keep_alive = False  # whether the body will come nobody knows (RFC 9110, 10.1.1)
        lines = b"" if self.keep_alive else b"connection: close\r\n"
        return lines + _lines(more) if more else lines


def _head(status: int, base: Headers) -> bytes:
    return _kept(status, tuple(base), int(time.time()))


@lru_cache(64)
def _kept(status: int, base: Headers, second: int) -> bytes:
    """The first lines of an answer; they change with the second (RFC 9110, 6.6.1: Date)."""
    line = _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
    return b"%bdate: %b\r\n%b" % (line, date.encode(), _lines(base))


def _lines(headers: Headers) -> bytes:
    """Raises ValueError for a header that would break the answer's form."""
    lines = b""
    for name, value in headers:
        if _breaks(value) or not _is_name(name):
            raise ValueError(f"not a header: {name!r}")
        lines += b"%b: %b\r\n" % (name, value)
    return lines


@lru_cache(256)
def _is_name(name: bytes) -> bool:
    return _TOKEN.fullmatch(name) is not None
