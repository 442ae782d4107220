"""How far a log may run ahead of those who read it.

Whoever reads fastest sets the pace, so that a slow client holds up neither the other ones nor, once it has
left, the agent. Nobody reading is no reason to wait: what is said is kept for who comes later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from .model import (
    ArtifactDelta,
    Data,
    Event,
    File,
    Logged,
    MessageDelta,
    MessageDone,
    Part,
    Place,
    Progress,
    Text,
)

NEAR = 2  # events: who is no further behind keeps up
FAR = 256  # events: more may not wait, however small they are
BACKLOG = 256 * 1024  # bytes that may wait, taken as if all were as large as the largest that came last

_encode = msgspec.json.Encoder().encode


class Reader:
    """Who reads a log: how many events it has ``read``; one that waits for more has ``wake``, and may have a
    ``taker``, that is offered what comes meanwhile, and ``more``, for texts alone."""

    __slots__ = ("more", "read", "taker", "wake")

    def __init__(
        self,
        read: int,
        taker: Callable[[Logged], bool] | None,
        more: Callable[[str, Place], bool] | None = None,
    ) -> None:
        self.read = read
        self.taker = taker
        self.more = more
        self.wake: asyncio.Future[None] | None = None


class Pace:
    """The ``readers`` of one log. ``only``: the one that there is, if there is one."""

    __slots__ = ("_enough", "_room", "only", "readers")

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.only: Reader | None = None
        self._room: asyncio.Future[None] | None = None
        self._enough = 0  # events that must have been read before there is room

    def at(self, reader: Reader, position: int) -> None:
        """``reader`` has read that many events."""
        reader.read = position
        if self._room is not None and position >= self._enough:
            self._go_on()

    def joins(self, reader: Reader) -> None:
        """It reads from now on."""
        self.readers.append(reader)
        self.only = reader if len(self.readers) == 1 else None

    def leaves(self, reader: Reader) -> None:
        """It reads no more."""
        if reader in self.readers:
            self.readers.remove(reader)
            self.only = self.readers[0] if len(self.readers) == 1 else None
        if self._room is not None and not self.readers:
            self._go_on()

    def behind(self, count: int) -> int:
        """How many of ``count`` events the fastest has not read; 0 without readers."""
        return min([count - reader.read for reader in self.readers], default=0)

    def slowest(self, count: int) -> int:
        """How many the slowest has read; ``count`` without readers."""
        return min([reader.read for reader in self.readers], default=count)

    def room(self, count: int, log: Sequence[Logged], came: int) -> asyncio.Future[None] | None:
        """What to wait for before there are more than ``count`` events, of which ``log`` ends with the newest
        and ``came`` together last: until the fastest has read half of what it has not read of them. None
        while it keeps up, or nobody reads."""
        behind = self.behind(count)
        if behind <= NEAR or (behind < FAR and behind * _largest(log[len(log) - came :]) < BACKLOG):
            return None
        if self._room is None or self._room.done():
            self._enough = count - behind // 2
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _go_on(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None


def _largest(log: Sequence[Logged]) -> int:
    return max([size_of(logged.event) for logged in log], default=0)


def size_of(event: Event) -> int:
    """Roughly the bytes that it says."""
    if type(event) is MessageDelta:
        parts = event.parts
    elif type(event) is ArtifactDelta:
        parts = event.artifact.parts
    elif type(event) is MessageDone:
        parts = event.message.parts
    else:
        return len(_encode(event.data)) if type(event) is Progress and event.data else 0
    return size_of_parts(parts)


def size_of_parts(parts: tuple[Part, ...]) -> int:
    """The same of parts."""
    if len(parts) == 1 and type(part := parts[0]) is Text:
        return len(part.text)
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
