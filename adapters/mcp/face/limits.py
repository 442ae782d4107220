"""The time that a relayed request may take: as long as the server shows signs of life, up to a hard cap."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from ....gateway.config import Limits
from ....gateway.errors import UpstreamTimeout
from ....gateway.ports import AgentView
from ....gateway.waiting import Timers
from ..wire import Caller

Timeouts = tuple[float | None, float | None]


def granted(view: AgentView, limits: Limits, asked: Timeouts) -> tuple[float, float]:
    """Idle and total seconds: the agent's, else the configuration's; a call may want less."""
    idle = view.record.idle_timeout or limits.idle_timeout
    total = view.record.total_timeout or limits.total_timeout
    return min(idle, asked[0] or idle), min(total, asked[1] or total)


_timers = Timers()


class Deadline:
    """A block of the current task that takes no longer than ``seconds`` (idle, total): entered, it gives the
    caller whose signs of life renew the idle time; while it waits for an answer of the client only the total
    counts. Raises UpstreamTimeout.

    Signs of life only note the time; they are counted when the timer would go off.
    """

    __slots__ = (
        "_agent",
        "_ask",
        "_asking",
        "_end",
        "_handle",
        "_idle",
        "_life",
        "_loop",
        "_passed",
        "_task",
        "_tell",
        "_timer",
        "_watched",
    )

    def __init__(self, agent: str, seconds: tuple[float, float], caller: Caller) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._agent = agent
        self._task = task
        self._passed = ""  # the limit that has run out
        self._loop = asyncio.get_running_loop()
        self._idle, total = seconds
        self._life = self._loop.time()
        self._end = self._life + total
        self._asking = 0
        self._tell, self._ask = caller.on_notification, caller.on_request
        self._watched = Caller(
            caller.trace,
            caller.principal,
            caller.session,
            caller.client_capabilities,
            caller.client_info,
            self._told,
            None if self._ask is None else self._asked,
            caller.protocol_version,
            caller.on_primed,
            caller.on_hang_up,
        )
        self._handle: asyncio.TimerHandle | None = None
        self._timer = _timers.of(min(seconds))
        self._timer.start(self._due)

    def __enter__(self) -> Caller:
        return self._watched

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.stop(self._due)
        if self._handle is not None:
            self._handle.cancel()
        if self._passed and kind is asyncio.CancelledError and not self._task.uncancel():
            data = {"limit": self._passed}
            raise UpstreamTimeout(f"{self._agent} did not answer in time", data=data) from None

    def _due(self) -> None:
        now = self._loop.time()
        idle = self._end if self._asking else self._life + self._idle
        if now < min(idle, self._end):
            self._handle = self._loop.call_at(min(idle, self._end), self._due)
            return
        self._passed = "total_timeout" if now >= self._end else "idle_timeout"
        self._task.cancel()

    async def _told(self, method: str, params: dict[str, Any]) -> None:
        self._life = self._loop.time()
        if self._tell is not None:
            await self._tell(method, params)

    async def _asked(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert self._ask is not None
        self._asking += 1
        try:
            return await self._ask(method, params)
        finally:
            self._asking -= 1
            self._life = self._loop.time()
