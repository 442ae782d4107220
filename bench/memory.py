"""What stays: memory of the idle gateway, of idle streams, after many calls and broken connections; what a
client that reads nothing costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import msgspec
from account import children, rss
from calls import settled
from load import Job
from measure import Bench, Limit
from parties import Proxy, agents, gateway
from rows import SMALL, Row, a2a, acp, mcp, relays, translated

MB = 1_000_000
IDLE = Limit(90, 70)  # MB
STREAM = Limit(25, 15)  # KiB
GROWN = Limit(10, 5)  # MB
LEFT = Limit(0, 0)
STALLED = Limit(8, 2)  # MB
LARGE = Limit(256, 64)  # MB: of a translated task of FLOOD, once (in an ACP client's last events) or in part
SENT = Limit(32, 16)  # MiB: what the kernel's buffers on two hops take, and a little
FLOOD = 200  # MiB
PIECE = 64 * 1024


def stdio() -> Row:
    row = mcp("stdio", {"text": SMALL}, modern=False)
    return msgspec.structs.replace(row, name="MCP handshake → MCP stdio")


def memory(b: Bench) -> None:
    b.part("Memory", "MB: 1,000,000 bytes of resident memory.")
    b.table("what", "value", "verdict")
    for name, row in _idle_streams():
        with gateway(b.home / f"idle{row.name}".replace(" ", ""), b.direct.port) as fresh:
            each = _per_stream(b, fresh, row) / 1024
            b.row(f"{name}: an idle open stream", f"{each:.1f} KiB", b.verdict(f"{name}, KiB", each, STREAM))
    with agents() as port:
        with gateway(b.home / "memory", port, stdio=True) as fresh:
            settled(fresh)
            idle = rss(fresh.pids[:1]) / MB
            b.row("idle, its children not counted", f"{idle:.0f} MB", b.verdict("idle, MB", idle, IDLE))
            kids = _leaks(b, fresh, port)
        left = sum(map(_alive, kids))
        b.row("children after its end", str(left), b.verdict("children after its end", left, LEFT))


def _idle_streams() -> list[tuple[str, Row]]:
    text = "stream 2 600000 10"
    return [
        ("MCP → MCP", mcp("mcp", {"text": text}, progress=True)),
        ("A2A → A2A", a2a("a2a", text, method="SendStreamingMessage")),
        ("ACP → ACP", acp("acp", text, mode="stream")),
        ("A2A → ACP", a2a("acp", text, method="SendStreamingMessage")),
    ]


def _per_stream(b: Bench, fresh: Proxy, row: Row) -> float:
    """Bytes of one, from how memory grows from a hundred of them to several."""
    more = 200 if b.short else 500
    settled(fresh)

    def hold(count: int) -> int:
        b.ask(row.job(fresh.port, expect="", kind="hold", connections=count, count=count))
        time.sleep(1)
        return rss(fresh.pids)

    few, many = hold(100), hold(more)
    b.ask(relays()[0].job(fresh.port))  # ends them
    return (many - few) / more


def _leaks(b: Bench, fresh: Proxy, port: int) -> list[int]:
    """The gateway's children at last."""
    calls, broken = (5000, 200) if b.short else (100_000, 1000)
    rows = [*relays(), *translated(), stdio()]
    _all(b, fresh, rows, 2200)
    settled(fresh)
    before, kids = rss(fresh.pids), len(children(fresh.pids[0]))
    _all(b, fresh, rows, calls // 2)
    half = rss(fresh.pids)
    _all(b, fresh, rows, calls // 2)
    after = rss(fresh.pids)
    _cut(b, fresh, broken)
    left = _left(port)
    settled(fresh)
    grown = (rss(fresh.pids) - before) / MB
    b.row(
        f"growth by {calls} calls and {broken} broken connections",
        f"{grown:+.1f} MB (half of the calls {(half - before) / MB:+.1f}, all {(after - before) / MB:+.1f})",
        b.verdict("growth, MB", grown, GROWN),
    )
    _cut(b, fresh, broken)
    left = max(left, _left(port))
    settled(fresh)
    more = (rss(fresh.pids) - before) / MB - grown
    b.row(f"growth by {broken} more", f"{more:+.1f} MB", b.verdict("growth by more, MB", more, GROWN))
    b.row("connections left at the agents", str(left), b.verdict("connections left", left, LEFT))
    now = children(fresh.pids[0])
    b.row(
        "children more than before",
        str(len(now) - kids),
        b.verdict("children more", len(now) - kids, LEFT),
    )
    return now


def _cut(b: Bench, fresh: Proxy, count: int) -> None:
    """Break so many streams, as fast as it goes: what was asked of the agents goes on for a second."""
    cut = _streams("stream 50 20 100")
    for _, row in cut:
        b.ask(row.job(fresh.port, expect="", kind="abort", connections=20, count=count // len(cut)))


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _all(b: Bench, proxy: Proxy, rows: list[Row], calls: int) -> None:
    for row in rows:
        b.ask(row.job(proxy.port, connections=16, count=calls // len(rows)))


def _streams(text: str) -> list[tuple[str, Row]]:
    return [
        ("MCP → MCP", mcp("mcp", {"text": text}, progress=True)),
        ("A2A → A2A", a2a("a2a", text, method="SendStreamingMessage")),
        ("ACP → ACP", acp("acp", text, mode="stream")),
        ("A2A → ACP", a2a("acp", text, method="SendStreamingMessage")),
        ("ACP → A2A", acp("a2a", text, mode="stream")),
        ("MCP → stdio", mcp("stdio", {"text": text}, modern=False, progress=True)),
    ]


def _documents(text: str) -> list[tuple[str, Row]]:
    return [(f"{row.name}, one document", row) for row in relays(text)]


def _left(port: int) -> int:
    """Connections at the agents, once those that are kept for a while have gone."""
    end = time.monotonic() + 30
    while (left := _count(port, "held") - 1) and time.monotonic() < end:
        time.sleep(0.5)
    return left


def _count(port: int, what: str) -> int:
    return int(urlopen(f"http://127.0.0.1:{port}/{what}", timeout=60).read())


def pressure(b: Bench) -> None:
    """A client that reads nothing: the agent must be slowed down, not the gateway filled."""
    b.part(
        "Back-pressure",
        f"{FLOOD} MiB for a client that reads nothing after the first bytes. Sent: what its agent got rid of",
        "until it came to a halt; the kernel's buffers hold most of that. Then the client reads on.",
    )
    b.table("answer", "growth MB", "sent MiB", "the rest came", "verdict growth", "verdict sent")
    count = FLOOD * 2**20 // PIECE
    rows, warm = (
        _streams(f"stream {n} 0 {PIECE}")[:-1] + _documents(f"plain {n} {PIECE}") for n in (count, 3)
    )
    for number, (name, row) in enumerate(rows):
        home, extra = b.home / f"pressure{number}", '[limits]\nbody = "256MiB"\n'
        with agents() as port, gateway(home, port, extra=extra) as fresh:
            settled(fresh)
            _stalled(b, fresh, port, name, row, warm[number][1])

    b.say()
    b.table("a translated task, read to its end", "growth MB at most", "that stayed", "came", "verdict")
    for number, (name, row) in enumerate(_streams(f"stream {count} 0 {PIECE}")[3:5]):
        home, extra = b.home / f"large{number}", '[limits]\nbody = "256MiB"\n'
        with agents() as port, gateway(home, port, extra=extra) as fresh:
            settled(fresh)
            _large(b, fresh, name, row, warm[3 + number][1])


def _large(b: Bench, fresh: Proxy, name: str, row: Row, warm: Row) -> None:
    b.ask(warm.job(fresh.port, expect="", count=100, connections=4))
    settled(fresh)
    base, over = rss(fresh.pids), threading.Event()
    seen = [base]

    def look() -> None:
        while not over.wait(0.05):
            seen.append(rss(fresh.pids))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        outcome = b.ask(row.job(fresh.port, expect="", count=1, connections=1))
    finally:
        over.set()
        looking.join()
    settled(fresh)
    most, stayed = (max(seen) - base) / MB, (rss(fresh.pids) - base) / MB
    verdict = b.verdict(f"{name}, growth by a large task, MB", most, LARGE)
    b.row(name, f"{most:+.1f}", f"{stayed:+.1f}", f"{outcome.bytes / 2**20:.0f} MiB", verdict)


def _stalled(b: Bench, fresh: Proxy, port: int, name: str, row: Row, warm: Row) -> None:
    b.ask(warm.job(fresh.port, expect="", count=100, connections=4))
    settled(fresh)
    base, sent = rss(fresh.pids), _count(port, "sent")
    try:
        b.ask(row.job(fresh.port, expect="", kind="stall"))
        grown, gone = _halt(lambda: rss(fresh.pids), lambda: _count(port, "sent"))
        grown, gone = (grown - base) / MB, (gone - sent) / 2**20
        outcome = b.ask(Job(kind="resume"))
        whole = f"{outcome.bytes / 2**20:.0f} MiB" + (f" ({outcome.error})" if outcome.error else "")
    except (RuntimeError, OSError) as e:
        b.row(name, "-", "-", str(e)[:80], "**MISSED**", "**MISSED**")
        b.verdict(f"{name}, growth", float("inf"), STALLED)
        return
    b.row(
        name, f"{grown:+.1f}", f"{gone:.1f}", whole,
        b.verdict(f"{name}, growth of a stalled answer, MB", grown, STALLED),
        b.verdict(f"{name}, sent to a stalled reader, MiB", gone, SENT),
    )  # fmt: skip


def _halt(memory: Callable[[], int], sent: Callable[[], int]) -> tuple[int, int]:
    """The most memory, and what was sent, once nothing has been sent for two seconds."""
    most = last = 0
    still, end = time.monotonic(), time.monotonic() + 60
    while time.monotonic() < min(still + 2, end):
        most = max(most, memory())
        if (now := sent()) != last:
            last, still = now, time.monotonic()
        time.sleep(0.1)
    return most, last
