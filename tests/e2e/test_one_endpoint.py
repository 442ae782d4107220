"""The bare address: whatever client points at it is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .reply import Request
from .table import CLIENTS

MCP = [kind for kind in CLIENTS if kind.startswith("mcp")]
A2A = [kind for kind in CLIENTS if kind.startswith("a2a")]
ACP = [kind for kind in CLIENTS if kind.startswith("acp")]
Make = Callable[..., Any]


@pytest.mark.parametrize("kind", MCP)
async def test_mcp_host(kind: str, client_of: Make, gateway: Any) -> None:
    client = client_of(kind, gateway.url, path="/")
    assert {"a2a", "acp-echo", "mcp-http__echo", "mcp-stdio__add"} <= (await client.names()).keys()
    reply = await client.call(Request("mcp-http", tool="echo", arguments={"text": "hello"}))
    assert (reply.state, reply.text) == ("completed", "hello")
    reply = await client.call(Request("a2a", "echo hello"))
    assert (reply.state, reply.text) == ("completed", "hello")


@pytest.mark.parametrize("kind", ACP)
async def test_acp_client(kind: str, client_of: Make, gateway: Any) -> None:
    client = client_of(kind, gateway.url, path="")
    assert {"a2a", "acp-echo", "mcp-http", "mcp-stdio"} <= (await client.manifests()).keys()
    reply = await client.call(Request("acp-echo", "hello there"))
    assert (reply.state, reply.text) == ("completed", "hello there")


def test_own_card(gateway: Any) -> None:
    """A 1.0 card with one skill for each agent."""
    answer = httpx.get(f"{gateway.url}/.well-known/agent-card.json", headers={"A2A-Version": "1.0"})
    card = answer.raise_for_status().json()
    listed = {agent["name"] for agent in gateway.cli.json("agents", "list")}
    assert {skill["id"] for skill in card["skills"]} == listed
    assert all(interface["url"].startswith(gateway.url) for interface in card["supportedInterfaces"])


@pytest.mark.parametrize("kind", A2A)
@pytest.mark.parametrize("key", ["agent", "skill"])
async def test_a2a_message_goes_to_the_agent_in_its_metadata(
    kind: str, key: str, client_of: Make, gateway: Any
) -> None:
    client = client_of(kind, gateway.url)
    for name, text in (("a2a", "echo hello"), ("acp-echo", "hello")):
        reply = await client.call(Request("", text, metadata={key: name}))
        assert (reply.state, reply.text) == ("completed", "hello"), reply


async def test_agent_wins_and_skill_is_then_the_agents_own(client_of: Make, gateway: Any) -> None:
    client = client_of("a2a-jsonrpc-1.0", gateway.url)
    reply = await client.call(Request("", "hello", metadata={"agent": "mcp-http", "skill": "echo"}))
    assert (reply.state, reply.data) == ("completed", [{"echo": "hello"}]), reply


@pytest.mark.parametrize("kind", A2A)
async def test_a2a_message_to_nobody_is_asked_for_the_agent(kind: str, client_of: Make, gateway: Any) -> None:
    client = client_of(kind, gateway.url)
    asked = await client.call(Request("", "echo hello"))
    assert asked.state == "input_required", asked
    assert "acp-echo" in asked.raw and "mcp-stdio" in asked.raw
    reply = await client.call(Request("", "a2a", task=asked.task, context=asked.context))
    assert (reply.state, reply.task) == ("completed", asked.task), reply
    assert "hello" in reply.text


async def test_a2a_conversation_stays_with_its_agent(client_of: Make, gateway: Any) -> None:
    client = client_of("a2a-jsonrpc-1.0", gateway.url)
    first = await client.call(Request("", "remember plum", metadata={"agent": "a2a"}))
    second = await client.call(Request("", "recall", context=first.context))
    assert (second.state, second.text) == ("completed", "plum"), second


def test_browser_gets_the_console(gateway: Any) -> None:
    answer = httpx.get(f"{gateway.url}/", headers={"Accept": "text/html"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/schema", "/ping", "/acp/ping"])
def test_probes(path: str, gateway: Any) -> None:
    assert httpx.get(gateway.url + path).status_code == 200
