"""Small ACP servers that misbehave as no SDK would let them: an ASGI application around a script."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

RUN = "3ae0439a-30b3-40aa-bab1-c6df7ffb2f85"
SESSION = "d269d131-c7ee-4a07-a61e-1dd54da5b4c9"


class Asked:
    """A request as the server got it."""

    def __init__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, Any] | AsyncIterator[bytes]


class FakeServer:
    """``routes``: "METHOD /path" -> answer, or a function of the request that gives one: (status, JSON) or an
    event stream's chunks. ``asked`` keeps the requests."""

    def __init__(self, routes: Mapping[str, Any]) -> None:
        self.routes = dict(routes)
        self.asked: list[Asked] = []
        self.run_id = RUN  # of the header; empty: none

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        query: bytes = scope["query_string"]
        path: bytes = scope["raw_path"] + (b"?" + query if query else b"")
        asked = Asked(scope["method"], path.decode(), headers, body)
        self.asked.append(asked)
        answer: Any = self.routes.get(
            f"{asked.method} {asked.path}", (404, error("not_found", "no such path"))
        )
        answer = answer(asked) if callable(answer) else answer
        answer = await answer if inspect.isawaitable(answer) else answer
        if isinstance(answer, tuple):
            status, value = answer
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            await self._start(send, status, b"application/json")
            await send({"type": "http.response.body", "body": data})
            return
        await self._start(send, 200, b"text/event-stream")
        async for chunk in answer:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _start(self, send: Callable[[Any], Awaitable[None]], status: int, kind: bytes) -> None:
        head = [(b"content-type", kind), *([(b"run-id", self.run_id.encode())] if self.run_id else [])]
        await send({"type": "http.response.start", "status": status, "headers": head})


def error(code: str, message: str, data: Any = None) -> dict[str, Any]:
    return {"code": code, "message": message, "data": data}


def run(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "run_id": RUN,
        "agent_name": "inner",
        "session_id": SESSION,
        "status": status,
        "await_request": None,
        "output": [],
        "error": None,
        "created_at": "2026-01-01T00:00:00Z",
        "finished_at": None,
        **fields,
    }


def run_event(status: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"run.{status}", "run": run(status, **fields)}


def part_event(text: str) -> dict[str, Any]:
    return {"type": "message.part", "part": {"content_type": "text/plain", "content": text}}


def sse(*events: Any) -> Callable[[Asked], AsyncIterator[bytes]]:
    """A stream of these events, which then ends."""

    async def chunks() -> AsyncIterator[bytes]:
        for event in events:
            yield b"data: " + json.dumps(event).encode() + b"\n\n"

    return lambda asked: chunks()
