"""Streamable HTTP where servers misbehave or forget: a played server says what must happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from agentgw.adapters.mcp import adapter
from agentgw.adapters.mcp.wire import Caller, RpcError
from agentgw.gateway.errors import BadUpstream, GatewayError, NeedsAuth, Unreachable, UpstreamFailed

JSON = "application/json"
Answer = tuple[int, str, bytes] | tuple[int, str, bytes, dict[str, str]] | None


@dataclass
class Seen:
    """One request as the server got it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class Played:
    """A server that answers with what ``play`` returns; None: never."""

    url: str
    play: Callable[[Seen], Answer]
    seen: list[Seen] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # for what it never answers
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def methods(self) -> list[str]:
        return [s.body.get("method", s.method) for s in self.seen if s.method != "GET"]


def rpc(seen: Seen, result: Any = None, error: Any = None, status: int = 200, **headers: str) -> Answer:
    message = {"jsonrpc": "2.0", "id": seen.body.get("id")}
    message |= {"result": result} if error is None else {"error": error}
    return status, JSON, msgspec.json.encode(message), headers


def handshake(seen: Seen, session: str | None = "s1") -> Answer:
    """What any server of the handshake era does, up to the call of a tool."""
    match seen.body.get("method"):
        case "initialize":
            result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "played"}}
            return rpc(seen, result, **({"Mcp-Session-Id": session} if session else {}))
        case "server/discover":
            return 400, "text/plain", b"Bad Request"
        case "tools/list":
            return rpc(seen, {"tools": []})
        case _:
            return 405 if seen.method == "GET" else 202, "text/plain", b""


@pytest.fixture
async def play() -> AsyncIterator[Callable[..., Any]]:
    servers: list[asyncio.Server] = []

    async def start(script: Callable[[Seen], Answer]) -> Played:
        played = Played("", script)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                    method, path, _ = head[0].split(" ")
                    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                    raw = await reader.readexactly(int(headers.get("content-length", 0)))
                    seen = Seen(method, path, headers, msgspec.json.decode(raw) if raw else {})
                    played.seen.append(seen)
                    answer = played.play(seen)
                    if answer is None:
                        played.asked.set()
                        await reader.read()
                        played.gone.set()
                        return
                    status, kind, body, *more = answer
                    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(body)}"]
                    lines += [f"{k}: {v}" for k, v in (more[0] if more else {}).items()]
                    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        played.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        return played

    yield start
    for server in servers:
        server.close()


async def test_a_forgotten_session_is_opened_again_once(play: Any, connect: Any) -> None:
    sessions = iter(["s1", "s2"])
    known: list[str] = []

    def script(seen: Seen) -> Answer:
        if seen.body.get("method") == "initialize":
            known[:] = [next(sessions)]
            return handshake(seen, known[0])
        if seen.body.get("method") == "tools/call":
            if seen.headers["mcp-session-id"] == "s1":
                return rpc(seen, error={"code": -32600, "message": "Session not found"}, status=404)
            return rpc(seen, {"content": []})
        return handshake(seen)

    server = await play(script)
    upstream = connect(server.url)
    await upstream.request("tools/call", {"name": "t"}, caller=Caller())
    assert server.methods().count("initialize") == 2
    assert server.methods().count("tools/call") == 2


async def test_the_handshake_as_the_specification_wants_it(play: Any, connect: Any) -> None:
    server = await play(handshake)
    upstream = connect(server.url, headers={"authorization": "bearer t"})
    await upstream.describe()
    await upstream.aclose()
    initialize, initialized, *rest = [s for s in server.seen[1:] if s.method != "GET"]
    assert "mcp-protocol-version" not in initialize.headers
    assert initialize.body["params"]["protocolVersion"] == "2025-11-25"
    assert initialize.headers["accept"] == "application/json, text/event-stream"
    assert initialized.body == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    for seen in (initialized, *rest):
        assert seen.headers["mcp-protocol-version"] == "2025-06-18"
        assert seen.headers["mcp-session-id"] == "s1"
        assert seen.headers["authorization"] == "bearer t"
    assert rest[-1].method == "DELETE"


