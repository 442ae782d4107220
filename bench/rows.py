"""What the clients say: one request for each pair of protocols, as it goes to the gateway and past it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from load import ID, Job

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}
INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        },
    }
)
SMALL = "x" * 100  # makes bodies of about 300 bytes


class Row(msgspec.Struct):
    """``through``: path at the gateway; ``past``: the same at the agents, and through nginx ("": a
    translation, which only the gateway does). ``head``: header lines that both get."""

    name: str
    through: str
    past: str
    head: str
    body: str
    session: bool = False  # each connection, as a client of its own, begins with MCP's initialize

    def job(self, port: int, *, past: bool = False, **options: Any) -> Job:
        path = self.past if past else self.through
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{self.head}"
        )
        opening = INITIALIZE if self.session else ""
        expect = options.pop("expect", SMALL[:50])
        return Job(port=port, head=head, opening=opening, body=self.body, expect=expect, **options)


def mcp(
    agent: str,
    arguments: dict[str, Any],
    *,
    modern: bool = True,
    tool: str = "echo",
    progress: bool = False,
) -> Row:
    """``progress``: the client asks for the notifications of it, and so for a stream."""
    revision = MODERN if modern else "2025-11-25"
    meta: dict[str, Any] = {**(META if modern else {}), **({"progressToken": 1} if progress else {})}
    params: dict[str, Any] = {"name": tool, "arguments": arguments, **({"_meta": meta} if meta else {})}
    head = f"accept: application/json, text/event-stream\r\nmcp-protocol-version: {revision}\r\n"
    if modern:
        head += f"mcp-method: tools/call\r\nmcp-name: {tool}\r\n"
    path = f"/mcp/{agent}"
    return Row(
        f"MCP {revision} → {agent}", path, "/mcp" if modern else "/mcph", head, rpc("tools/call", params),
        session=not modern,
    )  # fmt: skip


def a2a(agent: str, text: str, *, method: str = "SendMessage") -> Row:
    message = {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}
    head = "accept: application/json, text/event-stream\r\na2a-version: 1.0\r\n"
    return Row(f"A2A → {agent}", f"/a2a/{agent}", "/a2a", head, rpc(method, {"message": message}))


def acp(agent: str, text: str, *, mode: str = "sync") -> Row:
    part = {"content_type": "text/plain", "content": text, "content_encoding": "plain"}
    body = {"agent_name": agent, "input": [{"role": "user", "parts": [part]}], "mode": mode}
    return Row(f"ACP → {agent}", "/acp/runs", "/acp/runs", "accept: */*\r\n", json.dumps(body))


def rpc(method: str, params: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": int(ID), "method": method, "params": params})


def relays(text: str = SMALL) -> list[Row]:
    """Client and agent speak one protocol."""
    rows = [
        mcp("mcp", {"text": text}),
        mcp("mcph", {"text": text}, modern=False),
        a2a("a2a", text),
        acp("acp", text),
    ]
    names = ("MCP 2026-07-28 → MCP", "MCP handshake → MCP", "A2A → A2A", "ACP → ACP")
    return [msgspec.structs.replace(row, name=name) for row, name in zip(rows, names, strict=True)]


def translated(text: str = SMALL) -> list[Row]:
    """They speak different ones."""
    rows = [
        (mcp("a2a", {"message": text}, tool="a2a"), "MCP → A2A"),
        (mcp("acp", {"message": text}, tool="acp"), "MCP → ACP"),
        (a2a("acp", text), "A2A → ACP"),
        (a2a("mcp", text), "A2A → MCP"),
        (acp("mcp", text), "ACP → MCP"),
        (acp("a2a", text), "ACP → A2A"),
    ]
    return [msgspec.structs.replace(row, name=name) for row, name in rows]


def tools_list() -> Row:
    head = f"accept: application/json, text/event-stream\r\nmcp-protocol-version: {MODERN}\r\n"
    head += "mcp-method: tools/list\r\n"
    return Row("tools/list at /mcp", "/mcp", "/mcp", head, rpc("tools/list", {"_meta": META}))
