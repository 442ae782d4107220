"""The processes of a benchmark: agents, clients, the gateway, nginx; started, accounted for, stopped."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path

import msgspec
from account import CORES, children, family
from load import PATIENCE, Job, Outcome

HERE = Path(__file__).parent
SCRIPT = Path(sys.executable).parent / "agentgw"
NGINX = """
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_buffer_size 16m;
  keepalive_requests 1000000;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  upstream agents {{ server 127.0.0.1:{agents}; keepalive 128; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://agents;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


@contextlib.contextmanager
def process(
    *words: str | Path, cores: set[int] | None = None, **options: object
) -> Generator[subprocess.Popen[bytes]]:
    """Runs on ``cores`` (none: where clients and agents do), and is ended with the block."""

    def pin() -> None:
        if CORES.all:
            os.sched_setaffinity(0, cores or CORES.others())

    started = subprocess.Popen([*words], preexec_fn=pin, **options)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextlib.contextmanager
def agents() -> Generator[int]:
    """The port of the agents."""
    with process(sys.executable, HERE / "agents.py", stdout=subprocess.PIPE) as started:
        yield int(line_of(started, "the agents' port"))


def line_of(started: subprocess.Popen[bytes], what: str, seconds: float = 30) -> bytes:
    """The next line that a process says. Raises RuntimeError, which names ``what`` was waited for."""
    assert started.stdout is not None
    if not select.select([started.stdout], [], [], seconds)[0]:
        raise RuntimeError(f"waited {seconds:.0f} s for {what}")
    line = started.stdout.readline()
    if not line:
        raise RuntimeError(f"the process ended that should have said {what}")
    return line


class Clients:
    """A process that does jobs."""

    def __init__(self, started: subprocess.Popen[bytes]) -> None:
        self._process = started

    def __call__(self, job: Job) -> Outcome:
        """Raises RuntimeError for a wrong answer, and for none in ``PATIENCE``."""
        assert self._process.stdin is not None
        what = f"{job.kind} {job.head.partition(' HTTP')[0]}".strip()
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()
        line = line_of(self._process, f"the outcome of {what}", 2 * PATIENCE + 30)
        outcome = msgspec.json.decode(line, type=Outcome)
        if outcome.error:
            raise RuntimeError(f"{what}: {outcome.error}")
        return outcome


@contextlib.contextmanager
def clients() -> Generator[Clients]:
    with process(sys.executable, HERE / "load.py", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        yield Clients(started)


class Proxy:
    """Something between clients and agents; ``pids`` do its work."""

    def __init__(self, name: str, port: int, pids: list[int]) -> None:
        self.name = name
        self.port = port
        self.pids = pids


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_up(port: int, path: str, started: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Until it answers, whatever its status. Raises RuntimeError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and started.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).close()
            return
        except urllib.error.HTTPError as e:
            if e.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise RuntimeError("it did not start")


@contextlib.contextmanager
def gateway(
    home: Path,
    agents_port: int,
    *,
    more: int = 0,
    workers: int = 0,
    cores: int = 1,
    stdio: bool = False,
    extra: str = "",
) -> Generator[Proxy]:
    """agentgw with one agent of each kind, ``more`` besides, and with ``stdio`` one that is a command.
    ``workers``: 0 says nothing of them. ``cores``: how many it may use. ``extra``: more configuration."""
    base = f"http://127.0.0.1:{agents_port}"
    declared = {
        "mcp": (f"{base}/mcp", "mcp"),
        "mcph": (f"{base}/mcph", "mcp"),
        "a2a": (f"{base}/a2a", "a2a"),
        "acp": (f"{base}/acp", "acp"),
        **{f"more{n}": (f"{base}/a2a{n}", "a2a") for n in range(more)},
    }
    home.mkdir()
    config = home / "bench.toml"
    lines = [f'[agents.{n}]\nurl = "{url}"\nprotocol = "{p}"\n' for n, (url, p) in declared.items()]
    if stdio:
        lines.append(f'[agents.stdio]\ncommand = ["{sys.executable}", "{HERE / "stdio_agent.py"}"]\n')
    config.write_text(extra + "".join(lines))
    port = free_port()
    words: list[str | Path] = [SCRIPT, "serve", "--port", str(port), "--config", config]
    if workers:
        words += ["--workers", str(workers)]
    environment = {**os.environ, "AGENTGW_HOME": str(home / "data")}
    with process(*words, cores=CORES.proxy(cores), env=environment, stdout=subprocess.DEVNULL) as started:
        until_up(port, "/readyz", started)
        yield Proxy("agentgw", port, family(started.pid))


@contextlib.contextmanager
def nginx(home: Path, agents_port: int) -> Generator[Proxy | None]:
    """nginx as reverse proxy with one worker; None where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        yield None
        return
    home.mkdir()
    port = free_port()
    config = home / "nginx.conf"
    config.write_text(NGINX.format(home=home, agents=agents_port, port=port))
    words = (program, "-p", home, "-c", config)
    with process(*words, cores=CORES.proxy(), stderr=subprocess.DEVNULL) as started:
        until_up(port, "/held", started)
        yield Proxy("nginx", port, children(started.pid))
