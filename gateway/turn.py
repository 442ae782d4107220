"""One turn of a task at work: what the agent tells goes into the task's log, until it has ended or asks.

Whatever happens, the turn comes to an end: an agent's own words pass, crash text becomes ``{agent} failed``,
silence becomes a timeout.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .errors import BadUpstream, Draining, GatewayError, UpstreamFailed, UpstreamTimeout
from .model import Event, Fault, Finished, InputRequired, Started, TaskState
from .ports import Tell
from .tasklog import TaskLog

log = logging.getLogger("agentgw.engine")

Work = Callable[[Tell], Awaitable[None]]


class Turn:
    """``idle``, ``total``: seconds that the agent may be silent, and may take in all. ``changed`` is called
    after each event that was logged, ``started`` with what the agent calls task and conversation."""

    __slots__ = (
        "_changed", "_end", "_entry", "_idle", "_life", "_loop", "_over", "_passed", "_started", "_timer",
    )  # fmt: skip

    def __init__(
        self,
        entry: TaskLog,
        idle: float,
        total: float,
        changed: Callable[[TaskLog], None],
        started: Callable[[Started], None],
    ) -> None:
        self._entry = entry
        self._idle = idle
        self._changed = changed
        self._started = started
        self._loop = asyncio.get_running_loop()
        self._life = self._loop.time()  # when the agent was last heard of
        self._end = self._life + total
        self._over = False
        self._passed = ""  # the limit that has run out

    def tell(self, event: Event) -> None:
        """Take in what the agent tells. Once it has ended or asked, nothing more counts."""
        if self._over:
            return
        self._life = self._loop.time()
        if isinstance(event, Started):
            self._started(event)
        elif isinstance(event, Finished | InputRequired):
            self._over = True
        self._entry.append(event)
        self._changed(self._entry)

    async def run(self, work: Work) -> None:
        """Let the upstream ``work``, in the task that is the entry's runner, and see to it that it ends."""
        entry = self._entry
        self._timer = self._loop.call_at(min(self._life + self._idle, self._end), self._due)
        fault: Fault | None = None
        try:
            await work(self.tell)
            if not entry.settled_now and not entry.canceled_by_client:
                fault = self._fault(BadUpstream(f"{entry.agent} ended its answer without a result"))
        except asyncio.CancelledError:
            if self._passed:
                late = UpstreamTimeout(f"{entry.agent} did not answer in time", data={"limit": self._passed})
                fault = self._fault(late)
            elif not entry.canceled_by_client:
                fault = Draining().fault()
        except Exception as e:
            fault = self._fault(e)
        finally:
            self._timer.cancel()
        if not entry.settled_now:  # else it has asked, and only what came after that went wrong
            state = TaskState.CANCELED if fault is None else TaskState.FAILED
            entry.append(Finished(state=state, fault=fault))
        self._changed(entry)

    def _due(self) -> None:
        """A limit may have run out; signs of life since then only put off the next look."""
        now = self._loop.time()
        limit = min(self._life + self._idle, self._end)
        if now < limit:
            self._timer = self._loop.call_at(limit, self._due)
        elif self._entry.runner is not None:
            self._passed = "total_timeout" if now >= self._end else "idle_timeout"
            self._entry.runner.cancel()

    def _fault(self, error: Exception) -> Fault:
        """The error as the client may see it."""
        agent = self._entry.agent
        if isinstance(error, TimeoutError):
            error = UpstreamTimeout(f"{agent} did not answer in time")
        if not isinstance(error, GatewayError):
            fault = UpstreamFailed(agent).fault()
            log.debug("%s: %s: failed", agent, fault.message, exc_info=error)
            return fault
        if error.detail:
            log.debug("%s: %s: %s", agent, error.message, error.detail)
        return error.fault()