async def test_discovery_as_the_specification_wants_it(play: Any, connect: Any) -> None:
    def script(seen: Seen) -> Answer:
        if seen.body["method"] == "server/discover":
            info = {"io.modelcontextprotocol/serverInfo": {"name": "m"}}
            return rpc(seen, {"supportedVersions": ["2026-07-28"], "capabilities": {}, "_meta": info})
        return rpc(seen, {"content": [], "tools": []})

    server = await play(script)
    upstream = connect(server.url)
    assert (await upstream.describe())[0].name == "m"
    caller = Caller(client_capabilities={"roots": {}}, client_info={"name": "c", "version": "1"})
    await upstream.request("prompts/get", {"name": "hé", "_meta": {"x": 1}}, caller=caller)
    seen = server.seen[-1]
    assert seen.headers["mcp-protocol-version"] == "2026-07-28"
    assert (seen.headers["mcp-method"], seen.headers["mcp-name"]) == (
        "prompts/get",
        "=?base64?asopa==?=",
    ) or (seen.headers["mcp-name"].startswith("=?base64?"))
    meta = seen.body["params"]["_meta"]
    assert meta.pop("traceparent") == seen.headers["traceparent"]
    assert meta == {
        "x": 1,
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
        "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
    }


async def test_closing_the_response_cancels_in_the_modern_era(play: Any, connect: Any) -> None:
    def script(seen: Seen) -> Answer:
        if seen.body["method"] == "server/discover":
            return rpc(seen, {"supportedVersions": ["2026-07-28"], "capabilities": {}})
        return None if seen.body["method"] == "tools/call" else rpc(seen, {"tools": []})

    server = await play(script)
    upstream = connect(server.url)
    await upstream.describe()
    call = asyncio.create_task(upstream.request("tools/call", {"name": "t"}, caller=Caller()))
    async with asyncio.timeout(60):
        await server.asked.wait()
        call.cancel()
        await server.gone.wait()
    assert "notifications/cancelled" not in server.methods()


async def test_a_server_of_other_revisions_is_not_greeted(play: Any, connect: Any) -> None:
    error = {"code": -32022, "message": "no", "data": {"supported": ["2031-01-01"], "requested": "x"}}
    server = await play(lambda seen: rpc(seen, error=error, status=400))
    with pytest.raises(BadUpstream, match="speaks no MCP revision that the gateway does: 2031-01-01"):
        await connect(server.url).describe()
    assert server.methods() == ["server/discover"]


@pytest.mark.parametrize(
    ("answer", "error", "message", "code"),
    [
        ((401, "text/plain", b"who?"), NeedsAuth, "run agentgw agents login peer", 401),
        ((403, "text/html", b"<p>no"), Unreachable, "refuses the gateway's credentials", 403),
        ((500, "text/plain", b"Traceback: secret"), UpstreamFailed, "^peer failed$", 500),
        ((502, "text/html", b"secret"), UpstreamFailed, "^peer failed$", 502),
        ((404, "text/html", b"secret"), BadUpstream, "HTTP 404", 404),
        ((200, "text/html", b"<p>secret"), BadUpstream, "did not answer with an MCP message", 200),
        ((302, "text/plain", b"", {"location": "/x"}), BadUpstream, "HTTP 302", 302),
        ((200, JSON, b"[]"), BadUpstream, "did not answer with an MCP message", 200),
    ],
)
async def test_what_is_no_mcp_gets_a_clear_error(
    play: Any, connect: Any, answer: Any, error: type[GatewayError], message: str, code: int
) -> None:
    server = await play(lambda seen: answer)
    with pytest.raises(error, match=message) as caught:
        await connect(server.url).describe()
    assert "secret" not in f"{caught.value.message} {caught.value.data}"
    assert caught.value.native is not None and caught.value.native["code"] == code


async def test_a_stream_cut_before_the_answer_is_a_failure(play: Any, connect: Any) -> None:
    def script(seen: Seen) -> Answer:
        if seen.body.get("method") == "tools/call":
            note = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":9}}'
            return 200, "text/event-stream", b"data: " + note + b"\n\n"
        return handshake(seen)

    server = await play(script)
    with pytest.raises(UpstreamFailed):
        await connect(server.url).request("tools/call", {"name": "t"}, caller=Caller())


