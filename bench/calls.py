"""Calls: relays against nginx, translations against relays, load, large messages, many agents, workers."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from account import CORES, cpu, rss
from load import Job, Outcome
from measure import WRITTEN, Bench, Cell, Limit, middle, rate, ratio, warm
from parties import SCRIPT, Proxy, clients, gateway
from rows import Row, relays, tools_list, translated

RELAY_RATE = Limit(0.25, 0.33, least=True)
RELAY_CPU = Limit(6, 4)
TRANSLATED = Limit(2.0, 1.7)
LOAD = Limit(1.25, 1.0)
PAYLOAD = Limit(0.4, 0.7, least=True)
MANY = Limit(1.1, 1.05)
LISTING = Limit(30, 5)  # milliseconds
WORKERS = Limit(1.1, 1.05)


def relay(b: Bench) -> None:
    """Same protocol on both sides."""
    b.part(
        "Relays: 300 B, 16 at once",
        "µs: CPU a request. Busy: the proxy's share of its core. Which is not busy was kept waiting by",
        "clients and agents, which share the other core: for that one, the rate is theirs.",
    )
    b.table(
        "relay", "agentgw µs", "nginx µs", "CPU ratio", "agentgw /s", "busy", "nginx /s", "busy", "direct /s",
        "rate ratio", "verdict CPU", "verdict rate",
    )  # fmt: skip
    for row in relays():
        rounds = b.alternating(*(b.calls(row, p, 16) for p in b.proxies()))
        ours, direct = middle(rounds[0]), middle(rounds[-1])
        own = (f"{ours.rate:.0f}", f"{ours.busy:.2f}")
        if b.nginx is None:
            b.row(row.name, f"{ours.us:.0f}", "-", "-", *own, "-", "-", f"{direct.rate:.0f}", "-", "-", "-")
            continue
        theirs = middle(rounds[1])
        cost, speed = ratio(rounds[0], rounds[1]), ratio(rounds[0], rounds[1], rate)
        b.row(
            row.name, f"{ours.us:.0f}", f"{theirs.us:.1f}", f"{cost:.1f}", *own, f"{theirs.rate:.0f}",
            f"{theirs.busy:.2f}", f"{direct.rate:.0f}", f"{speed:.2f}",
            b.verdict(f"{row.name}, CPU over nginx's", cost, RELAY_CPU),
            b.verdict(f"{row.name}, rate over nginx's", speed, RELAY_RATE),
        )  # fmt: skip


def translations(b: Bench) -> None:
    """Against the relays of both protocols, in the same rounds; the client's is what is judged by."""
    base = {row.name.split()[0]: row for row in reversed(relays())}
    b.part("Translated calls: 300 B, 16 at once")
    b.table("pair", "µs", "client's relay µs", "ratio", "agent's relay µs", "ratio", "verdict")
    for row in translated():
        client, agent = row.name.split(" → ")
        rounds = b.alternating(*(b.calls(r, b.ours, 16) for r in (row, base[client], base[agent])))
        cost, own, other = (middle(cells).us for cells in rounds)
        first, second = ratio(rounds[0], rounds[1]), ratio(rounds[0], rounds[2])
        verdict = b.verdict(f"{row.name}, CPU over the client's relay", first, TRANSLATED)
        b.row(row.name, f"{cost:.0f}", f"{own:.0f}", f"{first:.2f}", f"{other:.0f}", f"{second:.2f}", verdict)


def load(b: Bench) -> None:
    """CPU must not grow with what is under way."""
    b.part("CPU a request by requests at once, µs")
    b.table("row", "1", "16", "64", "64 over 1", "64 over 16", "verdict")
    for row in [*relays(), *translated()]:
        rounds = b.alternating(*(b.calls(row, b.ours, c) for c in (1, 16, 64)))
        alone, some = ratio(rounds[2], rounds[0]), ratio(rounds[2], rounds[1])
        middles = (f"{middle(cells).us:.0f}" for cells in rounds)
        verdict = b.worst(f"{row.name}, 64 at once over fewer", (alone, LOAD), (some, LOAD))
        b.row(row.name, *middles, f"{alone:.2f}", f"{some:.2f}", verdict)


