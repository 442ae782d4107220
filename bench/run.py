"""The gateway, nginx and the bare way side by side, on loopback, in alternating rounds.

    uv run bench/run.py [--short] [--only NAME[,NAME…]]

Names: relay, translated, load, stream, payload, agents, memory. Each number is the middle of the rounds; CPU
is what the operating system accounts to the process, all of it, in microseconds a request. Wall-clock rates
say little where clients, agents and gateway share few cores: read the ratios of one run. A full run writes
bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen

from load import Job
from parties import Clients, Proxy, agents, clients, cpu, gateway, nginx, rss
from rows import Row, a2a, acp, relays, tools_list, translated

NGINX_MORE = 5  # times as many requests: the account is kept in steps of 10 ms
Cell = tuple[float, float]  # requests a second, microseconds of CPU a request


class Bench:
    """What is running. ``nginx`` is None where it is not installed."""

    def __init__(
        self, home: Path, ask: Clients, agents_port: int, ours: Proxy, nginx: Proxy | None, short: bool
    ) -> None:
        self.home = home
        self.ask = ask
        self.direct = Proxy("direct", agents_port, [])
        self.ours = ours
        self.nginx = nginx
        self.short = short
        self.rounds = 3 if short else 5
        self.lines: list[str] = []

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def table(self, *heads: str) -> None:
        self.say(f"| {' | '.join(heads)} |")
        self.say(f"|{'---|' * len(heads)}")

    def calls(self, row: Row, proxy: Proxy, connections: int, count: int) -> Cell:
        """One round."""
        if proxy is self.nginx:
            count *= NGINX_MORE
        job = row.job(proxy.port, past=proxy is not self.ours, connections=connections, count=count)
        return self.done(job, proxy)

    def done(self, job: Job, proxy: Proxy) -> Cell:
        before = cpu(proxy.pids)
        outcome = self.ask(job)
        return job.count / outcome.seconds, (cpu(proxy.pids) - before) / job.count * 1e6

    def alternating(self, measures: Sequence[Callable[[], Cell]]) -> list[Cell]:
        """The middle of each measure over the rounds; one more round before warms up."""
        for measure in measures:
            measure()
        rounds = [[measure() for measure in measures] for _ in range(self.rounds)]
        return [
            (statistics.median(c[0] for c in cells), statistics.median(c[1] for c in cells))
            for cells in zip(*rounds, strict=True)
        ]

    def proxies(self) -> list[Proxy]:
        return [p for p in (self.ours, self.nginx, self.direct) if p is not None]


def relay(b: Bench) -> None:
    """Same protocol on both sides."""
    count = 2000 if b.short else 6000
    b.say("\n## Relays: 300 B, 16 at once\n")
    b.table(
        "relay", "agentgw µs", "nginx µs", "CPU ratio", "agentgw /s", "nginx /s", "direct /s", "rate ratio"
    )
    for row in relays():
        cells = b.alternating([partial(b.calls, row, p, 16, count) for p in b.proxies()])
        ours, direct = cells[0], cells[-1]
        if b.nginx is None:
            b.say(f"| {row.name} | {ours[1]:.0f} | - | - | {ours[0]:.0f} | - | {direct[0]:.0f} | - |")
            continue
        theirs = cells[1]
        b.say(
            f"| {row.name} | {ours[1]:.0f} | {theirs[1]:.0f} | {ours[1] / theirs[1]:.1f} "
            f"| {ours[0]:.0f} | {theirs[0]:.0f} | {direct[0]:.0f} | {ours[0] / theirs[0]:.2f} |"
        )


def translations(b: Bench) -> None:
    """Against the relay of the client's protocol, in the same rounds."""
    count = 1200 if b.short else 4000
    base = {row.name.split()[0]: row for row in reversed(relays())}
    b.say("\n## Translated calls: 300 B, 16 at once\n")
    b.table("pair", "µs", "relay of the client's protocol µs", "ratio", "slowest of both relays µs", "ratio")
    for row in translated():
        client, agent = row.name.split(" → ")
        pair = [row, base[client], base[agent]]
        cells = b.alternating([partial(b.calls, r, b.ours, 16, count) for r in pair])
        cost, own, other = (cell[1] for cell in cells)
        b.say(
            f"| {row.name} | {cost:.0f} | {own:.0f} | {cost / own:.2f} "
            f"| {max(own, other):.0f} | {cost / max(own, other):.2f} |"
        )


