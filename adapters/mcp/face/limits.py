"""The time that a relayed request may take: as long as the server shows signs of life, up to a hard cap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from ....gateway.config import Limits
from ....gateway.errors import UpstreamTimeout
from ....gateway.ports import AgentView
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
    idle, total = seconds
    now = asyncio.get_running_loop().time
    end = now() + total
    timer = asyncio.timeout_at(min(now() + idle, end))
    tell, ask = caller.on_notification, caller.on_request

    def renew(until: float | None = None) -> None:
        with contextlib.suppress(RuntimeError):  # over: it was asked on behalf of another of the session's
            timer.reschedule(min(now() + idle, end) if until is None else until)

    async def told(method: str, params: dict[str, Any]) -> None:
        renew()
        if tell is not None:
            await tell(method, params)

    async def asked(method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert ask is not None
        renew(end)
        try:
            return await ask(method, params)
        finally:
            renew()

    watched = msgspec.structs.replace(
        caller,
        on_notification=told,
        on_request=None if ask is None else asked,
    )
    try:
        async with timer:
            return await send(watched)
    except TimeoutError:
        if not timer.expired():
            raise
        limit = "total_timeout" if now() >= end else "idle_timeout"
        raise UpstreamTimeout(f"{agent} did not answer in time", data={"limit": limit}) from None
