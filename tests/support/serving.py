"""``agentgw serve`` as a process of its own, of which commands know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentgw.cli import owner

from ..conftest import wait_until


def owns(home: Path, process: Any) -> bool:
    """Whether commands find it, which comes last: of several processes the one that is started is that."""
    if (status := process.popen.poll()) is not None:
        raise RuntimeError(f"the gateway ended with {status}:\n{process.output}")
    here = owner.read(home)
    return here is not None and here.pid == process.popen.pid


def serving(spawn: Any, cli: Any, port: int, *options: object) -> Any:
    """Start it at ``port``, in the data directory and with the environment of ``cli``. Before it is ready it
    listens already, and commands would do their work themselves."""
    cli.home.mkdir(parents=True, exist_ok=True)
    words = [cli.script, "serve", "--port", port, *options]
    process = spawn("gateway", words, port=port, env=cli.environment, cwd=cli.home)
    wait_until("the gateway is ready", lambda: owns(cli.home, process))
    return process
