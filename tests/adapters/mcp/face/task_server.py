"""A server that runs its one tool as a task, in either era, played over HTTP without any SDK (none has tasks
of both eras). ``job`` asks which city, if its argument says so, and names it in its result."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import msgspec

EXTENSION = "io.modelcontextprotocol/tasks"
FORM = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = {"message": "Which city?", "requestedSchema": FORM}
RESULT = {
    "content": [{"type": "text", "text": "packed"}],
    "structuredContent": {"n": 1},
    "x-own": {"kept": [1]},
}
AT = "2026-01-01T00:00:00Z"


class TaskServer:
    """``support``: the tool's ``execution.taskSupport`` (handshake). ``go`` ends the tasks that run.
    ``apart``: each session has its own tasks, and knows no others."""

    def __init__(self, era: str, support: str = "optional", *, apart: bool = False) -> None:
        self.era = era
        self.apart = apart
        self.places: dict[str, str | None] = {}  # of tasks: the session
        self.ended: list[str] = []  # sessions
        self.support = support
        self.go = asyncio.Event()
        self.asked = asyncio.Event()  # somebody looked, or waits
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.status: dict[str, str] = {}
        self.asks: dict[str, bool] = {}
        self.answers: dict[str, Any] = {}
        self.answered = asyncio.Event()
        self.tokens: dict[str, Any] = {}
        self.ttl: int | None = None  # milliseconds for which it promises to keep a task
        self.broken: int | None = None  # the code of the error that it answers tasks/get with
        self.looks = asyncio.Semaphore(0)  # released with each tasks/get

    def methods(self) -> list[str]:
        return [method for method, _ in self.seen]

    # --- what it does --------------------------------------------------------------------------

    def task(self, task_id: str) -> dict[str, Any]:
        status = self.status[task_id]
        if status == "working" and self.go.is_set():
            status = "input_required" if self.asks[task_id] and not self.answers.get(task_id) else "completed"
        own = (
            {"ttl": self.ttl, "pollInterval": 1}
            if self.era == "handshake"
            else {"ttlMs": self.ttl, "pollIntervalMs": 1}
        )
        return {"taskId": task_id, "status": status, "createdAt": AT, "lastUpdatedAt": AT, **own}

    def result(self, task_id: str) -> dict[str, Any]:
        answer = self.answers.get(task_id)
        if answer is None:
            return RESULT
        city = answer.get("content", {}).get("city", answer["action"])
        return {**RESULT, "content": [{"type": "text", "text": f"packed for {city}"}]}

    def answer(self, method: str, params: dict[str, Any]) -> Any:
        """The result, or None where it is no method of this era."""
        task_id = params.get("taskId", "")
        match method, self.era:
            case "initialize", "handshake":
                capabilities = {"tools": {}, "tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}
                info = {"name": "tasks", "version": "1"}
                return {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
            case "server/discover", "modern":
                capabilities = {"tools": {}, "extensions": {EXTENSION: {}}}
                return {
                    "resultType": "complete",
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": capabilities,
                }
            case "tools/list", _:
                tool: dict[str, Any] = {"name": "job", "inputSchema": {"type": "object"}}
                if self.era == "handshake":
                    tool["execution"] = {"taskSupport": self.support}
                return {"tools": [tool], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
            case "tools/call", _:
                return self.called(params)
            case "tasks/get", _:
                self.asked.set()
                task = self.task(task_id)
                if self.era == "modern":
                    if task["status"] == "completed":
                        task["result"] = {"resultType": "complete", **self.result(task_id)}
                    if task["status"] == "input_required":
                        task["inputRequests"] = {
                            "where": {"method": "elicitation/create", "params": QUESTION}
                        }
                return {"resultType": "complete", **task} if self.era == "modern" else task
            case "tasks/update", "modern":
                self.answers[task_id] = params["inputResponses"]["where"]
                return {"resultType": "complete"}
            case "tasks/cancel", _:
                self.status[task_id] = "cancelled"
                self.go.set()
                return {"resultType": "complete"} if self.era == "modern" else self.task(task_id)
            case _:
                return None

    def called(self, params: dict[str, Any]) -> Any:
        meta = params.get("_meta", {})
        declared = meta.get("io.modelcontextprotocol/clientCapabilities", {}).get("extensions", {})
        if not ("task" in params if self.era == "handshake" else EXTENSION in declared):
            return {"resultType": "complete", **RESULT} if self.era == "modern" else RESULT
        task_id = str(uuid4())
        self.status[task_id] = "working"
        self.asks[task_id] = bool(params.get("arguments", {}).get("ask"))
        self.tokens[task_id] = meta.get("progressToken")
        task = self.task(task_id)
        return {"task": task} if self.era == "handshake" else {"resultType": "task", **task}

    # --- HTTP ----------------------------------------------------------------------------------

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        session = dict(scope["headers"]).get(b"mcp-session-id", b"").decode()
        if scope["method"] == "DELETE":
            self.ended.append(session)
        if scope["method"] != "POST":
            await self._reply(send, 405, b"")
            return
        message = msgspec.json.decode(body)
        method, params = message.get("method"), message.get("params", {})
        if method is None:
            self.answers[message["id"]] = message["result"]
            self.answered.set()
        if method is None or "id" not in message:
            self.seen.append((method or "answer", params))
            await self._reply(send, 202, b"")
            return
        self.seen.append((method, params))
        if method == "tasks/result" and self.era == "handshake":
            await self._stream(send, message["id"], params["taskId"])
            return
        body = {"jsonrpc": "2.0", "id": message["id"]}
        if method.startswith("tasks/") and not self.knows(params["taskId"], session):
            body |= {"error": {"code": -32602, "message": "Task not found"}}
            await self._reply(send, 200, msgspec.json.encode(body))
            return
        if method == "tasks/get":
            self.looks.release()
            if self.broken is not None:
                body |= {"error": {"code": self.broken, "message": "secret-word"}}
                await self._reply(send, 200, msgspec.json.encode(body))
                return
        before = set(self.status)
        result = self.answer(method, params)
        self.places |= dict.fromkeys(self.status.keys() - before, session)
        body |= (
            {"error": {"code": -32601, "message": "Method not found"}}
            if result is None
            else {"result": result}
        )
        begun = uuid4().hex if method == "initialize" else None
        await self._reply(send, 404 if result is None else 200, msgspec.json.encode(body), begun)

    def knows(self, task_id: str, session: str) -> bool:
        return task_id in self.status and (not self.apart or self.places[task_id] == session)

    async def _reply(self, send: Any, status: int, body: bytes, begun: str | None = None) -> None:
        head = [(b"content-type", b"application/json")]
        if begun is not None:
            head.append((b"mcp-session-id", begun.encode()))
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send: Any, id: Any, task_id: str) -> None:
        """tasks/result: waits for the end; progress and the question come on its stream."""
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        self.asked.set()

        async def event(message: dict[str, Any], more: bool = True) -> None:
            data = b"data: " + msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n\n"
            await send({"type": "http.response.body", "body": data, "more_body": more})

        if self.tokens[task_id] is not None:
            progress = {"progressToken": self.tokens[task_id], "progress": 1, "message": "packing"}
            await event({"method": "notifications/progress", "params": progress})
        await self.go.wait()
        if self.asks[task_id] and task_id not in self.answers:
            await event({"id": task_id, "method": "elicitation/create", "params": QUESTION})
            await self.answered.wait()
        await event({"id": id, "result": self.result(task_id)}, more=False)
