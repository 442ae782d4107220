"""The events of a stream that are kept for a client which may come back: most that left never do."""

from __future__ import annotations

import zlib

import msgspec

SOME = 16  # events that are compressed together, while more come
PACKED = 256 * 1024  # bytes that are compressed at most: the loop waits for that, a few milliseconds
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class Kept:
    """Some events, the oldest first. Those that nobody is here for are compressed, until one is needed or
    dropped: JSON of one kind takes a tenth of its room so."""

    __slots__ = ("_events", "_packed", "_resting")

    def __init__(self) -> None:
        self._packed: list[bytes] = []  # what came before the others
        self._resting = 0  # how many events that are
        self._events: list[bytes] = []

    def __len__(self) -> int:
        return self._resting + len(self._events)

    def __getitem__(self, at: int) -> bytes:
        return self._awake()[at]

    def append(self, event: bytes, *, awaited: bool = True) -> None:
        """``awaited``: whether anybody is here for it."""
        self._events.append(event)
        if not awaited and len(self._events) == SOME:
            self.rest()

    def drop(self) -> bytes:
        """The oldest, which is kept no longer."""
        return self._awake().pop(0)

    def rest(self) -> None:
        """Nobody needs them for now."""
        events = self._events
        if events and sum(map(len, events)) <= PACKED:
            self._packed.append(zlib.compress(_encode(events), 1))
            self._resting += len(events)
            self._events = []

    def _awake(self) -> list[bytes]:
        if self._packed:
            events = [event for some in self._packed for event in _decode(zlib.decompress(some))]
            self._events = events + self._events
            self._packed, self._resting = [], 0
        return self._events
