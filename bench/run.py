"""The gateway, nginx and the bare way side by side, on loopback, in alternating rounds.

    uv run bench/run.py [--short] [--only NAME[,NAME…]] [--out FILE]

Names: relay, translated, load, stream, payload, agents, start, memory, pressure, workers, peers. Each figure
is the middle of the rounds and each ratio the middle of the rounds' ratios; CPU is what the operating system
accounts to the process, all of it. Proxies run on one core, clients and agents on the others. Each row ends
with a verdict: aim met, must met, or missed. A full run writes bench/RESULTS.md, any other what --out names.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from account import CORES
from calls import load, many_agents, payload, relay, translations, workers
from measure import Bench, summary
from memory import memory, pressure
from parties import agents, clients, gateway, nginx
from peers import peers
from startup import startup
from streams import streams

PARTS = {
    "relay": relay,
    "translated": translations,
    "load": load,
    "stream": streams,
    "payload": payload,
    "agents": many_agents,
    "start": startup,
    "memory": memory,
    "pressure": pressure,
    "workers": workers,
    "peers": peers,
}


def _head(bench: Bench, words: str) -> list[str]:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    said = subprocess.run([found, "-v"], capture_output=True, text=True).stderr.strip() if found else ""
    programs = [f"{name} {version(name)}" for name in ("agentgw", "uvloop", "httptools")]
    programs.append(said.partition(": ")[2] if bench.nginx else "nginx not installed: its columns are empty")
    return [
        "# Measured",
        "",
        f"By `uv run bench/run.py{words}`, which says what is measured; [docs/performance.md]"
        "(../docs/performance.md) says how.",
        "",
        f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores ({platform.machine()}): proxies on core "
        f"{CORES.proxy() or 'any'}, clients and agents on {CORES.others() or 'any'};",
        f"{platform.system()}, Python {platform.python_version()}, {', '.join(programs)}.",
        f"Load of the machine before: {os.getloadavg()[0]:.1f}.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="shorter rounds, for daily use")
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where to write the tables")
    wanted = parser.parse_args()
    names = wanted.only.split(",") if wanted.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    words = (" --short" if wanted.short else "") + (f" --only {wanted.only}" if wanted.only else "")
    home = Path(tempfile.mkdtemp(prefix="agentgw-bench-"))
    try:
        with (
            agents() as port,
            clients() as ask,
            gateway(home / "agentgw", port) as ours,
            nginx(home / "nginx", port) as other,
        ):
            bench = Bench(home, ask, port, ours, other, wanted.short)
            head = _head(bench, words)
            if other is None:
                print("nginx is not installed (Debian: nginx-light); what is compared with it is left out")
            for name in names:
                try:
                    PARTS[name](bench)
                except (RuntimeError, OSError) as e:  # the others are still worth measuring
                    bench.broken(str(e) or repr(e))
            verdict = summary(bench)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print("\n" + "\n".join(verdict))
    out = wanted.out or (None if words else Path(__file__).with_name("RESULTS.md"))
    if out is not None:
        out.write_text("\n".join([*head, *verdict, *bench.lines]) + "\n")


if __name__ == "__main__":
    main()
