"""What a client got back, in one form for all protocols: one assertion serves a column of the table."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FAILED = {"failed", "rejected"}


@dataclass
class Request:
    """What a client is asked to send; each client puts it into its protocol's form."""

    agent: str
    text: str | None = None
    data: Any = None
    file: tuple[str, str, bytes] | None = None  # name, media type, content
    tool: str | None = None  # for agents that are MCP servers
    arguments: dict[str, Any] = field(default_factory=dict)
    context: str | None = None
    task: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)  # of an A2A message
    traceparent: str | None = None


@dataclass
class Reply:
    state: str = "none"  # a state of a canonical task, or "error" for the protocol's own error
    text: str = ""
    data: list[Any] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    progress: list[tuple[float, str]] = field(default_factory=list)  # arrival time and text of each piece
    end: float = 0.0
    context: str | None = None
    task: str | None = None
    code: Any = None
    raw: str = ""  # everything the client received

    @property
    def sha256(self) -> list[str]:
        return [hashlib.sha256(content).hexdigest() for content in self.files]

    @property
    def failed(self) -> bool:
        return self.state in FAILED or self.state == "error"


def from_mcp(result: Any, progress: list[tuple[float, str]], end: float) -> Reply:
    """From the SDK's CallToolResult."""
    structured = result.structured_content
    reply = Reply(progress=progress, end=end, raw=result.model_dump_json() + json.dumps(progress))
    reply.state = "failed" if result.is_error else "completed"
    for block in result.content:
        match block.type:
            case "text":
                reply.text += block.text
            case "image" | "audio":
                reply.files.append(base64.b64decode(block.data))
            case "resource" if hasattr(block.resource, "blob"):
                reply.files.append(base64.b64decode(block.resource.blob))
    if isinstance(structured, dict) and {"state", "context_id"} <= structured.keys():
        reply.state, reply.context = structured["state"], structured["context_id"]
        reply.task, reply.data = structured["task_id"], [structured.get("data"), structured.get("artifacts")]
    elif structured is not None:
        reply.data = [structured]
    return reply


def _state(name: str) -> str:
    return name.removeprefix("TASK_STATE_").lower()


def from_a2a(events: Sequence[tuple[float, dict[str, Any]]]) -> Reply:
    """From StreamResponse messages in their 1.0 JSON form."""
    reply = Reply(raw=json.dumps(events))

    def take(parts: Sequence[dict[str, Any]]) -> str:
        text = ""
        for part in parts:
            if "text" in part:
                text += part["text"]
            elif "data" in part:
                reply.data.append(part["data"])
            elif "raw" in part:
                reply.files.append(base64.b64decode(part["raw"]))
        reply.text += text
        return text

    def status(at: float, status: dict[str, Any]) -> None:
        reply.state = _state(status["state"])
        parts = status.get("message", {}).get("parts", [])
        if reply.state == "working":
            reply.progress.append((at, "".join(part.get("text", "") for part in parts)))
        else:
            take(parts)

    for at, event in events:
        reply.end = at
        ((kind, body),) = event.items()
        reply.context = body.get("contextId", reply.context)
        match kind:
            case "message":
                reply.state = "completed"
                take(body["parts"])
            case "task":
                reply.task = body["id"]
                for artifact in body.get("artifacts", []):
                    take(artifact["parts"])
                status(at, body["status"])
            case "statusUpdate":
                status(at, body["status"])
            case "artifactUpdate":
                reply.progress.append((at, take(body["artifact"]["parts"])))
    reply.progress = [(at, text) for at, text in reply.progress if text]
    return reply


ACP_STATES = {"awaiting": "input_required", "cancelled": "canceled", "in-progress": "working"}


def from_acp(events: Sequence[tuple[float, dict[str, Any]]]) -> Reply:
    """From the events of an ACP stream."""
    reply = Reply(raw=json.dumps(events))
    for at, event in events:
        reply.end = at
        kind = event["type"]
        if kind == "message.part":
            part = event["part"]
            if part.get("content_type") == "application/json":
                reply.data.append(json.loads(part["content"]))
            elif part.get("content_encoding") == "base64":
                reply.files.append(base64.b64decode(part["content"]))
            elif part.get("content") and part.get("content_type", "text/plain").startswith("text/"):
                reply.text += part["content"]
                reply.progress.append((at, part["content"]))
        elif kind == "generic":
            reply.progress.append((at, json.dumps(event["generic"])))
        elif kind.startswith("run."):
            run = event["run"]
            reply.state = ACP_STATES.get(run["status"], run["status"])
            reply.context, reply.task = run["session_id"], run["run_id"]
            if run.get("error"):
                reply.code = run["error"]["code"]
                reply.text += run["error"]["message"]
            if reply.state == "input_required":
                question = run["await_request"]["message"]["parts"]
                reply.text += "".join(part.get("content") or "" for part in question)
    return reply


def contains(haystack: Any, needle: Any) -> bool:
    """Whether a JSON value holds another, at any depth."""
    if haystack == needle:
        return True
    if isinstance(haystack, dict):
        return any(contains(value, needle) for value in haystack.values())
    if isinstance(haystack, list):
        return any(contains(value, needle) for value in haystack)
    return False


def words_in_order(pieces: Sequence[tuple[float, str]], words: Sequence[str]) -> list[float]:
    """When each word was first seen, the words being in this order."""
    times: list[float] = []
    at = 0
    for time, text in pieces:
        for token in re.findall(r"[a-z]+", text):
            if at < len(words) and token == words[at]:
                times.append(time)
                at += 1
    return times