async def test_an_error_with_an_http_status_is_the_servers_own_error(play: Any, connect: Any) -> None:
    def script(seen: Seen) -> Answer:
        if seen.body.get("method") == "tools/call":
            return rpc(seen, error={"code": -32021, "message": "need sampling", "data": {"a": 1}}, status=400)
        return handshake(seen)

    with pytest.raises(RpcError, match="need sampling"):
        server = await play(script)
        await connect(server.url).request("tools/call", {"name": "t"}, caller=Caller())


async def test_a_server_that_becomes_modern_is_followed(play: Any, connect: Any) -> None:
    def modern(seen: Seen) -> Answer:
        match seen.body.get("method"):
            case "server/discover":
                return rpc(seen, {"supportedVersions": ["2026-07-28"], "capabilities": {}})
            case "tools/list" if seen.headers.get("mcp-protocol-version") == "2026-07-28":
                return rpc(seen, {"tools": []})
            case _:
                return rpc(seen, error={"code": -32601, "message": "Method not found"}, status=404)

    server = await play(handshake)
    upstream = connect(server.url)
    assert (await upstream.catalog()).era == "handshake"
    server.play = modern
    assert (await upstream.catalog(refresh=True)).era == "modern"
    server.play = handshake
    assert (await upstream.catalog(refresh=True)).era == "handshake"


# --- probing ---------------------------------------------------------------------------------


async def test_the_probe_finds_a_server_below_a_bare_address(play: Any, host: Any) -> None:
    server = await play(lambda seen: handshake(seen) if seen.path == "/mcp" else (404, "text/plain", b""))
    assert adapter.probe is not None
    found = await adapter.probe(server.url.removesuffix("/mcp"), [("x", "y")], host)
    assert found is not None
    assert (found.url, found.agents[0].name) == (server.url, "played")
    assert all(seen.headers["x"] == "y" for seen in server.seen)


async def test_the_probe_says_no_to_something_else(play: Any, host: Any) -> None:
    server = await play(lambda seen: (200, "text/html", b"<html>"))
    assert adapter.probe is not None
    assert await adapter.probe(server.url, [], host) is None


async def test_the_probe_tells_of_refused_credentials(play: Any, host: Any) -> None:
    server = await play(lambda seen: (401, JSON, b"{}"))
    assert adapter.probe is not None
    with pytest.raises(NeedsAuth):
        await adapter.probe(server.url, [], host)


# --- streams that break, or end to be polled -----------------------------------------------------


def event(id: str, message: Any = None) -> bytes:
    data = b"" if message is None else msgspec.json.encode({"jsonrpc": "2.0", **message})
    return b"id: " + id.encode() + b"\nretry: 1\ndata: " + data + b"\n\n"


async def test_a_stream_is_polled_as_long_as_the_server_wants(play: Any, connect: Any) -> None:
    """Nothing comes in many polls; each goes on from the last id, the client is told once."""
    polls: list[str] = []
    hung_up: list[float] = []

    def script(seen: Seen) -> Answer:
        if seen.body.get("method") == "tools/call":
            script.id = seen.body["id"]  # type: ignore[attr-defined]
            return 200, "text/event-stream", event("a")
        if seen.method == "GET" and "last-event-id" in seen.headers:
            polls.append(seen.headers["last-event-id"])
            if len(polls) < 9:
                return 200, "text/event-stream", b"id: b\n\n"
            result = {"id": script.id, "result": {"content": [], "n": 1}}  # type: ignore[attr-defined]
            return 200, "text/event-stream", event("c", result)
        return handshake(seen)

    async def on_hang_up(retry: float) -> None:
        hung_up.append(retry)

    server = await play(script)
    caller = Caller(on_hang_up=on_hang_up)
    result = await connect(server.url).request("tools/call", {"name": "t"}, caller=caller)
    assert msgspec.json.decode(result)["n"] == 1
    assert polls == ["a", *["b"] * 8]
    assert hung_up == [0.001]


async def test_a_call_is_never_made_twice_for_a_session_that_ended_meanwhile(play: Any, connect: Any) -> None:
    def script(seen: Seen) -> Answer:
        if seen.body.get("method") == "tools/call":
            return 200, "text/event-stream", event("a")
        if seen.method == "GET" and "last-event-id" in seen.headers:
            return 404, "text/plain", b""
        return handshake(seen)

    server = await play(script)
    with pytest.raises(UpstreamFailed):
        await connect(server.url).request("tools/call", {"name": "t"}, caller=Caller())
    assert server.methods().count("tools/call") == 1
