"""An event loop whose time stands still while anything can run, and jumps when all wait: hours of patience
pass at once, and what waits for nothing is found out."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class Hang(Exception):
    """All wait, and nothing will ever happen."""


class _Selector(selectors.DefaultSelector):
    """Tells what is ready now. Where nothing is, time jumps to when the next timer is due."""

    jump: Callable[[float | None], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.jump(timeout)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """Threads' work is done on the spot, as nothing could say how long it takes."""

    def __init__(self) -> None:
        self._now = 1_000_000.0
        selector = _Selector()
        selector.jump = self._jump
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float | None) -> None:
        if seconds is None:
            raise Hang("every task waits for another")
        self._now += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as e:
            done.set_exception(e)
        return done
