"""When the cycle collector runs.

A call leaves no cycles behind, but up to a hundred objects that are there until they are written. Counting
those, the collector would run many times a second, look at all of them, and find nothing. So it runs by the
clock, right after they were written, when there is least to look at; what errors and broken connections leave
in cycles is gone a second later.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

EVERY = 1.0  # seconds between two collections of what is young
OLDER, ALL = 20, 400  # collections of the young for one that looks further, and for one that looks at all
AT_ONCE = 100_000  # objects that are more at once than calls leave: the collector does not wait then


class Garbage:
    """To be made once everything stands that stays: that is not looked at again. ``round`` is to be called
    after each flush. ``clock``: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        gc.freeze()
        gc.set_threshold(AT_ONCE, OLDER, OLDER)
        self._clock = clock
        self._due = clock() + EVERY
        self._number = 0

    def round(self) -> None:
        """Collect, each time that it is due."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + EVERY
        self._number += 1
        gc.collect(0 if self._number % OLDER else 1 if self._number % ALL else 2)
