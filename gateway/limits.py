"""How long a call may take: as long as its agent shows signs of life, up to a hard cap."""

from __future__ import annotations

import asyncio
from typing import Any

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
    """

    __slots__ = ("_agent", "_total")

    def __init__(
        self,
        timers: Timers,
        agent: str,
        idle: float | None,
        total: float,
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        timed = () if idle is None else ((timers.of(idle), self._silent),)
        super().__init__(*timed, loop=timers.loop, task=task)
        self._agent = agent
        self._total = timers.of(total)
        self._total.start(self._over)

    def renew(self) -> None:
        """A sign of life."""
        for timer, callback in self.timed:
            timer.start(callback)

    def hold(self) -> None:
        """It is not the agent who is waited for: until ``renew`` only the total counts."""
        for timer, callback in self.timed:
            timer.stop(callback)

    def close(self) -> None:
        """The call is over."""
        self._total.stop(self._over)
        self.timed = ()  # they hold on to this object, and it to its task

    def _over(self) -> None:
        self._end("total_timeout")

    def _silent(self) -> None:
        self._end("idle_timeout")

    def _end(self, limit: str) -> None:
        self.end(UpstreamTimeout(f"{self._agent} did not answer in time", data={"limit": limit}))
