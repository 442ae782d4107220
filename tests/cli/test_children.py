"""Agents that are processes, and a gateway that is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..support.serving import serving

PEER = Path(__file__).parents[1] / "faults" / "stdio_peer.py"


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_killing_the_gateway_ends_all_that_it_started(
    spawn: Any, cli: Any, free_port: Any, until: Any
) -> None:
    port = free_port()
    served = serving(spawn, cli, port)
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


@pytest.mark.parametrize("runs", [False, True], ids=["alone", "gateway"])
def test_a_command_that_ends_at_once_is_told_how_and_what_it_said(
    spawn: Any, cli: Any, free_port: Any, runs: bool
) -> None:
    if runs:
        port = free_port()
        serving(spawn, cli, port)
    wrong = "import sys; print('once', file=sys.stderr); sys.exit('no key in APP_KEY')"
    refused = cli.run("agents", "add", "scribe", "--", sys.executable, "-c", wrong)
    assert refused.returncode == 1
    assert "scribe failed: its process ended with exit status 1" in refused.stderr
    assert "on stderr: once | no key in APP_KEY\n" in refused.stderr
    added = cli.run("agents", "add", "scribe", "--protocol", "mcp", "--", sys.executable, "-c", wrong)
    assert added.returncode == 0
    assert "warning: scribe is down: scribe failed: its process ended with exit status 1\n" in added.stderr
