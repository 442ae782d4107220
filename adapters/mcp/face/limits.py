"""The time that a relayed request may take: as long as the server shows signs of life, up to a hard cap."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ....gateway.config import Limits
from ....gateway.errors import UpstreamTimeout
from ....gateway.ports import AgentView
from ....gateway.waiting import Timers
from ..wire import Caller

T = TypeVar("T")
Timeouts = tuple[float | None, float | None]


def granted(view: AgentView, limits: Limits, asked: Timeouts) -> tuple[float, float]:
    """Idle and total seconds: the agent's, else the configuration's; a call may want less."""
    idle = view.record.idle_timeout or limits.idle_timeout
    total = view.record.total_timeout or limits.total_timeout
    return min(idle, asked[0] or idle), min(total, asked[1] or total)


async def bounded(
    agent: str, seconds: tuple[float, float], caller: Caller, send: Callable[[Caller], Awaitable[T]]
) -> T:
    """``send(caller)`` within ``seconds`` (idle, total). What the server tells renews the idle time; while it
    waits for an answer of the client only the total counts. Raises UpstreamTimeout."""
    deadline = Deadline(seconds, caller)
    try:
        return await send(deadline.watched)
    except asyncio.CancelledError:
        if not deadline.passed or deadline.task.uncancel():
            raise
        data = {"limit": deadline.passed}
        raise UpstreamTimeout(f"{agent} did not answer in time", data=data) from None
    finally:
        deadline.stop()


_timers = Timers()


class Deadline:
    """Cancels the current task when time is up: ``passed`` then names the limit. Signs of life only note the
    time; they are counted when the timer would go off. ``watched``: the caller, whose signs count."""

    __slots__ = (
        "_ask",
        "_asking",
        "_end",
        "_handle",
        "_idle",
        "_life",
        "_loop",
        "_tell",
        "_timer",
        "passed",
        "task",
        "watched",
    )

    def __init__(self, seconds: tuple[float, float], caller: Caller) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.passed = ""
        self._loop = asyncio.get_running_loop()
        self._idle, total = seconds
        self._life = self._loop.time()
        self._end = self._life + total
        self._asking = 0
        self._tell, self._ask = caller.on_notification, caller.on_request
        self.watched = Caller(
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

    def stop(self) -> None:
        self._timer.stop(self._due)
        if self._handle is not None:
            self._handle.cancel()

    def _due(self) -> None:
        now = self._loop.time()
        idle = self._end if self._asking else self._life + self._idle
        if now < min(idle, self._end):
            self._handle = self._loop.call_at(min(idle, self._end), self._due)
            return
        self.passed = "total_timeout" if now >= self._end else "idle_timeout"
        self.task.cancel()

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
