"""One turn of a task at work: what the agent tells goes into the task's log, until it has ended or asks.

Whatever happens, the turn comes to an end: an agent's own words pass, crash text becomes ``{agent} failed``,
silence becomes a timeout.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .errors import BadUpstream, Draining, GatewayError, UpstreamFailed, UpstreamTimeout
from .model import Event, Fault, Finished, InputRequired, Place, Started, TaskState
from .ports import Tell
from .tasklog import TaskLog
from .waiting import Timers

log = logging.getLogger("agentgw.engine")

Work = Callable[[Tell], Awaitable[None]]


class Telling(Tell):
    """``Tell`` by a function."""

    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[..., Awaitable[None] | None]) -> None:
        self._tell = tell

    def __call__(self, *events: Event) -> Awaitable[None] | None:
        return self._tell(*events)


class Turn(Tell):
    """What an upstream tells its task (it is called).

    ``idle``, ``total``: seconds that the agent may be silent, and may take in all; one of the ``timers``
    looks after both. ``changed`` is called after events were logged, ``started`` with what the agent calls
    task and conversation, where somebody wants to know."""

    __slots__ = (
        "_changed",
        "_end_at",
        "_entry",
        "_heard",
        "_idle",
        "_over",
        "_passed",
        "_room",
        "_started",
        "_time",
        "_timer",
        "_total",
    )

    def __init__(
        self,
        entry: TaskLog,
        idle: float,
        total: float,
        changed: Callable[[TaskLog], None],
        started: Callable[[TaskLog, Started], None] | None,
        timers: Timers,
    ) -> None:
        self._entry = entry
        self._idle, self._total = idle, total
        self._changed = changed
        self._started = started
        self._over = False
        self._timer = timers.of(min(idle, total))
        self._time = timers.loop.time
        self._heard = self._end_at = 0.0  # when there was the last sign of life, and when all has to be over
        self._room: asyncio.Future[None] | None = None  # the agent is kept waiting until then
        self._passed = ""  # the limit that has run out

    def more(self, text: str, place: Place) -> Awaitable[None] | None:
        if self._over or not self._entry.more(text, place):
            return self(place.event(text))
        self._heard = self._time()
        self._room = None
        return None

    def __call__(self, *events: Event) -> Awaitable[None] | None:
        """Take in what the agent tells. Once it has ended or asked, nothing more counts. Gives back what to
        wait for, when all who follow the task are slow."""
        if self._over:
            return None
        for event in events:
            if type(event) is Started:
                if self._started is not None:
                    self._started(self._entry, event)
            elif type(event) is Finished or type(event) is InputRequired:
                self._over = True
                if event is not events[-1]:
                    events = events[: events.index(event) + 1]
                break
        self._heard = self._time()
        entry = self._entry
        entry.append(*events)
        self._changed(entry)
        self._room = room = entry.room()
        return room

    async def run(self, work: Work) -> None:
        """Let the upstream ``work``, in the task that is the entry's runner, and see to it that it ends."""
        entry = self._entry
        self._heard = self._time()
        self._end_at = self._heard + self._total
        self._timer.start(self._look)
        fault: Fault | None = None
        try:
            working = work(self)
            del work  # it holds all of the call, for as long as the agent works
            await working
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
            self._over = True
            self._timer.stop(self._look)
        if entry.left:
            return
        if not entry.settled_now:  # else it has asked, and only what came after that went wrong
            state = TaskState.CANCELED if fault is None else TaskState.FAILED
            entry.append(Finished(state=state, fault=fault))
        elif entry.noted:
            return
        self._changed(entry)

    def _look(self) -> None:
        """The agent is silent, or takes long, unless it has been heard meanwhile; while it is kept waiting it
        is us who do not listen."""
        if self._room is not None:
            self._room = None if self._room.done() else self._room
            self._heard = self._time()
        silent_at = self._heard + self._idle
        if not self._timer.later(self._look, min(silent_at, self._end_at)):
            self._late("total_timeout" if self._end_at < silent_at else "idle_timeout")

    def _late(self, limit: str) -> None:
        if self._entry.runner is not None and not self._passed:
            self._passed = limit
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
