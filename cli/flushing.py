"""Writing out tasks and spans, in batches and off the request's path; what to do while that can't be done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..gateway.engine import Hub
from ..gateway.errors import GatewayError, for_operator
from ..gateway.link import Cut
from ..gateway.metrics import Metrics
from ..gateway.telemetry import Span, Tracer
from .auditing import Auditing

log = logging.getLogger("agentgw")

EVERY = 0.2  # seconds: what a crash may lose of tasks and spans; of an answer's pieces, five times that
EVERY_AT_MOST = 5.0  # while nothing can be written
SOONEST = 0.05  # seconds, while calls leave very much: it would fill memory that the process then keeps
MANY = 1000  # spans that are written together, where that can be


class Flusher:
    """``spans``: how many the store keeps (0: none), and how many wait while it can't be written.

    ``failing``: why nothing can be written now; it is said once, not at each try, and so is that it is over.
    ``exporter`` and ``auditing`` get all spans, whatever can't be written; ``on_flushed`` is called after
    each try, ``on_round`` each 0.2 s, after what was written then.
    """

    def __init__(self, hub: Hub, tracer: Tracer, metrics: Metrics, spans: int) -> None:
        self.exporter: Any = None
        self.auditing: Auditing | None = None
        self.on_flushed: Callable[[], None] = lambda: None
        self.on_round: Callable[[], None] = lambda: None
        self.failing = ""
        self._hub = hub
        self._tracer = tracer
        self._metrics = metrics
        self.kept = spans
        self.turn = asyncio.Lock()  # held by ``run`` but while it sleeps: to cancel it elsewhere loses things
        self._waiting: list[Span] = []

    async def run(self, tick: Callable[[], object]) -> None:
        """Flush again and again, sooner while there is much to write and less often while it fails, until it
        is cancelled; ``tick`` is called each 0.2 s or sooner."""
        pause, waited, many = EVERY, 0.0, 0
        while True:
            step = min(EVERY, pause)
            await asyncio.sleep(step)
            async with self.turn:
                tick()
                many += await self._collect()
                waited += step
                if waited + step / 2 > pause:
                    await self.flush(whole=False)
                    pause, waited, many = next_pause(pause, many, failing=bool(self.failing)), 0.0, 0
                self.on_round()

    async def flush(self, *, whole: bool = True) -> None:
        """Write out what there is now, unless ``whole`` without what ``Hub.flush`` lets wait; never raises:
        what could not be written waits for the next time."""
        await self._collect()
        try:
            await self._write(whole)
        except Cut as e:  # of a worker that loses its owner, and ends
            log.debug("%s", e.message)
        except GatewayError as e:
            self._failed(for_operator(e))
        except Exception as e:
            self._failed("writing out tasks and spans failed", e)
        else:
            self._succeeded()
        self.on_flushed()

    async def _collect(self) -> int:
        """How many spans there were."""
        spans = self._tracer.drain()
        if self.auditing is not None:
            await self.auditing.flush(spans)
        if not spans:
            return 0
        self._metrics.spans(spans)
        if self.exporter is not None:
            self.exporter.export(spans)
        if self.kept:
            self._waiting += spans
        return len(spans)

    async def _write(self, whole: bool) -> None:
        spans, self._waiting = self._waiting, []
        try:
            await self._hub.flush(spans, whole=whole)
        except BaseException:
            self._waiting = (spans + self._waiting)[-self.kept :]
            raise

    def _failed(self, why: str, error: Exception | None = None) -> None:
        del self._waiting[: -self.kept or None]
        if not self.failing:
            log.error("%s; calls go on, and it is tried again and again", why, exc_info=error)
        self.failing = why

    def _succeeded(self) -> None:
        if self.failing:
            log.warning("tasks and spans are written again")
        self.failing = ""


def next_pause(before: float, many: int, *, failing: bool) -> float:
    """Seconds from a flush to the next, where so ``many`` spans came about in the ``before`` seconds before
    it. ``failing``: whether it did."""
    if failing:
        return min(max(before, EVERY) * 2, EVERY_AT_MOST)
    return max(min(EVERY, before * MANY / many), SOONEST) if many else EVERY
