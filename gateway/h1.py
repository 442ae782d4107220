"""One HTTP/1.1 connection to an agent: a request goes out, its answer comes in piece by piece (RFC 9112).

asyncio's transports and httptools' strict parser do the work. Nothing here trusts the other side: what is not
one well-framed answer to what was asked is an error, and such a connection is not used again.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any, cast

import httptools

from .errors import BadUpstream, GatewayError, Unreachable
from .h1_known import OWN, around, heads, learn
from .waiting import Timer

HIGH_WATER = 256 * 1024  # bytes of a body that wait before reading pauses
MAX_HEAD = 64 * 1024  # bytes of an answer (give or take a piece) in which nothing of its body is
MAX_INTERIM = 256  # 1xx answers before the answer
PIECE = 64 * 1024  # bytes of a request written, or of an answer parsed, at once
PEER = "the agent"  # for want of a name
_BODYLESS = frozenset({204, 304})


def content_coding(headers: list[tuple[str, str]]) -> str:
    """How an answer's body is compressed; "": it is not."""
    for key, value in headers:
        if key == "content-encoding":
            coding = value.strip().lower()
            return "" if coding == "identity" else coding
    return ""


_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Connection(asyncio.Protocol):
    """Carries one request at a time. ``status`` and ``headers`` (names in lower case) are those of the last
    answer; ``coding``: how its body is compressed ("": not at all); ``answered``: whether anything of it has
    come. ``over`` is set by a reader who knows that nothing but the end of the answer is missing; ``on_end``
    is called at that end, or when there will be none. ``peer``: what errors call the
    other side. ``taker`` is offered what comes of a body while its reader waits for it: True says that it has
    taken all of it, and the reader waits on. What it raises is raised where the reader waits."""

    __slots__ = (
        "_begun", "_between", "_chunks", "_complete", "_cut", "_error", "_framed", "_head", "_held",
        "_interim", "_keep", "_loop", "_method", "_parser", "_patience", "_paused", "_poll", "_recalled",
        "_silent", "_size", "_unsent", "_wake", "_write_paused", "answered", "coding", "headers",
        "idle_since", "on_end", "over", "peer", "status", "taker", "transport",
    )  # fmt: skip

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()  # to ask for it costs a system call
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.coding = ""
        self.answered = False
        self.idle_since = 0.0
        self._parser: Any = None
        self._poll: Any = None
        self._method = ""
        self.over = False
        self.on_end: Callable[[Connection], None] | None = None
        self.peer = PEER
        self.taker: Callable[[bytes], bool] | None = None
        self._write_paused = False
        self._begun = self._between = self._complete = False
        self._error: GatewayError | None = None

    # --- for the pool ------------------------------------------------------------------------

    async def send(self, method: str, head: bytes, body: bytes = b"") -> None:
        """Send a request; returns when the head of the answer is there, which may be before all of ``body``
        was sent. Raises Unreachable, BadUpstream."""
        await self.begin(method, head, body)

    def begin(
        self, method: str, head: bytes, body: bytes = b"", patience: Timer | None = None
    ) -> asyncio.Future[None]:
        """``send``, to be awaited at once. ``patience``: once the head is there all of the answer is waited
        for, so long at most, unless it is large."""
        assert self.transport is not None
        if self._parser is None or self._method in ("HEAD", "CONNECT"):  # such an answer confuses it
            self._parser = cast("Any", httptools.HttpResponseParser(self))
        self._method = method
        self._head = self._loop.create_future()
        self._unsent: memoryview | None = None
        self._chunks: list[bytes] = []
        self._size = self._silent = self._interim = 0
        self._framed = self._paused = self._complete = self._keep = self._cut = self._between = False
        self._patience, self._held = patience, False
        self._recalled = False  # its head was known, and stands there already
        self.answered = self.over = False
        self._wake: asyncio.Future[None] | None = None
        self._error = None
        self._begun = True
        if len(body) <= PIECE:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self._unsent = memoryview(body)
            self._write_on()
        return self._head

    def whole(self) -> bytes | None:
        """All that is left of the body, if it has all come; else None, and nothing is taken."""
        if not self._complete:
            return None
        chunks, self._chunks = self._chunks, []
        if self._paused:
            self._go_on()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _joined(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    @property
    def complete(self) -> bool:
        """Whether all of the answer has come."""
        return self._complete

    async def beginning(self, size: int) -> bytes | None:
        """What has come of the body once that are ``size`` bytes (at most HIGH_WATER), all of which has not
        come; else None. Nothing is taken."""
        while not self._complete:
            if self._size >= size:
                self._chunks = [b"".join(self._chunks)]
                return self._chunks[0]
            if self._error is not None:
                raise self._error
            self._wake = self._loop.create_future()
            await self._wake
        return None

    def __aiter__(self) -> Connection:
        """The body, piece by piece: what came of it since the last one."""
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._complete:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._wake = self._loop.create_future()
            await self._wake
        body, self._chunks = self._joined(), []
        self._size = 0
        if self._paused:
            self._go_on()
        return body

    def _go_on(self) -> None:
        self._size = 0
        self._paused = False
        if self.transport is not None:
            self.transport.resume_reading()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        if self.transport is None or self.transport.is_closing() or self._error is not None:
            return False
        unread = self._paused or self._chunks
        unsent = self._unsent is not None or self.transport.get_write_buffer_size()
        return self._complete and self._keep and not (unread or unsent or self._cut)

    @property
    def quiet(self) -> bool:
        """Whether one that was ``reusable`` still is, and nothing has come that the loop does not know yet:
        the other side's close, above all."""
        if self.transport is None or self.transport.is_closing():
            return False
        if self._poll is None:
            fd = self.transport.get_extra_info("socket").fileno()
            if not hasattr(select, "poll"):
                return not select.select([fd], [], [], 0)[0]
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
        return not self._poll.poll(0)

    @property
    def settles(self) -> bool:
        """Whether it is worth waiting for the end of an answer that is ``over``."""
        return self.over and not self._complete and self._error is None and not self._paused

    def close(self) -> None:
        """Close at once, whatever is under way."""
        self._unsent = None
        if self.transport is not None:
            self.transport.abort()

    # --- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._begun or self._complete:
            self.close()  # nobody asked
            return
        if self._between and not self._held and self._passed(data):
            return
        first = not self.answered
        self.answered = True
        rest = self._recognized(data) if first else data
        if not rest:
            return
        try:
            if len(data) <= PIECE:
                self._parse(rest)
            else:
                view = memoryview(rest)
                for start in range(0, len(rest), PIECE):
                    self._parse(view[start : start + PIECE])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
            self._fail(BadUpstream(f"{self.peer}'s answer is not valid HTTP", detail=repr(e)))
            self.close()
        else:
            self._between = self._between and data.endswith(b"\r\n")
            if first and self._complete and rest is data:
                self._learn(data)
        if self._wake is not None:
            self._deliver()

    def _recognized(self, data: bytes) -> bytes:
        """What is to be parsed of ``data``, the first that came: nothing of a whole answer with a head that
        is known, and a shorter head where such a one says that the body comes in chunks."""
        found, own = heads.find(data), b""
        if found is not None:
            known, size = found
        else:
            parts = around(data)
            if parts is None or (known := heads.get(parts[0])) is None:
                return data
            _, own, size = parts
        if self._method in ("HEAD", "CONNECT") or (known.length >= 0 and len(data) != size + known.length):
            return data
        self.status, self.headers, self.coding, self._framed = known.status, known.headers, known.coding, True
        if own:
            self.headers = self.headers.copy()
            self.headers[known.own] = (OWN, own.decode())
        self._complete = known.length >= 0
        self._headed()
        if self._unsent is not None:
            self._judge()
        if known.length < 0:
            self._recalled = True
            return _CHUNKED + data[size:]
        if known.length:
            self._chunks.append(data[size:])
        self._keep = self._complete = True
        return b""

    def _learn(self, data: bytes) -> None:
        """``data`` was a whole answer."""
        if not self._keep or self._error is not None or self.status in _BODYLESS or self._interim:
            return
        if self._method not in ("HEAD", "CONNECT"):
            learn(data, self.status, self.headers, self.coding)

    def _parse(self, data: bytes | memoryview) -> None:
        size = self._size
        self._parser.feed_data(data)
        if self._size != size:
            self._silent = 0
            return
        self._silent += len(data)
        if self._silent > MAX_HEAD and not self._complete:
            self._refuse(f"the head of {self.peer}'s answer is too large")

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)
        self._parser = None  # it holds on to this object

    def _ended(self, exc: Exception | None) -> None:
        self._unsent = None
        if self._complete or not self._begun:
            return
        if self._held:
            self._release()
        if not self._head.done():
            self._fail(Unreachable(f"{self.peer} closed the connection", detail=repr(exc)))
        elif self._framed or exc is not None:
            message = f"{self.peer} closed the connection before its answer was complete"
            self._fail(Unreachable(message, detail=repr(exc)))
        elif self._error is None:
            self._finish(keep=False)  # the end of the connection is the end of such a body
            self._awake()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._write_on()

    def _write_on(self) -> None:
        """Write what is left of the request, as far as the other side takes it."""
        while self._unsent is not None and not self._write_paused:
            if self.transport is None or self.transport.is_closing():
                return
            piece, rest = self._unsent[:PIECE], self._unsent[PIECE:]
            self._unsent = rest if rest else None
            self.transport.write(piece)

    # --- httptools ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._refuse(f"{self.peer} sent an answer that nobody asked for")
        if not self._recalled:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._held or self._head.done():
            return  # trailers
        key = name.decode("latin-1").lower()
        self._framed = self._framed or key in ("content-length", "transfer-encoding")
        self.headers.append((key, value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self._recalled:
            self._recalled = False
            return
        self.status = status = self._parser.get_status_code()
        if status < 200:
            self._interim += 1
            if status < 100 or status == 101 or self._interim > MAX_INTERIM:
                self._refuse(f"{self.peer}'s answer is not valid HTTP")
            self._framed = False
            return
        self.coding = content_coding(self.headers)
        for key, value in self.headers:
            if key == "transfer-encoding" and value.strip().lower() != "chunked":
                self._refuse(f"{self.peer}'s answer has a transfer encoding that nobody asked for")
        self._headed()
        if self._unsent is not None:
            self._judge()
        if status in _BODYLESS or self._method == "HEAD" or (self._method == "CONNECT" and status < 300):
            self._finish(keep=bool(self._parser.should_keep_alive()))

    def _headed(self) -> None:
        """The head is there: whoever waits for it goes on, unless there is patience to wait for the rest."""
        if self._patience is None or self._complete:
            _settle(self._head)
        elif not self._head.done():
            self._held = True
            self._patience.start(self._release)

    def _release(self) -> None:
        """Whoever waits goes on, with what there is."""
        self._held = False
        if self._patience is not None:
            self._patience.stop(self._release)
        _settle(self._head)

    def _judge(self) -> None:
        if self.status >= 400:  # it does not want the rest
            self._unsent = None
            self._cut = True

    def on_body(self, body: bytes) -> None:
        if self._complete:
            self._refuse(f"{self.peer} sent a body where there must be none")
        self._chunks.append(body)
        self._size = size = self._size + len(body)
        if size >= HIGH_WATER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
            if self._held:
                self._release()

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True  # unless the next one's size has begun

    def on_message_complete(self) -> None:
        if self.status >= 200 and not self._complete:
            self._finish(keep=bool(self._parser.should_keep_alive()))

    def _finish(self, *, keep: bool) -> None:
        self._keep = keep
        self._complete = True
        if self._held:
            self._release()
        if self.on_end is not None:
            self._end()

    def _end(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            self._chunks.clear()
            on_end(self)

    def _passed(self, data: bytes) -> bool:
        """Whether this was one whole chunk, small and in the usual form, which needs no parsing (RFC 9112,
        7.1): what it holds has been taken, or waits for its reader."""
        at = data.find(b"\r\n", 1, 6)
        size = len(data) - at - 4
        if at < 0 or size < 1 or data[:at] != b"%x" % size or not data.endswith(b"\r\n"):
            return False
        body, taker, wake = data[at + 2 : -2], self.taker, self._wake
        if taker is None or wake is None or self._chunks or wake.done():
            self.on_body(body)
            self._deliver()
            return True
        try:
            if taker(body):
                return True
        except Exception as e:  # see ``_deliver``
            if not wake.done():
                wake.set_exception(e)
        self.on_body(body)
        self._awake()
        return True

    def _deliver(self) -> None:
        """What came is there for who waits for it."""
        if self._wake is None or self._wake.done():
            return
        chunks, taker = self._chunks, self.taker
        try:
            taken = chunks and taker and taker(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        except Exception as e:  # ours: it is no fault of the connection's
            if not self._wake.done():
                self._wake.set_exception(e)
            return
        if taken:
            self._chunks = []
            self._size = 0
            if self._paused:
                self._go_on()
        if self._chunks or self._complete:
            self._awake()

    def _awake(self) -> None:
        _settle(self._wake)

    def _refuse(self, message: str) -> None:
        """End the parsing, with an error."""
        self._fail(BadUpstream(message))
        raise httptools.HttpParserError(message)

    def _fail(self, error: GatewayError) -> None:
        if self._held:
            self._release()
        self._error = self._error or error
        self._unsent = None
        if not self._head.done():
            self._head.set_exception(error)
            self._head.exception()  # perhaps nobody waits for it
        self._awake()
        self._end()


def _settle(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
