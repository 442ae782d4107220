"""``agentgw mcp`` as hosts launch it, by the official client: with a gateway running, and without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from ..support.serving import serving

pytestmark = pytest.mark.slow

Cli = Any

PEER = Path(__file__).resolve().parents[1] / "peers" / "mcp_server.py"


def launched(cli: Cli, *arguments: str) -> Any:
    environment = {**os.environ, **cli.environment}
    return stdio_client(
        StdioServerParameters(command=str(cli.script), args=["mcp", *arguments], env=environment)
    )


@pytest.fixture(scope="module")
def home(make_cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A home with the official server registered as ``peer``."""
    cli = make_cli(tmp_path_factory.mktemp("mcp"))
    done = cli.run("agents", "add", "peer", "--", sys.executable, str(PEER), "--transport", "stdio")
    assert done.returncode == 0, done.stderr
    return cli


@pytest.fixture(scope="module", params=["embedded", "running"])
def registered(request: pytest.FixtureRequest, home: Cli, spawn: Any, free_port: Any) -> Cli:
    """The same, with and without a gateway that runs."""
    if request.param == "running":
        port = free_port()
        process = serving(spawn, home, port)
        request.addfinalizer(process.stop)
    return home


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_all_agents_and_one_agent(registered: Cli, mode: str) -> None:
    async with Client(launched(registered), mode=mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"peer__echo", "peer__add"} <= tools
        answer = await client.call_tool("peer__echo", {"text": "häj\u2028"})
        assert answer.content[0].text == "häj\u2028"  # pyright: ignore
    async with Client(launched(registered, "--agent", "peer"), mode=mode) as client:
        assert "echo" in {tool.name for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("add", {"a": 1, "b": 2})
        assert answer.structured_content == {"sum": 3}


async def test_an_unknown_agent_is_an_error_of_the_protocol(registered: Cli) -> None:
    with pytest.raises(BaseException) as raised:
        async with Client(launched(registered, "--agent", "nobody"), mode="legacy"):
            pass
    assert "nobody" in repr(leaf(raised.value))


def leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
