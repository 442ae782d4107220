"""The MCP upstream against real servers: a host to run it in, and servers of either era."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentgw.adapters.mcp.upstream.upstream import McpUpstream
from agentgw.gateway.breaker import Breaker
from agentgw.gateway.children import Children
from agentgw.gateway.config import Config
from agentgw.gateway.model import Record
from agentgw.gateway.telemetry import Tracer
from agentgw.gateway.transport import HttpTransport

HERE = Path(__file__).parent
PEER = HERE.parent.parent / "peers" / "mcp_server.py"
ODD = HERE / "odd_server.py"


class FakeHost:
    """The gateway as an upstream sees it; ``changes`` are the agents that said their lists changed."""

    def __init__(self) -> None:
        self.transport = HttpTransport()
        self.tracer = Tracer()
        self.breaker = Breaker(0)
        self.children = Children()
        self.config = Config()
        self.changes: list[str] = []

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return list(record.headers.items())

    def hidden(self, record: Record) -> list[str]:
        return []

    def environment(self, record: Record) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], **record.env}

    def changed(self, agent: str) -> None:
        self.changes.append(agent)


@pytest.fixture
async def host() -> AsyncIterator[FakeHost]:
    host = FakeHost()
    yield host
    await host.transport.aclose()


@pytest.fixture
async def connect(host: FakeHost) -> AsyncIterator[Callable[..., McpUpstream]]:
    """An upstream for a URL or a command; closed after the test."""
    made: list[McpUpstream] = []

    def make(target: str | list[str], **fields: Any) -> McpUpstream:
        where: dict[str, Any] = {"url": target} if isinstance(target, str) else {"command": tuple(target)}
        made.append(McpUpstream(Record(name="peer", protocol="mcp", **where, **fields), host))
        return made[-1]

    yield make
    for upstream in made:
        await upstream.aclose()


@pytest.fixture(scope="session")
def serve(spawn: Any, free_port: Callable[[], int]) -> Callable[..., str]:
    """Start a server script over HTTP once; its URL."""
    urls: dict[tuple[str, ...], str] = {}

    def start(script: Path, *args: str, path: str = "/mcp") -> str:
        key = (str(script), *args)
        if key not in urls:
            port = free_port()
            spawn(script.stem, [sys.executable, script, "--port", str(port), *args], port=port)
            urls[key] = f"http://127.0.0.1:{port}{path}"
        return urls[key]

    return start


@pytest.fixture(
    params=["http-modern", "http-handshake", "old-sse", "stdio-modern", "stdio-handshake"], scope="session"
)
def target(request: pytest.FixtureRequest, serve: Callable[..., str]) -> str | list[str]:
    """The same server in every era and over every transport."""
    return reach(request.param, serve)


def reach(kind: str, serve: Callable[..., str]) -> str | list[str]:
    transport, _, era = kind.rpartition("-")
    flags = ["--handshake"] if era == "handshake" else []
    if kind == "old-sse":
        return serve(ODD, "--transport", "sse", path="/sse")
    if transport == "stdio":
        return [sys.executable, str(ODD), "--transport", "stdio", *flags]
    return serve(ODD, *flags)


@pytest.fixture(scope="session")
def odd(serve: Callable[..., str]) -> Callable[[str], str | list[str]]:
    """One of the kinds of ``target``, by name."""
    return lambda kind: reach(kind, serve)


@pytest.fixture
def until_async() -> Callable[..., Any]:
    """Ask again until the answer is true."""

    async def wait(check: Callable[[], Any], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not await check():  # each question is a call that takes its time
                pass

    return wait
