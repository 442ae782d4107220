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
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")

import httpx
import httpx2
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import (
    AgentInterface,
    CancelTaskRequest,
    GetTaskRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitResult

from .reply import ACP_STATES, Reply, Request, from_a2a, from_acp, from_mcp

TIMEOUT = 60.0
ENDED = {"completed", "failed", "canceled", "rejected", "error"}
Started = Callable[[], Awaitable[None]]
Back = Callable[[], None]  # says that who left is there again: the work may go on


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def ended(look: Callable[[], Awaitable[Reply]]) -> Reply:
    """Look again and again until a task has ended."""
    async with asyncio.timeout(TIMEOUT):
        while (reply := await look()).state not in ENDED:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    return reply


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
        events: list[tuple[float, Any]] = []
        async for answer in self.answers(op, **command):
            if "event" not in answer:
                return events, answer
            events.append((answer["at"], answer["event"]))
        raise AssertionError("unreachable")

    async def answers(self, op: str, **command: Any) -> AsyncGenerator[dict[str, Any]]:
        """The lines that answer a command, as they come; leaving early drops its connection."""
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        id = next(self.ids)
        self.waiting[id] = lambda answer: loop.call_soon_threadsafe(answers.put_nowait, answer)
        with self.lock:
            self.process.stdin.write(json.dumps({"id": id, "op": op, **command}).encode() + b"\n")
            self.process.stdin.flush()
        ended = False
        try:
            while not ended:
                answer = await asyncio.wait_for(answers.get(), TIMEOUT)
                ended = "event" not in answer
                yield answer
        finally:
            del self.waiting[id]
            if not ended:
                await self.perform("drop", target=id)


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

    async def cancel(self, request: Request, started: Started, stopped: Started) -> Reply | None:
        """Call, cancel the call once it has begun, and see it stop while the connection is still there."""
        async with self.connect() as client:
            calling = asyncio.create_task(self.call_on(client, request))
            await started()
            calling.cancel()
            await stopped()
            await asyncio.wait([calling])
        return None  # a host that has cancelled gets no answer

    async def long_task(self, request: Request, back: Back) -> Reply:
        """Call, and while the answer says that it is not the end, again with the task's id."""
        if request.tool:  # of a server: the host waits for it
            back()
        async with self.connect() as client:
            reply = await self.call_on(client, request)
            back()
            return await self._followed(client, request.agent, reply)

    async def rejoin(self, request: Request, back: Back) -> Reply:
        """Leave with a task's id, come back on another connection."""
        reply = await self.call(request)
        assert reply.task and reply.state not in ENDED, reply
        back()
        async with self.connect() as client:
            return await self._followed(client, request.agent, reply)

    async def _followed(self, client: McpClient, agent: str, reply: Reply) -> Reply:
        while reply.task and reply.state not in ENDED:
            reply = await self.call_on(client, Request(agent, "", task=reply.task))
        return reply

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

    @asynccontextmanager
    async def opened(self, agent: str, streaming: bool = True) -> AsyncIterator[Any]:
        async with httpx.AsyncClient(timeout=TIMEOUT) as http:
            config = ClientConfig(
                httpx_client=http, supported_protocol_bindings=[self.binding], streaming=streaming
            )
            yield ClientFactory(config).create(await self.card(agent, http))

    async def cancel(self, request: Request, started: Started, stopped: Started) -> Reply:
        """Call, cancel the task once it has begun, and follow its stream to the end."""
        events: list[tuple[float, dict[str, Any]]] = []
        async with self.opened(request.agent) as client:
            canceled = False
            async for event in client.send_message(ParseDict(a2a_request(request), SendMessageRequest())):
                events += [(time.monotonic(), MessageToDict(event))]
                if (task := from_a2a(events).task) and not canceled:
                    canceled = True
                    await started()
                    await client.cancel_task(CancelTaskRequest(id=task))
            await stopped()
        return from_a2a(events)

    async def long_task(self, request: Request, back: Back) -> Reply:
        """Start without waiting, leave, and look again until the task has ended."""
        body = a2a_request(request) | {"configuration": {"returnImmediately": True}}
        async with self.opened(request.agent, streaming=False) as client:
            events = [e async for e in client.send_message(ParseDict(body, SendMessageRequest()))]
        first = from_a2a([(0, MessageToDict(events[0]))])
        assert first.task and first.state not in ENDED, first
        back()
        async with self.opened(request.agent) as client:
            return await ended(lambda: self._get(client, first.task))

    async def _get(self, client: Any, task: str | None) -> Reply:
        found = MessageToDict(await client.get_task(GetTaskRequest(id=task or "")))
        return from_a2a([(time.monotonic(), {"task": found})])

    async def rejoin(self, request: Request, back: Back) -> Reply:
        """Drop the stream after its first piece, come back on another connection."""
        task: str | None = None
        async with self.opened(request.agent) as client:
            message = ParseDict(a2a_request(request), SendMessageRequest())
            events: list[tuple[float, dict[str, Any]]] = []
            async with aclosing(client.send_message(message)) as stream:
                async for event in stream:
                    events += [(time.monotonic(), MessageToDict(event))]
                    seen = from_a2a(events)
                    task = seen.task
                    if task and seen.progress:
                        break
        async with self.opened(request.agent) as client:
            events = []
            async for event in client.subscribe(SubscribeToTaskRequest(id=task or "")):
                if not events:
                    back()
                events += [(time.monotonic(), MessageToDict(event))]
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

    async def _events(self, op: str, **command: Any) -> AsyncGenerator[tuple[float, Any]]:
        async with aclosing(self.lines.answers(op, **command)) as answers:
            async for answer in answers:
                assert "error" not in answer, answer
                if "event" in answer:
                    yield answer["at"], answer["event"]

    async def cancel(self, request: Request, started: Started, stopped: Started) -> Reply:
        """Call, cancel the task once it has begun, and follow its stream to the end."""
        url, events, canceled = self.agent_url(request.agent), [], False
        async for event in self._events("stream", url=url, request=a2a_request(request)):
            events += [event]
            if (task := from_a2a(events).task) and not canceled:
                canceled = True
                await started()
                await self.lines.perform("cancel", url=url, task=task)
        await stopped()
        return from_a2a(events)

    async def long_task(self, request: Request, back: Back) -> Reply:
        """Start without waiting, leave, and look again until the task has ended."""
        url = self.agent_url(request.agent)
        body = a2a_request(request) | {"configuration": {"returnImmediately": True}}
        _, last = await self.lines.perform("send", url=url, request=body)
        first = from_a2a([(0, last["done"])])
        assert first.task and first.state not in ENDED, first
        back()

        async def get() -> Reply:
            _, last = await self.lines.perform("get", url=url, task=first.task)
            return from_a2a([(time.monotonic(), {"task": last["done"]})])

        return await ended(get)

    async def rejoin(self, request: Request, back: Back) -> Reply:
        """Drop the stream after its first piece, come back with another request."""
        url, events, task = self.agent_url(request.agent), [], None
        async with aclosing(self._events("stream", url=url, request=a2a_request(request))) as stream:
            async for event in stream:
                events += [event]
                seen = from_a2a(events)
                task = seen.task
                if task and seen.progress:
                    break
        events = []
        async for event in self._events("subscribe", url=url, task=task):
            if not events:
                back()
            events += [event]
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

    async def _events(self, op: str, **command: Any) -> AsyncGenerator[tuple[float, Any]]:
        async with aclosing(self.lines.answers(op, url=self.url, **command)) as answers:
            async for answer in answers:
                assert "error" not in answer, answer
                if "event" in answer:
                    yield answer["at"], answer["event"]

    async def cancel(self, request: Request, started: Started, stopped: Started) -> Reply:
        """Call, cancel the run once it has begun, and follow its stream to the end."""
        events: list[tuple[float, Any]] = []
        canceled = False
        async for event in self._events("stream", agent=request.agent, parts=self.form(request)):
            events += [event]
            if (run := from_acp(events).task) and not canceled:
                canceled = True
                await started()
                await self.lines.perform("cancel", url=self.url, run=run)
        await stopped()
        return from_acp(events)

    async def _log(self, run: str | None) -> Reply:
        events, last = await self.lines.perform("events", url=self.url, run=run)
        assert "done" in last, last
        return from_acp(events)

    async def long_task(self, request: Request, back: Back) -> Reply:
        """Start without waiting, leave, look at the run until it has ended, and read its log."""
        command = {"url": self.url, "agent": request.agent, "parts": self.form(request)}
        _, last = await self.lines.perform("async", **command)
        run = last["done"]["run_id"]
        back()

        async def status() -> Reply:
            _, last = await self.lines.perform("status", url=self.url, run=run)
            return Reply(state=ACP_STATES.get(last["done"]["status"], last["done"]["status"]))

        await ended(status)
        return await self._log(run)

    async def rejoin(self, request: Request, back: Back) -> Reply:
        """Drop the stream after its first piece, come back to the run's log until it has ended."""
        events: list[tuple[float, Any]] = []
        run: str | None = None
        async with aclosing(self._events("stream", agent=request.agent, parts=self.form(request))) as stream:
            async for event in stream:
                events += [event]
                seen = from_acp(events)
                run = seen.task
                if run and seen.progress:
                    break
        back()
        return await ended(lambda: self._log(run))

    async def call_many(self, requests: list[Request]) -> list[Reply]:
        return await asyncio.gather(*(self.call(request) for request in requests))


warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(mcp|a2a)\..*")
