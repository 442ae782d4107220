"""Server-sent events, both ways, by bytes (HTML standard, section 9.2).

Lines end at CR, LF or CRLF and nowhere else: splitting decoded text with ``str.splitlines`` would also
break at U+2028 and its like, which JSON may carry raw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from .readable import UNREADABLE, must_be_text

LIMIT = 64 * 1024 * 1024  # bytes of an event
T = TypeVar("T")


def _form(event: bytes, end: bytes) -> tuple[bytes, bytes, bytes, int, int]:
    head, end = (event + end if event else b"") + b"data: ", end + end
    return head, end, end + head, len(head), -len(end)


# How an event begins and ends that is nothing but data, what is between two, and where its data is.
_FORMS = [_form(event, end) for end in (b"\n", b"\r\n") for event in (b"", b"event: message")]


class ServerEvent(msgspec.Struct, frozen=True):
    """One event. ``data`` is the joined data lines, undecoded; ``id`` None where the event has none."""

    data: bytes
    event: str = "message"
    id: str | None = None


class Decoder:
    """Feed chunks as they come, get the events that they complete.

    Comments are dropped; ``retry`` is the last reconnection time the server named, in milliseconds,
    ``last_id`` the last event's id, which an event without data may have brought.
    ``limit`` bounds one event's bytes; ``feed`` raises ValueError past it. ``fed``: how often it was fed.
    """

    __slots__ = (
        "_data", "_event", "_held", "_id", "_pieces", "_size", "fed", "last_id", "limit", "retry",
    )  # fmt: skip

    def __init__(self, limit: int = LIMIT) -> None:
        self.retry: int | None = None
        self.fed = 0
        self._pieces: list[bytes] = []  # of a line that is not complete; joined once, when it is
        self._held = 0
        self._data: list[bytes] = []
        self._event = ""
        self._id: str | None = None
        self.last_id: str | None = None
        self._size = 0
        self.limit = limit

    def whole(self, chunk: bytes) -> list[bytes] | None:
        """The data of the events in ``chunk``, where it is whole messages and nothing else, all in one of the
        usual forms: just what ``feed`` would make of it. None: it has to be fed, and nothing has changed."""
        begun = self._pieces or self._data or self._event or self._id != self.last_id
        if begun or len(chunk) > self.limit:
            return None
        if chunk.find(10) == len(chunk) - 2 and chunk.startswith(b"data: ") and chunk.endswith(b"\n\n"):
            return None if 13 in chunk else [chunk[6:-2]]
        for head, end, between, begin, stop in _FORMS:
            if chunk.startswith(head) and chunk.endswith(end):
                found = chunk[begin:stop].split(between)
                data = b"".join(found)
                return None if 10 in data or 13 in data else found
        return None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Events completed by ``chunk``."""
        self.fed += 1
        whole = b"\n" in chunk or b"\r" in chunk or (bool(self._pieces) and self._pieces[-1].endswith(b"\r"))
        if not whole:
            self._hold(chunk)
            return []
        buffer = b"".join([*self._pieces, chunk])
        self._pieces, self._held = [], 0
        if b"\r" in buffer:
            held = buffer.endswith(b"\r")  # a CRLF may be cut in half
            buffer = (buffer[:-1] if held else buffer).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            lines = buffer.split(b"\n")
            self._hold(lines.pop() + (b"\r" if held else b""))
        else:
            lines = buffer.split(b"\n")
            self._hold(lines.pop())
        events: list[ServerEvent] = []
        for line in lines:
            if line:
                self._field(line)
            elif (done := self._dispatch()) is not None:
                events.append(done)
        return events

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._held += len(piece)
            if self._held + self._size > self.limit:
                raise ValueError("server-sent event too large")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > self.limit:
                raise ValueError("server-sent event too large")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry = int(value)

    def _dispatch(self) -> ServerEvent | None:
        data, event = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        self.last_id = self._id
        if not data:
            return None
        return ServerEvent(b"\n".join(data), event or "message", self._id)


def taker(
    decoder: Decoder, read: Callable[[bytes], T | None], give: Callable[[list[T]], bool]
) -> Callable[[bytes], bool]:
    """For ``transport.Stream.offer``, where ``decoder`` is fed with what is not taken. ``read`` makes of an
    event's data what ``give`` wants, and changes nothing; for one that is to be fed it gives None, or raises
    what decoders raise (UNREADABLE). ``give`` gets what all of them were made into that have come, if all can
    be read, and says whether it has taken them: then none is fed."""

    def take(chunk: bytes) -> bool:
        found = decoder.whole(chunk)
        if found is None:
            return False
        made: list[T] = []
        try:
            if not chunk.isascii():
                must_be_text(chunk)
            for data in found:
                if (item := read(data)) is None:
                    return False
                made.append(item)
        except UNREADABLE:
            return False
        return give(made)

    return take


# U+2028, U+2029 and U+0085 in UTF-8: some readers take them for line ends.
_BREAKS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


def escaped(data: bytes) -> bytes:
    """JSON without what some readers take for line ends, though it is none."""
    if not data.isascii():
        for raw, code in _BREAKS:
            data = data.replace(raw, code)
    return data


def together(whole: Sequence[bytes]) -> bytes:
    """``encode`` of several data without line breaks, one after the other."""
    return b"data: %b\n\n" % escaped(b"\n\ndata: ".join(whole))


def encode(data: bytes, *, event: str | None = None, id: str | None = None) -> bytes:
    """One event around JSON ``data`` (raw line breaks, legal between JSON tokens, become ``data`` lines)."""
    data = escaped(data)
    head = b""
    if event is not None:
        head += b"event: " + event.encode() + b"\n"
    if id is not None:
        head += b"id: " + id.encode() + b"\n"
    if 10 in data or 13 in data:
        data = b"\ndata: ".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    return b"".join((head, b"data: ", data, b"\n\n"))
