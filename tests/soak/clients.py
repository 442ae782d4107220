"""Clients of every protocol, each with a connection, that call, answer, cancel, leave and come back."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

HOST = "127.0.0.1"
LOST = 120.0  # seconds after which a call that has not ended is lost
LEAVES = 0.12  # share of the calls whose client leaves
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "soak", "version": "1"},
}
TEXTS = ["hi"] * 5 + ["stream"] * 3 + ["ask"] * 2 + ["work", "fail", "message"]
ENDED = ("COMPLETED", "FAILED", "CANCELED", "REJECTED", "INPUT_REQUIRED", "AUTH_REQUIRED")
STATUSES = {500, 502, 503, 504}  # from 500 on, that are documented


class Wrong(Exception):
    """An answer that must not be."""


class Books:
    """``ends``: how often calls of a kind ended in which way; ``answers``: those that came to their end,
    ``cut``: those that their client did not wait for; ``kept``: MCP sessions that nobody has ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.answers = self.cut = self.kept = 0

    async def call(self, kind: str, work: Coroutine[Any, Any, str]) -> None:
        """``work`` gives the way in which the call ended."""
        self.begun += 1
        end = "wrong"
        try:
            async with asyncio.timeout(LOST):
                end = await work
        except TimeoutError:
            self.wrong.append(f"{kind}: has not ended in {LOST} s")
        except Wrong as e:
            self.wrong.append(f"{kind}: {e}")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as e:
            self.wrong.append(f"{kind}: {e!r}")
        self.ends[f"{kind} {end}"] += 1


class Left(Exception):
    """The client has left, as it meant to."""


