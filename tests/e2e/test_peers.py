"""The foreign clients with foreign agents of their own protocol, no gateway between: the table rests upon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .table import CLIENTS
from .test_table import PROVE, A2aAgent, AcpAgent, McpAgent

MCP = ["call", "streaming", "data", "files in", "files out", "error", "50 at once"]
ALL = [*MCP, "context", "question"]


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
