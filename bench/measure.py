"""Alternating rounds, medians, and what a figure must be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from account import cpu
from load import Job, Outcome
from parties import Clients, Proxy
from rows import Row

T = TypeVar("T")


class Cell(NamedTuple):
    """One round, or the middle of several. ``cpu``: seconds a unit (a request, an event); ``busy``: the
    proxy's share of one core."""

    rate: float
    cpu: float
    busy: float

    @property
    def us(self) -> float:
        return self.cpu * 1e6


class Limit(NamedTuple):
    """What a figure must be and should be: at most, or where ``least``, at least."""

    must: float
    aim: float
    least: bool = False

    def verdict(self, value: float) -> str:
        for bound, word in ((self.aim, "aim met"), (self.must, "must met")):
            if value >= bound if self.least else value <= bound:
                return word
        return "**MISSED**"


WRITTEN = 0.3  # seconds after which the gateway has written what calls left


class Bench:
    """What is running, and what was found. ``nginx`` is None where it is not installed."""

    def __init__(
        self, home: Path, ask: Clients, agents_port: int, ours: Proxy, nginx: Proxy | None, short: bool
    ) -> None:
        self.home = home
        self.ask = ask
        self.direct = Proxy("direct", agents_port, [])
        self.ours = ours
        self.nginx = nginx
        self.short = short
        self.rounds = 5 if short else 7
        self.seconds = 0.2 if short else 0.8  # of one measurement
        self.lines: list[str] = []
        self.verdicts: list[tuple[str, str, float, Limit]] = []

    # --- saying ------------------------------------------------------------------------------

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def part(self, title: str, *words: str) -> None:
        self._part = title
        self.say(f"\n## {title}\n")
        for line in words:
            self.say(line)
        if words:
            self.say()

    def table(self, *heads: str) -> None:
        self.row(*heads)
        self.say(f"|{'---|' * len(heads)}")

    def row(self, *cells: str) -> None:
        self.say(f"| {' | '.join(cells)} |")

    def verdict(self, row: str, value: float, limit: Limit) -> str:
        """The words for a table; the summary gets the row, too."""
        self.verdicts.append((f"{self._part}: {row}", limit.verdict(value), value, limit))
        return limit.verdict(value)

    def broken(self, why: str) -> None:
        """The part came to no end."""
        self.say(f"\n**Broken off**: {why}")
        self.verdict(f"broken off ({why[:100]})", float("nan"), Limit(0, 0))

    def worst(self, row: str, *judged: tuple[float, Limit]) -> str:
        """The verdict on the worst of some figures of a row."""
        order = ("**MISSED**", "must met", "aim met")
        value, limit = min(judged, key=lambda one: order.index(one[1].verdict(one[0])))
        return self.verdict(row, value, limit)

    # --- measuring ---------------------------------------------------------------------------

    def proxies(self) -> list[Proxy]:
        return [p for p in (self.ours, self.nginx, self.direct) if p is not None]

    def done(self, job: Job, proxy: Proxy, units: int = 0) -> tuple[Cell, Outcome]:
        """Do a job; ``units``: what the account is divided by, when it is not requests."""
        units = units or job.count
        warm(self.ask, job)
        before = cpu(proxy.pids)
        outcome = self.ask(job)
        busy = (cpu(proxy.pids) - before) / outcome.seconds
        if proxy is not self.direct and proxy is not self.nginx:
            time.sleep(WRITTEN)  # else the next measurement would pay for what this one left to write
        return Cell(units / outcome.seconds, (cpu(proxy.pids) - before) / units, busy), outcome

    def calls(self, row: Row, proxy: Proxy, connections: int, least: int = 0) -> Callable[[], Cell]:
        """A measurement of calls, as many as fill its time; making it warms up. ``least``: calls."""
        past = proxy is self.direct or proxy is self.nginx
        job = row.job(proxy.port, past=past, connections=connections, count=max(connections, 4))
        for _ in range(3):
            begun, _ = self.done(job, proxy)
            job.count = max(connections, int(begun.rate * self.seconds / 2), least)
        job.count = max(connections, int(begun.rate * self.seconds), least)

        return lambda: self.done(job, proxy)[0]

    def rounds_of(self, *measures: Callable[[], T]) -> list[list[T]]:
        """Rounds in turn: one list of results for each measure."""
        rounds = [[measure() for measure in measures] for _ in range(self.rounds)]
        return [list(results) for results in zip(*rounds, strict=True)]

    def alternating(self, *measures: Callable[[], Cell]) -> list[list[Cell]]:
        return self.rounds_of(*measures)


def warm(ask: Callable[[Job], Outcome], job: Job) -> None:
    """Connections to agents that were idle for seconds are opened anew, and so are sessions, before anything
    is measured."""
    if job.kind == "calls":
        open_sessions(ask, job)
        ask(msgspec.structs.replace(job, count=2 * job.connections))
    open_sessions(ask, job)


def open_sessions(ask: Callable[[Job], Outcome], job: Job) -> None:
    """Those that the job wants."""
    if job.opening:
        ask(msgspec.structs.replace(job, kind="open"))


def middle(cells: Sequence[Cell]) -> Cell:
    return Cell(*(statistics.median(values) for values in zip(*cells, strict=True)))


def ratio(
    over: Sequence[Cell], under: Sequence[Cell], value: Callable[[Cell], float] = lambda c: c.cpu
) -> float:
    """The middle of the rounds' ratios: what slows the machine down for a while slows down both."""
    return statistics.median(value(a) / value(b) for a, b in zip(over, under, strict=True))


def rate(cell: Cell) -> float:
    return cell.rate


def summary(bench: Bench) -> list[str]:
    """The verdicts as lines of Markdown, the missed ones by name."""
    words = [word for _, word, _, _ in bench.verdicts]
    lines = [
        f"{len(words)} figures are judged: {words.count('aim met')} meet the aim, "
        f"{words.count('must met')} what they must, {words.count('**MISSED**')} miss it"
    ]
    missed = [(row, value, limit) for row, word, value, limit in bench.verdicts if word == "**MISSED**"]
    lines[0] += ":" if missed else "."
    if missed:
        lines.append("")
    for row, value, limit in missed:
        lines.append(f"- {row}: {value:.3g}, must be {'≥' if limit.least else '≤'} {limit.must:g}")
    return lines
