"""The foreign clients: each puts a Request into its protocol's form and gives back a Reply."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import threading
import time
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")

import httpx
import httpx2
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import AgentInterface, SendMessageRequest
from google.protobuf.json_format import MessageToDict, ParseDict
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitResult

from .reply import Reply, Request, from_a2a, from_acp, from_mcp

TIMEOUT = 30.0


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


class Lines:
    """A client in another process that is driven by JSON lines; commands run side by side."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.ids = itertools.count(1)
        self.lock = threading.Lock()
        self.waiting: dict[int, Any] = {}
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.ready.wait(120), f"{process.name} does not start:\n{process.output}"

    def _read(self) -> None:
        for line in self.process.popen.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                self.ready.set()
            elif waiting := self.waiting.get(answer["id"]):
                waiting(answer)

    async def perform(self, op: str, **command: Any) -> tuple[list[tuple[float, Any]], dict[str, Any]]:
        """The events with their arrival times, and the last line: {"done"} or {"error"}."""
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        id = next(self.ids)
        self.waiting[id] = lambda answer: loop.call_soon_threadsafe(answers.put_nowait, answer)
        with self.lock:
            self.process.stdin.write(json.dumps({"id": id, "op": op, **command}).encode() + b"\n")
            self.process.stdin.flush()
        events: list[tuple[float, Any]] = []
        async with asyncio.timeout(TIMEOUT):
            while True:
                answer = await answers.get()
                if "event" not in answer:
                    del self.waiting[id]
                    return events, answer
                events.append((answer["at"], answer["event"]))


class McpHost:
    """The Python SDK in one of its two eras."""

    protocol = "mcp"

    def __init__(self, url: str, mode: str, path: str = "/mcp") -> None:
        self.url, self.mode = url + path, mode

    @asynccontextmanager
    async def connect(
        self, headers: dict[str, str] | None = None, **options: Any
    ) -> AsyncIterator[McpClient]:
        async with (
            httpx2.AsyncClient(headers=headers or {}, timeout=TIMEOUT) as http,
            McpClient(
                streamable_http_client(self.url, http_client=http), mode=self.mode, **options
            ) as client,
        ):
            yield client

    async def call_and_answer(self, request: Request, answer: dict[str, Any]) -> tuple[Reply, list[str]]:
        """As a host with a form for its user; also what the user was asked."""
        asked: list[str] = []

        async def fill(context: Any, params: Any) -> ElicitResult:
            asked.append(params.message)
            return ElicitResult(action="accept", content=answer)

        async with self.connect(elicitation_callback=fill) as client:
            return await self.call_on(client, request), asked

    async def names(self) -> dict[str, Any]:
        """The tools by name."""
        async with self.connect() as client:
            return {tool.name: tool.model_dump(by_alias=True) for tool in (await client.list_tools()).tools}

    def form(self, request: Request) -> tuple[str, dict[str, Any]]:
        if request.tool:
            prefix = f"{request.agent}__" if request.agent else ""
            return prefix + request.tool, request.arguments
        arguments: dict[str, Any] = {"message": request.text or ""}
        if request.data is not None:
            arguments["data"] = request.data
        if request.file:
            name, media_type, content = request.file
            arguments["files"] = [{"name": name, "media_type": media_type, "data": b64(content)}]
        if request.context:
            arguments["context_id"] = request.context
        if request.task:
            arguments["task_id"] = request.task
        return request.agent, arguments

    async def call(self, request: Request) -> Reply:
        headers = {"traceparent": request.traceparent} if request.traceparent else {}
        async with self.connect(headers=headers) as client:
            return await self.call_on(client, request)

    async def call_on(self, client: McpClient, request: Request) -> Reply:
        progress: list[tuple[float, str]] = []

        async def seen(done: float, total: float | None, message: str | None) -> None:
            progress.append((time.monotonic(), message or ""))

        tool, arguments = self.form(request)
        meta: Any = {"traceparent": request.traceparent} if request.traceparent else None
        try:
            result = await client.call_tool(tool, arguments, progress_callback=seen, meta=meta)
        except MCPError as error:
            text = error.error.model_dump_json()
            return Reply(
                state="error", text=error.error.message, code=error.error.code, raw=text, progress=progress
            )
        return from_mcp(result, progress, time.monotonic())

    async def call_many(self, requests: list[Request]) -> list[Reply]:
        """All on one connection, as a host has it."""
        async with self.connect() as client:
            return await asyncio.gather(*(self.call_on(client, request) for request in requests))


def a2a_request(request: Request) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if request.text is not None:
        parts.append({"text": request.text})
    if request.tool:
        parts.append({"data": {"tool": request.tool, "arguments": request.arguments}})
    if request.data is not None:
        parts.append({"data": request.data})
    if request.file:
        name, media_type, content = request.file
        parts.append({"raw": b64(content), "filename": name, "mediaType": media_type})
    message: dict[str, Any] = {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "parts": parts}
    if request.metadata:
        message["metadata"] = request.metadata
    if request.context:
        message["contextId"] = request.context
    if request.task:
        message["taskId"] = request.task
    return {"message": message}


