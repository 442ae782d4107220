"""Push notifications through a real gateway process, for agents of every protocol, and over a crash."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..adapters.a2a.webhooks import SECRETS, sending, webhook
from ..conftest import PATIENCE

pytestmark = pytest.mark.slow

ALLOW = {"AGENTGW_OUTBOUND__ALLOW": '["127.0.0.0/8"]'}


async def send(url: str, params: dict[str, Any]) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        return (await http.post(url, json=body)).json()["result"]["task"]


async def test_agents_of_every_protocol(start_gateway: Callable[..., Any], peers: Any) -> None:
    gateway = start_gateway(**ALLOW)
    agents: list[list[object]] = [
        ["mcp-http", peers.mcp_single, "--protocol", "mcp"],
        ["a2a", peers.a2a, "--protocol", "a2a"],
        ["a2a-old", peers.a2a_old, "--protocol", "a2a"],
        ["acp", peers.acp, "--protocol", "acp", "--remote", "echo"],
        ["mcp-stdio", "--", *peers.mcp_stdio, "--single"],
    ]
    for words in agents:
        gateway.cli.json("agents", "add", *words)
        async with webhook() as hook:
            task = await send(f"{gateway.url}/a2a/{words[0]}", sending("echo hello", hook.url, **SECRETS))
            final = await hook.told("completed")
            assert final.task_id == task["id"]
            assert final.headers["authorization"] == "Bearer cred-secret"
            assert "hello" in str([n.body for n in hook.got])


async def test_a_killed_gateway_tells_of_what_it_lost(start_gateway: Callable[..., Any], peers: Any) -> None:
    gateway = start_gateway(**ALLOW)
    gateway.cli.json("agents", "add", "stdio", "--", *peers.mcp_stdio)
    gateway.cli.json("agents", "add", "a2a", peers.a2a, "--protocol", "a2a")
    async with webhook() as translated, webhook() as relayed:
        call = sending("", translated.url, wait=False)
        call["message"]["parts"] = [{"data": {"tool": "slow", "arguments": {"seconds": 60}}}]
        slow = await send(f"{gateway.url}/a2a/stdio", call)  # whose process dies with the gateway
        mine = await send(f"{gateway.url}/a2a/a2a", sending("slow 4", relayed.url, wait=False))
        await translated.until(len)
        await relayed.until(len)
        gateway.process.stop(signal.SIGKILL)
        start_gateway(home=gateway.cli.home, **ALLOW)
        assert (await translated.told("failed")).task_id == slow["id"]
        assert (await relayed.told("completed")).task_id == mine["id"]  # its agent lived on
