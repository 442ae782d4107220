"""How many requests each principal may make: one token bucket for each, in a table of fixed size.

Where several processes are one gateway they share the table, so that a key has one rate, whichever of them
its requests reach. They do not lock it: of two that look at the same moment one may not count, which costs no
more than a request too many.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from hashlib import blake2b
from math import inf
from time import monotonic

from .errors import RateLimited

SLOTS = 1 << 13  # buckets that are in use at once; past that principals share
WAYS = 16  # places where one's bucket may be
TABLE_BYTES = SLOTS * 16
LEAST = 10  # requests at once, where no burst is configured


class Rates:
    """``rate``: requests a second, 0: any number; ``burst``: how many may come at once, 0: those of a second,
    ``LEAST`` at least. ``table``: a file that holds ``TABLE_BYTES`` from ``offset`` on, all zero at first,
    which the processes share; without one the table is this process' own. ``clock``: seconds, the same for
    all of them."""

    def __init__(
        self,
        rate: float,
        burst: int = 0,
        table: int | None = None,
        offset: int = 0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._burst = burst
        self.bounded = rate > 0
        """Whether who has no rate of its own is bounded."""
        self._paces: dict[float | None, tuple[float, float]] = {None: self._pace(rate)}  # by one's own rate
        memory = bytearray(TABLE_BYTES) if table is None else mmap.mmap(table, TABLE_BYTES, offset=offset)
        view = memoryview(memory)
        self._marks = view[: SLOTS * 8].cast("Q")  # whose bucket it is; 0: nobody's
        self._dues = view[SLOTS * 8 :].cast("d")  # when it is full again
        self._known: dict[str, tuple[int, int]] = {}
        self._clock = clock

    def _pace(self, rate: float) -> tuple[float, float]:
        """Seconds between two requests, and how much sooner than that they may come."""
        if not rate:
            return 0.0, inf
        # A little more, for what rounding takes away.
        return 1 / rate, ((self._burst or max(LEAST, int(rate))) - 1 + 0.01) / rate

    def take(self, principal: str, own: float | None = None) -> None:
        """Count a request. ``own``: the rate of this one alone. Raises RateLimited."""
        interval, slack = self._paces.get(own) or self._paces.setdefault(own, self._pace(own or 0.0))
        if not interval:
            return
        now = self._clock()
        slot, mark = self._known.get(principal) or self._find(principal, now)
        if self._marks[slot] != mark:
            slot, mark = self._find(principal, now)
        due = self._dues[slot]
        if due < now:
            due = now
        elif due - now > slack:
            raise RateLimited(due - now - slack)
        self._dues[slot] = due + interval

    def _find(self, principal: str, now: float) -> tuple[int, int]:
        """Where the principal's bucket is, made where there is none, and its mark. A full bucket is as good
        as none: its place may be taken."""
        digest = int.from_bytes(blake2b(principal.encode(), digest_size=16).digest(), "big")
        first, mark = digest % SLOTS, (digest >> 64) | 1
        places = [(first + step) % SLOTS for step in range(WAYS)]
        found = next((slot for slot in places if self._marks[slot] == mark), None)
        if found is None:
            found = next((slot for slot in places if self._dues[slot] <= now), None)
            if found is None:
                return first, self._marks[first]
            self._dues[found], self._marks[found] = 0.0, mark
        if len(self._known) >= SLOTS:
            self._known.clear()
        self._known[principal] = found, mark
        return found, mark
