"""The console script as a user runs it, and small HTTP servers for it to talk to."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ..support.forked import Forked


class Exchange(BaseHTTPRequestHandler):
    """One request to a Fake: ``body``, ``json``, and ways to answer."""

    server: Any
    protocol_version = "HTTP/1.0"  # an answer ends with its connection: streams need no framing

    def handle_one(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.body = self.rfile.read(length)
        self.server.fake.seen.append(self)
        route = self.server.fake.routes.get(f"{self.command} {self.path}")
        try:
            if route is None:
                self.answer(404, {"error": {"code": "unknown_agent", "message": f"unknown: {self.path}"}})
            else:
                route(self)
        except (BrokenPipeError, ConnectionResetError):
            pass

    do_GET = do_POST = do_DELETE = handle_one

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def answer(self, status: int, value: Any = None, **headers: str) -> None:
        content = b"" if value is None else json.dumps(value).encode()
        self.head(status, "application/json", **headers)
        self.wfile.write(content)

    def head(self, status: int, media_type: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def event(self, value: Any, event: str | None = None, id: str | None = None) -> None:
        head = (f"event: {event}\n" if event else "") + (f"id: {id}\n" if id else "")
        self.wfile.write(f"{head}data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *args: Any) -> None:
        pass


@dataclass
class Fake:
    """A server whose routes (``"GET /path"``) are functions; what was asked is in ``seen``."""

    routes: dict[str, Callable[[Exchange], None]] = field(default_factory=dict)
    seen: list[Exchange] = field(default_factory=list)
    url: str = ""

    def asked(self, what: str) -> list[Exchange]:
        return [e for e in self.seen if f"{e.command} {e.path}" == what]


@pytest.fixture
def fake() -> Iterator[Fake]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
    server.daemon_threads = True
    server.fake = Fake(url=f"http://127.0.0.1:{server.server_port}")
    server.fake.routes["GET /healthz"] = lambda exchange: exchange.answer(200, {"status": "ok"})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.fake
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Cli:
    """Runs ``agentgw`` with a home of its own and nothing of the developer's environment."""

    script: Path
    home: Path
    environment: dict[str, str]
    forked: Forked

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        settings: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": self.environment}
        return subprocess.Popen([str(self.script), *arguments], **(settings | options))

    def run(
        self, *arguments: str, input: str = "", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.forked.run([*arguments], env=self.environment, cwd=cwd, input=input, seconds=120)

    def json(self, *arguments: str, status: int = 0) -> Any:
        """What the command prints, which must be one JSON document and nothing else."""
        done = self.run(*arguments, "--json")
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def at(self, url: str, token: str | None = None) -> Cli:
        """The same, talking to another gateway."""
        more = {"AGENTGW_URL": url} | ({"AGENTGW_TOKEN": token} if token else {})
        return Cli(self.script, self.home, self.environment | more, self.forked)


@pytest.fixture(scope="session")
def make_cli(agentgw: Path, forked: Forked) -> Callable[[Path], Cli]:
    """A command line whose files are all under a directory."""

    def make(directory: Path) -> Cli:
        dropped = ("AGENTGW_", "OTEL_", "FORCE_COLOR", "PYTHONUNBUFFERED")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        own = {"AGENTGW_HOME": str(directory / "home"), "HOME": str(directory / "user"), "TZ": "UTC"}
        return Cli(agentgw, directory / "home", kept | own, forked)

    return make


@pytest.fixture
def cli(make_cli: Callable[[Path], Cli], tmp_path: Path) -> Cli:
    return make_cli(tmp_path)
