"""How long a call of an agent may take."""

from __future__ import annotations

from ....gateway.errors import UpstreamTimeout
from ....gateway.waiting import Waiting
from ..upstream.upstream import ACPUpstream
from .exchange import Exchange


class Limits(Waiting):
    """The blocks in which a call waits for its agent: ``total`` seconds from now on in all, and, where it is
    ``renewing``, ``idle`` seconds without a sign of life, each block anew. The caller may grant less than the
    agent is allowed. A block raises UpstreamTimeout. To be closed when the call is over.
    """

    __slots__ = ("_agent", "_total")

    def __init__(self, x: Exchange, upstream: ACPUpstream, *, renewing: bool = False) -> None:
        super().__init__()
        idle, total = x.request.timeouts
        timers = x.house.timers
        self._agent = upstream.record.name
        allowed = upstream.total_timeout
        self._total = timers.of(allowed if total is None else min(allowed, total))
        self._total.start(self._over)
        if renewing:
            allowed = upstream.idle_timeout
            timer = timers.of(allowed if idle is None else min(allowed, idle))
            self.timed = ((timer, self._silent),)

    def close(self) -> None:
        """The call is over."""
        self._total.stop(self._over)

    def _over(self) -> None:
        self._end("total_timeout")

    def _silent(self) -> None:
        self._end("idle_timeout")

    def _end(self, limit: str) -> None:
        self.end(UpstreamTimeout(f"{self._agent} did not answer in time", data={"limit": limit}))
