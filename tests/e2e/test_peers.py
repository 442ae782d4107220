"""The foreign clients with foreign agents of their own protocol, no gateway between: the table rests upon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from .table import CLIENTS
from .test_table import PROVE, SECRET, A2aAgent, AcpAgent, McpAgent

pytestmark = pytest.mark.slow

MCP = ["call", "streaming", "data", "files in", "files out", "question", "error", "50 at once"]
ALL = [*MCP, "context"]


def own(client: str, peers: Any) -> tuple[str, dict[str, str], Any]:
    """URL, path and agent of the peer that speaks the client's protocol."""
    if client.startswith("mcp"):
        return peers.mcp, {"path": ""}, McpAgent("")
    if client.startswith("acp"):
        return peers.acp, {"path": ""}, AcpAgent("")
    return (peers.a2a_old if client.endswith("0.3") else peers.a2a).rstrip("/"), {}, A2aAgent("")


@pytest.mark.parametrize("kind", CLIENTS)
async def test_client_and_agent_alone(kind: str, client_of: Callable[..., Any], peers: Any) -> None:
    url, path, agent = own(kind, peers)
    client = client_of(kind, url, **path)
    for feature in MCP if kind.startswith("mcp") else ALL:
        await PROVE[feature](client, agent, None)


# The SDK's REST server alone hides it.
@pytest.mark.parametrize("kind", [kind for kind in CLIENTS if kind != "a2a-rest-1.0"])
async def test_crash_text_leaves_the_agent(kind: str, client_of: Callable[..., Any], peers: Any) -> None:
    """Without a gateway it does: else the table's column would prove nothing."""
    url, path, agent = own(kind, peers)
    reply = await client_of(kind, url, **path).call(agent.crash())
    assert reply.failed and SECRET in reply.raw, reply


@pytest.mark.parametrize("kind", CLIENTS)
async def test_agent_sees_the_trace(kind: str, client_of: Callable[..., Any], peers: Any) -> None:
    url, path, agent = own(kind, peers)
    request = agent.trace()
    request.traceparent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    reply = await client_of(kind, url, **path).call(request)
    assert reply.state == "completed" and request.traceparent in reply.raw, reply


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_mcp_server_over_stdio(mode: str, peers: Any) -> None:
    command, *arguments = peers.mcp_stdio
    async with Client(StdioServerParameters(command=command, args=arguments), mode=mode) as client:
        assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"sum": 3}
