"""Hundreds of clients of every protocol at once, at a real gateway before agents of every protocol that fail
at random; then the books are balanced: every call has ended exactly once, and nothing is left of any.

python -m tests.soak.soak [--minutes N] [--clients N] [--seed N] [--workers N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import uvloop

from ..support.ports import find_port
from .clients import Books, Client

ROOT = Path(__file__).resolve().parents[2]
WORKER = "a worker"  # what a worker's command says (see ``gateway``, whose import would start one)
SETTLES = 25.0  # seconds after the last call in which all that the limits of time end has ended
MEMORY = (
    96 << 20
)  # bytes that the gateway may have grown by since it was warm: of tasks alone it keeps 64 MiB
PROCESSES = 24  # that each process of the gateway keeps for sessions at most
ENDED = {"COMPLETED", "FAILED", "CANCELED", "REJECTED", "INPUT_REQUIRED", "AUTH_REQUIRED"}
LIMITS = 'idle_timeout = "3s"\ntotal_timeout = "12s"\nquestion = "4s"\nconnect_timeout = "2s"\n'


@dataclass
class Report:
    """``faults``: what does not balance."""

    books: Books
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends: Counter[str] = Counter()
        for kind, number in self.books.ends.items():
            ends[kind.rpartition(" ")[2]] += number
        lines = [f"{self.books.begun} calls in {self.seconds:.0f} s: {dict(ends.most_common())}"]
        lines += [f"  {kind:24} {number}" for kind, number in sorted(self.books.ends.items())]
        lines += [f"{name}: {value}" for name, value in self.figures.items()]
        return "\n".join(
            [
                *lines,
                *(f"FAULT {fault}" for fault in self.faults),
                "balanced" if not self.faults else "NOT balanced",
            ]
        )


class Gateway:
    """``agentgw serve``, with the agents; its files lie in ``work``."""

    def __init__(self, work: Path, seed: int, workers: int) -> None:
        self.work = work
        self.workers = workers
        self.port, self.agents_port = find_port(), find_port()
        self.held = work / "held"
        self.held.mkdir()
        self._log = (work / "gateway.log").open("wb")
        home = work / "home"
        home.mkdir()
        config = work / "config.toml"
        config.write_text(self._config(seed))
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTGW_", "OTEL_"))}
        self.agents = self._spawn(
            ["tests.soak.agents", self.agents_port, seed], plain, (work / "agents.log").open("wb")
        )
        self._until("the agents listen", lambda: self._get(f"http://127.0.0.1:{self.agents_port}/held"))
        words = ["tests.soak.gateway", self.held, "serve", "--port", self.port, "--config", config]
        words += ["--workers", workers]
        self.process = self._spawn(words, {**plain, "AGENTGW_HOME": str(home)}, self._log)
        self._until("the gateway is ready", lambda: self.metrics() and self._agents_ok())

    def _spawn(self, words: list[Any], env: dict[str, str], log: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *map(str, words)]
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)

    def _config(self, seed: int) -> str:
        at = f"http://127.0.0.1:{self.agents_port}"
        urls = {name: ("mcp" if "mcp" in name else "acp" if name == "acp" else "a2a", f"{at}/{name}")
                for name in ("mcp", "mcph", "a2a", "old", "rest", "acp")}  # fmt: skip
        entries = [
            f'[agents.{name}]\nurl = "{url}"\nprotocol = "{protocol}"\n'
            for name, (protocol, url) in urls.items()
        ]
        command = json.dumps([sys.executable, str(ROOT / "tests" / "soak" / "stdio.py"), str(seed)])
        return f"[limits]\n{LIMITS}\n[agents.stdio]\ncommand = {command}\n" + "\n".join(entries)

    @staticmethod
    def _until(what: str, check: Callable[[], Any], seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while True:
            try:
                if found := check():
                    return found
            except OSError:
                pass
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {what}")
            time.sleep(0.05)

    @staticmethod
    def _get(url: str, token: str = "") -> bytes:
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def api(self, path: str) -> Any:
        token = json.loads((self.work / "home" / "owner.json").read_text())["token"]
        return json.loads(self._get(f"{self.url}/api/{path}", token))

    def _agents_ok(self) -> bool:
        return all(agent["health"] == "ok" for agent in self.api("agents"))

    def metrics(self) -> dict[str, float]:
        lines = self._get(f"{self.url}/metrics").decode().splitlines()
        return {
            k: float(v) for k, _, v in (line.rpartition(" ") for line in lines if not line.startswith("#"))
        }

    def state(self) -> dict[str, Any]:
        """What is held at this moment."""
        serving = self.processes
        for process in serving:
            (self.held / f"{process.pid}.json").unlink(missing_ok=True)
            process.send_signal(signal.SIGUSR1)
        inside: Counter[str] = Counter()
        for process in serving:
            file = self.held / f"{process.pid}.json"
            said = self._until("what the loop holds", lambda file=file: file.exists() and file.read_text())
            inside.update(json.loads(said))
        there = json.loads(self._get(f"http://127.0.0.1:{self.agents_port}/held"))
        children = psutil.Process(self.process.pid).children(recursive=True)
        return {
            "memory": sum(process.memory_info().rss for process in serving),
            "files": sum(process.num_fds() for process in serving),
            "children": len(children) - len(serving) + 1,
            "loop's tasks": inside.total(),
            "by": dict(inside),
            "clients' connections": sum(
                c.laddr.port == self.port
                for process in serving
                for c in process.net_connections()
                if c.status == "ESTABLISHED"
            ),
            "agents' connections": there["held"] - 1,
            "agents serve": there["serving"],
            "asked": there["asked"][:5],
            "tasks running": self.metrics()["agentgw_tasks_running"],
        }

    @property
    def processes(self) -> list[psutil.Process]:
        """The one that was started, and its workers."""
        first = psutil.Process(self.process.pid)
        return [first, *(child for child in first.children() if WORKER in _words(child))]

    def log(self) -> str:
        return (self.work / "gateway.log").read_text(errors="replace")

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            for process in (self.process, self.agents):
                if process.poll() is None:
                    process.kill()
                process.wait()
            self._log.close()


async def _load(report: Report, gateway: Gateway, seconds: float, clients: int, seed: int) -> None:
    chance = random.Random(seed)
    until = asyncio.get_running_loop().time() + seconds
    every = [Client(gateway.port, chance.randrange(1 << 30), report.books) for _ in range(clients)]
    running = [asyncio.create_task(client.run(until)) for client in every]
    for name, share in (("warm", 0.25), ("busy", 0.75)):
        await asyncio.sleep(until - seconds * (1 - share) - asyncio.get_running_loop().time())
        report.figures[name] = await asyncio.to_thread(gateway.state)
    for done in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(done, BaseException):
            report.faults.append(f"a client broke: {done!r}")


def _words(process: psutil.Process) -> Sequence[str]:
    """Its command line; none of one that has just ended, as agents do all the time."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return ()


