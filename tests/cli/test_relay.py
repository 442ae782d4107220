"""``agentgw mcp``: MCP over stdio in front of a Streamable HTTP server."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from agentgw.cli import owner

Cli = Any
Fake = Any
Exchange = Any

PEER = Path(__file__).resolve().parents[1] / "peers" / "mcp_server.py"
MODERN = "io.modelcontextprotocol/protocolVersion"


def request(id: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def modern(id: Any, method: str, **params: Any) -> dict[str, Any]:
    return request(id, method, _meta={MODERN: "2026-07-28"}, **params)


def notification(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def result(id: Any, **result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": result}


HELLO = request(
    0,
    "initialize",
    protocolVersion="2025-06-18",
    capabilities={},
    clientInfo={"name": "host", "version": "1"},
)
READY = notification("notifications/initialized")


class Host:
    """An MCP host that launched ``agentgw mcp``: lines in, lines out."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def send(self, *messages: Any) -> None:
        for message in messages:
            text = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.process.stdin.write(text + b"\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any] | None:
        return self.lines.get(timeout=60)

    def close(self) -> int:
        self.process.stdin.close()
        return self.process.wait(60)


@pytest.fixture
def host(cli: Cli, fake: Fake) -> Iterator[Host]:
    owner.write(cli.home, url=fake.url, token="owner-token")
    process = cli.start("mcp")
    yield Host(process)
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


class Server:
    """A handshake server behind a Fake. ``sessions``: the ids it knows; ``stream``: open GET streams."""

    def __init__(self, fake: Fake, path: str = "/mcp") -> None:
        self.sessions: list[str] = []
        self.calls: list[tuple[str | None, Any]] = []
        self.answers: dict[str, Any] = {}
        self.streams: queue.Queue[Exchange] = queue.Queue()
        self.end = threading.Event()
        self.ended: list[str] = []
        fake.routes[f"POST {path}"] = self.post
        fake.routes[f"GET {path}"] = self.get
        fake.routes[f"DELETE {path}"] = self.delete

    def post(self, exchange: Exchange) -> None:
        message, session = exchange.json, exchange.headers["mcp-session-id"]
        self.calls.append((session, message))
        if isinstance(message, dict) and message.get("method") == "initialize":
            self.sessions.append(f"s{len(self.sessions) + 1}")
            answer = result(message["id"], protocolVersion="2025-06-18", capabilities={}, serverInfo={})
            exchange.answer(200, answer, mcp_session_id=self.sessions[-1])
        elif session not in self.sessions:
            exchange.answer(404, {"error": {"code": "unknown_session", "message": "unknown session"}})
        elif isinstance(message, dict) and message.get("method") in self.answers:
            self.answers[message["method"]](exchange)
        elif isinstance(message, dict) and "id" in message and "method" in message:
            exchange.answer(200, result(message["id"], session=session))
        else:
            exchange.answer(202)

    def get(self, exchange: Exchange) -> None:
        if exchange.headers["mcp-session-id"] not in self.sessions:
            exchange.answer(404)
            return
        exchange.head(200, "text/event-stream")
        self.streams.put(exchange)
        self.end.wait(60)

    def delete(self, exchange: Exchange) -> None:
        self.ended.append(exchange.headers["mcp-session-id"])
        exchange.answer(204)


@pytest.fixture
def server(fake: Fake) -> Iterator[Server]:
    made = Server(fake)
    yield made
    made.end.set()


def greet(host: Host) -> None:
    host.send(HELLO)
    answer = host.receive()
    assert answer is not None and answer["result"]["protocolVersion"] == "2025-06-18"
    host.send(READY)


# --- handshake era ---------------------------------------------------------------------------


def test_a_session_is_kept_with_its_headers(host: Host, server: Server, fake: Fake) -> None:
    greet(host)
    host.send(request("a", "tools/list"))
    assert host.receive() == result("a", session="s1")
    sent = fake.asked("POST /mcp")[-1].headers
    assert sent["mcp-session-id"] == "s1"
    assert sent["mcp-protocol-version"] == "2025-06-18"
    assert sent["authorization"] == "Bearer owner-token"
    assert sent["accept"] == "application/json, text/event-stream"
    assert fake.asked("POST /mcp")[0].headers["mcp-session-id"] is None


def test_the_server_s_own_messages_reach_the_host(host: Host, server: Server) -> None:
    greet(host)
    stream = server.streams.get(timeout=60)
    assert stream.headers["mcp-session-id"] == "s1"
    changed = notification("notifications/tools/list_changed")
    stream.event(changed)
    assert host.receive() == changed


def test_a_question_inside_a_call_is_answered_and_the_call_goes_on(host: Host, server: Server) -> None:
    answered = threading.Event()

    def call(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        exchange.event(notification("notifications/progress", progress=1))
        exchange.event(request(77, "elicitation/create", message="Sure?"))
        assert answered.wait(60)
        exchange.event(result(exchange.json["id"], ok=True))

    def responded(exchange: Exchange) -> None:
        pass

    server.answers["tools/call"] = call
    greet(host)
    host.send(request(1, "tools/call", name="x"))
    assert host.receive() == notification("notifications/progress", progress=1)
    question = host.receive()
    assert question == request(77, "elicitation/create", message="Sure?")
    host.send(result(77, action="accept"))
    host.send(request(2, "ping"))  # others go on meanwhile
    assert host.receive() == result(2, session="s1")
    assert ("s1", result(77, action="accept")) in server.calls
    answered.set()
    assert host.receive() == result(1, ok=True)


def test_a_forgotten_session_is_opened_again(host: Host, server: Server) -> None:
    greet(host)
    server.streams.get(timeout=60)
    server.sessions[0] = "forgotten"
    host.send(request(1, "tools/list"))
    assert host.receive() == result(1, session="s2")
    methods = [(session, message.get("method")) for session, message in server.calls]
    assert methods[-4:] == [
        ("s1", "tools/list"), (None, "initialize"), ("s2", "notifications/initialized"), ("s2", "tools/list"),
    ]  # fmt: skip
    assert server.streams.get(timeout=60).headers["mcp-session-id"] == "s2"


def test_a_restarted_gateway_is_found_again(
    host: Host, server: Server, fake: Fake, cli: Cli, free_port: Any
) -> None:
    greet(host)
    # The owner file names the new address; the old one refuses connections.
    moved = Server(fake, "/moved/mcp")
    fake.routes["GET /moved/healthz"] = fake.routes["GET /healthz"]
    owner.write(cli.home, url=f"{fake.url}/moved", token="new-token")
    server.sessions.clear()
    host.send(request(1, "tools/list"))
    assert host.receive() == result(1, session="s1")
    assert moved.sessions == ["s1"]
    assert fake.asked("POST /moved/mcp")[-1].headers["authorization"] == "Bearer new-token"
    moved.end.set()


def test_a_broken_stream_is_taken_up_after_its_last_event(host: Host, server: Server, fake: Fake) -> None:
    def call(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        exchange.event(notification("notifications/progress", progress=1), id="e1")

    def resume(exchange: Exchange) -> None:
        if exchange.headers["last-event-id"] != "e1":
            server.get(exchange)
            return
        exchange.head(200, "text/event-stream")
        exchange.event(result(1, resumed=True), id="e2")

    server.answers["tools/call"] = call
    fake.routes["GET /mcp"] = resume
    greet(host)
    host.send(request(1, "tools/call", name="x"))
    assert host.receive() == notification("notifications/progress", progress=1)
    assert host.receive() == result(1, resumed=True)


def test_an_answer_that_breaks_off_is_an_error(host: Host, server: Server) -> None:
    server.answers["tools/call"] = lambda exchange: exchange.head(200, "text/event-stream")
    greet(host)
    host.send(request(1, "tools/call", name="x"))
    answer = host.receive()
    assert answer is not None
    assert (answer["id"], answer["error"]["message"]) == (1, "the answer broke off")


def test_refusals_become_json_rpc_errors(host: Host, server: Server) -> None:
    own = {"jsonrpc": "2.0", "id": None, "error": {"code": -32602, "message": "bad params", "data": [1]}}
    server.answers["a"] = lambda exchange: exchange.answer(400, own)
    server.answers["b"] = lambda exchange: exchange.answer(
        403, {"error": {"code": "forbidden", "message": "not for you"}}
    )
    server.answers["c"] = lambda exchange: exchange.answer(500)
    greet(host)
    errors: list[Any] = []
    for id in "abc":
        host.send(request(id, id))
        answer = host.receive()
        assert answer is not None and answer["id"] == id
        errors.append(answer["error"])
    assert errors[0] == {"code": -32602, "message": "bad params", "data": [1]}
    assert errors[1]["message"] == "not for you"
    assert "HTTP 500" in errors[2]["message"]


def test_pretty_json_becomes_one_line(host: Host, server: Server) -> None:
    def call(exchange: Exchange) -> None:
        exchange.head(200, "application/json")
        exchange.wfile.write(json.dumps(result(1, text="a\nb\u2028"), indent=2).encode())

    server.answers["tools/call"] = call
    greet(host)
    host.send(request(1, "tools/call"))
    assert host.receive() == result(1, text="a\nb\u2028")


def test_what_is_no_json_rpc_gets_a_parse_error(host: Host, server: Server) -> None:
    host.send(b"hello", b"", b"[1]", b'{"id":')
    for _ in range(3):
        answer = host.receive()
        assert answer is not None and answer["error"]["code"] == -32700


def test_end_of_input_ends_the_session_after_calls_under_way(host: Host, server: Server) -> None:
    go = threading.Event()

    def call(exchange: Exchange) -> None:
        assert go.wait(60)
        exchange.answer(200, result(1, done=True))

    server.answers["tools/call"] = call
    greet(host)
    host.send(request(1, "tools/call"))
    host.process.stdin.close()
    go.set()
    assert host.receive() == result(1, done=True)
    assert host.receive() is None
    assert host.process.wait(60) == 0
    assert server.ended == ["s1"]
    assert host.process.stderr.read() == b""


def test_sigterm_ends_it_at_once(host: Host, server: Server) -> None:
    greet(host)
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(60) == 0
    assert server.ended == ["s1"]


# --- modern era ------------------------------------------------------------------------------


def test_modern_requests_carry_mirroring_headers(host: Host, fake: Fake) -> None:
    tools = [{
        "name": "wëather",
        "inputSchema": {"type": "object", "properties": {"city": {"type": "string", "x-mcp-header": "City"}}},
    }]  # fmt: skip

    def post(exchange: Exchange) -> None:
        exchange.answer(200, result(exchange.json["id"], tools=tools))

    fake.routes["POST /mcp"] = post
    host.send(modern(1, "tools/list"))
    host.receive()
    host.send(modern(2, "tools/call", name="wëather", arguments={"city": "Oslo"}))
    host.receive()
    host.send(modern(3, "resources/read", uri="file:///x"))
    host.receive()
    host.send(modern(4, "tasks/get", taskId="t1"))
    host.receive()
    first, second, third, fourth = (exchange.headers for exchange in fake.asked("POST /mcp"))
    assert first["mcp-protocol-version"] == "2026-07-28"
    assert (first["mcp-method"], first["mcp-name"]) == ("tools/list", None)
    assert second["mcp-method"] == "tools/call"
    assert second["mcp-name"] == "=?base64?d8OrYXRoZXI=?="
    assert second["mcp-param-city"] == "Oslo"
    assert third["mcp-name"] == "file:///x"
    assert fourth["mcp-name"] == "t1"


def test_cancelling_a_modern_request_closes_its_response(host: Host, fake: Fake) -> None:
    closed = threading.Event()
    begun = threading.Event()

    def post(exchange: Exchange) -> None:
        if exchange.json["id"] != 1:
            exchange.answer(200, result(exchange.json["id"]))
            return
        exchange.head(200, "text/event-stream")
        exchange.event(notification("notifications/progress", progress=0))
        begun.set()
        exchange.connection.settimeout(60)
        if exchange.connection.recv(1) == b"":  # the client hung up
            closed.set()

    fake.routes["POST /mcp"] = post
    host.send(modern(1, "tools/call", name="slow"))
    assert begun.wait(60)
    assert host.receive() == notification("notifications/progress", progress=0)
    host.send(notification("notifications/cancelled", requestId=1))
    assert closed.wait(60)
    host.send(modern(2, "tools/list"))
    assert host.receive() == result(2)  # and no answer to the cancelled one
    assert [exchange.json["id"] for exchange in fake.asked("POST /mcp")] == [1, 2]


# --- as the official client sees it ----------------------------------------------------------


@pytest.fixture(scope="module")
def peer(spawn: Any, free_port: Any) -> str:
    port = free_port()
    spawn("mcp-server", [sys.executable, PEER, "--port", port], port=port)
    return f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_official_client_reaches_the_official_server(
    cli: Cli, fake: Fake, peer: str, mode: str
) -> None:
    """The peer has no ``/healthz``: a Fake stands in for the gateway and sends the relay on to it."""
    import http.client

    def forward(exchange: Exchange) -> None:
        link = http.client.HTTPConnection(peer.removeprefix("http://"))
        skipped = ("host", "connection", "content-length")
        sent = {k: v for k, v in exchange.headers.items() if k.lower() not in skipped}
        link.request(exchange.command, "/mcp", exchange.body or None, sent)
        answer = link.getresponse()
        exchange.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                exchange.send_header(name, value)
        exchange.end_headers()
        while chunk := answer.read1():
            exchange.wfile.write(chunk)
        link.close()

    for method in ("POST", "GET", "DELETE"):
        fake.routes[f"{method} /mcp/tools"] = forward
    owner.write(cli.home, url=fake.url, token="owner-token")
    launched = StdioServerParameters(
        command=str(cli.script), args=["mcp", "--agent", "tools"], env={**os.environ, **cli.environment}
    )
    progress: list[str | None] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(message)

    async with Client(stdio_client(launched), mode=mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"echo", "add", "stream_words"} <= tools
        answer = await client.call_tool("echo", {"text": "häj\u2028"})
        assert answer.content[0].text == "häj\u2028"  # pyright: ignore
        await client.call_tool("stream_words", {"text": "one two three"}, progress_callback=on_progress)
    assert progress
