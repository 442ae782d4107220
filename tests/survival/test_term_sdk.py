"""SIGTERM as the clients of the official SDKs see it: calls come to their end, or to an error in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from mcp import Client as McpClient
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

from ..conftest import wait_until
from ..e2e.clients import A2aPython, AcpClient, McpHost, a2a_request, from_a2a
from ..e2e.conftest import Journal, Peers, client_of, lines
from ..e2e.reply import Reply, Request
from .conftest import Gateway

__all__ = ["client_of", "lines"]

WORDS = "the gateway is stopping; try again in a moment"
PIECES = "p0 p1 p2"

Call = Callable[[Request], Coroutine[Any, Any, Reply]]


def work(agent: str, token: str) -> Request:
    """Work that is noted under this token, at one of the agents below."""
    match agent:
        case "a2a" | "old":
            return Request(agent, text=f"work {token} 3")
        case "acp":
            return Request(agent, text=f"{token} 3")
        case _:
            return Request(agent, tool="work", arguments={"token": token, "count": 3})


class Clients:
    """Each connected, and ready to call. ``home``: where `agentgw mcp` finds the gateway."""

    def __init__(self, gateway: Gateway, client_of: Callable[..., Any]) -> None:
        self._gateway = gateway
        self._client_of = client_of

    @asynccontextmanager
    async def all(self) -> AsyncGenerator[dict[str, tuple[Call, list[str]]]]:
        """By name: a call, and the agents that it is meant for."""
        async with AsyncExitStack() as stack:
            found: dict[str, tuple[Call, list[str]]] = {}
            for mode in ("handshake", "2026"):
                host: McpHost = self._client_of(f"mcp-{mode}", self._gateway.url)
                over_http = await stack.enter_async_context(host.connect())
                over_stdio = await stack.enter_async_context(self._launched(host.mode))
                for client in (over_http, over_stdio):
                    await client.list_tools()  # as hosts do; this SDK does after a result, else
                found[f"mcp-{mode}"] = _mcp(host, over_http), ["mcp", "child", "a2a", "acp"]
                found[f"stdio-{mode}"] = _mcp(host, over_stdio), ["mcp", "child", "a2a"]
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
            for kind, agents in (
                ("a2a-jsonrpc-1.0", ["a2a", "old", "acp", "mcp"]),
                ("a2a-rest-1.0", ["a2a", "acp"]),
                ("a2a-jsonrpc-0.3", ["a2a", "old", "acp"]),
            ):
                sdk: A2aPython = self._client_of(kind, self._gateway.url)
                cards = {agent: await sdk.card(agent, http) for agent in agents}
                found[kind] = _streamed(sdk, http, cards), agents
                found[f"{kind} unary"] = _unary(http, sdk, cards), agents
            acp: AcpClient = self._client_of("acp-python", self._gateway.url)
            found["acp"] = acp.call, ["acp", "a2a", "mcp"]
            found["acp sync"] = _sync(acp), ["acp", "a2a", "mcp"]
            yield found

    @asynccontextmanager
    async def _launched(self, mode: str) -> AsyncGenerator[McpClient]:
        cli = self._gateway.cli
        server = StdioServerParameters(command=str(cli.script), args=["mcp"], env=cli.environment)
        async with McpClient(stdio_client(server), mode=mode) as client:
            yield client


def _mcp(host: McpHost, client: McpClient) -> Call:
    return lambda request: host.call_on(client, request)


def _streamed(sdk: A2aPython, http: httpx.AsyncClient, cards: dict[str, Any]) -> Call:
    return lambda request: sdk.call_on(http, cards[request.agent], request)


def _unary(http: httpx.AsyncClient, sdk: A2aPython, cards: dict[str, Any]) -> Call:
    from a2a.client import ClientConfig, ClientFactory
    from a2a.types import SendMessageRequest

    async def call(request: Request) -> Reply:
        config = ClientConfig(httpx_client=http, streaming=False, supported_protocol_bindings=[sdk.binding])
        client = ClientFactory(config).create(cards[request.agent])
        message = ParseDict(a2a_request(request), SendMessageRequest())
        try:
            return from_a2a([(0, MessageToDict(event)) async for event in client.send_message(message)])
        except Exception as error:
            return Reply(state="error", text=str(error), code=type(error).__name__, raw=repr(error))

    return call


def _sync(acp: AcpClient) -> Call:
    async def call(request: Request) -> Reply:
        _, last = await acp.lines.perform("sync", url=acp.url, agent=request.agent, parts=acp.form(request))
        if error := last.get("error"):
            return Reply(state="error", text=error["message"], code=error.get("code"), raw=json.dumps(last))
        run = last["done"]
        text = "".join(p["content"] or "" for m in run["output"] for p in m["parts"])
        if run["error"]:
            text += run["error"]["message"]
        return Reply(state=run["status"], text=text, raw=json.dumps(run))

    return call


class Held:
    """Work that doesn't come to its end before it may."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._tokens: list[str] = []

    def new(self, token: str) -> str:
        self._tokens.append(token)
        self.journal.hold(token)
        return token

    def release(self) -> None:
        while self._tokens:
            self.journal.go(self._tokens.pop())


