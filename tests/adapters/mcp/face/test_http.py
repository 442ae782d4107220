"""Streamable HTTP by hand: statuses, headers and errors, in both eras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ....support.memory import MemoryUpstream
from .support import META, VERSION, Gateway, Raw, by_hand, rpc, served


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with served(echo=MemoryUpstream(), other=MemoryUpstream()) as running:
        yield running


@pytest.fixture
async def raw(gateway: Gateway) -> AsyncIterator[Raw]:
    async with by_hand(f"{gateway.url}/mcp") as one:
        yield one


# --- the handshake era -------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_initialize_agrees_on_the_clients_revision(raw: Raw, revision: str) -> None:
    result = (await raw.initialize(revision)).json()["result"]
    assert result["protocolVersion"] == revision
    assert result["serverInfo"]["name"] == "agentgw"
    assert result["capabilities"]["tools"] == {"listChanged": True}


@pytest.mark.parametrize("revision", ["1999-01-01", "2026-07-28", "2030-01-01"])
async def test_an_unknown_revision_is_answered_with_the_newest(raw: Raw, revision: str) -> None:
    assert (await raw.initialize(revision)).json()["result"]["protocolVersion"] == "2025-11-25"


async def test_a_session_from_beginning_to_end(raw: Raw) -> None:
    await raw.initialize()
    assert (await raw.post(rpc("notifications/initialized", id=None))).status_code == 202
    assert (await raw.post(rpc("ping"))).json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    listed = await raw.post(rpc("tools/list", id="two"), MCP_Protocol_Version="2025-11-25")
    assert listed.headers["content-type"] == "application/json"
    assert listed.json()["id"] == "two"
    assert [tool["name"] for tool in listed.json()["result"]["tools"]] == ["echo", "other"]
    assert "resultType" not in listed.json()["result"]
    async with raw.stream("DELETE") as ended:
        assert ended.answer.status_code == 204
    assert (await raw.post(rpc("ping"))).status_code == 404


async def test_without_a_session_nothing_is_served(raw: Raw) -> None:
    answer = await raw.post(rpc("tools/list"))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32600
    assert (await raw.post(rpc("tools/list"), Mcp_Session_Id="guessed")).status_code == 404


async def test_a_session_works_only_at_its_door_and_for_its_principal(gateway: Gateway, raw: Raw) -> None:
    await raw.initialize()
    async with by_hand(f"{gateway.url}/mcp/echo") as other:
        assert (await other.post(rpc("ping"), **raw.session)).status_code == 404
    assert (await raw.post(rpc("ping"), Authorization="Bearer owner")).status_code == 404
    assert (await raw.post(rpc("ping"))).status_code == 200


async def test_an_unsupported_version_header_is_refused(raw: Raw) -> None:
    await raw.initialize()
    assert (await raw.post(rpc("ping"), MCP_Protocol_Version="1999-01-01")).status_code == 400


async def test_errors_come_with_status_200(raw: Raw) -> None:
    await raw.initialize()
    for message, code in ((rpc("no/such"), -32601), (rpc("tools/call", {"name": "nope"}), -32602)):
        answer = await raw.post(message)
        assert (answer.status_code, answer.json()["error"]["code"]) == (200, code)
    bad_level = await raw.post(rpc("logging/setLevel", {"level": "loud"}))
    assert bad_level.json()["error"]["code"] == -32602
    assert (await raw.post(rpc("logging/setLevel", {"level": "error"}))).json()["result"] == {}


# --- what both have in common ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Accept": "application/json"}, 406),
        ({"Accept": "text/event-stream"}, 406),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": None}, 415),
        ({"Accept": "*/*"}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
async def test_media_types(raw: Raw, headers: dict[str, Any], status: int) -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}
    assert (await raw.post(rpc("initialize", params), **headers)).status_code == status


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ([rpc("ping")], -32600),
        ([], -32600),
        ({"id": 1, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": 1}, -32600),
        ("text", -32600),
    ],
)
async def test_what_is_no_message(raw: Raw, message: Any, code: int) -> None:
    answer = await raw.post(message)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert answer.json()["id"] is None


async def test_broken_json(raw: Raw) -> None:
    answer = await raw.send(b"{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32700)


async def test_unknown_agents_and_paths(gateway: Gateway) -> None:
    for path in ("/mcp/nobody", "/mcp/echo/more"):
        async with by_hand(gateway.url + path) as raw:
            answer = await raw.initialize()
            assert answer.status_code == 404
            assert "error" in answer.json()


async def test_other_methods_and_the_stream_of_nobody(raw: Raw) -> None:
    for method, status in (("PUT", 405), ("GET", 400), ("DELETE", 400)):
        async with raw.stream(method) as events:
            assert events.answer.status_code == status
    async with raw.stream("GET", Accept="application/json") as events:
        assert events.answer.status_code == 406


@pytest.mark.parametrize("path", ["/mcp/", "/mcp/echo", "/mcp/echo/", "/"])
async def test_every_address_serves_both_eras(gateway: Gateway, path: str) -> None:
    async with by_hand(gateway.url + path) as raw:
        assert (await raw.initialize()).status_code == 200
        assert "echo" in str((await raw.post(rpc("tools/list"))).json())
        raw.session = {}
        assert "echo" in str((await raw.modern("tools/list")).json())


# --- the modern era ------------------------------------------------------------------------------


async def test_discover(raw: Raw) -> None:
    answer = await raw.modern("server/discover")
    result = answer.json()["result"]
    assert "mcp-session-id" not in answer.headers
    assert VERSION in result["supportedVersions"]
    assert result["resultType"] == "complete"
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "agentgw"
    assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


async def test_lists_carry_caching_hints(raw: Raw) -> None:
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        result = (await raw.modern(method)).json()["result"]
        assert result["resultType"] == "complete"
        assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


CALL = {"name": "echo", "arguments": {"message": "x"}}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Mcp_Method": None}, -32020),
        ({"Mcp_Method": "tools/list"}, -32020),
        ({"Mcp_Name": None}, -32020),
        ({"Mcp_Name": "other"}, -32020),
        ({"Mcp_Name": "=?base64?!!?="}, -32020),
        ({"MCP_Protocol_Version": None}, -32020),
        ({"MCP_Protocol_Version": "2025-11-25"}, -32020),
        ({"Mcp_Name": "=?base64?ZWNobw==?="}, None),
    ],
)
async def test_headers_must_say_what_the_body_says(
    raw: Raw, headers: dict[str, Any], code: int | None
) -> None:
    answer = await raw.modern("tools/call", CALL, **headers)
    if code is None:
        assert answer.status_code == 200
        assert answer.json()["result"]["content"][0]["text"] == "x"
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert answer.json()["id"] == 1


async def test_an_unknown_version_is_told_the_known_ones(raw: Raw) -> None:
    meta = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    answer = await raw.modern("tools/list", {"_meta": meta}, MCP_Protocol_Version="2099-01-01")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, -32022)
    assert error["data"]["requested"] == "2099-01-01"
    assert VERSION in error["data"]["supported"]
    bare = await raw.post(rpc("tools/list"), MCP_Protocol_Version="2099-01-01")
    assert (bare.status_code, bare.json()["error"]["code"]) == (400, -32022)


async def test_the_envelope_in_meta_is_required(raw: Raw) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": VERSION}
    answer = await raw.modern("tools/list", {"_meta": meta})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("method", ["ping", "initialize", "logging/setLevel", "no/such"])
async def test_methods_that_are_not_there(raw: Raw, method: str) -> None:
    answer = await raw.modern(method)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601)


async def test_notifications_and_answers(raw: Raw) -> None:
    assert (await raw.post(rpc("notifications/x", id=None), MCP_Protocol_Version=VERSION)).status_code == 202
    answer = await raw.post({"jsonrpc": "2.0", "id": 1, "result": {}}, MCP_Protocol_Version=VERSION)
    assert answer.status_code == 400
    async with raw.stream("GET", MCP_Protocol_Version=VERSION) as events:
        assert events.answer.status_code == 405
