"""When the cycle collector runs, and when memory goes back to the system.

A call leaves no cycles behind, but up to a hundred objects that are there until they are written. Counting
those, the collector would run many times a second, look at all of them, and find nothing. So it runs by the
clock, right after they were written, when there is least to look at; what errors and broken connections leave
in cycles is gone a second later.

What many calls at once took, the C library's allocator keeps for the next ones. Once they are over and the
process rests, it is given back.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from ..gateway.errors import GatewayError

EVERY = 1.0  # seconds between two collections of what is young
OLDER, ALL = 20, 400  # collections of the young for one that looks further, and for one that looks at all
AT_ONCE = 100_000  # objects that are more at once than calls leave: the collector does not wait then
WORK = 0.8  # seconds of CPU after which giving back, half a millisecond, costs next to nothing
REST = 0.05  # of CPU, from one collection to the next: less is rest


def trim() -> None:
    """Give what the C library's allocator has free back to the system, where it can (glibc)."""
    with suppress(AttributeError, OSError, TypeError):  # another C library, no such way to call it
        ctypes.CDLL(None).malloc_trim(0)


def giving_back(rest: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Begins to ``rest``, and then trims."""
    jobs: set[asyncio.Task[None]] = set()

    async def give_back() -> None:
        with suppress(GatewayError):  # what can't be used now is said where it is used
            await rest()
        trim()

    def begin() -> None:
        job = asyncio.get_running_loop().create_task(give_back())
        jobs.add(job)
        job.add_done_callback(jobs.discard)

    return begin


class Garbage:
    """To be made once everything stands that stays: that is not looked at again. ``round`` is to be called
    after each flush. ``clock``: seconds; ``used``: those of CPU that the process has used; ``give_back`` is
    called at rest."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
        give_back: Callable[[], None] = trim,
    ) -> None:
        gc.freeze()
        gc.set_threshold(AT_ONCE, OLDER, OLDER)
        self._clock, self._used, self._give_back = clock, used, give_back
        self._due = clock() + EVERY
        self._number = 0
        self._before = self._given_back = used()

    def round(self) -> None:
        """Collect, each time that it is due, and give back what is free."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + EVERY
        self._number += 1
        gc.collect(0 if self._number % OLDER else 1 if self._number % ALL else 2)
        used, before = self._used(), self._before
        self._before = used
        if used - before < REST and used - self._given_back > WORK:
            self._given_back = used
            self._give_back()
