"""MCP's own inspector as the host, over HTTP and over stdio."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import NODE

INSPECTOR = NODE / "node_modules" / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build"


@pytest.fixture(params=["http", "stdio"])
def target(request: pytest.FixtureRequest, gateway: Any, tmp_path: Path) -> list[str]:
    """How the inspector is told about the gateway."""
    if request.param == "http":
        return [f"{gateway.url}/mcp", "--transport", "http"]
    environment = {"AGENTGW_HOME": str(gateway.cli.home)}
    server = {"command": str(gateway.cli.script), "args": ["mcp"], "env": environment}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"agentgw": server}}))
    return ["--config", str(config), "--server", "agentgw"]


async def inspect(node: Path, home: Path, *words: str) -> Any:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "MCP_INSPECTOR_SECRET_STORE": "memory"}
    process = await asyncio.create_subprocess_exec(
        node,
        INSPECTOR / "index.js",
        "--cli",
        *words,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{out.decode()}\n{err.decode()}"
    return json.loads(out)


async def test_lists_and_calls(target: list[str], node: Path, tmp_path: Path) -> None:
    listed, added, said = await asyncio.gather(
        inspect(node, tmp_path, *target, "--method", "tools/list"),
        inspect(
            node, tmp_path, *target, "--method", "tools/call",
            "--tool-name", "mcp-http__add", "--tool-arg", "a=1", "b=2",
        ),
        inspect(
            node, tmp_path, *target, "--method", "tools/call",
            "--tool-name", "a2a", "--tool-arg", "message=echo hello",
        ),
    )  # fmt: skip
    names = {tool["name"] for tool in listed["tools"]}
    assert {"a2a", "acp-echo", "mcp-http__echo", "mcp-stdio__add"} <= names
    assert added["structuredContent"] == {"sum": 3}
    assert said["content"][0]["text"] == "hello"
    assert said["structuredContent"]["state"] == "completed"