def _tasks(gateway: Gateway) -> Counter[str]:
    """The states of all tasks that the gateway tells of, by agent."""
    found: Counter[str] = Counter()
    for agent in ("mcp", "mcph", "stdio", "a2a", "old", "rest", "acp"):
        token = ""
        while True:
            call = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "ListTasks",
                "params": {"pageSize": 100, "pageToken": token},
            }
            request = urllib.request.Request(
                f"{gateway.url}/a2a/{agent}", json.dumps(call).encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                result = json.load(answer)["result"]
            for task in result["tasks"]:
                state = task["status"]["state"].removeprefix("TASK_STATE_")
                found[state if state in ENDED else f"{state} of {agent}"] += 1
            token = result.get("nextPageToken") or ""
            if not token:
                break
    return found


def _balance(report: Report, gateway: Gateway, before: dict[str, Any]) -> None:
    books, faults = report.books, report.faults
    parts = len(gateway.processes)
    faults += [f"{len(books.wrong)} calls did not end as they must; {wrong}" for wrong in books.wrong[:5]]
    if sum(books.ends.values()) != books.begun:
        faults.append(f"{books.begun} calls began, {sum(books.ends.values())} ended")
    end = time.monotonic() + SETTLES
    while True:  # until the limits of time have ended what hangs
        after = gateway.state()
        same = [what for what in ("tasks running", "agents serve") if after[what] > 0]
        processes = 2 * (after["children"] - before["children"])  # what reads from them
        same += (
            ["loop's tasks"] if after["loop's tasks"] > before["loop's tasks"] + 8 * parts + processes else []
        )
        same += (
            ["clients' connections"] if after["clients' connections"] > before["clients' connections"] else []
        )
        if not same or time.monotonic() > end:
            break
        time.sleep(1)
    responses = {k: n for k, n in gateway.metrics().items() if k.startswith("agentgw_http_responses_total{")}
    counted = sum(n for name, n in responses.items() if 'door="api"' not in name)  # those are ours
    report.figures["answers"] = {"complete": books.answers, "left": books.cut, "counted": counted}
    if not books.answers <= counted <= books.answers + books.cut:
        faults.append(f"the gateway counts {counted} answers")
    # Who lists tasks has the agents asked about those that they work on. They fail at random, and one that
    # has failed several times is not asked for a while.
    patience = time.monotonic() + 60
    while not (states := _tasks(gateway)).keys() <= ENDED and time.monotonic() < patience:
        time.sleep(0.2)
    report.figures |= {"before": before, "after": after, "states": dict(states)}
    faults += [f"still: {what} {after[what]} (before: {before[what]})" for what in same]
    children = min(
        PROCESSES * parts, books.kept
    )  # an MCP session has a process of its own for as long as it lasts
    for what, most in (
        ("children", parts + children),
        ("agents' connections", 128 * parts),
        ("files", 160 * parts),
    ):
        if after[what] > before[what] + most:
            faults.append(f"{what}: {before[what]} before, {after[what]} after")
    grown = after["memory"] - report.figures["warm"]["memory"]
    report.figures["grown since it was warm, MiB"] = round(grown / (1 << 20), 1)
    if grown > MEMORY * parts:
        faults.append(f"memory: {grown >> 20} MiB more than when it was warm")
    faults += [f"tasks that are {s}: {n}" for s, n in report.figures["states"].items() if s not in ENDED]
    stateless = [row for row in gateway.api("traces?limit=1000") if not row["state"]]
    if len(stateless) > books.cut:  # of those that were left nobody knows
        faults.append(f"{len(stateless)} calls in the traces have no state: {stateless[:3]}")


def _fresh(report: Report, gateway: Gateway) -> None:
    """A call of every kind works, at the latest on the third try: the agents go on to fail."""
    books = Books()

    async def calls() -> None:
        client = Client(gateway.port, 1, books)
        for kind in (
            client.mcp,
            client.a2a,
            client.rest,
            client.acp,
            client.acp_stream,
            client.a2a_stream,
            client.mcp_session,
        ):
            for _ in range(12):
                await books.call(kind.__name__, kind("hi"))
                if books.ends[f"{kind.__name__} answer"]:
                    break
            else:
                report.faults.append(f"no fresh call of {kind.__name__} works: {dict(books.ends)}")
        client.http.close()
        client.second.close()

    asyncio.run(calls())
    report.faults += [f"a fresh call: {wrong}" for wrong in books.wrong[:3]]


def soak(seconds: float, clients: int, seed: int, work: Path, workers: int = 1) -> Report:
    """Have ``clients`` call for so long, and balance the books."""
    report = Report(Books(), seconds)
    gateway = Gateway(work, seed, workers)
    try:
        before = gateway.state()
        uvloop.run(_load(report, gateway, seconds, clients, seed))
        _balance(report, gateway, before)
        _fresh(report, gateway)
    finally:
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        status = gateway.stop()
    report.faults += [f"outlives the gateway: {child}" for child in psutil.wait_procs(children, 5)[1]]
    if status != 0:
        report.faults.append(f"the gateway ended with {status}")
    if "Traceback" in (log := gateway.log()):
        report.faults.append(f"a traceback in the log: {log[log.index('Traceback') - 200 :][:3000]}")
    return report


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--minutes", type=float, default=5)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--workers", type=int, default=1)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(chosen.minutes * 60, chosen.clients, chosen.seed, Path(folder), chosen.workers)
    print(report)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
