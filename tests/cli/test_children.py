"""Agents that are processes, and a gateway that is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil

PEER = Path(__file__).parents[1] / "faults" / "stdio_peer.py"


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_killing_the_gateway_ends_all_that_it_started(
    spawn: Any, agentgw: Path, cli: Any, free_port: Any, until: Any
) -> None:
    port = free_port()
    served = spawn("gateway", [agentgw, "serve", "--port", str(port)], port=port, env=cli.environment)
    added = cli.run("agents", "add", "scribe", "--", sys.executable, str(PEER), "--deaf")
    assert added.returncode == 0, added.stderr
    data = json.dumps({"tool": "echo", "arguments": {"text": "has_children"}})
    pids = json.loads(cli.json("call", "scribe", "--data", data)["text"])
    assert not any(gone(pid) for pid in pids)
    os.kill(served.popen.pid, signal.SIGKILL)
    served.popen.wait()
    until("all are gone", lambda: all(gone(pid) for pid in pids))
    shown = cli.json("agents", "logs", "scribe")
    assert shown["lines"][0].endswith("[started]")