def load(b: Bench) -> None:
    """CPU must not grow with what is under way."""
    count = 1500 if b.short else 4000
    b.say("\n## CPU a request by requests at once\n")
    b.table("row", "1", "16", "64", "64 over 1", "64 over 16")
    for row in [*relays(), *translated()]:
        cells = b.alternating([partial(b.calls, row, b.ours, c, count) for c in (1, 16, 64)])
        one, some, many = (cell[1] for cell in cells)
        b.say(f"| {row.name} | {one:.0f} | {some:.0f} | {many:.0f} | {many / one:.2f} | {many / some:.2f} |")


def stream(b: Bench) -> None:
    """First bytes and events of streams."""
    pieces, paced = (600, 20) if b.short else (2000, 50)
    b.say("\n## Streams\n")
    b.say(
        "First: the middle time to the first byte of an answer beyond the direct way's. Late: how much later"
    )
    b.say(
        "than directly the 99th of 100 events comes, 16 streams with an event every 20 ms each. Event: CPU.\n"
    )
    b.table("stream", "first ms", "late ms", "event µs", "nginx event µs", "ratio")
    kinds: list[tuple[str, Callable[[str], Row]]] = [
        ("A2A → A2A", lambda t: a2a("a2a", t, method="SendStreamingMessage")),
        ("ACP → ACP", lambda t: acp("acp", t, mode="stream")),
        ("A2A → ACP", lambda t: a2a("acp", t, method="SendStreamingMessage")),
        ("ACP → A2A", lambda t: acp("a2a", t, mode="stream")),
    ]
    for name, row in kinds:
        first = {p.name: _firsts(b, row("stream 1 0 100"), p) for p in (b.ours, b.direct)}
        late = {p.name: _late(b, row(f"stream {paced} 20 100"), p) for p in (b.ours, b.direct)}
        full = row(f"stream {pieces} 0 100")
        cells = b.alternating(
            [
                partial(b.done, full.job(p.port, past=p is not b.ours, expect="", count=2), p)
                for p in b.proxies()
            ]
        )
        ours = cells[0][1] / pieces
        theirs = cells[1][1] / pieces if b.nginx else 0.0
        b.say(
            f"| {name} | {(first['agentgw'] - first['direct']) * 1e3:.2f} "
            f"| {(late['agentgw'] - late['direct']) * 1e3:.2f} | {ours:.1f} "
            f"| {f'{theirs:.1f} | {ours / theirs:.1f}' if theirs else '- | -'} |"
        )


def _firsts(b: Bench, row: Row, p: Proxy) -> float:
    outcome = b.ask(row.job(p.port, past=p is not b.ours, expect="", kind="stream", count=200))
    return statistics.median(outcome.first)


def _late(b: Bench, row: Row, p: Proxy) -> float:
    job = row.job(p.port, past=p is not b.ours, expect="", kind="stream", connections=16, count=16)
    return statistics.quantiles(b.ask(job).delays, n=100)[-1]


def payload(b: Bench) -> None:
    """Large bodies, there and back."""
    b.say("\n## Large messages: there and back, 2 at once, MB/s of both ways\n")
    b.table("relay", "size", "agentgw", "nginx", "direct", "rate ratio", "CPU ratio")
    for megabytes in (1, 8):
        text = "x" * (megabytes * 1_000_000)
        for row in relays(text):
            count = (24 if b.short else 64) // megabytes
            cells = b.alternating([partial(b.calls, row, p, 2, count) for p in b.proxies()])
            rates = [cell[0] * 2 * megabytes for cell in cells]
            ratios = "- | -"
            if b.nginx:
                ratios = f"{rates[0] / rates[1]:.2f} | {cells[0][1] / max(cells[1][1], 1):.1f}"
            theirs = f"{rates[1]:.0f}" if b.nginx else "-"
            b.say(f"| {row.name} | {megabytes} MB | {rates[0]:.0f} | {theirs} | {rates[-1]:.0f} | {ratios} |")


def many_agents(b: Bench) -> None:
    """A gateway with 2,000 agents beside one with ten."""
    count = 1500 if b.short else 4000
    b.say("\n## 2,000 agents\n")
    with (
        gateway(b.home / "ten", b.direct.port, 6) as few,
        gateway(b.home / "thousands", b.direct.port, 1996) as many,
    ):
        _settled(few)
        _settled(many)
        b.table("call", "10 agents µs", "2,000 agents µs", "ratio")
        for row in (relays()[0], relays()[2], relays()[3], translated()[0]):
            cells = b.alternating([partial(b.done, _job(row, p, count), p) for p in (few, many)])
            b.say(f"| {row.name} | {cells[0][1]:.0f} | {cells[1][1]:.0f} | {cells[1][1] / cells[0][1]:.2f} |")
        row = tools_list()
        first = b.ask(row.job(many.port, expect="more1995"))
        again = b.ask(row.job(many.port, expect="more1995", count=20))
        b.say(
            f"\ntools/list at /mcp, 2,000 agents: first {first.seconds * 1e3:.1f} ms, then "
            f"{again.seconds / 20 * 1e3:.1f} ms ({first.bytes / 1e6:.2f} MB). "
            f"RSS {rss(many.pids[0]) / 2**20:.0f} MiB."
        )


