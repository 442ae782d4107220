"""A real gateway that is killed and started again on one data directory, before real agents."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from ..conftest import PATIENCE, Process, Spawn, wait_until
from ..e2e.conftest import PEERS, Cli, Journal, Peers, peers
from ..support.forked import Forked
from ..support.serving import owns

__all__ = ["peers"]


class Gateway:
    """`agentgw serve` at one port, on one data directory, as often as it is started."""

    def __init__(self, spawn: Spawn, script: Path, forked: Forked, home: Path, port: int) -> None:
        self.cli = Cli(script, home, forked)
        self.home = home
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.options: list[object] = []
        self._spawn = spawn
        self._script = script
        self.process: Process
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def start(self, *options: object, ready: bool = True, **env: str) -> Process:
        """Start it (again); ``ready``: and wait for it."""
        words = [self._script, "serve", "--port", str(self.port), *map(str, [*self.options, *options])]
        environment = {**self.cli.environment, **env}
        # With workers the port is bound before anybody answers there.
        self.process = self._spawn("gateway", words, env=environment, cwd=self.home)
        if ready:
            wait_until("the gateway is ready", self._ready)
        return self.process

    def _ready(self) -> bool:
        if not owns(self.home, self.process):
            return False
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def family(self) -> list[psutil.Process]:
        """Its process and all below it."""
        top = psutil.Process(self.process.popen.pid)
        return [top, *top.children(recursive=True)]

    def kill(self) -> None:
        """kill -9 the process that was started, alone; whatever it had started ends, too."""
        family = self.family
        os.kill(self.process.popen.pid, signal.SIGKILL)
        self.process.popen.wait(PATIENCE)
        self.gone(family)

    def gone(self, family: list[psutil.Process]) -> None:
        wait_until("no process is left", lambda: not [p for p in family if _lives(p)])

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.process.popen.pid, number)

    def ended(self) -> int:
        """The exit status, once it has ended."""
        return self.process.popen.wait(PATIENCE)

    # --- clients -----------------------------------------------------------------------------

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.http.post(path, json=body, headers=headers)

    def as_owner(self) -> None:
        """Requests from now on carry the owner's token."""
        token = json.loads((self.home / "owner.json").read_bytes())["token"]
        self.http.headers["authorization"] = f"Bearer {token}"

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def run(self, agent: str, text: str, media_type: str = "text/plain") -> str:
        """Begin an ACP run and don't wait for it; its id."""
        parts = [{"content_type": media_type, "content": text}]
        body = {"agent_name": agent, "mode": "async", "input": [{"role": "user", "parts": parts}]}
        answer = self.post("/acp/runs", body)
        assert answer.status_code == 202, answer.text
        return answer.json()["run_id"]

    def settled_run(self, run_id: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The Run, once it works no more."""

        def look() -> Any:
            run = self.get(f"/acp/runs/{run_id}").json()
            return run if run["status"] not in ("created", "in-progress", "cancelling") else None

        return wait_until(f"run {run_id} has settled", look, seconds)

    def a2a(self, agent: str, method: str, params: Any, version: str = "1.0") -> dict[str, Any]:
        """The JSON-RPC answer of an A2A agent."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.post(f"/a2a/{agent}/", body, **{"A2A-Version": version}).json()

    def a2a_stream(self, agent: str, method: str, params: Any) -> Iterator[dict[str, Any]]:
        """The responses of a JSON-RPC stream."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"A2A-Version": "1.0"}
        with self.http.stream("POST", f"/a2a/{agent}/", json=body, headers=headers) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    # --- the books ---------------------------------------------------------------------------

    def rows(self, query: str, *values: object) -> list[Any]:
        """What the store says, read beside the gateway."""
        uri = f"{(self.home / 'agentgw.db').as_uri()}?mode=ro"
        db = sqlite3.connect(uri, uri=True)
        try:
            return db.execute(query, values).fetchall()
        finally:
            db.close()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def a2a_message(text: str, **fields: Any) -> dict[str, Any]:
    """Parameters of SendMessage."""
    content = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **fields}
    return {"message": content}


@pytest.fixture
def gateway(
    spawn: Spawn, agentgw: Path, forked: Forked, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Gateway]:
    """Not started yet."""
    home = tmp_path / "home"
    home.mkdir()
    made = Gateway(spawn, agentgw, forked, home, free_port())
    yield made
    made.http.close()
    if hasattr(made, "process"):
        made.process.stop()


@pytest.fixture
def own_a2a(
    spawn: Spawn, free_port: Callable[[], int], tmp_path: Path
) -> Iterator[tuple[str, Journal, Process]]:
    """An A2A agent of this test's own: its URL, journal and process."""
    port, journal = free_port(), Journal(tmp_path / "own-journal")
    command = [sys.executable, PEERS / "a2a_agent.py", "--port", port, "--journal", journal.path]
    process = spawn("own-a2a", command, port=port)
    yield f"http://127.0.0.1:{port}/", journal, process
    process.stop()


__all__ += ["Gateway", "Peers", "a2a_message"]
