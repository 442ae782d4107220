"""Numbers by ids, in two arrays: 16 bytes a slot, which are there from the start, whatever comes and goes."""

from __future__ import annotations

from array import array

_MASK = (1 << 64) - 1
_MOST = 1 << 17  # slots at first


class Numbers:
    """A positive number for each id. ``most``: about how many there will be; for more it grows.

    An id is kept as 64 bits of its hash, which differs from process to process. Whoever can looks whether
    what a number leads to has the id.
    """

    def __init__(self, most: int) -> None:
        self._count = 0
        self._clear(min(1 << (most + most // 2).bit_length(), _MOST))

    def _clear(self, slots: int) -> None:
        self._last = slots - 1
        self._keys = array("Q", (0,)) * slots
        self._numbers = array("q", (0,)) * slots  # 0: the slot is free

    def __len__(self) -> int:
        return self._count

    def _slot(self, key: int) -> int:
        """Where the key is, or would be."""
        keys, numbers, last = self._keys, self._numbers, self._last
        at = key & last
        while numbers[at] and keys[at] != key:
            at = (at + 1) & last
        return at

    def get(self, id: str) -> int | None:
        """The id's number, if it has one."""
        return self._numbers[self._slot(hash(id) & _MASK)] or None

    def put(self, id: str, number: int) -> None:
        """The id has this number from now on."""
        key = hash(id) & _MASK
        at = self._slot(key)
        if not self._numbers[at]:
            self._count += 1
            if self._count > self._last * 3 // 4:
                self._grow()
                at = self._slot(key)
        self._keys[at], self._numbers[at] = key, number

    def _grow(self) -> None:
        keys, numbers = self._keys, self._numbers
        self._clear(2 * (self._last + 1))
        for key, number in zip(keys, numbers, strict=True):
            if number:
                at = self._slot(key)
                self._keys[at], self._numbers[at] = key, number

    def drop(self, id: str) -> None:
        """The id has none any more. Those behind it that would not be found past a free slot move up."""
        keys, numbers, last = self._keys, self._numbers, self._last
        at = free = self._slot(hash(id) & _MASK)
        if not numbers[free]:
            return
        self._count -= 1
        while numbers[at := (at + 1) & last]:
            if (at - keys[at]) & last >= (at - free) & last:
                keys[free], numbers[free] = keys[at], numbers[at]
                free = at
        numbers[free] = 0
