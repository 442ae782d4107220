"""How long a call may take: as long as its agent shows signs of life, up to a hard cap."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from .config import Limits as Configured
from .errors import UpstreamTimeout
from .model import Record
from .waiting import Timers, Waiting

Timeouts = tuple[float | None, float | None]
_NO_LESS: Timeouts = (None, None)


def allowed(record: Record, limits: Configured, less: Timeouts = (None, None)) -> tuple[float, float]:
    """Idle and total seconds: the agent's, else the configuration's; ``less``: what the caller grants, which
    may only be less."""
    idle = record.idle_timeout or limits.idle_timeout
    total = record.total_timeout or limits.total_timeout
    if less == _NO_LESS:
        return idle, total
    return min(idle, less[0] or idle), min(total, less[1] or total)


class CallLimits(Waiting):
    """The blocks of the current task in which a call waits for its agent: ``total`` seconds from now on in
    all, and each block ``idle`` seconds without a sign of life (None: as long as the total allows). A block
    raises UpstreamTimeout. To be closed when the call is over. ``task``: the current one, if it is known.

    One timer looks after both: a sign of life only notes the time.
    """

    __slots__ = ("_agent", "_alive", "_end_at", "_held", "_idle", "_loop", "_timer")

    def __init__(
        self,
        timers: Timers,
        agent: str,
        idle: float | None,
        total: float,
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        self._loop = loop = timers.loop
        Waiting.__init__(self, task=task or asyncio.current_task(loop))
        self._agent = agent
        self._idle = idle
        self._held = False
        self._alive = loop.time()  # the last sign of life, or the begin of the block
        self._end_at = self._alive + total
        self._timer = timers.of(total if idle is None or idle > total else idle)
        self._timer.start(self._look)

    def __enter__(self) -> Self:
        Waiting.__enter__(self)
        self._alive = self._loop.time()
        self._held = False
        return self

    def renew(self) -> None:
        """A sign of life."""
        self._alive = self._loop.time()
        self._held = False
        for timer, callback in self.timed:
            timer.start(callback)

    def hold(self) -> None:
        """It is not the agent who is waited for: until ``renew`` only the total counts."""
        self._held = True
        for timer, callback in self.timed:
            timer.stop(callback)

    def close(self) -> None:
        """The call is over."""
        self._timer.stop(self._look)
        self.timed = ()  # they may hold on to this object, and it to its task

    def _look(self) -> None:
        """A time may have passed."""
        idle = self._idle
        if idle is None:
            due = self._end_at
        elif self._held or not self._inside:  # it may count again at any time
            due = self._loop.time() + idle
        else:
            due = self._alive + idle
        if self._timer.later(self._look, min(due, self._end_at)):
            return
        limit = "idle_timeout" if due < self._end_at else "total_timeout"
        self.end(UpstreamTimeout(f"{self._agent} did not answer in time", data={"limit": limit}))
