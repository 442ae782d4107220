"""Agents of every protocol in the test's own process, and the gateway's way to them.

What they are told decides what they do: ``ask`` is answered with a question, ``work`` with a task that goes
on, ``stream`` with pieces, ``fail`` with a failure; all else is said again.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from agentgw.gateway.errors import BadUpstream, Unconnected, Unreachable, UpstreamTimeout
from agentgw.gateway.h1_request import Fixed
from agentgw.gateway.transport import Block, Reply
from agentgw.gateway.waiting import Timer

NOW = "2026-01-01T00:00:00Z"
Json = dict[str, Any]
# What comes between the pieces of an answer, or at its end.
BREAKS, HANGS = "breaks", "hangs"
Piece = (
    Any  # JSON of an answer or event, bytes as they are, BREAKS, HANGS, or what is awaited before the next
)


@dataclass
class Answer:
    """``pieces`` are one JSON document, or (``events``) the data of events."""

    pieces: list[Piece]
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    events: bool = False

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        named = {name for name, _ in self.headers}
        kind = "text/event-stream" if self.events else "application/json"
        return self.headers if "content-type" in named else [("content-type", kind), *self.headers]


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


Agent = Callable[[Asked], Answer]
Change = Callable[[Asked, Answer], Answer]


def member(value: Any, *path: str | int) -> Any:
    """What is there, or None."""
    for key in path:
        try:
            value = value[key]
        except (TypeError, KeyError, IndexError):
            return None
    return value


class Mcp:
    """An MCP server of one era."""

    def __init__(self, modern: bool) -> None:
        self.modern = modern
        self.answered = asyncio.Event()

    def __call__(self, asked: Asked) -> Answer:
        if asked.method != "POST":
            return Answer([b""], 405 if asked.method == "GET" else 200)
        call = asked.json
        method, id, params = member(call, "method"), member(call, "id"), member(call, "params")
        if method is None:
            self.answered.set()
        if method is None or id is None:
            return Answer([b""], 202)
        if method == "server/discover" and not self.modern:
            return Answer(
                [{"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"}}]
            )
        if method == "tools/call":
            return self._called(id, params)
        result = RESULTS.get(method)
        if result is None:
            return Answer(
                [{"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"}}]
            )
        headers = [("mcp-session-id", uuid.uuid4().hex)] if method == "initialize" else []
        return Answer([self._result(id, result)], headers=headers)

    def _called(self, id: Any, params: Any) -> Answer:
        text = member(params, "arguments", "text")
        said = {"content": [{"type": "text", "text": text if isinstance(text, str) else "?"}]}
        token = member(params, "_meta", "progressToken")
        if text == "fail":
            return Answer([self._result(id, {**said, "isError": True})])
        if text == "stream":
            told = {"progressToken": token, "progress": 1, "total": 2, "message": "half"}
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": told}
            return Answer([note, self._result(id, said)], events=True)
        if text == "ask":
            form = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
            question = {
                "method": "elicitation/create",
                "params": {"message": "Who?", "requestedSchema": form},
            }
            if not self.modern:
                self.answered.clear()
                asks = {"jsonrpc": "2.0", "id": 77, **question}
                return Answer([asks, self.answered.wait, self._result(id, said)], events=True)
            if not member(params, "inputResponses"):
                wants = {
                    "resultType": "input_required",
                    "inputRequests": {"q": question},
                    "requestState": "s",
                }
                return Answer([self._result(id, wants)])
        if text == "work":
            return Answer([HANGS], events=True)
        return Answer([self._result(id, {**said, "structuredContent": {"n": 1}})])

    def _result(self, id: Any, result: Json) -> Json:
        more = {"resultType": "complete", "ttlMs": 60000, "cacheScope": "private"} if self.modern else {}
        return {"jsonrpc": "2.0", "id": id, "result": {**more, **result}}


STRING = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
RESULTS: dict[str, Json] = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}, "prompts": {}, "resources": {"subscribe": True}, "logging": {},
         "completions": {}},
        "serverInfo": {"name": "tools", "version": "1"},
        "instructions": "use them",
    },
    "server/discover": {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {"listChanged": True}, "prompts": {}, "resources": {}},
        "serverInfo": {"name": "tools", "version": "1"},
        "ttlMs": 60000, "cacheScope": "public",
    },
    "ping": {},
    "logging/setLevel": {},
    "resources/subscribe": {},
    "resources/unsubscribe": {},
    "completion/complete": {"completion": {"values": ["a"], "hasMore": False}},
    "tools/list": {
        "tools": [
            {"name": "echo", "title": "Echo", "description": "says it again", "inputSchema": STRING,
             "annotations": {"readOnlyHint": True}},
            {"name": "form", "inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}},
             "outputSchema": {"type": "object"}},
        ],
    },
    "prompts/list": {"prompts": [{"name": "greet", "arguments": [{"name": "who", "required": True}]}]},
    "prompts/get": {"messages": [{"role": "user", "content": {"type": "text", "text": "Hello"}}]},
    "resources/list": {"resources": [{"uri": "file:///a.txt", "name": "a", "mimeType": "text/plain"}]},
    "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "file:///{name}", "name": "f"}]},
    "resources/read": {"contents": [{"uri": "file:///a.txt", "text": "a", "mimeType": "text/plain"}]},
}  # fmt: skip


class A2A:
    """An A2A agent of one revision and binding (``JSONRPC``, ``HTTP+JSON``)."""

    def __init__(self, revision: str = "1.0", binding: str = "JSONRPC") -> None:
        self.old = revision == "0.3"
        self.revision = revision
        self.binding = binding
        self.tasks: dict[str, Json] = {}

    def card(self, host: str) -> Json:
        url = f"http://{host}/"
        card: Json = {
            "name": "painter", "description": "paints", "version": "1", "capabilities": {"streaming": True},
            "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
            "skills": [{"id": "paint", "name": "paint", "description": "paints", "tags": ["art"]}],
        }  # fmt: skip
        if self.old:
            return {**card, "protocolVersion": "0.3.0", "url": url, "preferredTransport": self.binding}
        interface = {"url": url, "protocolBinding": self.binding, "protocolVersion": "1.0"}
        return {**card, "supportedInterfaces": [interface]}

    def __call__(self, asked: Asked) -> Answer:
        if asked.path.endswith((".json", "/extendedAgentCard", "/card")):
            return Answer([self.card(asked.headers["host"])])
        if self.binding == "JSONRPC":
            call = asked.json
            id = member(call, "id")
            method = str(member(call, "method"))
            if method in ("GetExtendedAgentCard", "agent/getAuthenticatedExtendedCard"):
                return Answer([{"jsonrpc": "2.0", "id": id, "result": self.card(asked.headers["host"])}])
            answer = self._done(method, member(call, "params"))
            if answer.status != 200:
                error = {"code": -32001, "message": "Task not found"}
                return Answer([{"jsonrpc": "2.0", "id": id, "error": error}])
            answer.pieces = [
                {"jsonrpc": "2.0", "id": id, "result": piece} if isinstance(piece, dict) else piece
                for piece in answer.pieces
            ]
            return answer
        path, _, verb = asked.path.partition("?")[0].rpartition(":")
        method = {"send": "SendMessage", "stream": "SendStreamingMessage", "cancel": "CancelTask",
                  "subscribe": "SubscribeToTask"}.get(verb, "GetTask")  # fmt: skip
        task_id = (path if path else verb).partition("/tasks/")[2].partition("/")[0]
        if method == "GetTask" and not task_id:
            method = "ListTasks"
        params = asked.json
        return self._done(method, {"id": task_id, **(params if isinstance(params, dict) else {})})

    def _done(self, method: str, params: Any) -> Answer:
        if method in ("SendMessage", "message/send"):
            return Answer([self._sent(params)[-1]])
        if method in ("SendStreamingMessage", "message/stream"):
            return Answer(self._streamed(params), events=True)
        task = self.tasks.get(str(member(params, "id")))
        if method in ("ListTasks", "tasks/list"):
            return Answer(
                [{"tasks": list(self.tasks.values()), "nextPageToken": "", "pageSize": 50, "totalSize": 1}]
            )
        if task is None:
            return Answer([{"error": {"code": 404, "status": "NOT_FOUND", "message": "no such task"}}], 404)
        if method in ("CancelTask", "tasks/cancel"):
            task["status"] = self._status("canceled")
        if method in ("SubscribeToTask", "tasks/resubscribe"):
            first = {**task} if self.old else {"task": {**task}}
            if task["status"]["state"] == self._state("completed"):
                return Answer([first], events=True)
            task["status"] = self._status("completed")
            return Answer([first, self._update(task, "completed")], events=True)
        return Answer([task])

    def _state(self, state: str) -> str:
        return state.replace("_", "-") if self.old else f"TASK_STATE_{state.upper()}"

    def _status(self, state: str) -> Json:
        return {"state": self._state(state), "timestamp": NOW}

    def _part(self, text: str) -> Json:
        return {"kind": "text", "text": text} if self.old else {"text": text}

    def _message(self, text: str) -> Json:
        role = "agent" if self.old else "ROLE_AGENT"
        kind = {"kind": "message"} if self.old else {}
        return {**kind, "messageId": uuid.uuid4().hex, "role": role, "parts": [self._part(text)]}

    def _sent(self, params: Any) -> list[Json]:
        """The task, as one answer has it."""
        text = member(params, "message", "parts", 0, "text")
        known = self.tasks.get(str(member(params, "message", "taskId")))
        state = {"ask": "input_required", "work": "working", "fail": "failed"}.get(str(text), "completed")
        if text == "message":
            message = self._message("only a message")
            return [message if self.old else {"message": message}]
        task = known or {
            **({"kind": "task"} if self.old else {}),
            "id": str(uuid.uuid4()),
            "contextId": str(member(params, "message", "contextId") or uuid.uuid4()),
        }
        task["status"] = self._status(state)
        if state in ("input_required", "failed"):
            task["status"]["message"] = self._message("Who?")
        if state == "completed":
            task["artifacts"] = [{"artifactId": "a", "name": "plot", "parts": [self._part(str(text))]}]
        self.tasks[task["id"]] = task
        return [task if self.old else {"task": task}]

    def _streamed(self, params: Any) -> list[Piece]:
        (whole,) = self._sent(params)
        task = whole if self.old else whole.get("task")
        if task is None or "id" not in task:
            return [whole]
        first = {**task, "status": self._status("working"), "artifacts": []}
        pieces: list[Piece] = [first if self.old else {"task": first}]
        where = {"taskId": task["id"], "contextId": task["contextId"]}
        if self._state("completed") == task["status"]["state"]:
            for n in range(2):
                artifact = {"artifactId": "a", "parts": [self._part(f"piece {n} ")]}
                update: Json = {**where, "artifact": artifact, "append": n > 0, "lastChunk": n == 1}
                pieces.append(
                    {"kind": "artifact-update", **update} if self.old else {"artifactUpdate": update}
                )
        state = task["status"]["state"].removeprefix("TASK_STATE_").lower().replace("-", "_")
        return [*pieces, HANGS if state == "working" else self._update(task, state)]

    def _update(self, task: Json, state: str) -> Json:
        status = task["status"] if state in ("input_required", "failed") else self._status(state)
        update = {"taskId": task["id"], "contextId": task["contextId"], "status": status}
        return {"kind": "status-update", "final": True, **update} if self.old else {"statusUpdate": update}


class Acp:
    """An ACP server with one agent, ``writer``."""

    MANIFEST: ClassVar[Json] = {
        "name": "writer", "description": "writes", "input_content_types": ["text/plain"],
        "output_content_types": ["text/plain"], "metadata": {"tags": ["a"], "capabilities": [
            {"name": "write", "description": "writes"}]},
    }  # fmt: skip

    def __init__(self) -> None:
        self.runs: dict[str, Json] = {}

    def __call__(self, asked: Asked) -> Answer:
        match asked.path.partition("?")[0].strip("/").split("/"):
            case ["ping"]:
                return Answer([{}])
            case ["agents"]:
                return Answer([{"agents": [self.MANIFEST]}])
            case ["agents", "writer"]:
                return Answer([self.MANIFEST])
            case ["runs"] if asked.method == "POST":
                return self._run(asked.json, {"run_id": str(uuid.uuid4()), "agent_name": "writer"})
            case ["runs", id, *more] if id in self.runs:
                run = self.runs[id]
                if more == ["events"]:
                    return Answer([{"events": [{"type": f"run.{run['status']}", "run": run}]}])
                if more == ["cancel"]:
                    run["status"] = "cancelled"
                    return Answer([run], 202)
                return self._run(asked.json, run) if asked.method == "POST" else Answer([run])
            case ["session", id]:
                return Answer([{"id": id, "history": [], "state": None}])
            case _:
                return Answer([{"code": "not_found", "message": "no such thing", "data": None}], 404)

    def _run(self, body: Any, run: Json) -> Answer:
        text = member(body, "input", 0, "parts", 0, "content")
        status = {"ask": "awaiting", "work": "in-progress", "fail": "failed"}.get(str(text), "completed")
        part = {"content_type": "text/plain", "content": str(text), "content_encoding": "plain"}
        message = {"role": "agent/writer", "parts": [part], "created_at": NOW, "completed_at": NOW}
        run = run | {
            "session_id": member(body, "session_id") or member(body, "session", "id") or str(uuid.uuid4()),
            "status": status, "await_request": None, "output": [message] if status == "completed" else [],
            "error": None, "created_at": NOW, "finished_at": NOW,
        }  # fmt: skip
        if status == "awaiting":
            run["await_request"] = {"type": "message", "message": message}
        if status == "failed":
            run["error"] = {"code": "invalid_input", "message": "no", "data": None}
        self.runs[run["run_id"]] = run
        headers = [("run-id", run["run_id"])]
        if member(body, "mode") != "stream":
            return Answer([run], 202 if member(body, "mode") == "async" else 200, headers)
        events: list[Piece] = [
            {"type": "run.created", "run": {**run, "status": "created", "output": []}},
            {"type": "message.created", "message": {**message, "parts": []}},
            {"type": "message.part", "part": part},
            {"type": "generic", "generic": {"message": "half"}},
            {"type": "message.completed", "message": message},
            {"type": f"run.{status}", "run": run},
        ]
        if status == "in-progress":
            events = [events[0], events[-1], HANGS]
        return Answer(events, 200, headers, events=True)


# --- the way to them -----------------------------------------------------------------------------


class Reading:
    """Implements ``transport.Stream``."""

    def __init__(self, network: Network, answer: Answer) -> None:
        self.status = answer.status
        self.headers = answer.all_headers
        self._network = network
        self._answer = answer
        self._taker: Callable[[bytes], bool] | None = None

    def offer(self, taker: Callable[[bytes], bool]) -> None:
        self._taker = taker

    def header(self, name: str) -> str | None:
        return next((v.strip() for n, v in self.headers if n == name), None)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._answer.pieces:
            if piece is BREAKS:
                raise Unreachable("the agent closed the connection before its answer was complete")
            if piece is HANGS:
                await asyncio.get_running_loop().create_future()
            elif callable(piece):
                await piece()
            else:
                raw = piece if isinstance(piece, bytes) else json.dumps(piece).encode()
                if isinstance(piece, dict | list) and self._answer.events:
                    raw = b"data: %b\n\n" % raw
                if raw and not (self._taker is not None and self._taker(raw)):
                    yield raw

    @property
    def complete(self) -> bool:
        return True

    async def beginning(self) -> bytes | None:
        return None

    def whole(self) -> bytes | None:
        return None

    async def read(self, limit: int | None = None) -> bytes:
        whole = b"".join([chunk async for chunk in self.chunks()])
        if len(whole) > (limit or 1 << 24):
            raise BadUpstream("the agent's answer is too large")
        return whole

    def settle(self) -> None:
        pass

    def close(self) -> None:
        self._network.open -= 1


class Network:
    """Implements ``transport.Transport``: the hosts that there are. ``change`` makes of an answer another."""

    def __init__(self, hosts: dict[str, Agent]) -> None:
        self.hosts = hosts
        self.change: Change | None = None
        self.open = 0

    def _answer(self, method: str, url: str, headers: Any, body: bytes | None) -> Answer:
        parts = urlsplit(url)
        agent = self.hosts.get(parts.netloc)
        if agent is None:
            raise Unconnected("the agent can't be reached")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [line for one in headers for line in (one.headers if isinstance(one, Fixed) else (one,))]
        sent = {**{n.lower(): v for n, v in lines}, "host": parts.netloc}
        asked = Asked(method, path, sent, body or b"")
        answer = agent(asked)
        return self.change(asked, answer) if self.change is not None else answer

    async def request(
        self, method: str, url: str, *, headers: Any = (), body: bytes | None = None,
        timeout: float | None = None, address: str | None = None,
    ) -> Reply:  # fmt: skip
        try:
            async with (
                asyncio.timeout(timeout),
                self.stream(method, url, headers=headers, body=body) as reading,
            ):
                return Reply(reading.status, reading.headers, await reading.read())
        except TimeoutError as e:
            raise UpstreamTimeout("the agent did not answer in time", detail=url) from e

    def stream(self, method: str, url: str, **more: Any) -> Block:
        return Block(self.opened(method, url, **more))

    async def opened(
        self,
        method: str,
        url: str,
        *,
        headers: Any = (),
        body: bytes | None = None,
        address: str | None = None,
        patience: Timer | None = None,
    ) -> Reading:
        await asyncio.sleep(0.001)
        reading = Reading(self, self._answer(method, url, headers, body))
        self.open += 1
        return reading

    async def aclose(self) -> None:
        pass
