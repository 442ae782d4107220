"""MCP's own inspector as the host, over HTTP and over stdio."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..conftest import PATIENCE
from .conftest import NODE

INSPECTOR = NODE / "node_modules" / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build"


@pytest.fixture(params=["http", pytest.param("stdio", marks=pytest.mark.slow)])
def target(request: pytest.FixtureRequest, gateway: Any, tmp_path: Path) -> list[str]:
    """How the inspector is told about the gateway."""
    if request.param == "http":
        return [f"{gateway.url}/mcp", "--transport", "http"]
    environment = {"AGENTGW_HOME": str(gateway.cli.home)}
    server = {"command": str(gateway.cli.script), "args": ["mcp"], "env": environment}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"agentgw": server}}))
    return ["--config", str(config), "--server", "agentgw"]


def inspect(node: Path, home: Path, *words: str) -> Any:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "MCP_INSPECTOR_SECRET_STORE": "memory"}
    done = subprocess.run(
        [node, INSPECTOR / "index.js", "--cli", *words, "--connect-timeout", "120000"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,  # it takes some seconds of a processor of its own
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def call(target: list[str], node: Path, home: Path, tool: str, *arguments: str) -> Any:
    words = ["--method", "tools/call", "--tool-name", tool, "--tool-arg", *arguments]
    return inspect(node, home, *target, *words)


def test_calls_an_agent(target: list[str], node: Path, tmp_path: Path) -> None:
    said = call(target, node, tmp_path, "a2a", "message=echo hello")
    assert said["content"][0]["text"] == "hello"
    assert said["structuredContent"]["state"] == "completed"


@pytest.mark.slow
def test_lists_and_calls_tools(target: list[str], node: Path, tmp_path: Path) -> None:
    listed = inspect(node, tmp_path, *target, "--method", "tools/list")
    added = call(target, node, tmp_path, "mcp-http__add", "a=1", "b=2")
    names = {tool["name"] for tool in listed["tools"]}
    assert {"a2a", "acp-echo", "mcp-http__echo", "mcp-stdio__add"} <= names
    assert added["structuredContent"] == {"sum": 3}
