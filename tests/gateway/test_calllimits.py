"""What a sign of life, a hold and a block's begin do to a call's time, by a clock in the test's hands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agentgw.gateway.errors import UpstreamTimeout
from agentgw.gateway.limits import CallLimits

IDLE, TOTAL = 10.0, 100.0


class Clock:
    """A loop's clock, its timers (one is enough), and a task that notes that it was canceled."""

    def __init__(self) -> None:
        self.now, self.due, self.canceled = 0.0, 0.0, False
        self._callback: Any = None
        self.loop: Any = SimpleNamespace(time=lambda: self.now)
        self.task: Any = SimpleNamespace(
            cancel=self._cancel, cancelling=lambda: 0, uncancel=lambda: 0, cancelled=lambda: False
        )

    def _cancel(self) -> bool:
        self.canceled = True
        return True

    def of(self, seconds: float) -> Any:
        def start(callback: Any) -> None:
            self.later(callback, self.now + seconds)

        return SimpleNamespace(start=start, later=self.later, stop=self._stop)

    def later(self, callback: Any, due: float) -> bool:
        if due <= self.now:
            return False
        self._callback, self.due = callback, due
        return True

    def _stop(self, callback: Any) -> None:
        if callback == self._callback:
            self._callback = None

    def until(self, now: float) -> None:
        """Time passes, and what is due on the way is called."""
        while self._callback is not None and self.due <= now:
            self.now, callback, self._callback = self.due, self._callback, None
            callback()
        self.now = now


def made(idle: float | None = IDLE) -> tuple[Clock, Any]:
    clock: Any = Clock()
    return clock, CallLimits(clock, "a", idle, TOTAL, clock.task)


def why(limits: Any) -> str:
    """Which limit it was that ended the call."""
    with pytest.raises(UpstreamTimeout) as caught:
        limits.__enter__()
    data: Any = caught.value.data
    return data["limit"]


def test_signs_of_life_put_the_end_off_until_there_are_none() -> None:
    clock, limits = made()
    limits.__enter__()
    for now in (8.0, 16.0, 24.0):
        clock.until(now)
        limits.renew()
    clock.until(33.9)
    assert not clock.canceled
    clock.until(34.0)
    assert clock.canceled and why(limits) == "idle_timeout"


def test_the_total_ends_what_shows_signs_of_life() -> None:
    clock, limits = made()
    limits.__enter__()
    for now in range(5, 100, 5):
        clock.until(float(now))
        limits.renew()
    assert not clock.canceled
    clock.until(TOTAL)
    assert clock.canceled and why(limits) == "total_timeout"


def test_while_it_is_held_only_the_total_counts_and_then_the_time_begins_anew() -> None:
    clock, limits = made()
    limits.__enter__()
    limits.hold()
    clock.until(55.0)
    limits.renew()
    clock.until(64.9)
    assert not clock.canceled
    clock.until(65.0)
    assert clock.canceled and why(limits) == "idle_timeout"


def test_between_blocks_only_the_total_counts_and_each_begins_anew() -> None:
    clock, limits = made()
    clock.until(35.0)
    with limits:
        clock.until(44.9)
    clock.until(83.0)
    limits.__enter__()
    clock.until(92.9)
    assert not clock.canceled
    clock.until(93.0)
    assert clock.canceled and why(limits) == "idle_timeout"


@pytest.mark.parametrize("idle", [None, IDLE, 2 * TOTAL])
def test_the_total_counts_outside_of_blocks_until_the_call_is_over(idle: float | None) -> None:
    clock, limits = made(idle)
    clock.until(TOTAL)
    assert not clock.canceled and why(limits) == "total_timeout"
    clock, limits = made(idle)
    limits.close()
    clock.until(2 * TOTAL)
    limits.__enter__()
