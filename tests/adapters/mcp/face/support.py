"""The MCP door over real HTTP, in front of agents in memory and of servers on the official SDK."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import msgspec
import uvicorn
from mcp.client import Client
from mcp.server import Server

from agentgw.adapters.mcp.face.face import McpFace
from agentgw.adapters.mcp.upstream.upstream import McpUpstream
from agentgw.gateway.access import Access
from agentgw.gateway.breaker import Breaker
from agentgw.gateway.children import Children
from agentgw.gateway.config import Config
from agentgw.gateway.engine import Hub
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.model import Agent, Health, Record
from agentgw.gateway.ports import AgentView, Upstream
from agentgw.gateway.telemetry import Span, Tracer
from agentgw.gateway.transport import HttpTransport
from agentgw.registry.memory import MemoryStore

BOTH = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


class LocalHost:
    """``ports.Host`` without secrets."""

    def __init__(self, tracer: Tracer, config: Config, changed: Callable[[str], None]) -> None:
        self.transport = HttpTransport()
        self.tracer = tracer
        self.breaker = Breaker(0)
        self.children = Children()
        self.config = config
        self.changed = changed

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return list(record.headers.items())

    def hidden(self, record: Record) -> list[str]:
        return []

    def environment(self, record: Record) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], **record.env}


class Agents:
    """A directory whose agents a test may change; ``changed`` tells who listens."""

    def __init__(self) -> None:
        self.known: dict[str, AgentView] = {}
        self._callbacks: list[Callable[[], None]] = []

    def put(self, name: str, upstream: Upstream, agent: Agent | None, **record: Any) -> None:
        new, old = (
            Record(name=name, **{"protocol": "memory", "url": "memory://", **record}),
            self.known.get(name),
        )
        same = old.record if old is not None and old.record == new else new
        view = AgentView(record=same, agent=agent, health=Health(status="ok"), upstream=upstream)
        self.known = {**self.known, name: view}
        self.changed()

    def remove(self, name: str) -> None:
        self.known = {n: view for n, view in self.known.items() if n != name}
        self.changed()

    def health(self, name: str, status: Any) -> None:
        self._replace(name, health=Health(status=status))
        self.changed()

    def _replace(self, name: str, **fields: Any) -> AgentView:
        view = msgspec.structs.replace(self.known[name], **fields)
        self.known = {**self.known, name: view}
        return view

    def changed(self) -> None:
        for callback in list(self._callbacks):
            callback()

    def views(self) -> Mapping[str, AgentView]:
        return self.known

    async def described(self, name: str, timeout: float = 3.0) -> AgentView | None:
        view = self.known.get(name)
        if view is not None and view.agent is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    (agent,) = await view.upstream.describe()
                    view = self._replace(name, agent=agent)
        return view

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)


class Gateway:
    """A gateway whose only door is MCP's. ``url`` is its base."""

    def __init__(self, config: Config, store: MemoryStore | None = None) -> None:
        self.config = config
        self.agents = Agents()
        self.tracer = Tracer()
        self.hub = Hub(self.agents, store or MemoryStore(), self.tracer, config)
        self.host = LocalHost(self.tracer, config, self._described)
        self.face = McpFace(self.hub)
        self.url = ""
        self.tasks: set[asyncio.Task[None]] = set()

    def add(self, **upstreams: Any) -> None:
        """Agents in memory."""
        for name, upstream in upstreams.items():
            self.agents.put(name, upstream, upstream.agent)

    async def add_server(self, name: str, url: str) -> McpUpstream:
        """An MCP server, described."""
        upstream = McpUpstream(Record(name=name, protocol="mcp", url=url), self.host)
        (agent,) = await upstream.describe()
        self.agents.put(name, upstream, agent, protocol="mcp", url=url)
        return upstream

    async def add_command(self, name: str, command: tuple[str, ...]) -> McpUpstream:
        """An MCP server that is started as a process."""
        upstream = McpUpstream(Record(name=name, protocol="mcp", command=command), self.host)
        (agent,) = await upstream.describe()
        self.agents.put(name, upstream, agent, protocol="mcp", url=None, command=command)
        return upstream

    def _described(self, name: str) -> None:
        async def describe() -> None:
            view = self.agents.known[name]
            (agent,) = await view.upstream.describe()
            where = {"url": view.record.url, "command": view.record.command}
            self.agents.put(name, view.upstream, agent, protocol="mcp", **where)

        task = asyncio.ensure_future(describe())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def spans(self) -> list[Span]:
        """The spans that ended since the last call."""
        return list(self.tracer.drain())

    async def no_control(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncGenerator[str]:
    """Serve an ASGI app on a free loopback port; yields its base URL."""
    server = _Server(uvicorn.Config(app, port=0, log_level="error", **options))
    running = asyncio.create_task(server.serve())
    await server.up.wait()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


@contextlib.asynccontextmanager
async def served(
    config: Config | None = None, store: MemoryStore | None = None, **upstreams: Any
) -> AsyncGenerator[Gateway]:
    """A gateway with these agents."""
    gateway = Gateway(config or Config(), store)
    gateway.add(**upstreams)
    app = App(
        [gateway.face], gateway.no_control, Doors("127.0.0.1", ""), access=Access("owner"), body_limit=1 << 20
    )
    async with serving(app, lifespan="off") as url:
        gateway.url = url
        try:
            yield gateway
        finally:
            for view in gateway.agents.known.values():
                await view.upstream.aclose()
            await gateway.face.aclose()
            await gateway.hub.aclose()
            await gateway.host.transport.aclose()


@contextlib.asynccontextmanager
async def peer(server: Server[Any]) -> AsyncGenerator[str]:
    """A server on the official SDK; yields its address."""
    # httptools keeps blanks at the ends of header values, which the SDK then refuses.
    async with serving(server.streamable_http_app(), http="h11") as url:
        yield f"{url}/mcp"


def client(url: str, era: str, **options: Any) -> Client:
    """The official client; ``era`` "modern" or "handshake"."""
    return Client(url, mode=VERSION if era == "modern" else "legacy", **options)


class Raw:
    """Requests made by hand."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self.session: dict[str, str] = {}

    async def post(self, message: Any, **headers: str | None) -> httpx.Response:
        return await self.send(msgspec.json.encode(message), **headers)

    async def send(self, body: bytes, **headers: str | None) -> httpx.Response:
        """``post`` for what may be no JSON. A header that is None is left out."""
        return await self._http.post(self._url, content=body, headers=self._headers(headers))

    def _headers(self, headers: Mapping[str, str | None]) -> dict[str, str]:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        merged: dict[str, str | None] = {**BOTH, **self.session, **named}
        return {key: value for key, value in merged.items() if value is not None}

    async def initialize(self, revision: str = "2025-11-25", **capabilities: Any) -> httpx.Response:
        params = {
            "protocolVersion": revision,
            "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "1"},
        }
        answer = await self.post(rpc("initialize", params))
        if "mcp-session-id" in answer.headers:
            self.session = {"Mcp-Session-Id": answer.headers["mcp-session-id"]}
        return answer

    async def modern(
        self, method: str, params: dict[str, Any] | None = None, **headers: str | None
    ) -> httpx.Response:
        """A well-formed modern request; ``headers`` change or (None) drop some."""
        params = {"_meta": META, **(params or {})}
        name = params.get("name", params.get("uri"))
        own: dict[str, str | None] = {"MCP-Protocol-Version": VERSION, "Mcp-Method": method, "Mcp-Name": name}
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.post(rpc(method, params), **{**own, **given})

    @contextlib.asynccontextmanager
    async def stream(self, method: str, message: Any = None, **headers: str | None) -> AsyncIterator[Events]:
        body = None if message is None else msgspec.json.encode(message)
        async with self._http.stream(
            method, self._url, headers=self._headers(headers), content=body
        ) as answer:
            yield Events(answer)


class Events:
    """The JSON messages of an event stream as they come. ``id`` is the last event's, ``retry`` the last time
    to wait; the event that only brings these is no message."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.id: str | None = None
        self.retry: int | None = None
        self.lines = answer.aiter_lines()

    async def next(self) -> Any:
        async with asyncio.timeout(60):
            async for line in self.lines:
                name, _, value = line.partition(": ")
                if name == "id":
                    self.id = value
                elif name == "retry":
                    self.retry = int(value)
                elif name == "data" and value:
                    return msgspec.json.decode(value)
        raise EOFError


def rpc(method: str, params: Any = None, id: int | str | None = 1) -> dict[str, Any]:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if id is not None:
        message["id"] = id
    return message if params is None else {**message, "params": params}


@contextlib.asynccontextmanager
async def by_hand(url: str) -> AsyncGenerator[Raw]:
    async with httpx.AsyncClient(timeout=60) as http:
        yield Raw(http, url)
