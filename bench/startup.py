"""How soon a command answers and a gateway serves, each in a process and a data directory of its own."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

from measure import Bench, Limit
from parties import SCRIPT, free_port, process, until_up

HELP = Limit(0.3, 0.15)  # seconds
HEALTHY = Limit(1.5, 0.8)


def startup(b: Bench) -> None:
    b.part("Start: seconds of wall clock, each on all cores")
    b.table("what", "middle", "best", "verdict")
    _warm()
    helped, served = b.rounds_of(_help, lambda: _healthy(b.home))
    for name, times, limit in (
        ("agentgw --help", helped, HELP),
        ("agentgw serve, to its first healthy answer", served, HEALTHY),
    ):
        value = statistics.median(times)
        b.row(name, f"{value:.2f}", f"{min(times):.2f}", b.verdict(f"{name}, s", value, limit))


def _warm() -> None:
    """The first start makes the bytecode."""
    _help()


def _help() -> float:
    begun = time.perf_counter()
    subprocess.run([SCRIPT, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _healthy(home: Path) -> float:
    """From the start of ``agentgw serve`` to its first healthy answer; its end is not timed."""
    port = free_port()
    environment = {**os.environ, "AGENTGW_HOME": str(home / f"start{port}")}
    words = (SCRIPT, "serve", "--port", str(port))
    begun = time.perf_counter()
    with process(*words, cores=set(), env=environment, stdout=subprocess.DEVNULL) as started:
        until_up(port, "/healthz", started)
        return time.perf_counter() - begun
