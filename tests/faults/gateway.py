"""A whole gateway in the test's own loop, and calls of it as clients of each protocol make them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from agentgw.cli import process
from agentgw.gateway.agentlog import logs_in
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.model import Record
from agentgw.registry.directory import Directory
from agentgw.registry.memory import MemoryStore

from .peer import Peer

LIMITS = Limits(connect_timeout=5, body=4 * 1024 * 1024, shutdown_grace=0.5, retries=0)
IDLE, TOTAL = 0.6, 1.5  # seconds that agents have which are registered as ill
PATIENCE = 60.0  # seconds: a call that takes so long is held up for good
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
DOORS = ("mcp", "mcp-handshake", "a2a", "a2a-stream", "acp", "acp-stream")


@dataclass
class Outcome:
    """What a client got: ``ok``, or not and why; ``raw``: all of its bytes."""

    ok: bool
    message: str
    raw: str
    status: int = 200
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


class Running:
    """``made``: the gateway; ``http``: a client of it."""

    def __init__(self, made: process.Gateway, http: httpx.AsyncClient) -> None:
        self.made = made
        self.http = http

    @property
    def directory(self) -> Directory:
        assert isinstance(self.made.directory, Directory)
        return self.made.directory

    async def add(self, name: str, peer: Peer, *, ill: float = 0) -> None:
        """Register the agent, which must be well now. ``ill``: it gets little time; 2: twice as much."""
        protocol = peer.protocol.partition("-")[0]
        record = Record(name=name, protocol=protocol, url=peer.url)
        if ill:
            record = msgspec.structs.replace(record, idle_timeout=ill * IDLE, total_timeout=ill * TOTAL)
        trial = await self.directory.trial(record)
        assert trial.outcome.health.status == "ok", trial.outcome.health
        await self.directory.put(record, trial)

    async def call(self, door: str, name: str, *, tools: bool, words: str = "hi") -> Outcome:
        """Say the words to the agent. ``tools``: it is an MCP server, with the tool echo."""
        if door == "mcp":
            return await self._mcp(name, tools, words)
        if door == "mcp-handshake":
            return await self._handshake(name, tools, words)
        if door.startswith("a2a"):
            return await self._a2a(name, tools, words, streaming=door == "a2a-stream")
        return await self._acp(name, tools, words, streaming=door == "acp-stream")

    async def _handshake(self, name: str, tools: bool, words: str) -> Outcome:
        url = f"/mcp/{name}"
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _META_INFO}
        headers = {"accept": "application/json, text/event-stream"}
        begun = await self.http.post(url, json=_rpc("initialize", **hello), headers=headers)
        session = {**headers, "mcp-session-id": begun.headers.get("mcp-session-id", "")}
        session["mcp-protocol-version"] = "2025-11-25"
        if begun.status_code != 200 or "result" not in _last(begun):
            return _said_mcp(begun)
        await self.http.post(url, json=_notification("notifications/initialized"), headers=session)
        call = _tool(name, tools, words)
        answer = await self.http.post(
            url, json=_rpc("tools/call", **call, _meta={"progressToken": "p"}), headers=session
        )
        await self.http.delete(url, headers=session)
        return _said_mcp(answer)

    async def _mcp(self, name: str, tools: bool, words: str) -> Outcome:
        call = _tool(name, tools, words)
        headers = {
            "accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call", "mcp-name": call["name"],
        }  # fmt: skip
        body = _rpc("tools/call", **call, _meta={**_META, "progressToken": "p"})
        return _said_mcp(await self.http.post(f"/mcp/{name}", json=body, headers=headers))

    async def _a2a(self, name: str, tools: bool, words: str, *, streaming: bool) -> Outcome:
        data = {"tool": "echo", "arguments": {"text": words}}
        part: Any = {"data": data} if tools else {"text": words}
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [part]}
        method = "SendStreamingMessage" if streaming else "SendMessage"
        answer = await self.http.post(
            f"/a2a/{name}", json=_rpc(method, message=message), headers={"a2a-version": "1.0"}
        )
        said = _last(answer)
        if "error" in said:
            return Outcome(False, said["error"]["message"], answer.text, answer.status_code, answer.headers)
        result = said["result"]
        status = (result.get("task") or result.get("statusUpdate") or {}).get("status", {})
        ok = status.get("state") == "TASK_STATE_COMPLETED"
        parts = [p for a in result.get("task", {}).get("artifacts", ()) for p in a["parts"]] if ok else []
        parts = parts or status.get("message", {}).get("parts", ())
        return Outcome(
            ok,
            "".join(p.get("text", "") for p in parts) or str(said),
            answer.text,
            answer.status_code,
            answer.headers,
        )

    async def _acp(self, name: str, tools: bool, words: str, *, streaming: bool) -> Outcome:
        tool = json.dumps({"tool": "echo", "arguments": {"text": words}})
        kind, content = ("application/json", tool) if tools else ("text/plain", words)
        said = [{"role": "user", "parts": [{"content_type": kind, "content": content}]}]
        body = {"agent_name": name, "input": said, "mode": "stream" if streaming else "sync"}
        answer = await self.http.post("/acp/runs", json=body)
        last = _last(answer)
        run = last.get("run", last)
        error = run.get("error") or last.get("error") or (last if "code" in last else {})
        ok = answer.status_code == 200 and run.get("status") == "completed"
        return Outcome(
            ok, (error or {}).get("message") or str(last), answer.text, answer.status_code, answer.headers
        )


_META_INFO = {"name": "t", "version": "1"}


def _tool(name: str, tools: bool, words: str) -> dict[str, Any]:
    if tools:
        return {"name": "echo", "arguments": {"text": words}}
    return {"name": name, "arguments": {"message": words}}


def _rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def _notification(method: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method}


def _said_mcp(answer: httpx.Response) -> Outcome:
    said = _last(answer)
    if "error" in said:
        return Outcome(False, said["error"]["message"], answer.text, answer.status_code, answer.headers)
    result = said["result"]
    words = "".join(c.get("text", "") for c in result.get("content", ()))
    return Outcome(not result.get("isError"), words, answer.text, answer.status_code, answer.headers)


def _last(answer: httpx.Response) -> dict[str, Any]:
    """The document, or a stream's last event."""
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        return answer.json()
    data = [line[5:] for line in answer.text.split("\n") if line.startswith("data:") and line[5:].strip()]
    return json.loads(data[-1])


@contextlib.asynccontextmanager
async def running(limits: Limits = LIMITS, logs: Path | None = None, **more: Any) -> AsyncIterator[Running]:
    """``logs``: a data directory for those of agents that are processes."""
    listener = process.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config, kept = Config(limits=limits, **more), None if logs is None else logs_in(logs)
    made = process.Gateway(config, MemoryStore(), bind="127.0.0.1", token="owner", logs=kept)
    async with process.running(made, listener, refresh=False):
        pool = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=pool, trust_env=False) as http:
            yield Running(made, http)
