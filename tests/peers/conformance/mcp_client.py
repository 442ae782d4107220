"""What the public client suite starts: lets a gateway call the server that the suite serves.

    python mcp_client.py URL     # environment: CONFORMANCE_AGENTGW, AGENTGW_HOME, CONFORMANCE_GATEWAY

The server is registered with the running gateway; a host on the official SDK then lists and calls everything
at ``/mcp/{name}``. Where the gateway itself has to answer the server's questions, the command line calls: a
caller of another protocol.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import mcp.types as t
from mcp.client import Client
from mcp.shared.exceptions import MCPError

AGENTGW = os.environ["CONFORMANCE_AGENTGW"]
GATEWAY = os.environ["CONFORMANCE_GATEWAY"]
SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
MODERN = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "") >= "2026"
NAME = f"suite-{os.getpid()}"


def agentgw(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AGENTGW, *words], capture_output=True, text=True, timeout=25)


def sample(schema: Any) -> Any:
    """A value that fits, roughly."""
    rules: dict[str, Any] = schema if isinstance(schema, dict) else {}
    if "default" in rules:
        return rules["default"]
    if isinstance(rules.get("enum"), list):
        return rules["enum"][0]
    match rules.get("type"):
        case "object":
            return {name: sample(field) for name, field in rules.get("properties", {}).items()}
        case "integer" | "number":
            return 3
        case "boolean":
            return True
        case "array":
            return []
        case "null":
            return None
        case _:
            return "word"


def calls(tools: list[t.Tool]) -> list[tuple[str, dict[str, Any]]]:
    """Those that the scenario names, else one of each tool."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}") or "{}")
    named = [(call["name"], call.get("arguments", {})) for call in context.get("toolCalls", [])]
    return named or [(tool.name, _arguments(tool, tools)) for tool in tools]


def _arguments(tool: t.Tool, tools: list[t.Tool]) -> dict[str, Any]:
    """What fits the tool. One that takes a schema gets that of another as it arrived here."""
    arguments = sample(tool.input_schema)
    if "schema" in arguments:
        arguments["schema"] = next(other.input_schema for other in tools if other is not tool)
    return arguments


async def accept(context: Any, params: Any) -> t.ElicitResult:
    if isinstance(params, t.ElicitRequestURLParams):
        return t.ElicitResult(action="accept")
    return t.ElicitResult(action="accept", content=sample({"type": "object", **params.requested_schema}))


async def host() -> None:
    mode = "2026-07-28" if MODERN else "legacy"
    async with Client(f"{GATEWAY}/mcp/{NAME}", mode=mode, elicitation_callback=accept) as client:
        tools = (await client.list_tools()).tools
        for name, arguments in calls(tools):
            await attempt(client.call_tool(name, arguments))
        offered = client.server_capabilities
        if offered is not None and offered.resources is not None:
            for resource in (await client.list_resources()).resources:
                await attempt(client.read_resource(resource.uri))
        if offered is not None and offered.prompts is not None:
            for prompt in (await client.list_prompts()).prompts:
                given = {argument.name: "word" for argument in prompt.arguments or []}
                await attempt(client.get_prompt(prompt.name, given))


async def attempt(call: Any) -> None:
    try:
        await call
    except MCPError as e:
        print(e, file=sys.stderr)


def caller() -> None:
    """Calls each tool from the command line and answers every question with nothing but yes."""
    skills = json.loads(agentgw("agents", "show", NAME, "--json").stdout)["skills"]
    for skill in skills:
        tool = skill["id"] if isinstance(skill, dict) else skill
        said = agentgw("call", NAME, "--json", "--data", json.dumps({"tool": tool, "arguments": {}}))
        for _ in range(5):
            if said.returncode != 3:
                break
            task = json.loads(said.stdout)["task_id"]
            yes = json.dumps({"action": "accept"})
            said = agentgw("call", NAME, "--json", "--task", task, "--data", yes)
        print(said.stdout, said.stderr, file=sys.stderr)


def main() -> None:
    added = agentgw("agents", "add", NAME, sys.argv[-1], "--protocol", "mcp")
    print(added.stdout, added.stderr, file=sys.stderr)
    try:
        if SCENARIO.startswith("elicitation"):
            caller()
        else:
            asyncio.run(host())
    finally:
        agentgw("agents", "remove", NAME)


if __name__ == "__main__":
    main()
