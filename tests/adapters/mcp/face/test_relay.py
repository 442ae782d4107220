"""``/mcp/{agent}`` in front of a server of one era that was written for this: it shows what it got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentgw.adapters.mcp import wire

from .support import META, VERSION, Gateway, by_hand, rpc, served, serving

pytestmark = pytest.mark.slow

TOOL = {
    "name": "odd",
    "inputSchema": {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "n": {"type": "integer"}},
    },
    "x-unknown": {"kept": [1]},
}


class Plain:
    """A server by hand: no SDK that could drop what it does not know. Records requests and headers."""

    def __init__(self, era: str) -> None:
        self.era = era
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        if scope["method"] != "POST":
            await self.send(send, 405, None)
            return
        request = msgspec.json.decode(body)
        headers = dict(scope["headers"])
        if "id" not in request:
            await self.send(send, 202, None)
            return
        modern = headers.get(b"mcp-protocol-version") == VERSION.encode()
        if modern != (self.era == "modern"):
            error = {"code": -32601 if modern else -32022, "message": "no", "data": {"supported": [VERSION]}}
            await self.send(send, 400, {"jsonrpc": "2.0", "id": request["id"], "error": error})
            return
        self.requests.append(request)
        self.headers.append(headers)
        answer = self.answer(request["method"], request.get("params", {}))
        await self.send(send, 200, {"jsonrpc": "2.0", "id": request["id"], **answer})

    async def send(self, send: Any, status: int, message: Any) -> None:
        body = b"" if message is None else msgspec.json.encode(message)
        head = [(b"content-type", b"application/json"), (b"mcp-session-id", b"s1")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        info = {"name": "plain", "version": "7", "x": 1}
        capabilities = {"tools": {}, "resources": {}, "experimental": {"x": {}}}
        match method:
            case "initialize":
                said = {"protocolVersion": params["protocolVersion"], "serverInfo": info}
                return {"result": {**said, "capabilities": capabilities, "instructions": "Be odd."}}
            case "server/discover":
                result = {"supportedVersions": [VERSION], "capabilities": capabilities, "ttlMs": 5}
                meta = {"_meta": {wire.META_SERVER_INFO: info}}
                return {"result": {**result, **meta, "cacheScope": "public", "instructions": "Be odd."}}
            case "tools/list" if params.get("cursor") == "next":
                return {"result": {"tools": [], "resultType": "complete", "ttlMs": 5, "cacheScope": "public"}}
            case "tools/list":
                return {"result": {"tools": [TOOL], "nextCursor": "next", "x": 1, "ttlMs": 5}}
            case "tools/call":
                return self.called(params)
            case "resources/read":
                code = -32602 if self.era == "modern" else -32002
                return {"error": {"code": code, "message": "gone", "data": {"uri": params["uri"]}}}
            case _:
                return {"error": {"code": -32601, "message": f"no {method}"}}

    def called(self, params: dict[str, Any]) -> dict[str, Any]:
        match params["arguments"]:
            case {"crash": code}:
                return {"error": {"code": code, "message": "Traceback /home/secret", "data": "secret"}}
            case {"own": code}:
                return {"error": {"code": code, "message": "my words", "data": {"x": 1}}}
            case {"ask": question} if "inputResponses" not in params:
                request = {"method": "elicitation/create", "params": {"message": question}}
                asked = {"resultType": "input_required", "inputRequests": {"q": request}}
                return {"result": {**asked, "requestState": "sealed"}}
            case {"ask": _}:
                answer = {key: params[key] for key in ("inputResponses", "requestState")}
                return {"result": {"content": [], "x": answer}}
            case arguments:
                return {"result": {"content": [{"type": "x-new", "y": 1}], "x": arguments, "isError": False}}


@pytest.fixture(params=["handshake", "modern"])
async def plain(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Plain, Gateway]]:
    server = Plain(request.param)
    async with serving(server, lifespan="off") as url, served() as gateway:
        await gateway.add_server("plain", f"{url}/mcp")
        server.requests.clear()
        server.headers.clear()
        yield server, gateway


async def ask(raw: Any, era: str, method: str, params: dict[str, Any], **headers: str) -> Any:
    if era == "modern":
        return (await raw.modern(method, params, **headers)).json()
    if not raw.session:
        await raw.initialize()
    return (await raw.post(rpc(method, params))).json()


ERAS = pytest.mark.parametrize("era", ["handshake", "modern"])


@ERAS
async def test_unknown_fields_pass_both_ways(era: str, plain: tuple[Plain, Gateway]) -> None:
    server, gateway = plain
    meta = {**(META if era == "modern" else {}), "com.example/x": 1}
    async with by_hand(f"{gateway.url}/mcp/plain") as raw:
        params = {"name": "odd", "arguments": {"deep": [1, {"y": None}]}, "x-new": 2, "_meta": meta}
        result = (await ask(raw, era, "tools/call", params))["result"]
        assert result["content"] == [{"type": "x-new", "y": 1}]
        assert result["x"] == params["arguments"]
        (sent,) = [r["params"] for r in server.requests if r["method"] == "tools/call"]
        assert (sent["x-new"], sent["_meta"]["com.example/x"]) == (2, 1)
        listed = (await ask(raw, era, "tools/list", {}))["result"]
        assert listed["tools"][0]["x-unknown"] == {"kept": [1]}
        assert listed["x"] == 1


@ERAS
async def test_the_servers_own_pages_and_identity(era: str, plain: tuple[Plain, Gateway]) -> None:
    _, gateway = plain
    async with by_hand(f"{gateway.url}/mcp/plain") as raw:
        first = (await ask(raw, era, "tools/list", {}))["result"]
        assert first["nextCursor"] == "next"
        assert (await ask(raw, era, "tools/list", {"cursor": "next"}))["result"]["tools"] == []
        if era == "modern":
            said = (await raw.modern("server/discover")).json()["result"]
            assert said["_meta"][wire.META_SERVER_INFO]["name"] == "plain"
            assert "listChanged" not in said["capabilities"]["tools"]
        else:
            said = (await raw.initialize()).json()["result"]
            assert said["serverInfo"] == {"name": "plain", "version": "7", "x": 1}
        assert said["instructions"] == "Be odd."
        assert said["capabilities"]["experimental"] == {"x": {}}


@ERAS
async def test_crash_text_never_passes_and_own_words_do(era: str, plain: tuple[Plain, Gateway]) -> None:
    _, gateway = plain
    async with by_hand(f"{gateway.url}/mcp/plain") as raw:
        for code in (0, -32603):
            error = (await ask(raw, era, "tools/call", {"name": "odd", "arguments": {"crash": code}}))[
                "error"
            ]
            assert (error["code"], error["message"]) == (code, "plain failed")
            assert len(error["data"]["trace_id"]) == 32
        for code in (-32602, 17):
            error = (await ask(raw, era, "tools/call", {"name": "odd", "arguments": {"own": code}}))["error"]
            assert error == {"code": code, "message": "my words", "data": {"x": 1}}


@ERAS
async def test_a_missing_resource_has_the_code_of_the_clients_era(
    era: str, plain: tuple[Plain, Gateway]
) -> None:
    _, gateway = plain
    async with by_hand(f"{gateway.url}/mcp/plain") as raw:
        error = (await ask(raw, era, "resources/read", {"uri": "x://y"}))["error"]
        assert error["code"] == (-32602 if era == "modern" else -32002)
        assert error["data"] == {"uri": "x://y"}


@ERAS
async def test_the_trace_goes_on_and_the_callers_key_does_not(era: str, plain: tuple[Plain, Gateway]) -> None:
    server, gateway = plain
    async with by_hand(f"{gateway.url}/mcp/plain") as raw:
        raw.session["Authorization"] = "Bearer client-secret"
        await raw.initialize() if era == "handshake" else None
        await ask(raw, era, "tools/call", {"name": "odd", "arguments": {"n": 1}})
    spans = {(s.name, s.kind): s for s in gateway.spans()}
    outer, inner = spans["tools/call odd", "server"], spans["tools/call odd", "client"]
    assert inner.parent_id == outer.span_id
    last = len(server.requests) - 1 - [r["method"] for r in reversed(server.requests)].index("tools/call")
    trace = f"00-{outer.trace_id}-{inner.span_id}-01"
    assert server.requests[last]["params"]["_meta"]["traceparent"] == trace
    assert server.headers[last][b"traceparent"] == trace.encode()
    assert all(b"authorization" not in headers for headers in server.headers)
    assert outer.attributes["agentgw.agent"] == "plain"
    assert outer.attributes["agentgw.state"] == "completed"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Mcp_Param_Region": "eu"}, None),
        ({"Mcp_Param_Region": "=?base64?ZXU=?="}, None),
        ({"Mcp_Param_Region": "us"}, -32020),
        ({}, -32020),
    ],
)
@pytest.mark.parametrize("path", ["/mcp/plain", "/mcp"])
async def test_mirrored_arguments_are_checked_and_mirrored_again(
    path: str, headers: dict[str, str], code: int | None, plain: tuple[Plain, Gateway]
) -> None:
    server, gateway = plain
    async with by_hand(gateway.url + path) as raw:
        name = "odd" if path == "/mcp/plain" else "plain__odd"
        answer = await ask(
            raw, "modern", "tools/call", {"name": name, "arguments": {"region": "eu"}}, **headers
        )
    if code is not None:
        assert answer["error"]["code"] == code
        return
    assert answer["result"]["x"] == {"region": "eu"}
    if server.era == "modern":
        sent = next(
            h for r, h in zip(server.requests, server.headers, strict=True) if r["method"] == "tools/call"
        )
        assert (sent[b"mcp-param-region"], sent[b"mcp-name"]) == (b"eu", b"odd")


async def test_a_modern_servers_question_reaches_a_client_of_the_handshake_era() -> None:
    server = Plain("modern")
    call = rpc("tools/call", {"name": "odd", "arguments": {"ask": "Which?"}}, id="call")
    async with serving(server, lifespan="off") as url, served() as gateway:
        await gateway.add_server("plain", f"{url}/mcp")
        async with by_hand(f"{gateway.url}/mcp/plain") as raw:
            await raw.initialize(elicitation={})
            async with raw.stream("POST", call) as events:
                asked = await events.next()
                assert (asked["method"], asked["params"]) == ("elicitation/create", {"message": "Which?"})
                said = {"action": "accept", "content": {"a": 1}}
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": said}
                assert (await raw.post(answer)).status_code == 202
                done = await events.next()
    assert done["id"] == "call"
    assert done["result"]["x"] == {"inputResponses": {"q": said}, "requestState": "sealed"}


async def test_a_session_upstream_is_the_clients_own(plain: tuple[Plain, Gateway]) -> None:
    server, gateway = plain
    if server.era == "modern":
        return
    async with by_hand(f"{gateway.url}/mcp/plain") as raw:
        await raw.initialize(sampling={})
        opened = [r["params"]["capabilities"] for r in server.requests if r["method"] == "initialize"]
        assert opened == [{"sampling": {}}], "the client's own capabilities, in a session of its own"