@pytest.fixture
def held(peers: Peers) -> Iterator[Held]:
    made = Held(peers.journal)
    yield made
    made.release()


def started(gateway: Gateway, peers: Peers, workers: int, grace: str) -> None:
    gateway.start("--workers", workers, AGENTGW_LIMITS__SHUTDOWN_GRACE=grace)
    gateway.as_owner()
    for spec in (
        {"name": "a2a", "url": peers.a2a, "protocol": "a2a"},
        {"name": "old", "url": peers.a2a_old, "protocol": "a2a"},
        {"name": "acp", "url": peers.acp, "protocol": "acp", "remote": "worker"},
        {"name": "mcp", "url": peers.mcp, "protocol": "mcp"},
        {"name": "child", "command": peers.mcp_stdio},
    ):
        assert gateway.post("/api/agents", spec).status_code == 201


async def under_way(
    clients: dict[str, tuple[Call, list[str]]], held: Held, mark: str
) -> dict[str, asyncio.Task[Reply]]:
    """A call of each client of each of its agents: all have begun there."""
    jobs: dict[str, asyncio.Task[Reply]] = {}
    tokens: list[str] = []
    for name, (call, agents) in clients.items():
        for agent in agents:
            tokens.append(token := held.new(f"{mark}-{len(tokens)}"))
            jobs[f"{name} → {agent}"] = asyncio.create_task(call(work(agent, token)))
    for token in tokens:
        await held.journal.holds(f"{token} started")
    early = {name: job.result() for name, job in jobs.items() if job.done()}
    assert not early
    return jobs


def says_so(name: str, reply: Reply) -> bool:
    """Of an answer with status 503 the A2A SDK says no more than that it has it."""
    return WORDS in reply.text or (name.startswith("a2a") and "503" in reply.text)


@pytest.mark.slow  # test_term says the same of requests by hand
@pytest.mark.parametrize("workers", [1, 2])
async def test_what_runs_comes_to_its_end(
    gateway: Gateway, peers: Peers, held: Held, client_of: Any, workers: int
) -> None:
    started(gateway, peers, workers, "1h")
    family = gateway.family
    async with Clients(gateway, client_of).all() as clients:
        jobs = await under_way(clients, held, f"{gateway.port}-end")
        gateway.signal()
        await asyncio.to_thread(wait_until, "it drains", lambda: gateway.get("/readyz").status_code == 503)
        refused = {name: await call(work(agents[-1], "late")) for name, (call, agents) in clients.items()}
        held.release()
        replies = {name: await job for name, job in jobs.items()}
        assert await asyncio.to_thread(gateway.ended) == 0
    wrong = {
        name: reply for name, reply in replies.items() if (reply.state, reply.text) != ("completed", PIECES)
    }
    assert not wrong
    for name, reply in refused.items():
        assert reply.state == "error", (name, reply)
        assert says_so(name, reply), (name, reply)
    gateway.gone(family)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_who_would_wait_too_long_is_told(
    gateway: Gateway, peers: Peers, held: Held, client_of: Any, workers: int
) -> None:
    started(gateway, peers, workers, "300ms")
    family = gateway.family
    async with Clients(gateway, client_of).all() as clients:
        jobs = await under_way(clients, held, f"{gateway.port}-long")
        gateway.signal()
        replies = {name: await job for name, job in jobs.items()}
        assert await asyncio.to_thread(gateway.ended) == 0
    for name, reply in replies.items():
        assert reply.state in ("error", "failed"), (name, reply)
        assert says_so(name, reply), (name, reply)
    gateway.gone(family)