def _job(row: Row, proxy: Proxy, count: int) -> Job:
    return row.job(proxy.port, connections=16, count=count)


def _settled(proxy: Proxy) -> None:
    """Until the gateway has looked at its agents: it rests for a second."""
    before, rest = cpu(proxy.pids), 0
    while rest < 4:
        time.sleep(0.25)
        now = cpu(proxy.pids)
        rest = rest + 1 if now - before < 0.03 else 0
        before = now


def memory(b: Bench) -> None:
    """What stays after many calls, streams and broken connections."""
    b.say("\n## Memory\n")
    with gateway(b.home / "memory", b.direct.port) as fresh:
        _settled(fresh)
        pid = fresh.pids[0]
        idle = rss(pid)
        held = 200 if b.short else 500
        row = a2a("a2a", "stream 2 5000 10", method="SendStreamingMessage")
        b.ask(_job(relays()[2], fresh, 200))
        before = rss(pid)
        b.ask(row.job(fresh.port, expect="", kind="hold", connections=held, count=held))
        time.sleep(1)
        per_stream = (rss(pid) - before) / held
        calls, broken = (3000, 200) if b.short else (100_000, 1000)
        rows = [*relays(), *translated()]
        for row in rows:
            b.ask(_job(row, fresh, calls // len(rows)))
        warm = rss(pid)
        for row in rows:
            b.ask(_job(row, fresh, calls // len(rows)))
        grown = rss(pid) - warm
        before = rss(pid)
        cut = a2a("a2a", "stream 50 20 100", method="SendStreamingMessage")
        b.ask(cut.job(fresh.port, expect="", kind="abort", connections=20, count=broken))
        time.sleep(7)  # the streams end after one second, kept connections after four more
        left = int(urlopen(f"http://127.0.0.1:{b.direct.port}/held").read()) - 1
        b.say(f"- idle RSS {idle / 2**20:.0f} MiB; an idle open stream {per_stream / 1024:.0f} KiB")
        b.say(f"- {calls} calls after as many others: RSS {grown / 2**20:+.1f} MiB")
        b.say(f"- {broken} broken streams: RSS {(rss(pid) - before) / 2**20:+.1f} MiB")
        b.say(f"- connections at the agents after that, those of all gateways here: {left}")


PARTS = {
    "relay": relay,
    "translated": translations,
    "load": load,
    "stream": stream,
    "payload": payload,
    "agents": many_agents,
    "memory": memory,
}


def _machine(has_nginx: bool, short: bool) -> list[str]:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    said = subprocess.run([found, "-v"], capture_output=True, text=True).stderr.strip() if found else ""
    programs = [f"{name} {version(name)}" for name in ("agentgw", "uvicorn", "uvloop", "httptools")]
    programs.append(said.partition(": ")[2] if has_nginx else "nginx not installed: its columns are empty")
    return [
        "# Measured",
        "",
        f"By `uv run bench/run.py{' --short' if short else ''}`, which says what is measured and how.",
        "",
        f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores ({platform.machine()}), shared by clients, "
        "agents and proxies;",
        f"{platform.system()}, Python {platform.python_version()}, {', '.join(programs)}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--short", action="store_true", help="fewer requests, for daily use")
    parser.add_argument("--only", help=f"of {', '.join(PARTS)}")
    wanted = parser.parse_args()
    names = wanted.only.split(",") if wanted.only else list(PARTS)
    home = Path(tempfile.mkdtemp())
    try:
        with (
            agents() as port,
            clients() as ask,
            gateway(home / "agentgw", port) as ours,
            nginx(home / "nginx", port) as other,
        ):
            bench = Bench(home, ask, port, ours, other, wanted.short)
            if other is None:
                print("nginx is not installed (Debian: nginx-light); what is compared with it is left out")
            bench.lines = _machine(other is not None, wanted.short)
            for name in names:
                PARTS[name](bench)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if not wanted.only:
        Path(__file__).with_name("RESULTS.md").write_text("\n".join(bench.lines) + "\n")


if __name__ == "__main__":
    main()
