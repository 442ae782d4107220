"""Counting what goes on, cheaply: plain dictionaries here, Prometheus' text only when it is asked for.

Calls are counted from their finished server spans, in the batches in which those are written out, so that
no door pays for it. Labels are bounded: what is new past ``SERIES`` label sets is counted as ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from .telemetry import LENGTH, Span

SERIES = 5_000
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Histogram:
    """How often something took how long: ``counts`` per bound of ``BOUNDS`` and one for longer; ``total``
    is the sum of seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Report(msgspec.Struct, array_like=True):
    """What another process counted since its last report; how many tasks run, and spans were lost, there."""

    calls: list[tuple[tuple[str, str, str], list[int], float]] = []
    responses: list[tuple[tuple[str, str], int]] = []
    running: int = 0
    dropped: int = 0


async def _nothing() -> None: ...


class Metrics:
    """Counters of one gateway. ``calls``: by (door, agent, outcome); ``responses``: HTTP answers by (door,
    status); ``gauges``: read when asked, name to (help, value now)."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str, str], Histogram] = {}
        self.responses: dict[tuple[str, str], int] = {}
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.gather: Callable[[], Awaitable[None]] = _nothing  # has other processes report
        self.elsewhere = Report()  # of all other processes together: ``running`` and ``dropped``

    def call(self, door: str, agent: str, outcome: str, seconds: float) -> None:
        """A call ended. ``door``: the client's protocol; ``outcome``: the task's state or an error's type."""
        key = (door, agent, outcome)
        found = self.calls.get(key)
        if found is None:
            if len(self.calls) >= SERIES:
                key = (door, "other", outcome)
            found = self.calls.setdefault(key, Histogram())
        found.add(seconds)

    def spans(self, spans: Iterable[Span]) -> None:
        """Count the calls among finished spans: server spans that name their agent."""
        calls = self.calls
        for span in spans:
            call = span.template.call
            if call is not None:
                own = span.own
                outcome: Any = own.get("agentgw.state") or own.get("error.type") or ""
                seconds = (span.end_ns - span.start_ns) / 1e9
                found = calls.get((*call, outcome))
                if found is not None:
                    found.add(seconds)
                else:
                    self.call(*call, str(outcome)[:LENGTH], seconds)

    def response(self, door: str, status: int) -> None:
        """An HTTP request was answered."""
        key = (door, str(status))
        self.responses[key] = self.responses.get(key, 0) + 1

    def drain(self) -> Report:
        """What was counted since the last time; it is forgotten here."""
        calls, self.calls = self.calls, {}
        responses, self.responses = self.responses, {}
        return Report([(key, h.counts, h.total) for key, h in calls.items()], [*responses.items()])

    def add(self, report: Report) -> None:
        """Count what another process counted."""
        for key, counts, total in report.calls:
            found = self.calls.setdefault(key, Histogram())
            found.counts = [a + b for a, b in zip(found.counts, counts, strict=True)]
            found.total += total
        for answered, count in report.responses:
            self.responses[answered] = self.responses.get(answered, 0) + count

    def gauge(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Show ``read()`` as ``agentgw_{name}``."""
        self.gauges[name] = (help, read)
