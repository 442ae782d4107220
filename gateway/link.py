"""Two processes of one gateway, on one local socket: either may call the other.

A frame is a head (``_HEAD``), the name of what is called, and the payload; for payloads there are ``pack``
and ``Unpack``. Calls begin in the order in which they were made; each is answered when it is done.

What many calls leave is megabytes a second, so a large payload is copied nowhere: it is sent as it was packed
and read to where it is decoded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from struct import Struct
from typing import Any, Generic, TypeAlias, TypeVar, cast

import msgspec

from .errors import Busy, ConfigError, GatewayError, for_operator

log = logging.getLogger("agentgw.workers")
T = TypeVar("T")
Payload: TypeAlias = bytes | bytearray | memoryview
Handler = Callable[[Payload], Awaitable[Payload]]
_CALL, _ANSWER, _FAILED = 0, 1, 2
_HEAD = Struct(">IQBB")  # bytes of the payload, number of the call, kind, bytes of the name
_ROOM = 1 << 16  # bytes read at once; a frame of more has room of its own

_packer = msgspec.msgpack.Encoder()
_JSON = msgspec.json.Encoder().encode


def pack(value: Any) -> Payload:
    """``value`` for the other process: MessagePack, or JSON where an integer is too large for that."""
    packed = bytearray(b"m")
    try:
        _packer.encode_into(value, packed, 1)
    except OverflowError:
        return b"j" + _JSON(value)
    return packed


class Unpack(Generic[T]):
    """Reads what ``pack`` wrote as ``type``."""

    def __init__(self, type: type[T]) -> None:
        self._packed = msgspec.msgpack.Decoder(type).decode
        self._json = msgspec.json.Decoder(type).decode

    def __call__(self, payload: Payload) -> T:
        return (self._packed if payload[:1] == b"m" else self._json)(memoryview(payload)[1:])


_failure = Unpack(tuple[bool, str, str])


class Cut(Busy):
    """The other process is gone, and nothing was asked of it."""

    def __init__(self) -> None:
        GatewayError.__init__(self, "a process of the gateway has ended; try again in a moment")


class Link(asyncio.BufferedProtocol):
    """One end. ``handlers``: what the other may call, by name; ``closed`` is set once
    the other end is gone."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.closed = asyncio.Event()
        self._handlers = handlers
        self._transport: asyncio.Transport | None = None
        self._room = self._buffer = memoryview(bytearray(_ROOM))
        self._filled = 0  # bytes of the buffer
        self._number = 0
        self._calls: dict[int, asyncio.Future[Payload]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self, end: socket.socket) -> Link:
        """Begin, on a connected local socket. The link itself."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)
        return self

    async def call(self, name: str, payload: Payload = b"") -> Payload:
        """What the other end's ``name`` answers. Raises ConfigError as it raised it there, GatewayError for
        whatever else failed there, Cut."""
        if self.closed.is_set():
            raise Cut
        self._number += 1
        answer: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        number, self._calls[self._number] = self._number, answer
        self._send(_CALL, number, name, payload)
        try:
            return await answer
        finally:
            self._calls.pop(number, None)

    def tell(self, name: str, payload: Payload = b"") -> None:
        """The same, without waiting for an answer."""
        self._send(_CALL, 0, name, payload)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- the protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(Cut())

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        buffer, at, next_size = self._buffer, 0, 0
        self._filled += nbytes
        while self._filled - at >= _HEAD.size:
            size, number, kind, length = _HEAD.unpack_from(buffer, at)
            begin = at + _HEAD.size + length
            end = begin + size
            if end > self._filled:
                next_size = end - at
                break
            payload = buffer[begin:end]
            self._take(
                kind,
                number,
                str(buffer[at + _HEAD.size : begin], "ascii"),
                bytes(payload) if buffer is self._room else payload,
            )
            at = end
        self._keep(at, next_size)

    def _keep(self, at: int, size: int) -> None:
        """Go on with what has come of a frame of ``size`` bytes (0: not known yet), which begins ``at``."""
        rest = self._buffer[at : self._filled]
        if size > _ROOM:
            if len(self._buffer) == size:
                return
            self._buffer = memoryview(bytearray(size))
        else:
            self._buffer = self._room
        self._filled = len(rest)
        self._buffer[: len(rest)] = rest

    def _send(self, kind: int, number: int, name: str, payload: Payload) -> None:
        if self._transport is not None and not self.closed.is_set():
            head = _HEAD.pack(len(payload), number, kind, len(name)) + name.encode()
            self._transport.writelines((head, payload))

    def _take(self, kind: int, number: int, name: str, payload: Payload) -> None:
        if kind == _CALL:
            job = asyncio.create_task(self._serve(number, name, payload))
            self._serving.add(job)
            job.add_done_callback(self._serving.discard)
            return
        call = self._calls.get(number)
        if call is None or call.done():
            return
        if kind == _ANSWER:
            call.set_result(payload)
        else:
            known, message, operator = _failure(payload)
            call.set_exception(ConfigError(message, operator=operator) if known else GatewayError(message))

    async def _serve(self, number: int, name: str, payload: Payload) -> None:
        try:
            kind, answer = _ANSWER, await self._handlers[name](payload)
        except GatewayError as e:
            kind, answer = _FAILED, pack((isinstance(e, ConfigError), e.message, for_operator(e)))
        except Exception:
            log.exception("%s failed", name)
            kind, answer = _FAILED, pack((False, "internal error", ""))
        if number:
            self._send(kind, number, "", answer)