class Http:
    """One connection, opened again when it was closed. ``leave_at``: when the next answer is left."""

    def __init__(self, port: int, books: Books) -> None:
        self._port = port
        self._books = books
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.status = 0
        self.headers: dict[str, str] = {}

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(HOST, self._port, limit=1 << 22)
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> AsyncGenerator[bytes]:
        """The pieces of the answer, whose head is read. Left before its end, the connection is closed."""
        reader, writer = await self._connection()
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"host: {HOST}:{self._port}", f"content-length: {len(data)}"]
        lines += ["accept: application/json, text/event-stream", "content-type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        over = False
        try:
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            self.status = int(head[0].split(" ")[1])
            self.headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in head[1:]) if n}
            yield b""
            async for piece in self._body(reader):
                yield piece
            over = True
        finally:
            if over:
                self._books.answers += 1
                if self.headers.get("connection") == "close":
                    self.close()
            else:
                self._books.cut += 1
                self.close()

    async def _body(self, reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        elif self.status != 204:
            yield await reader.readexactly(int(self.headers.get("content-length", "0")))


class Client:
    def __init__(self, port: int, seed: int, books: Books) -> None:
        self.chance = random.Random(seed)
        self.books = books
        self.http = Http(port, books)
        self.second = Http(port, books)
        self._kinds: list[tuple[str, Callable[[str], Coroutine[Any, Any, str]]]] = [
            ("mcp", self.mcp), ("mcp session", self.mcp_session), ("a2a", self.a2a), ("a2a stream",
             self.a2a_stream),
            ("a2a 0.3", self.a2a_old), ("rest", self.rest), ("acp", self.acp), ("acp stream",
             self.acp_stream),
        ]  # fmt: skip
        self.known: list[tuple[str, str, str]] = []  # tasks that were left: protocol, agent, id

    async def run(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.chance.uniform(0, 2))
        while loop.time() < until:
            kind, call = self.chance.choice(self._kinds)
            await self.books.call(kind, call(self.chance.choice(TEXTS)))
            if self.known and self.chance.random() < 0.5:
                await self.books.call("back", self.come_back(*self.known.pop()))
            await asyncio.sleep(self.chance.uniform(0, 0.3))
        self.http.close()
        self.second.close()

    # --- answers ---------------------------------------------------------------------------------

    async def got(
        self, method: str, path: str, body: Any = None, *, stays: bool = False, **headers: str
    ) -> list[Any]:
        """All that the gateway answers: JSON of the body, or of the events. Raises Left."""
        leaves = None if stays or self.chance.random() > LEAVES else self.chance.uniform(0, 1.5)
        pieces: list[bytes] = []

        async def read() -> None:
            pieces.extend([piece async for piece in self.http.send(method, path, body, **headers)])

        try:
            await asyncio.wait_for(read(), leaves)
        except TimeoutError:
            raise Left from None
        data = b"".join(pieces)
        if (self.http.status >= 500 and self.http.status not in STATUSES) or b"Traceback" in data:
            raise Wrong(f"{self.http.status} {data[:300]!r}")
        if not self.http.headers.get("content-type", "").startswith("text/event-stream"):
            return [json.loads(data)] if data else []
        blocks = data.decode().split("\n\n")
        if blocks[-1]:
            raise Wrong(f"a stream that ends in an event: {data[-200:]!r}")
        events = ["\n".join(w[6:] for w in b.split("\n") if w.startswith("data: ")) for b in blocks]
        return [json.loads(event) for event in events if event]

    def once(self, seen: list[Any], is_end: Callable[[Any], bool]) -> Any:
        """The last of what was seen, which alone is an end."""
        ends = [at for at, item in enumerate(seen) if is_end(item)]
        if len(ends) != 1 or ends[0] != len(seen) - 1:
            raise Wrong(f"ends {len(ends)} times: {self.http.status} {json.dumps(seen)[-600:]}")
        return seen[-1]

    # --- MCP -------------------------------------------------------------------------------------

    def _tool(self, text: str) -> tuple[str, str, dict[str, Any]]:
        agent = self.chance.choice(["mcp", "mcph", "stdio", "a2a", "old", "rest", "acp"])
        own = agent in ("mcp", "mcph", "stdio")
        arguments = {"text" if own else "message": text}
        if self.chance.random() < 0.5:
            return "/mcp", f"{agent}__echo" if own else agent, arguments
        return f"/mcp/{agent}", "echo" if own else agent, arguments

    async def mcp(self, text: str) -> str:
        door, tool, arguments = self._tool(text)
        return await self._mcp_call(door, tool, arguments)

    async def _mcp_call(self, door: str, tool: str, arguments: Any) -> str:
        id = uuid.uuid4().hex
        params = {"name": tool, "arguments": arguments, "_meta": {**META, "progressToken": id}}
        body = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}
        own = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
        try:
            answer = self.once(
                await self.got("POST", door, body, **own),
                lambda m: m.get("id", id) == id and "method" not in m,
            )
        except Left:
            return "left"
        if "error" in answer:
            return "error"
        result = answer["result"]
        if (result.get("structuredContent") or {}).get("state") == "input_required":
            task = result["structuredContent"]["task_id"]
            if self.chance.random() < 0.7:
                return await self._mcp_call(door, tool, {"message": "hi", "task_id": task})
        return "failed" if result.get("isError") else "answer"

    async def mcp_session(self, text: str) -> str:
        """A session of the handshake, whose client can be asked."""
        door, tool, arguments = self._tool(text)
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "s", "version": "1"},
        }
        await self.got(
            "POST", door, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, stays=True
        )
        if (session := self.http.headers.get("mcp-session-id")) is None:
            return "error"
        own = {"mcp_session_id": session, "mcp_protocol_version": "2025-11-25"}
        await self.got(
            "POST", door, {"jsonrpc": "2.0", "method": "notifications/initialized"}, stays=True, **own
        )
        leaves = None if self.chance.random() > LEAVES else self.chance.uniform(0, 1.5)
        try:
            return await asyncio.wait_for(self._session_call(door, tool, arguments, own), leaves)
        except TimeoutError:
            if self.chance.random() < 0.5:
                note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
                await self.got("POST", door, note, stays=True, **own)
            return "left"
        finally:
            if self.chance.random() < 0.97:
                await self.got("DELETE", door, stays=True, **own)
            else:
                self.books.kept += 1

    async def _session_call(self, door: str, tool: str, arguments: Any, own: dict[str, str]) -> str:
        call = {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        }
        text, ends = "", []
        async with aclosing(self.http.send("POST", door, call, **own)) as pieces:
            async for piece in pieces:
                text += piece.decode()
                if not self.http.headers.get("content-type", "").startswith("text/event-stream"):
                    continue
                *whole, text = text.split("\n\n")
                for block in whole:
                    data = "\n".join(w[6:] for w in block.split("\n") if w.startswith("data: "))
                    message = json.loads(data) if data else {}
                    if message.get("method") == "elicitation/create":
                        await self._answer(door, message["id"], own)
                    elif "method" not in message and message:
                        ends.append(message)
        if text:
            ends.append(json.loads(text))
        return "error" if "error" in self.once(ends, lambda m: True) else "answer"

    async def _answer(self, door: str, id: Any, own: dict[str, str]) -> None:
        result = self.chance.choice([{"action": "accept", "content": {"name": "me"}}, {"action": "decline"}])
        async for _ in self.second.send("POST", door, {"jsonrpc": "2.0", "id": id, "result": result}, **own):
            pass

    # --- A2A -------------------------------------------------------------------------------------

    def _agent(self) -> str:
        return self.chance.choice(["a2a", "old", "rest", "acp", "mcp", "stdio", "mcph"])

    def _message(self, agent: str, text: str, **more: str) -> dict[str, Any]:
        data = {"data": {"tool": "echo", "arguments": {"text": text}}}
        part: dict[str, Any] = data if agent in ("mcp", "mcph", "stdio") else {"text": text}
        return {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": [part], **more}

    async def _rpc(self, agent: str, method: str, params: Any, *, stays: bool = False) -> Any:
        """The result, or None for an error."""
        id = uuid.uuid4().hex
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        answer = self.once(
            await self.got("POST", f"/a2a/{agent}", body, stays=stays), lambda m: m.get("id") in (id, None)
        )
        return answer.get("result")

    async def a2a(self, text: str) -> str:
        agent = self._agent()
        config = {"returnImmediately": self.chance.random() < 0.3}
        try:
            result = await self._rpc(
                agent, "SendMessage", {"message": self._message(agent, text), "configuration": config}
            )
            return await self._goes_on(agent, (result or {}).get("task"), result)
        except Left:
            return "left"

    async def _goes_on(self, agent: str, task: Any, result: Any) -> str:
        if not task:
            return "error" if result is None else "answer"
        state = task["status"]["state"]
        if state.endswith("INPUT_REQUIRED"):
            match self.chance.choice(["answer", "answer", "cancel", "leave"]):
                case "answer":
                    message = self._message(agent, "hi", taskId=task["id"], contextId=task["contextId"])
                    return (
                        "answer" if await self._rpc(agent, "SendMessage", {"message": message}) else "error"
                    )
                case "cancel":
                    return "canceled" if await self._rpc(agent, "CancelTask", {"id": task["id"]}) else "error"
                case _:
                    return "waits"
        if not state.endswith(ENDED):
            if self.chance.random() < 0.4:
                return "canceled" if await self._rpc(agent, "CancelTask", {"id": task["id"]}) else "error"
            self.known.append(("a2a", agent, task["id"]))
            return "works"
        return "answer"

    @staticmethod
    def _is_last(item: Any) -> bool:
        if "error" in item:
            return True
        result = item["result"] if "jsonrpc" in item else item
        if "message" in result or result.get("kind") == "message":
            return True
        inner = result.get("statusUpdate") or result.get("task") or (result if "status" in result else None)
        state = inner["status"]["state"].replace("-", "_").upper() if inner else ""
        return state.endswith(ENDED)

    async def a2a_stream(self, text: str) -> str:
        agent = self._agent()
        return await self._streamed("POST", f"/a2a/{agent}", agent, {
            "jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage",
            "params": {"message": self._message(agent, text)}})  # fmt: skip

    async def a2a_old(self, text: str) -> str:
        agent = self._agent()
        part = {"kind": "text", "text": text}
        if agent in ("mcp", "mcph", "stdio"):
            part = {"kind": "data", "data": {"tool": "echo", "arguments": {"text": text}}}
        message = {"kind": "message", "messageId": uuid.uuid4().hex, "role": "user", "parts": [part]}
        method = self.chance.choice(["message/send", "message/stream"])
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}
        if method == "message/stream":
            return await self._streamed("POST", f"/a2a/{agent}", agent, body)
        try:
            answer = self.once(await self.got("POST", f"/a2a/{agent}", body), lambda m: True)
        except Left:
            return "left"
        return "error" if "error" in answer else "answer"

    async def rest(self, text: str) -> str:
        agent = self._agent()
        body = {"message": self._message(agent, text)}
        if self.chance.random() < 0.5:
            return await self._streamed("POST", f"/a2a/{agent}/message:stream", agent, body)
        try:
            answer = self.once(await self.got("POST", f"/a2a/{agent}/message:send", body), lambda m: True)
            return "error" if "error" in answer else await self._goes_on(agent, answer.get("task"), answer)
        except Left:
            return "left"

    async def _streamed(self, method: str, path: str, agent: str, body: Any) -> str:
        try:
            last = self.once(await self.got(method, path, body), self._is_last)
        except Left:
            return "left"
        return "error" if "error" in last else "answer"

    # --- ACP -------------------------------------------------------------------------------------

    def _run(self, text: str, mode: str) -> tuple[str, dict[str, Any]]:
        agent = self._agent()
        part = {"content": text}
        if agent in ("mcp", "mcph", "stdio"):
            call = {"tool": "echo", "arguments": {"text": text}}
            part = {"content_type": "application/json", "content": json.dumps(call)}
        return agent, {"agent_name": agent, "mode": mode, "input": [{"role": "user", "parts": [part]}]}

    async def acp(self, text: str) -> str:
        agent, run = self._run(text, self.chance.choice(["sync", "sync", "async"]))
        try:
            return await self._ran(agent, self.once(await self.got("POST", "/acp/runs", run), lambda r: True))
        except Left:
            return "left"

    async def _ran(self, agent: str, run: Any) -> str:
        if "run_id" not in run:
            if "code" not in run:
                raise Wrong(json.dumps(run)[:300])
            return "error"
        path = f"/acp/runs/{run['run_id']}"
        if run["status"] == "awaiting":
            match self.chance.choice(["answer", "answer", "cancel", "leave"]):
                case "answer":
                    words = {"type": "message", "message": {"role": "user", "parts": [{"content": "hi"}]}}
                    body = {"run_id": run["run_id"], "await_resume": words, "mode": "sync"}
                    answer = self.once(await self.got("POST", path, body), lambda r: True)
                    return "answer" if "run_id" in answer else "error"
                case "cancel":
                    answer = self.once(await self.got("POST", f"{path}/cancel", {}), lambda r: True)
                    return "canceled" if "run_id" in answer else "error"
                case _:
                    return "waits"
        if run["status"] in ("created", "in-progress"):
            self.known.append(("acp", agent, run["run_id"]))
            return "works"
        return "answer" if run["status"] == "completed" else "failed"

    async def acp_stream(self, text: str) -> str:
        _, run = self._run(text, "stream")
        ends = ("run.completed", "run.failed", "run.cancelled", "run.awaiting", "error")
        try:
            last = self.once(
                await self.got("POST", "/acp/runs", run), lambda e: e.get("type") in ends or "code" in e
            )
        except Left:
            return "left"
        return "answer" if last.get("type") == "run.completed" else "error"

    # --- coming back -----------------------------------------------------------------------------

    async def come_back(self, protocol: str, agent: str, id: str) -> str:
        """To a task that was still worked on."""
        try:
            if protocol == "acp":
                path = f"/acp/runs/{id}"
                if self.chance.random() < 0.3:
                    answer = self.once(await self.got("POST", f"{path}/cancel", {}), lambda r: True)
                else:
                    answer = self.once(await self.got("GET", path), lambda r: True)
                return "answer" if "run_id" in answer else "error"
            if self.chance.random() < 0.5:
                return await self._streamed("POST", f"/a2a/{agent}", agent, {
                    "jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask",
                    "params": {"id": id}})  # fmt: skip
            return "answer" if await self._rpc(agent, "GetTask", {"id": id}) else "error"
        except Left:
            return "left"
