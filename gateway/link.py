"""Two processes of one gateway, on one local socket: either may call the other.

A frame is its length (four bytes, big-endian) and a MessagePack array ``[kind, number, name, payload]``; for
payloads there are ``pack`` and ``Unpack``. Calls begin in the order in which they were made; each is answered
when it is done.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import msgspec

from .errors import Busy, ConfigError, GatewayError, for_operator

log = logging.getLogger("agentgw.workers")
T = TypeVar("T")
Handler = Callable[[bytes], Awaitable[bytes]]
_CALL, _ANSWER, _FAILED = 0, 1, 2


class _Frame(msgspec.Struct, array_like=True):
    kind: int
    number: int
    name: str
    payload: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode
_JSON = msgspec.json.Encoder().encode


def pack(value: Any) -> bytes:
    """``value`` for the other process: MessagePack, or JSON where an integer is too large for that."""
    try:
        return b"m" + _encode(value)
    except OverflowError:
        return b"j" + _JSON(value)


class Unpack(Generic[T]):
    """Reads what ``pack`` wrote as ``type``."""

    def __init__(self, type: type[T]) -> None:
        self._packed = msgspec.msgpack.Decoder(type).decode
        self._json = msgspec.json.Decoder(type).decode

    def __call__(self, payload: bytes) -> T:
        return (self._packed if payload[:1] == b"m" else self._json)(memoryview(payload)[1:])


_failure = Unpack(tuple[bool, str, str])


class Cut(Busy):
    """The other process is gone, and nothing was asked of it."""

    def __init__(self) -> None:
        GatewayError.__init__(self, "a process of the gateway has ended; try again in a moment")


class Link(asyncio.Protocol):
    """One end. ``handlers``: what the other may call, by name; ``closed`` is set once
    the other end is gone."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.closed = asyncio.Event()
        self._handlers = handlers
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._number = 0
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self, end: socket.socket) -> Link:
        """Begin, on a connected local socket. The link itself."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)
        return self

    async def call(self, name: str, payload: bytes = b"") -> bytes:
        """What the other end's ``name`` answers. Raises ConfigError as it raised it there, GatewayError for
        whatever else failed there, Cut."""
        if self.closed.is_set():
            raise Cut
        self._number += 1
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        number, self._calls[self._number] = self._number, answer
        self._send(_CALL, number, name, payload)
        try:
            return await answer
        finally:
            self._calls.pop(number, None)

    def tell(self, name: str, payload: bytes = b"") -> None:
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

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            end = at + 4 + int.from_bytes(buffer[at : at + 4])
            if len(buffer) < end:
                break
            self._take(_decode(bytes(buffer[at + 4 : end])))
            at = end
        del buffer[:at]

    def _send(self, kind: int, number: int, name: str, payload: bytes) -> None:
        if self._transport is not None and not self.closed.is_set():
            frame = _encode(_Frame(kind, number, name, payload))
            self._transport.write(len(frame).to_bytes(4) + frame)

    def _take(self, frame: _Frame) -> None:
        if frame.kind == _CALL:
            job = asyncio.create_task(self._serve(frame))
            self._serving.add(job)
            job.add_done_callback(self._serving.discard)
            return
        call = self._calls.get(frame.number)
        if call is None or call.done():
            return
        if frame.kind == _ANSWER:
            call.set_result(frame.payload)
        else:
            known, message, operator = _failure(frame.payload)
            call.set_exception(ConfigError(message, operator=operator) if known else GatewayError(message))

    async def _serve(self, frame: _Frame) -> None:
        try:
            kind, payload = _ANSWER, await self._handlers[frame.name](frame.payload)
        except GatewayError as e:
            kind, payload = _FAILED, pack((isinstance(e, ConfigError), e.message, for_operator(e)))
        except Exception:
            log.exception("%s failed", frame.name)
            kind, payload = _FAILED, pack((False, "internal error", ""))
        if frame.number:
            self._send(kind, frame.number, "", payload)
