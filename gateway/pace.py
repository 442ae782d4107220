"""How far a log may run ahead of those who read it.

Whoever reads fastest sets the pace, so that a slow client holds up neither the other ones nor, once it has
left, the agent. Nobody reading is no reason to wait: what is said is kept for who comes later.
"""

from __future__ import annotations

import asyncio

import msgspec

from .model import ArtifactDelta, Data, Event, File, MessageDelta, MessageDone, Part, Progress, Text

NEAR = 2  # events: who is no further behind keeps up
FAR = 256  # events: more may not wait, however small they are
BACKLOG = 256 * 1024  # bytes that may wait, taken as if all of them were as large as the newest

_encode = msgspec.json.Encoder().encode


class Pace:
    """The readers of one log, each by how many events it has read."""

    __slots__ = ("_enough", "_read", "_room")

    def __init__(self) -> None:
        self._read: dict[object, int] = {}
        self._room: asyncio.Future[None] | None = None
        self._enough = 0  # events that must have been read before there is room

    def at(self, reader: object, position: int) -> None:
        """``reader`` has read that many events."""
        self._read[reader] = position
        if self._room is not None and position >= self._enough:
            self._go_on()

    def leaves(self, reader: object) -> None:
        self._read.pop(reader, None)
        if self._room is not None and not self._read:
            self._go_on()

    @property
    def followed(self) -> bool:
        """Whether it has readers."""
        return bool(self._read)

    def behind(self, count: int) -> int:
        """How many of ``count`` events the fastest has not read; 0 without readers."""
        return count - max(self._read.values()) if self._read else 0

    def slowest(self, count: int) -> int:
        """How many the slowest has read; ``count`` without readers."""
        return min(self._read.values(), default=count)

    def room(self, count: int) -> asyncio.Future[None]:
        """What to wait for until the fastest has read half of what it has not read of ``count`` events."""
        if self._room is None or self._room.done():
            self._enough = count - self.behind(count) // 2
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _go_on(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None


def size_of(event: Event) -> int:
    """Roughly the bytes that it says."""
    match event:
        case MessageDelta(parts=parts):
            return _size(parts)
        case MessageDone(message=said) | ArtifactDelta(artifact=said):
            return _size(said.parts)
        case Progress(data=data) if data:
            return len(_encode(data))
        case _:
            return 0


def _size(parts: tuple[Part, ...]) -> int:
    size = 0
    for part in parts:
        match part:
            case Text(text=text):
                size += len(text)
            case File(content=bytes() as content):
                size += len(content)
            case Data(data=data):
                size += len(_encode(data))
            case _:
                pass
    return size
