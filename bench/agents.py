"""The agents of the benchmark, all in one process: raw HTTP and canned answers, for they are not measured.

    /mcp   MCP 2026-07-28            /mcph  MCP with the handshake (2025-11-25)
    /a2a   A2A 1.0 over JSON-RPC     /acp   ACP: one agent, "bench"
    /held  how many connections are open here, the asker's own included

What is said to an agent is its answer. ``stream COUNT MILLISECONDS SIZE`` is answered with COUNT pieces that
far apart; each begins with the time when it was sent (nanoseconds of the machine's monotonic clock).
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httptools
import msgspec
import uvloop

VERSION = "2026-07-28"
NOW = "2026-01-01T00:00:00Z"
META = '"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bench","version":"1"}}'
TOOL = (
    '{"name":"echo","description":"says it again","inputSchema":{"type":"object",'
    '"properties":{"text":{"type":"string"}},"required":["text"]}}'
)
MCP = {
    "server/discover": f'{{"resultType":"complete","supportedVersions":["{VERSION}"],"capabilities":'
    f'{{"tools":{{}}}},"ttlMs":60000,"cacheScope":"public",{META}}}',
    "initialize": '{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
    '"serverInfo":{"name":"bench","version":"1"}}',
    "tools/list": f'{{"resultType":"complete","tools":[{TOOL}],"ttlMs":60000,"cacheScope":"public",{META}}}',
    "ping": "{}",
}
MANIFEST = (
    '{"name":"bench","description":"says it again","input_content_types":["text/plain"],'
    '"output_content_types":["text/plain"],"metadata":{}}'
)


class Call(msgspec.Struct):
    id: Any = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")


class Arguments(msgspec.Struct):
    text: msgspec.Raw = msgspec.Raw(b'""')


class ToolCall(msgspec.Struct):
    arguments: Arguments = msgspec.field(default_factory=Arguments)


class Part(msgspec.Struct):
    text: msgspec.Raw = msgspec.Raw(b'""')
    content: msgspec.Raw = msgspec.Raw(b'""')


class Parts(msgspec.Struct):
    parts: list[Part] = []
    contextId: str = "c"


class Sent(msgspec.Struct):
    message: Parts = msgspec.field(default_factory=Parts)


class Run(msgspec.Struct):
    input: list[Parts] = []
    mode: str = "sync"
    session_id: str = "11111111-1111-4111-8111-111111111111"


_call = msgspec.json.Decoder(Call)
_tool = msgspec.json.Decoder(ToolCall)
_sent = msgspec.json.Decoder(Sent)
_run = msgspec.json.Decoder(Run)


class Agents(asyncio.Protocol):
    """One connection."""

    held = 0

    def connection_made(self, transport: Any) -> None:
        Agents.held += 1
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.open = True
        self.job: asyncio.Task[None] | None = None
        self.room = asyncio.Event()
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        Agents.held -= 1
        self.open = False
        self.room.set()
        self.parser = None

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.chunks: list[bytes] = []
        self.path = b""

    def on_url(self, url: bytes) -> None:
        self.path += url

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)

    def on_message_complete(self) -> None:
        path = self.path.decode().partition("?")[0]
        body = b"".join(self.chunks)
        method = self.parser.get_method()
        if path.startswith("/a2a"):
            self._a2a(path, method, body)
        elif path in ("/mcp", "/mcph"):
            self._mcp(path == "/mcp", method, body)
        elif path.startswith("/acp"):
            self._acp(path[4:], method, body)
        elif path == "/held":
            self._answer(str(Agents.held))
        else:
            self._answer("{}", 404)

    # --- protocols ---------------------------------------------------------------------------

    def _mcp(self, modern: bool, method: bytes, body: bytes) -> None:
        if method != b"POST":
            self._answer("{}", 405 if method == b"GET" else 200)
            return
        call = _call.decode(body)
        if call.id is None:
            self._answer("", 202)
        elif call.method == "tools/call":
            text = bytes(_tool.decode(call.params).arguments.text).decode()
            tail = f',"resultType":"complete",{META}' if modern else ""
            self._result(call, f'{{"content":[{{"type":"text","text":{text}}}]{tail}}}')
        elif call.method in MCP and (modern or call.method != "server/discover"):
            session = "" if modern or call.method != "initialize" else f"mcp-session-id: {uuid.uuid4()}\r\n"
            self._result(call, MCP[call.method], session)
        else:
            self._rpc(call, '"error":{"code":-32601,"message":"Method not found"}')

    def _a2a(self, path: str, method: bytes, body: bytes) -> None:
        if method == b"GET":
            host, port = self.transport.get_extra_info("sockname")[:2]
            self._answer(
                '{"name":"bench","description":"says it again","version":"1",'
                '"capabilities":{"streaming":true},'
                '"defaultInputModes":["text/plain"],"defaultOutputModes":["text/plain"],'
                '"skills":[{"id":"echo","name":"echo","description":"says it again","tags":[]}],'
                f'"supportedInterfaces":[{{"url":"http://{host}:{port}{path.partition("/.well")[0]}",'
                '"protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}'
            )
            return
        call = _call.decode(body)
        message = _sent.decode(call.params).message
        text = bytes(message.parts[0].text).decode() if message.parts else '""'
        task, context = uuid.uuid4(), message.contextId
        artifact = f'{{"artifactId":"a","parts":[{{"text":{text}}}]}}'
        whole = (
            f'{{"task":{{"id":"{task}","contextId":"{context}","artifacts":[{artifact}],'
            f'"status":{{"state":"TASK_STATE_COMPLETED","timestamp":"{NOW}"}}}}}}'
        )
        if call.method == "SendMessage":
            self._result(call, whole)
        elif call.method == "SendStreamingMessage":
            start = f'{{"id":"{task}","contextId":"{context}","status":{{"state":"TASK_STATE_WORKING"}}}}'

            def events() -> Iterator[Callable[[], str]]:
                yield lambda: self._item(call, f'{{"task":{start}}}')
                for _ in range(count):
                    yield lambda: self._item(
                        call,
                        f'{{"artifactUpdate":{{"taskId":"{task}","contextId":"{context}","append":true,'
                        f'"artifact":{{"artifactId":"a","parts":[{{"text":"{stamped(size)}"}}]}}}}}}',
                    )
                yield lambda: self._item(
                    call,
                    f'{{"statusUpdate":{{"taskId":"{task}","contextId":"{context}",'
                    f'"status":{{"state":"TASK_STATE_COMPLETED"}}}}}}',
                )

            count, pause, size = wanted(text)
            self._streamed(events(), pause)
        else:
            self._rpc(call, '"error":{"code":-32601,"message":"Method not found"}')

    def _acp(self, path: str, method: bytes, body: bytes) -> None:
        if method == b"GET":
            if path == "/agents":
                self._answer(f'{{"agents":[{MANIFEST}]}}')
            else:
                self._answer(MANIFEST if path == "/agents/bench" else "{}")
            return
        run, run_id = _run.decode(body), uuid.uuid4()
        text = bytes(run.input[0].parts[0].content).decode()
        part = f'{{"content_type":"text/plain","content":{text},"content_encoding":"plain"}}'

        def state(status: str, output: str = "") -> str:
            return (
                f'{{"run_id":"{run_id}","agent_name":"bench","session_id":"{run.session_id}",'
                f'"status":"{status}","output":[{output}],"created_at":"{NOW}","finished_at":"{NOW}"}}'
            )

        def message(parts: str) -> str:
            return f'{{"role":"agent/bench","parts":[{parts}]}}'

        if run.mode != "stream":
            self._answer(state("completed", message(part)), head=f"Run-ID: {run_id}\r\n")
            return
        count, pause, size = wanted(text)

        def events() -> Iterator[Callable[[], str]]:
            yield lambda: f'{{"type":"run.created","run":{state("created")}}}'
            yield lambda: f'{{"type":"message.created","message":{message("")}}}'
            for _ in range(count):
                yield (
                    lambda: (
                        '{"type":"message.part","part":{"content_type":"text/plain","content_encoding":"plain",'
                        f'"content":"{stamped(size)}"}}}}'
                    )
                )
            yield lambda: f'{{"type":"message.completed","message":{message(part)}}}'
            yield lambda: f'{{"type":"run.completed","run":{state("completed", message(part))}}}'

        self._streamed(events(), pause, f"Run-ID: {run_id}\r\n")

    # --- answers -----------------------------------------------------------------------------

    def _item(self, call: Call, result: str) -> str:
        return f'{{"jsonrpc":"2.0","id":{msgspec.json.encode(call.id).decode()},"result":{result}}}'

    def _result(self, call: Call, result: str, head: str = "") -> None:
        self._answer(self._item(call, result), head=head)

    def _rpc(self, call: Call, member: str) -> None:
        self._answer(f'{{"jsonrpc":"2.0","id":{msgspec.json.encode(call.id).decode()},{member}}}')

    def _answer(self, text: str, status: int = 200, head: str = "") -> None:
        body = text.encode()
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        start = f"HTTP/1.1 {status} OK\r\n{head}\r\n"
        self.transport.write(start.encode() + body)

    def _streamed(self, events: Iterator[Callable[[], str]], pause: float, head: str = "") -> None:
        start = (
            f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{head}transfer-encoding: chunked\r\n\r\n"
        )
        self.transport.write(start.encode())
        self.job = asyncio.create_task(self._run(events, pause))

    async def _run(self, events: Iterator[Callable[[], str]], pause: float) -> None:
        for event in events:
            await self.room.wait()
            if not self.open:
                return
            data = f"data: {event()}\n\n".encode()
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            await asyncio.sleep(pause)
        if self.open:
            self.transport.write(b"0\r\n\r\n")


def wanted(text: str) -> tuple[int, float, int]:
    """Number of pieces, seconds between them, characters in each."""
    words = text.strip('"').split()
    if len(words) < 4 or words[0] != "stream":
        return 1, 0, 0
    return int(words[1]), int(words[2]) / 1000, int(words[3])


def stamped(size: int) -> str:
    return f"@{time.monotonic_ns()}@".ljust(size, "x")


async def serve() -> None:
    """Print the port, serve until killed."""
    server = await asyncio.get_running_loop().create_server(Agents, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))