def payload(b: Bench) -> None:
    """Large bodies, there and back."""
    b.part("Large messages: there and back, 2 at once, MB/s of both ways")
    b.table("relay", "size", "agentgw", "nginx", "direct", "rate ratio", "CPU ratio", "verdict")
    for megabytes in (1, 8):
        for row in relays("x" * (megabytes * 1_000_000)):
            rounds = b.alternating(*(b.calls(row, p, 2, 8 // megabytes) for p in b.proxies()))
            rates = [f"{middle(cells).rate * 2 * megabytes:.0f}" for cells in rounds]
            if b.nginx is None:
                b.row(row.name, f"{megabytes} MB", rates[0], "-", rates[1], "-", "-", "-")
                continue
            speed, cost = ratio(rounds[0], rounds[1], rate), ratio(rounds[0], rounds[1])
            verdict = b.verdict(f"{row.name}, {megabytes} MB, rate over nginx's", speed, PAYLOAD)
            b.row(row.name, f"{megabytes} MB", *rates, f"{speed:.2f}", f"{cost:.1f}", verdict)


def many_agents(b: Bench) -> None:
    """A gateway with 2,000 agents beside one with ten."""
    b.part("2,000 agents")
    with (
        gateway(b.home / "ten", b.direct.port, more=6) as few,
        gateway(b.home / "thousands", b.direct.port, more=1996) as many,
    ):
        settled(few)
        settled(many)
        b.table("call", "10 agents µs", "2,000 agents µs", "ratio", "verdict")
        for row in (*relays(), translated()[0]):
            rounds = b.alternating(b.calls(row, few, 16), b.calls(row, many, 16))
            more = ratio(rounds[1], rounds[0])
            verdict = b.verdict(f"{row.name}, CPU over that with ten", more, MANY)
            b.row(row.name, *(f"{middle(cells).us:.0f}" for cells in rounds), f"{more:.2f}", verdict)
        job = tools_list().job(many.port, expect="more1995")
        first = b.ask(job)
        (rounds,) = b.rounds_of(lambda: b.ask(job).seconds * 1e3)
        again = sorted(rounds)[len(rounds) // 2]
        b.say(
            f"\ntools/list at /mcp: first {first.seconds * 1e3:.1f} ms, then {again:.1f} ms "
            f"({first.bytes / 1e6:.2f} MB): {b.verdict('tools/list, ms', again, LISTING)}. "
            f"RSS with 2,000 agents {rss(many.pids) / 2**20:.0f} MiB, with ten {rss(few.pids) / 2**20:.0f}."
        )


def settled(proxy: Proxy) -> None:
    """Until the gateway has looked at its agents: it rests for a second."""
    before, rest, end = cpu(proxy.pids), 0, time.monotonic() + 60
    while rest < 4 and time.monotonic() < end:
        time.sleep(0.25)
        now = cpu(proxy.pids)
        rest = rest + 1 if now - before < 0.03 else 0
        before = now


def apart(
    b: Bench, row: Row, proxies: Sequence[Proxy], asks: Sequence[Callable[[Job], Outcome]], connections: int
) -> Callable[[], Cell]:
    """A measurement of calls that several proxies are asked for at the same time, each by its own of
    ``asks``; making it warms up."""
    pids = [pid for proxy in proxies for pid in proxy.pids]
    share = connections // len(proxies)

    def done(count: int) -> Cell:
        jobs = [row.job(proxy.port, connections=share, count=count) for proxy in proxies]
        for ask, job in zip(asks, jobs, strict=True):
            warm(ask, job)
        before = cpu(pids)
        with ThreadPoolExecutor(len(jobs)) as pool:
            outcomes = list(pool.map(lambda ask, job: ask(job), asks, jobs))
        units, seconds = count * len(jobs), max(o.seconds for o in outcomes)
        busy = (cpu(pids) - before) / seconds
        time.sleep(WRITTEN)
        return Cell(units / seconds, (cpu(pids) - before) / units, busy)

    count = share
    for _ in range(3):
        count = max(share, int(done(count).rate * b.seconds / len(proxies)))
    return lambda: done(count)


def workers(b: Bench) -> None:
    """More processes must not make a request cost more."""
    b.part(
        "Workers: CPU a request, 64 at once",
        "One worker may use the same cores as several; where there are only two, clients and agents are on",
        "one of them, too. Apart: as many gateways of one worker as there are workers, which know nothing of",
        "each other, with their share of the requests at the same time: what it costs here that work is done",
        "by several processes, whatever they are.",
    )
    said = subprocess.run([SCRIPT, "serve", "--help"], capture_output=True, text=True, timeout=60).stdout
    counts = [n for n in (2, 4) if n <= len(CORES.all)]
    if "--workers" not in said or not counts:
        b.say("Left out: " + ("one core." if "--workers" in said else "serve has no --workers yet."))
        return
    b.table(
        "row", "workers", "µs", "1 worker µs", "ratio", "apart µs", "ratio", "/s", "1 worker /s",
        "verdict over one", "verdict over apart",
    )  # fmt: skip
    for count in counts:
        with (
            gateway(b.home / f"one{count}", b.direct.port, workers=1, cores=count) as one,
            gateway(b.home / f"workers{count}", b.direct.port, workers=count, cores=count) as many,
            contextlib.ExitStack() as stack,
        ):
            others = [
                stack.enter_context(
                    gateway(b.home / f"other{count}-{n}", b.direct.port, workers=1, cores=count)
                )
                for n in range(1, count)
            ]
            asks = [b.ask, *(stack.enter_context(clients()) for _ in others)]
            for row in (*relays(), translated()[0]):
                rounds = b.alternating(
                    b.calls(row, many, 64), b.calls(row, one, 64), apart(b, row, [one, *others], asks, 64)
                )
                new, old, alone = map(middle, rounds)
                more, beyond = ratio(rounds[0], rounds[1]), ratio(rounds[0], rounds[2])
                b.row(
                    row.name, str(count), f"{new.us:.0f}", f"{old.us:.0f}", f"{more:.2f}", f"{alone.us:.0f}",
                    f"{beyond:.2f}", f"{new.rate:.0f}", f"{old.rate:.0f}",
                    b.verdict(f"{row.name}, {count} workers, CPU over one's", more, WORKERS),
                    b.verdict(f"{row.name}, {count} workers, CPU over as many apart", beyond, WORKERS),
                )  # fmt: skip
