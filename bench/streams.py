"""Streams: their first bytes, the delay of their events, and what an event costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from measure import Bench, Cell, Limit, middle, ratio
from parties import Proxy
from rows import Row, a2a, acp, mcp

FIRST = Limit(3, 1)  # milliseconds
LATE = Limit(5, 2)
EVENT = Limit(3, 1.8)
STREAMS, EVERY = 16, 20  # at once; milliseconds between two events of one

KINDS: list[tuple[str, Callable[[str], Row]]] = [
    ("MCP → MCP", lambda text: mcp("mcp", {"text": text}, progress=True)),
    ("A2A → A2A", lambda text: a2a("a2a", text, method="SendStreamingMessage")),
    ("ACP → ACP", lambda text: acp("acp", text, mode="stream")),
    ("A2A → ACP", lambda text: a2a("acp", text, method="SendStreamingMessage")),
    ("ACP → A2A", lambda text: acp("a2a", text, mode="stream")),
]


def streams(b: Bench) -> None:
    """In alternating rounds through the gateway, through nginx and directly. A piece says when its agent
    wrote it, so what makes the agent late counts for nobody; what makes the client late is in the direct
    way's figure, too, which is subtracted."""
    b.part(
        "Streams",
        "First: the middle time to the first byte of an answer, beyond the direct way's. Late: the 99th of",
        f"100 delays of events, beyond the direct way's; {STREAMS} streams with an event every {EVERY} ms,",
        "all at the same moment. Event: CPU of one; fast: in streams as fast as the agent writes.",
    )
    b.table(
        "stream", "first ms", "nginx", "late ms", "nginx", "event µs", "nginx", "ratio", "fast event µs",
        "nginx", "ratio", "verdict first", "verdict late", "verdict event",
    )  # fmt: skip
    for name, row in KINDS:
        line = [*_first(b, row), *_late(b, row)]
        paced, fast = _events(b, row, EVERY), _events(b, row, 0)
        b.row(
            name, *(f"{value:.2f}" for value in line), *_said(paced), *_said(fast),
            b.verdict(f"{name}, first byte, ms", line[0], FIRST),
            b.verdict(f"{name}, 99th of 100 events, ms", line[2], LATE),
            b.verdict(f"{name}, CPU of an event over nginx's", paced[2], EVENT) if b.nginx else "-",
        )  # fmt: skip


def _said(figures: tuple[float, float, float]) -> list[str]:
    return [f"{figures[0]:.1f}", f"{figures[1]:.1f}", f"{figures[2]:.1f}"] if figures[1] else ["-"] * 3


def _first(b: Bench, row: Callable[[str], Row]) -> tuple[float, float]:
    """Milliseconds of agentgw's and of nginx's streams."""
    count = 50 if b.short else 150

    def measure(p: Proxy) -> float:
        job = row("stream 1 0 100").job(p.port, past=p is not b.ours, expect="", kind="stream", count=count)
        return statistics.median(b.ask(job).first) * 1e3

    return _beyond(b, measure)


def _late(b: Bench, row: Callable[[str], Row]) -> tuple[float, float]:
    events = 50 if b.short else 100

    def measure(p: Proxy) -> float:
        job = row(f"stream {events} {EVERY} 100").job(
            p.port, past=p is not b.ours, expect="", kind="stream", connections=STREAMS, count=STREAMS
        )
        return statistics.quantiles(b.ask(job).delays, n=100)[-1] * 1e3

    return _beyond(b, measure)


def _beyond(b: Bench, measure: Callable[[Proxy], float]) -> tuple[float, float]:
    proxies = b.proxies()
    for proxy in proxies:
        measure(proxy)
    rounds = b.rounds_of(*(lambda p=p: measure(p) for p in proxies))
    beyond = [statistics.median(x - y for x, y in zip(r, rounds[-1], strict=True)) for r in rounds]
    return beyond[0], beyond[1] if b.nginx else 0.0


def _events(b: Bench, row: Callable[[str], Row], every: int) -> tuple[float, float, float]:
    """Microseconds of an event: agentgw's, nginx's, and the middle of the rounds' ratios."""
    each = (100 if b.short else 200) if every else (2000 if b.short else 5000)
    at_once = STREAMS if every else 2

    def measure(p: Proxy) -> Cell:
        job = row(f"stream {each} {every} 100").job(
            p.port, past=p is not b.ours, expect="", connections=at_once, count=at_once
        )
        return b.done(job, p, each * at_once)[0]

    proxies = b.proxies()[:-1]
    rounds = b.alternating(*(lambda p=p: measure(p) for p in proxies))
    ours = middle(rounds[0]).us
    return (ours, middle(rounds[1]).us, ratio(*rounds)) if b.nginx else (ours, 0.0, 0.0)
