"""Whether an answer is what its protocol says: by the official packages' models, by ACP's own document."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")

import jsonschema
import yaml
from a2a.compat.v0_3 import types as old
from a2a.types import AgentCard, SendMessageResponse, StreamResponse
from google.protobuf.json_format import ParseDict
from mcp import types as mcp

from .agents import member
from .world import Ask, Client

ACP = Path(__file__).parents[1] / "peers" / "acp-openapi.yaml"
MCP_RESULTS: dict[str, Any] = {
    "initialize": mcp.InitializeResult,
    "tools/list": mcp.ListToolsResult,
    "resources/read": mcp.ReadResourceResult,
}


def check(ask: Ask, answer: Client) -> None:
    """Raises what the schema's library raises. Errors are judged by ``World``."""
    shown = answer.events if answer.streamed else [answer.json] if answer.body else []
    door = ask.path.split("/")[1]
    for value in shown if answer.status < 300 else []:
        if door == "mcp":
            _mcp(member(ask.body, "method"), value)
        elif door == "a2a":
            _a2a(ask, answer, value)
        elif door == "acp":
            _acp(ask, answer, value)


def _mcp(method: Any, value: Any) -> None:
    if "result" not in value:
        return
    if method == "tools/call":
        kind = value["result"].get("resultType")
        model = mcp.InputRequiredResult if kind == "input_required" else mcp.CallToolResult
        model.model_validate(value["result"])
    elif method in MCP_RESULTS:
        MCP_RESULTS[method].model_validate(value["result"])


def _a2a(ask: Ask, answer: Client, value: Any) -> None:
    method = member(ask.body, "method")
    if "error" in value:
        return
    if ask.path.endswith("agent-card.json"):
        ParseDict(value, AgentCard(), ignore_unknown_fields=True)  # with 0.3's fields beside
    elif method in ("message/send", "message/stream"):
        stream = old.SendStreamingMessageSuccessResponse
        (stream if answer.streamed else old.SendMessageSuccessResponse).model_validate(value)
    elif method in ("SendMessage", "SendStreamingMessage") or "/message:" in ask.path:
        result = value["result"] if method else value
        ParseDict(result, StreamResponse() if answer.streamed else SendMessageResponse())


@cache
def _document() -> Any:
    return yaml.safe_load(ACP.read_text())


@cache
def _validator(name: str) -> Any:
    schema = {"$ref": f"#/components/schemas/{name}", "components": _document()["components"]}
    return jsonschema.Draft202012Validator(schema)


def _acp(ask: Ask, answer: Client, value: Any) -> None:
    if ask.path == "/acp/runs":
        _validator("Event" if answer.streamed else "Run").validate(value)
    elif ask.path == "/acp/agents":
        _validator("AgentsListResponse").validate(value)
    elif ask.path.startswith("/acp/agents/"):
        _validator("AgentManifest").validate(value)
