"""How long a relayed call may take."""

from __future__ import annotations

from ....gateway.config import Limits as Configured
from ....gateway.errors import UpstreamTimeout
from ....gateway.model import Record
from ....gateway.waiting import Timers, Waiting


class Limits(Waiting):
    """The blocks in which a call waits for its agent: from now on as long in all as the agent may take, and
    each block as long as it may be silent. ``less``: idle and total seconds that the caller grants.
    A block raises UpstreamTimeout. To be closed when the call is over.
    """

    __slots__ = ("_agent", "_total")

    def __init__(
        self, timers: Timers, record: Record, limits: Configured, less: tuple[float | None, float | None]
    ) -> None:
        idle = record.idle_timeout or limits.idle_timeout
        total = record.total_timeout or limits.total_timeout
        less_idle, less_total = less
        super().__init__((timers.of(min(idle, less_idle or idle)), self._silent))
        self._agent = record.name
        self._total = timers.of(min(total, less_total or total))
        self._total.start(self._over)

    def close(self) -> None:
        """The call is over."""
        self._total.stop(self._over)

    def _over(self) -> None:
        self._end("total_timeout")

    def _silent(self) -> None:
        self._end("idle_timeout")

    def _end(self, limit: str) -> None:
        self.end(UpstreamTimeout(f"{self._agent} did not answer in time", data={"limit": limit}))
