"""An agent of every protocol that says much, the gateway in front of it, and what its clients ask: all in one
event loop, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agentgw.cli.wiring import Gateway
from agentgw.gateway.config import Config
from agentgw.gateway.http.server import Server
from agentgw.gateway.model import Record
from agentgw.registry.memory import MemoryStore

PIECE = "x" * 64 * 1024
IDS = {"run_id": "3ae0439a-30b3-40aa-bab1-c6df7ffb2f85", "session_id": "d269d131-c7ee-4a07-a61e-1dd54da5b4c9"}
MODERN = "2026-07-28"


class Flooding:
    """An agent of every protocol that says ``PIECE`` so many times; ``sent``: bytes that it got rid of."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.sent = 0
        self.serving: set[asyncio.Task[None] | None] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            self.serving.discard(asyncio.current_task())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            body = json.loads(await reader.readexactly(length) or b"{}")
            method, path, _ = head.decode().split(" ", 2)
            if method == "GET":
                self._json(writer, self._described(path, writer.get_extra_info("sockname")[1]))
            elif body.get("method") in ("server/discover", "tools/list"):
                self._json(writer, {"jsonrpc": "2.0", "id": body["id"], "result": MCP[body["method"]]})
            else:
                await self._flood(writer, path, body)

    def _json(self, writer: asyncio.StreamWriter, value: Any) -> None:
        data = json.dumps(value).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(data) + data)

    def _described(self, path: str, port: int) -> Any:
        if path.startswith("/acp"):
            manifest = {"name": "flooding", "description": "x", "input_content_types": ["*/*"]}
            return {"agents": [manifest]} if path.startswith("/acp/agents?") else manifest
        interface = {"url": f"http://127.0.0.1:{port}/a2a", "protocolBinding": "JSONRPC"}
        return {
            "name": "flooding", "description": "x", "version": "1", "capabilities": {"streaming": True},
            "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"], "skills": [],
            "supportedInterfaces": [{**interface, "protocolVersion": "1.0"}],
        }  # fmt: skip

    async def _flood(self, writer: asyncio.StreamWriter, path: str, body: Any) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head)
        first, piece, last = EVENTS[path](body)
        for event in (*first, *[piece] * self.pieces, *last):
            data = b"data: " + json.dumps(event).encode() + b"\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            self.sent += len(data)
        writer.write(b"0\r\n\r\n")


MCP = {
    "server/discover": {
        "resultType": "complete", "supportedVersions": [MODERN], "capabilities": {"tools": {}},
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "flooding", "version": "1"}},
    },
    "tools/list": {"resultType": "complete", "tools": [{"name": "flood", "inputSchema": {"type": "object"}}]},
}  # fmt: skip
Events = tuple[list[Any], Any, list[Any]]


def a2a_events(asked: Any) -> Events:
    ids = {"taskId": "t", "contextId": "c"}
    artifact = {"artifactId": "a", "parts": [{"text": PIECE}]}
    task = {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}
    results = (
        {"task": task},
        {"artifactUpdate": {**ids, "append": True, "artifact": artifact}},
        {"statusUpdate": {**ids, "status": {"state": "TASK_STATE_COMPLETED"}}},
    )
    first, piece, last = ({"jsonrpc": "2.0", "id": asked["id"], "result": result} for result in results)
    return [first], piece, [last]


def acp_events(asked: Any) -> Events:
    run = {**IDS, "agent_name": "flooding", "output": [], "created_at": "2026-01-01T00:00:00Z"}
    part = {"type": "message.part", "part": {"content_type": "text/plain", "content": PIECE}}
    created = {"type": "run.created", "run": {**run, "status": "created"}}
    return [created], part, [{"type": "run.completed", "run": {**run, "status": "completed"}}]


def mcp_events(asked: Any) -> Events:
    token = asked["params"]["_meta"]["progressToken"]
    progress = {"progressToken": token, "progress": 1, "message": PIECE}
    result = {"content": [], "resultType": "complete"}
    notified = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
    return [], notified, [{"jsonrpc": "2.0", "id": asked["id"], "result": result}]


EVENTS = {"/a2a": a2a_events, "/acp/runs": acp_events, "/mcp": mcp_events}


Ask = Callable[[str], tuple[str, dict[str, str], Any]]


def ask_a2a(agent: str) -> tuple[str, dict[str, str], Any]:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "go"}]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": message}}
    return f"/a2a/{agent}", {"a2a-version": "1.0"}, call


def ask_acp(agent: str) -> tuple[str, dict[str, str], Any]:
    said = {"role": "user", "parts": [{"content_type": "text/plain", "content": "go"}]}
    return "/acp/runs", {}, {"agent_name": agent, "input": [said], "mode": "stream"}


def ask_mcp(agent: str) -> tuple[str, dict[str, str], Any]:
    prefix = "io.modelcontextprotocol/"
    meta = {
        f"{prefix}protocolVersion": MODERN,
        f"{prefix}clientCapabilities": {},
        f"{prefix}clientInfo": {"name": "c", "version": "1"},
        "progressToken": "p",
    }
    tool, arguments = ("flood", {}) if agent == "mcp" else (agent, {"message": "go"})
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": tool}
    return f"/mcp/{agent}", headers, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


@asynccontextmanager
async def flooded(pieces: int) -> AsyncIterator[tuple[Flooding, int]]:
    """The agent, and the port of a gateway in front of it."""
    agent = Flooding(pieces)
    server = await asyncio.start_server(agent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    store = MemoryStore()
    gateway = Gateway(Config(), store, bind="127.0.0.1", token="owner")
    for protocol in ("mcp", "a2a", "acp"):
        await store.put_record(Record(name=protocol, protocol=protocol, url=f"{url}/{protocol}"))
    listener = socket.create_server(("127.0.0.1", 0))
    front = Server(gateway.app, 65536)
    await gateway.start()
    await front.start(listener)
    try:
        yield agent, listener.getsockname()[1]
    finally:
        await front.aclose()
        await gateway.aclose()
        server.close()
        await asyncio.gather(*(task for task in agent.serving if task), return_exceptions=True)


def request(ask: Ask, to: str, **headers: str) -> bytes:
    """What goes over the wire to ask the agent named ``to``."""
    path, more, body = ask(to)
    data = json.dumps(body).encode()
    lines = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "content-length": str(len(data)),
        **more,
        **headers,
    }
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return f"{head}\r\n".encode() + data
