"""One agent that is down takes nobody else with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import register
from .reply import Request


@pytest.fixture(scope="module")
def half_down(launch_gateway: Any, peers: Any, free_port: Callable[[], int]) -> Iterator[Any]:
    gateway = launch_gateway()
    register(gateway, "up", url=peers.mcp_single, protocol="mcp")
    url = f"http://127.0.0.1:{free_port()}/mcp"
    done = gateway.cli("agents", "add", "down", url, "--protocol", "mcp")
    assert gateway.cli.json("agents", "show", "down")["health"] == "down"
    assert done.stderr.strip(), "a warning"
    yield gateway
    gateway.process.stop()


@pytest.mark.parametrize("kind", ["mcp-handshake", "mcp-2026"])
async def test_listing_names_it(kind: str, half_down: Any, client_of: Any) -> None:
    async with client_of(kind, half_down.url).connect() as client:
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools] == ["up__reverse"]
        assert "down" in json.dumps(dict(listed.meta or {})["agentgw/unavailable"])
        result = await client.call_tool("up__reverse", {"text": "abc"})
        assert result.content[0].text == "cba"


@pytest.mark.parametrize("kind", ["a2a-jsonrpc-1.0", "acp-python"])
async def test_calls_to_it_fail_in_the_clients_form(kind: str, half_down: Any, client_of: Any) -> None:
    reply = await client_of(kind, half_down.url).call(Request("down", "hello"))
    assert reply.failed, reply
