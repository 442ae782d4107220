"""An agent that behaves until it is called, and then goes wrong in the way that a test has chosen.

Plain asyncio, one listener for each agent. What comes before a call (handshake, card, manifest, list of
tools) is answered as it should be; ``FAULTS`` names what can happen to the call itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ..support.ports import hold

RUN, SESSION = "3ae0439a-30b3-40aa-bab1-c6df7ffb2f85", "d269d131-c7ee-4a07-a61e-1dd54da5b4c9"
STAMP = "2026-01-01T00:00:00Z"
SECRET = 'Traceback (most recent call last):\n  File "/srv/secret/agent.py", line 7\npassword=hunter2'
BIG = 8 * 1024 * 1024
PROTOCOLS = ("mcp-modern", "mcp-handshake", "a2a", "acp")
WORKING = ("tools/call", "SendMessage", "SendStreamingMessage")
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class Call:
    """A call, and how it would be answered: ``whole`` as one document, or as the stream of ``news`` (again
    and again) and ``last``. ``streams``: the caller takes a stream."""

    def __init__(self, out: asyncio.StreamWriter, gone: asyncio.Event) -> None:
        self.out = out
        self.gone = gone  # the caller has closed the connection
        self.whole = b""
        self.news = b""
        self.last = b""
        self.other = b""  # ``whole`` under another id
        self.streams = False

    async def say(self, *pieces: bytes) -> None:
        self.out.writelines(pieces)
        await self.out.drain()

    async def head(
        self, length: int | None, kind: str = "application/json", status: str = "200 OK", more: str = ""
    ) -> None:
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        await self.say(f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{framing}\r\n{more}\r\n".encode())

    async def answer(self, body: bytes, status: str = "200 OK", more: str = "", kind: str = "") -> None:
        await self.head(len(body), kind or "application/json", status, more)
        await self.say(body)

    async def chunk(self, data: bytes) -> None:
        await self.say(b"%x\r\n" % len(data), data, b"\r\n")

    async def begin(self) -> None:
        """The head of a stream and its first event; of a document its head and first bytes."""
        if self.streams:
            await self.head(None, "text/event-stream")
            await self.chunk(event(self.news))
        else:
            await self.head(None)
            await self.chunk(self.whole[:10])

    def close(self) -> None:
        self.out.close()

    def reset(self) -> None:
        self.out.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0
        self.out.transport.abort()

    async def forever(self, piece: bytes, pause: float) -> None:
        while not self.gone.is_set():
            await self.chunk(piece)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gone.wait(), pause)


Fault = Callable[[Call], Awaitable[None]]
FAULTS: dict[str, Fault] = {}


def fault(work: Fault) -> Fault:
    FAULTS[work.__name__] = work
    return work


# --- before anything of the answer ---------------------------------------------------------------


@fault
async def resets(c: Call) -> None:
    c.reset()


@fault
async def closes(c: Call) -> None:
    c.close()


@fault
async def hangs(c: Call) -> None:
    await c.gone.wait()


@fault
async def drips_head(c: Call) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nx: " + b"x" * 10_000:
        if c.gone.is_set():
            return
        await c.say(bytes([byte]))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(c.gone.wait(), 0.05)


@fault
async def head_without_end(c: Call) -> None:
    await c.say(b"HTTP/1.1 200 OK\r\n")
    while not c.gone.is_set():
        await c.say(b"x-more: " + b"x" * 1000 + b"\r\n")


@fault
async def is_no_http(c: Call) -> None:
    await c.say(SECRET.encode() + b"\r\n\r\n")


@fault
async def speaks_another_protocol(c: Call) -> None:
    await c.say(bytes(range(256)) * 4)


# --- statuses ------------------------------------------------------------------------------------


@fault
async def crashes(c: Call) -> None:
    await c.answer(SECRET.encode(), "500 Internal Server Error", kind="text/plain")


@fault
async def is_busy(c: Call) -> None:
    await c.answer(SECRET.encode(), "503 Service Unavailable", "retry-after: 5\r\n", kind="text/html")


@fault
async def stops_in_its_excuse(c: Call) -> None:
    await c.head(100, "text/plain", "500 Internal Server Error")
    await c.gone.wait()


@fault
async def redirects(c: Call) -> None:
    await c.answer(b"", "307 Temporary Redirect", "location: http://127.0.0.1:9/secret\r\n")


@fault
async def moves(c: Call) -> None:
    await c.answer(SECRET.encode(), "302 Found", "location: /elsewhere\r\n", kind="text/html")


@fault
async def refuses_credentials(c: Call) -> None:
    await c.answer(SECRET.encode(), "401 Unauthorized", kind="text/plain")


# --- the wrong content ---------------------------------------------------------------------------


@fault
async def answers_a_page(c: Call) -> None:
    await c.answer(b"<html>" + SECRET.encode(), kind="text/html")


@fault
async def answers_nothing(c: Call) -> None:
    await c.answer(b"")


@fault
async def answers_no_json(c: Call) -> None:
    await c.answer(b'{"' + SECRET.encode())


@fault
async def answers_another_shape(c: Call) -> None:
    await c.answer(encoded({"password": SECRET}))


@fault
async def answers_a_list(c: Call) -> None:
    await c.answer(encoded([1, SECRET]))


@fault
async def answers_with_another_id(c: Call) -> None:
    await c.answer(c.other)


@fault
async def nests(c: Call) -> None:
    await c.answer(c.whole[:-1] + b',"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


@fault
async def is_no_utf8(c: Call) -> None:
    await c.answer(c.whole.replace(b"fine", b"\xff\xfe\xfd\xfc"))


# --- too much ------------------------------------------------------------------------------------


@fault
async def answers_8_mb(c: Call) -> None:
    await c.answer(c.whole.replace(b"fine", b"x" * BIG))


@fault
async def answers_without_end(c: Call) -> None:
    await c.head(None)
    await c.chunk(c.whole[:-1])
    while not c.gone.is_set():
        await c.chunk(b" " * 65_536)


@fault
async def packs_a_bomb(c: Call) -> None:
    await c.answer(_bomb(), more="content-encoding: gzip\r\n")


@functools.cache
def _bomb() -> bytes:
    """100 MiB of nothing."""
    packer = zlib.compressobj(wbits=31)
    piece = b" " * 2**20
    return b"".join(packer.compress(piece) for _ in range(100)) + packer.flush()


@fault
async def says_a_line_of_8_mb(c: Call) -> None:
    await c.head(None, "text/event-stream" if c.streams else "application/json")
    await c.chunk((b"data: " if c.streams else b"") + b"[" + b"1," * (BIG // 2))
    await c.gone.wait()


# --- half an answer ------------------------------------------------------------------------------


@fault
async def closes_in_the_body(c: Call) -> None:
    await c.head(len(c.whole))
    await c.say(c.whole[:-5])
    c.close()


@fault
async def drips_the_body(c: Call) -> None:
    await c.head(None)
    await c.forever(b" ", 0.05)


@fault
async def stops_in_the_body(c: Call) -> None:
    await c.head(len(c.whole))
    await c.say(c.whole[:-5])
    await c.gone.wait()


@fault
async def closes_in_the_stream(c: Call) -> None:
    await c.begin()
    c.close()


@fault
async def ends_the_stream_early(c: Call) -> None:
    await c.begin()
    await c.chunk(b"")


@fault
async def stops_in_the_stream(c: Call) -> None:
    await c.begin()
    await c.gone.wait()


@fault
async def says_only_comments(c: Call) -> None:
    await c.begin()
    await c.forever(b": still here\n\n" if c.streams else b" ", 0.05)


@fault
async def streams_without_end(c: Call) -> None:
    await c.begin()
    await c.forever(event(c.news) if c.streams else b" ", 0.02)


@fault
async def streams_garbage(c: Call) -> None:
    await c.begin()
    await c.chunk(event(SECRET.encode().replace(b"\n", b" ")))
    await c.chunk(b"")


@fault
async def streams_another_shape(c: Call) -> None:
    await c.begin()
    await c.chunk(event(encoded({"password": SECRET})))
    await c.chunk(b"")


@fault
async def breaks_a_chunk(c: Call) -> None:
    await c.begin()
    await c.say(b"zz\r\n" + SECRET.encode())


# --- the server ----------------------------------------------------------------------------------


class Peer:
    """One agent. ``protocol``: of ``PROTOCOLS``; ``fault``: what happens to its calls, None for nothing.
    ``calls``: how many came, ``begun``: how many of them have work done; ``busy``: how many are under way;
    ``requests``: their first lines."""

    def __init__(self, protocol: str, fault: Fault | None = None) -> None:
        self.protocol = protocol
        self.fault = fault
        self.calls = self.begun = self.busy = self.connections = 0
        self.requests: list[str] = []
        self.called = asyncio.Event()
        self.origin = self.url = ""
        self._serving: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self._held: socket.socket | None = None  # its port, while it does not listen

    async def start(self) -> None:
        """Listen, at the port as before."""
        sock, self._held = self._held or hold(0), None
        self._listening = await asyncio.start_server(self._serve, sock=sock, limit=2**20)
        self._port = sock.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self._port}"
        self.url = self.origin + ("/mcp" if self.protocol.startswith("mcp") else "")

    async def stop_listening(self) -> None:
        """From now on connections are refused; those that are open are closed."""
        if self._held is not None:
            return
        assert self._listening is not None
        self._listening.close()
        self._held = hold(self._port)
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def close(self) -> None:
        await self.stop_listening()
        if self._held is not None:
            self._held.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        try:
            while not writer.is_closing():
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append(first)
                method, path, _ = first.split(" ")
                await self._take(method, path, json.loads(body) if body else {}, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            writer.transport.abort()

    async def _take(
        self, method: str, path: str, body: Any, reader: asyncio.StreamReader, out: asyncio.StreamWriter
    ) -> None:
        gone = asyncio.Event()
        call = Call(out, gone)
        answer = getattr(self, "_" + self.protocol.partition("-")[0])(call, method, path, body)
        if answer is not None:
            status, value = answer
            await call.answer(b"" if value is None else encoded(value), status)
            return
        self.calls += 1
        self.begun += _works(method, path, body)
        self.busy += 1
        self.called.set()
        watch = asyncio.create_task(_watched(reader, gone))
        try:
            if self.fault is not None:
                await self.fault(call)
            elif call.streams and self.protocol in ("a2a", "acp"):
                await call.begin()
                await call.chunk(event(call.last))
                await call.chunk(b"")
            else:
                await call.answer(call.whole)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            self.busy -= 1

    # --- the protocols: the answer to what is no call, else ``call`` is filled ---------------------

    def _mcp(self, call: Call, method: str, path: str, body: Any) -> tuple[str, Any] | None:
        if method != "POST":
            return "405 Method Not Allowed", None
        if "id" not in body:
            return "202 Accepted", None
        asked = body["method"]
        if asked != "tools/call":
            return "200 OK", {"jsonrpc": "2.0", "id": body["id"], **self._mcp_answer(asked)}
        done = {"content": [{"type": "text", "text": "fine"}]}
        if self.protocol == "mcp-modern":
            done["resultType"] = "complete"  # type: ignore[assignment]
        answer = {"jsonrpc": "2.0", "id": body["id"], "result": done}
        call.whole = call.last = encoded(answer)
        call.other = encoded({**answer, "id": "another"})
        token = body["params"].get("_meta", {}).get("progressToken", 0)
        progress = {"progressToken": token, "progress": 1, "message": "on it"}
        call.news = encoded({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
        call.streams = True
        return None

    def _mcp_answer(self, asked: str) -> dict[str, Any]:
        modern = self.protocol == "mcp-modern"
        info = {"name": "peer", "version": "1"}
        tools = {"tools": [{"name": "echo", "description": "says it", "inputSchema": SCHEMA}]}
        if asked == "server/discover" and modern:
            return {
                "result": {
                    "resultType": "complete", "supportedVersions": ["2026-07-28"], "serverInfo": info,
                    "capabilities": {"tools": {}},
                }
            }  # fmt: skip
        if asked == "initialize" and not modern:
            return {
                "result": {
                    "protocolVersion": "2025-11-25", "serverInfo": info, "capabilities": {"tools": {}}
                }
            }  # fmt: skip
        if asked == "tools/list":
            more = {"resultType": "complete", "ttlMs": 1000, "cacheScope": "public"} if modern else {}
            return {"result": tools | more}
        return {"error": {"code": -32601, "message": "no such method"}}

    def _a2a(self, call: Call, method: str, path: str, body: Any) -> tuple[str, Any] | None:
        if method == "GET":
            if path != "/.well-known/agent-card.json":
                return "404 Not Found", None
            interface = {"url": self.origin, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            return "200 OK", {
                "name": "peer", "description": "says it", "version": "1",
                "supportedInterfaces": [interface], "capabilities": {"streaming": True},
                "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
                "skills": [{"id": "echo", "name": "echo", "description": "says it", "tags": ["t"]}],
            }  # fmt: skip

        def result(state: str, **more: Any) -> Any:
            task = {"id": RUN, "contextId": SESSION, "status": {"state": state}, **more}
            inner = task if body["method"] == "GetTask" else {"task": task}
            return {"jsonrpc": "2.0", "id": body["id"], "result": inner}

        said = [{"artifactId": "a", "parts": [{"text": "fine"}]}]
        done = result("TASK_STATE_COMPLETED", artifacts=said)
        call.whole = call.last = encoded(done)
        call.other = encoded({**done, "id": "another"})
        call.news = encoded(result("TASK_STATE_WORKING"))
        call.streams = body["method"] in ("SendStreamingMessage", "SubscribeToTask")
        return None

    def _acp(self, call: Call, method: str, path: str, body: Any) -> tuple[str, Any] | None:
        manifest = {
            "name": "peer", "description": "says it", "metadata": {},
            "input_content_types": ["*/*"], "output_content_types": ["*/*"],
        }  # fmt: skip
        path = path.partition("?")[0]
        if path == "/ping":
            return "200 OK", {}
        if path in ("/agents", "/agents/peer"):
            return "200 OK", {"agents": [manifest]} if path == "/agents" else manifest

        def run(status: str, output: list[Any]) -> Any:
            return {
                "run_id": RUN, "agent_name": "peer", "session_id": SESSION, "status": status,
                "await_request": None, "output": output, "error": None, "created_at": STAMP,
                "finished_at": None if status == "in-progress" else STAMP,
            }  # fmt: skip

        said = {"role": "agent", "parts": [{"content_type": "text/plain", "content": "fine"}]}
        done = run("completed", [said])
        call.whole = encoded(done)
        call.other = encoded(run("completed", [said]) | {"status": "nonsense"})
        call.news = encoded({"type": "run.in-progress", "run": run("in-progress", [])})
        call.last = encoded({"type": "run.completed", "run": done})
        call.streams = body.get("mode") == "stream"
        return None


def _works(method: str, path: str, body: Any) -> bool:
    """Whether the call has work done; others only ask after it, or end it."""
    asked = body.get("method")
    return method == "POST" and (asked in WORKING or (asked is None and path == "/runs"))


async def _watched(reader: asyncio.StreamReader, gone: asyncio.Event) -> None:
    """Tell when the caller has closed the connection (it sends nothing more while a call is under way)."""
    with contextlib.suppress(ConnectionError):
        await reader.read(1)
    gone.set()


@contextlib.asynccontextmanager
async def serving(protocol: str, fault: Fault | None = None) -> AsyncIterator[Peer]:
    peer = Peer(protocol, fault)
    await peer.start()
    try:
        yield peer
    finally:
        await peer.close()