class A2aPython:
    """The Python SDK on one binding and version."""

    protocol = "a2a"

    def __init__(self, url: str, binding: str, version: str) -> None:
        self.url, self.binding, self.version = url, binding, version

    def agent_url(self, agent: str) -> str:
        return f"{self.url}/a2a/{agent}/" if agent else f"{self.url}/"

    async def card(self, agent: str, http: httpx.AsyncClient | None = None) -> Any:
        if http is None:
            async with httpx.AsyncClient(timeout=TIMEOUT) as own:
                return await self.card(agent, own)
        card = await A2ACardResolver(http, self.agent_url(agent)).get_agent_card()
        wanted = [
            interface
            for interface in card.supported_interfaces
            if (interface.protocol_binding, interface.protocol_version) == (self.binding, self.version)
        ]
        if not wanted and self.version == "0.3":
            # A 1.0 card has no room for an older client, which knows the URL it was given.
            url = self.agent_url(agent)
            wanted = [AgentInterface(url=url, protocol_binding=self.binding, protocol_version="0.3")]
        assert wanted, f"the card offers no {self.binding} {self.version}"
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(wanted)
        return card

    async def call(self, request: Request) -> Reply:
        headers = {"traceparent": request.traceparent} if request.traceparent else {}
        async with httpx.AsyncClient(timeout=TIMEOUT, headers=headers) as http:
            try:
                card = await self.card(request.agent, http)
            except Exception as error:
                return Reply(state="error", text=str(error), code=type(error).__name__, raw=repr(error))
            return await self.call_on(http, card, request)

    async def call_on(self, http: httpx.AsyncClient, card: Any, request: Request) -> Reply:
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[self.binding])
        client = ClientFactory(config).create(card)
        message = ParseDict(a2a_request(request), SendMessageRequest())
        events: list[tuple[float, dict[str, Any]]] = []
        try:
            async for event in client.send_message(message):
                events += [(time.monotonic(), MessageToDict(event))]
        except Exception as error:
            return Reply(state="error", text=str(error), code=type(error).__name__, raw=f"{error!r} {events}")
        return from_a2a(events)

    async def call_many(self, requests: list[Request]) -> list[Reply]:
        async with httpx.AsyncClient(timeout=TIMEOUT) as http:
            cards = {agent: await self.card(agent, http) for agent in {r.agent for r in requests}}
            return await asyncio.gather(*(self.call_on(http, cards[r.agent], r) for r in requests))


class A2aJs:
    """The JavaScript SDK."""

    protocol = "a2a"

    def __init__(self, url: str, lines: Lines) -> None:
        self.url, self.lines = url, lines

    def agent_url(self, agent: str) -> str:
        return f"{self.url}/a2a/{agent}/" if agent else f"{self.url}/"

    async def card(self, agent: str) -> Any:
        _, last = await self.lines.perform("card", url=self.agent_url(agent))
        return last["done"]

    async def call(self, request: Request) -> Reply:
        events, last = await self.lines.perform(
            "stream",
            url=self.agent_url(request.agent),
            request=a2a_request(request),
            traceparent=request.traceparent,
        )
        if error := last.get("error"):
            raw = json.dumps([events, last])
            return Reply(state="error", text=error["message"], code=error.get("code"), raw=raw)
        return from_a2a(events)

    async def call_many(self, requests: list[Request]) -> list[Reply]:
        return await asyncio.gather(*(self.call(request) for request in requests))


class AcpClient:
    """The Python or the TypeScript SDK; both take the same commands."""

    protocol = "acp"

    def __init__(self, url: str, lines: Lines, path: str = "/acp") -> None:
        self.url, self.lines = url + path, lines

    async def manifests(self) -> dict[str, Any]:
        _, last = await self.lines.perform("agents", url=self.url)
        assert "done" in last, last
        return {manifest["name"]: manifest for manifest in last["done"]}

    def form(self, request: Request) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        if request.text is not None:
            parts.append({"content_type": "text/plain", "content": request.text})
        if request.tool:
            call = {"tool": request.tool, "arguments": request.arguments}
            parts.append({"content_type": "application/json", "content": json.dumps(call)})
        if request.data is not None:
            parts.append({"content_type": "application/json", "content": json.dumps(request.data)})
        if request.file:
            name, media_type, content = request.file
            encoded = {"content_encoding": "base64", "content": b64(content)}
            parts.append({"name": name, "content_type": media_type, **encoded})
        return parts

    async def call(self, request: Request) -> Reply:
        events, last = await self.lines.perform(
            "resume" if request.task else "stream",
            url=self.url,
            agent=request.agent,
            parts=self.form(request),
            session=request.context,
            run=request.task,
            traceparent=request.traceparent,
        )
        if error := last.get("error"):
            raw = json.dumps([events, last])
            return Reply(state="error", text=error["message"], code=error.get("code"), raw=raw)
        return from_acp(events)

    async def call_many(self, requests: list[Request]) -> list[Reply]:
        return await asyncio.gather(*(self.call(request) for request in requests))


warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(mcp|a2a)\..*")
