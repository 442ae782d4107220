"""The events of a stream that are kept for a client which may come back: most that left never do."""

from __future__ import annotations

import zlib

import msgspec

PACKED = 256 * 1024  # bytes that are compressed at most: the loop waits for that, a few milliseconds
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class Kept:
    """Some events, the oldest first. At rest they are compressed, until one is needed, added or dropped."""

    __slots__ = ("_count", "_events", "_packed")

    def __init__(self) -> None:
        self._events: list[bytes] | None = []
        self._packed = b""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> bytes:
        return self._awake()[at]

    def append(self, event: bytes) -> None:
        self._awake().append(event)
        self._count += 1

    def drop(self) -> bytes:
        """The oldest, which is kept no longer."""
        event = self._awake().pop(0)
        self._count -= 1
        return event

    def rest(self) -> None:
        """Nobody needs them for now: JSON of one kind takes a tenth of its room so."""
        events = self._events
        if events and sum(map(len, events)) <= PACKED:
            self._packed, self._events = zlib.compress(_encode(events), 1), None

    def _awake(self) -> list[bytes]:
        if self._events is None:
            self._events, self._packed = _decode(zlib.decompress(self._packed)), b""
        return self._events
