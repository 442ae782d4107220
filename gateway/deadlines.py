"""Time limits for what a task does, many on one timer.

With a timer of its own (``asyncio.timeout``) each would cost 4 µs.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadlines:
    """The limits that run on one event loop."""

    def __init__(self) -> None:
        self._running: set[Limit] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0  # when the timer rings; a limit that was put off leaves it where it was

    def within(self, seconds: float) -> Limit:
        """A block that may take so long. Leaving it late raises TimeoutError, as with ``asyncio.timeout``."""
        loop = asyncio.get_running_loop()
        return Limit(self, loop, loop.time() + seconds)

    def add(self, limit: Limit) -> None:
        """A block has begun."""
        self._running.add(limit)
        if self._timer is None or limit.due < self._next:
            self._set(limit.loop, limit.due)

    def remove(self, limit: Limit) -> None:
        """A block has ended."""
        self._running.discard(limit)

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = loop.call_at(due, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for limit in [limit for limit in self._running if limit.due <= now]:
            self._running.discard(limit)
            limit.expire()
        if self._running:
            self._set(loop, min(limit.due for limit in self._running))


class Limit:
    """One block's limit: ``due`` by the loop's clock."""

    __slots__ = ("_before", "_deadlines", "_task", "due", "expired", "loop")

    def __init__(self, deadlines: Deadlines, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._deadlines = deadlines
        self.loop = loop
        self.due = due
        self.expired = False

    def __enter__(self) -> Limit:
        task = asyncio.current_task(self.loop)
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._deadlines.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        # Whoever else cancelled the task meanwhile wins.
        if self.expired and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Its time has come."""
        self.expired = True
        self._task.cancel()
