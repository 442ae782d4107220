"""Bytes that come again and again, such as the heads of a client's requests: what was made of them the first
times is kept, so that they need not be parsed any more."""

from __future__ import annotations

from array import array
from typing import Generic, TypeVar

LONGEST = 4096  # bytes of a head that is kept
_ONCE = 2048  # places, each of the two heads that came to it last: those that came once are remembered
_END = b"\r\n\r\n"
T = TypeVar("T")


class Recurring(Generic[T]):
    """Values by heads of HTTP messages. ``limit``: bytes of all heads, past which they are learnt anew."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.forget()

    def forget(self) -> None:
        """Know nothing any more."""
        self._values: dict[bytes, T] = {}
        self._size = 0
        self._once = array("q", (0, 0)) * _ONCE

    def find(self, data: bytes) -> tuple[T, int] | None:
        """What is kept for the head that ``data`` begins with, and how long that is."""
        size = data.find(_END) + 4
        value = self._values.get(data[:size])
        return None if value is None else (value, size)

    def get(self, head: bytes) -> T | None:
        """What is kept for just this."""
        return self._values.get(head)

    def again(self, data: bytes) -> bytes | None:
        """The head that ``data`` begins with, if it came before; it has come now."""
        end = data.find(_END)
        return None if end < 0 else self.came(data[: end + 4])

    def came(self, head: bytes) -> bytes | None:
        """``head``, if it came before; it has come now."""
        if len(head) > LONGEST + 4:
            return None
        once, seen = self._once, hash(head)
        at = seen % _ONCE * 2
        if seen in (once[at], once[at + 1]):
            return head
        once[at], once[at + 1] = seen, once[at]
        return None

    def keep(self, head: bytes, value: T) -> None:
        """From now on ``find`` has it."""
        if self._size > self._limit:
            self.forget()
        self._values[head] = value
        self._size += len(head)


def has_lines(head: bytes, count: int) -> bool:
    """Whether the head has just so many lines, among them the first and the empty one."""
    return head.count(b"\r\n") == head.count(b"\n") == count and head[:2] != b"\r\n"
