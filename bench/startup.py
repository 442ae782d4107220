"""How soon a command answers and a gateway serves, each in a process and a data directory of its own.

    uv run python bench/startup.py [ROUNDS]

Printed: the best and the middle of the rounds, in seconds of wall clock, and the CPU time of the best.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(sys.executable).parent / "agentgw"


def command(*words: str) -> None:
    """Run a command to its end."""
    subprocess.run([SCRIPT, *words], check=True, stdout=subprocess.DEVNULL)


def healthy(home: Path) -> Callable[[], None]:
    """From the start of ``agentgw serve`` to its first healthy answer; its end is not timed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [SCRIPT, "serve", "--port", str(port)]
    environment = {**os.environ, "AGENTGW_HOME": str(home)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
            break
        except OSError:
            time.sleep(0.005)

    def end() -> None:
        process.terminate()
        process.wait()

    return end


def measured(what: str, run: Callable[[Path], Callable[[], None] | None], rounds: int) -> None:
    """Time ``run``, which gets an empty data directory and may return what ends it."""
    walls: list[float] = []
    cpus: list[float] = []
    for _ in range(rounds):
        home = Path(tempfile.mkdtemp())
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        end = run(home)
        walls.append(time.perf_counter() - start)
        if end is not None:
            end()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        shutil.rmtree(home)
    print(f"{what:24} best {min(walls):.2f}   middle {statistics.median(walls):.2f}   CPU {min(cpus):.2f}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    measured("agentgw --help", lambda home: command("--help"), rounds)
    measured("agentgw serve, healthy", healthy, rounds)


if __name__ == "__main__":
    main()
