"""A gateway with only the ACP door, served for real; foreign peers on the official SDK beside it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from agentgw.adapters.acp import adapter
from agentgw.adapters.acp.upstream.upstream import ACPUpstream
from agentgw.gateway.access import Access, Grant
from agentgw.gateway.breaker import Breaker
from agentgw.gateway.children import Children
from agentgw.gateway.config import Config
from agentgw.gateway.engine import Hub
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.http.request import EventStream
from agentgw.gateway.http.server import Server
from agentgw.gateway.model import Agent, Health, Principal, Record
from agentgw.gateway.ports import AgentView, Upstream
from agentgw.gateway.telemetry import Span, Tracer
from agentgw.gateway.transport import HttpTransport
from agentgw.registry.memory import MemoryStore

from ...conftest import Spawn
from ...support.ports import find_port

PEERS = Path(__file__).resolve().parents[2] / "peers"
OWNER = "owner-token"


class TestHost:
    """What the gateway gives an upstream."""

    __test__ = False

    def __init__(self) -> None:
        self.config = Config()
        self.tracer = Tracer()
        self.breaker = Breaker(0)
        self.children = Children()
        self.transport = HttpTransport()

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return list(record.headers.items())

    def hidden(self, record: Record) -> list[str]:
        return []

    def environment(self, record: Record) -> dict[str, str]:
        return {}

    def changed(self, agent: str) -> None:
        pass


class Agents:
    """The directory: whatever views a test puts in."""

    def __init__(self) -> None:
        self.known: dict[str, AgentView] = {}

    def add(self, name: str, upstream: Upstream, agent: Agent | None, protocol: str) -> None:
        record = Record(name=name, protocol=protocol, url="http://unused")
        view = AgentView(record=record, agent=agent, health=Health(), upstream=upstream)
        self.known = {**self.known, name: view}

    def views(self) -> Mapping[str, AgentView]:
        return self.known

    async def described(self, name: str, timeout: float = 3.0) -> AgentView | None:
        return self.known.get(name)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class Gateway:
    """A running gateway. ``acp`` is its ACP base URL, ``http`` a client at it."""

    def __init__(self, host: TestHost) -> None:
        self.host = host
        self.agents = Agents()
        self.hub = Hub(self.agents, MemoryStore(), host.tracer, host.config)
        self.root = ""
        self.peer = ""  # the URL of the SDK's agents, where a test wants them
        self.quiet: Callable[[], Awaitable[None]]  # wait until no request is under way
        self.http = client()

    @property
    def acp(self) -> str:
        return f"{self.root}/acp"

    def add(
        self, name: str, upstream: Upstream, agent: Agent | None = None, protocol: str = "memory"
    ) -> None:
        self.agents.add(name, upstream, agent, protocol)

    def relay(self, name: str, url: str, remote: str, **fields: Any) -> None:
        """An agent that speaks ACP: the door relays."""
        self.add(name, self.upstream(name, url, remote, **fields), Agent(name=remote), "acp")

    def upstream(self, name: str, url: str, remote: str | None, **fields: Any) -> ACPUpstream:
        return ACPUpstream(Record(name=name, protocol="acp", url=url, remote=remote, **fields), self.host)

    def spans(self) -> list[Span]:
        return list(self.host.tracer.drain())

    async def run(self, agent: str, *parts: Any, mode: str = "sync", **fields: Any) -> httpx.Response:
        """POST /runs with one message; text stands for a text part."""
        said = [{"content_type": "text/plain", "content": p} if isinstance(p, str) else p for p in parts]
        body = {"agent_name": agent, "mode": mode, "input": [{"role": "user", "parts": said}], **fields}
        return await self.http.post("/runs", json=body)

    async def stream(self, agent: str, *parts: Any, **fields: Any) -> list[dict[str, Any]]:
        return events_of(await self.run(agent, *parts, mode="stream", **fields))


def client(base_url: str = "") -> httpx.AsyncClient:
    """An HTTP client for loopback (reading certificates would take longer than most tests)."""
    return httpx.AsyncClient(base_url=base_url, timeout=60, verify=False)


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a whole stream."""
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


class _Server(uvicorn.Server):
    """uvicorn that leaves the test run's signals alone, says when it is up and stops at once."""

    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, lifespan="off", log_level="warning"))
        self.up = asyncio.Event()
        self.stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """An ASGI application on a free loopback port; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(app)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await server.up.wait()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.force_exit = True
        server.stop.set()
        await running


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stands for the control plane."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"control plane"})


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    host = TestHost()
    made = Gateway(host)
    assert adapter.face is not None
    face = adapter.face(made.hub)
    app = App([face], nothing, Doors("127.0.0.1", ""), access=Access(OWNER), body_limit=1 << 24)
    server = Server(app, 1 << 16)
    listener = socket.create_server(("127.0.0.1", 0))
    await server.start(listener)
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        made.root, made.quiet = url, app.idle
        made.http = client(f"{url}/acp")
        async with made.http:
            yield made
            await face.aclose()
    finally:
        await server.aclose()
    await made.hub.aclose()
    await host.transport.aclose()


@pytest.fixture
def as_alice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests with a key are Alice's."""
    alice, anybody = Grant(Principal(id="alice")), Grant(Principal())
    monkeypatch.setattr(Access, "grant", lambda self, sent: alice if sent else anybody)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the door has noticed that a stream's client left."""
    noticed = asyncio.Event()
    entering = EventStream.__aenter__

    async def entered(self: EventStream) -> EventStream:
        self._wire.on_gone(noticed.set)  # pyright: ignore[reportPrivateUsage]
        return await entering(self)

    monkeypatch.setattr(EventStream, "__aenter__", entered)
    return noticed


@pytest.fixture(scope="session")
def peer(spawn: Spawn) -> str:
    """Foreign ACP agents on the official SDK: the server's URL."""
    port = find_port()
    command = [shutil.which("uv") or "uv", "run", "--quiet", "--script", PEERS / "acp_agents.py", port]
    spawn("acp-agents", command, port=port)
    return f"http://127.0.0.1:{port}"


Sdk = Callable[..., Awaitable[tuple[list[dict[str, Any]], dict[str, Any]]]]


@asynccontextmanager
async def sdk_client(*command: str | Path, env: Mapping[str, str] | None = None) -> AsyncIterator[Sdk]:
    """A foreign client on an official SDK, driven by JSON lines: events so far, and the last line."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
        limit=1 << 24,
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def perform(op: str, url: str, **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        stdin.write(json.dumps({"id": 1, "op": op, "url": url, **fields}).encode() + b"\n")
        events: list[dict[str, Any]] = []
        async for raw in stdout:
            line = json.loads(raw)
            if "event" in line:
                events.append(line["event"])
            elif "ready" not in line:
                return events, line
        raise AssertionError("the client ended")

    try:
        yield perform
    finally:
        stdin.close()
        process.terminate()
        await process.wait()


@pytest.fixture
async def python_sdk() -> AsyncIterator[Sdk]:
    uv = shutil.which("uv") or "uv"
    async with sdk_client(uv, "run", "--quiet", "--script", PEERS / "acp_client.py") as perform:
        yield perform
