"""The bounds of ``[limits]`` at every door: heads, nesting, requests under way; refused in its own form."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import msgspec
import pytest

from agentgw.cli import process
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.control import AddKey
from agentgw.gateway.http import connection
from agentgw.gateway.http.nesting import too_deep
from agentgw.registry.memory import MemoryStore

MCP = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
JSON = {"content-type": "application/json"}
# Method, path, headers; and how its protocol says that a request is no good.
DOORS = [
    ("POST", "/mcp", MCP, "jsonrpc"),
    ("POST", "/a2a/any", JSON, "jsonrpc"),
    ("POST", "/a2a/any/message:send", JSON, "google"),
    ("POST", "/a2a/any/v1/message:send", JSON, "old"),
    ("POST", "/acp/runs", JSON, "acp"),
    ("POST", "/", MCP, "jsonrpc"),
    ("POST", "/runs", JSON, "acp"),
    ("POST", "/api/agents", JSON, "api"),
    ("POST", "/api/agents/any/call", JSON, "api"),
]

LISTEN = {
    "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen",
    "params": {"notifications": {"toolsListChanged": True}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }},
}  # fmt: skip
LISTEN_HEADERS = {**MCP, "mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}


def said(form: str, body: bytes) -> tuple[Any, str]:
    """Code and words of an error in a protocol's form; KeyError where it has another."""
    value = msgspec.json.decode(body)
    match form:
        case "jsonrpc":
            assert (value["jsonrpc"], value["id"]) == ("2.0", None)
            return value["error"]["code"], value["error"]["message"]
        case "google":
            return value["error"]["status"], value["error"]["message"]
        case "old":
            return value["type"], value["message"]
        case "acp":
            return value["code"], value["message"]
        case _:
            return value["error"]["code"], value["error"]["message"]


@contextlib.asynccontextmanager
async def gateway(**limits: Any) -> AsyncGenerator[tuple[httpx.AsyncClient, process.Gateway]]:
    """A whole gateway on a port of its own."""
    listener = process.listen("127.0.0.1", 0)
    config = Config(limits=Limits(**limits))
    made = process.Gateway(config, MemoryStore(), bind="127.0.0.1", token="owner")
    async with process.running(made, listener) as ours:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            yield http, ours


# --- heads ------------------------------------------------------------------------------------------


async def test_a_head_past_the_limit_is_refused_in_the_door_s_form() -> None:
    async with gateway(header=8192) as (http, _):
        for method, path, headers, form in DOORS:
            answer = await http.request(method, path, headers={**headers, "x": "y" * 9000}, content=b"{}")
            assert answer.status_code == 431, path
            assert "too large" in said(form, answer.content)[1]
        assert (await http.get("/acp/ping", headers={"x": "y" * 7000})).status_code == 200


@pytest.mark.parametrize(
    "head", [b"GET /acp/ping?", b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ", b"GET /"]
)
async def test_a_head_that_never_ends_is_not_read_to_its_end(head: bytes) -> None:
    async with gateway(header=8192) as (http, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        writer.write(head)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                writer.write(b"y" * 100_000)
                sent += 100_000
                await writer.drain()
        assert sent < 50_000_000
        with contextlib.suppress(ConnectionError):
            answer = await reader.read(100)
            assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 421 ", b"HTTP/1.1 400 "))
        writer.close()


async def test_many_headers_and_trailers_count_too() -> None:
    async with gateway(header=8192) as (http, _):
        assert (await http.get("/acp/ping", headers=[(f"x{i}", "y") for i in range(2000)])).status_code == 431
        _, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        writer.write(
            b"POST /acp/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: "
        )
        with pytest.raises(ConnectionError):
            for _ in range(500):
                writer.write(b"y" * 100_000)
                await writer.drain()
        writer.close()


async def test_large_bodies_and_small_chunks_are_no_heads() -> None:
    async with gateway(header=8192) as (http, _):

        async def crumbs() -> AsyncGenerator[bytes]:
            for _ in range(4000):
                yield b" "
            yield b"x" * 300_000

        for content in (b"x" * 300_000, crumbs()):
            answer = await http.post("/acp/runs", content=content, headers=JSON)
            assert answer.status_code == 422  # read whole, and found to be no JSON
            assert (await http.get("/acp/ping")).status_code == 200


# --- clients that stop in the middle ------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /acp/ping HTTP/1.1\r\nhost: 127",
        b"GET /acp/ping HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nGET /acp",
        b"POST /acp/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n{",
        b"POST /acp/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{",
    ],
)
async def test_who_stops_in_the_middle_of_a_request_is_left(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.2)
    async with gateway(concurrency=1) as (http, ours):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        writer.write(begun)
        async with asyncio.timeout(60):
            await reader.read()
        writer.close()
        await ours.app.idle()
        assert (await http.post("/acp/runs", content=b"{}")).status_code == 422, "its place is free"


async def test_crumbs_do_not_buy_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.2)
    async with gateway() as (http, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        writer.write(b"POST /acp/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 999999\r\n\r\n")
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b" ")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.01)
        writer.close()


async def test_who_waits_for_an_answer_may_have_begun_to_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the gateway that reads no further: an answer may take as long as it does."""
    monkeypatch.setattr(connection, "PATIENCE", 0.2)
    async with gateway() as (http, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        body = msgspec.json.encode(LISTEN)
        head = ["POST /mcp HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in LISTEN_HEADERS.items()]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        await reader.readuntil(b"acknowledged")
        writer.write(b"POST /acp/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n\r\n{")
        for _ in range(3):
            later, closed = await asyncio.open_connection("127.0.0.1", http.base_url.port)
            await later.read()  # who said nothing was left by now
            closed.close()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.01)
        writer.close()


# --- nesting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [101, 100_000])
async def test_deep_json_is_the_client_s_mistake_at_every_door(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    bodies = {
        "/a2a/any": b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":%b}}' % deep,
        "/mcp": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":%b}}' % deep,
        "/acp/runs": b'{"agent_name":"any","input":%b}' % deep,
        "/api/agents/any/call": b'{"parts":[{"type":"data","data":%b}]}' % deep,
    }
    async with gateway() as (http, _):
        for method, path, headers, form in DOORS:
            body = bodies.get(path, b'{"x":%b}' % deep)
            answer = await http.request(method, path, headers=headers, content=body)
            code, words = said(form, answer.content)
            assert answer.status_code < 500, path
            assert code in (-32600, "INVALID_ARGUMENT", "InvalidRequestError", "invalid_input", "too_deep")
            assert words == "the JSON is nested deeper than 100 levels"


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def made(chance: random.Random, depth: int) -> Any:
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(['"', "\\", '\\"[[', "]]}", "{[" * 5, 'a\\\\"', 1, None])
    if chance.random() < 0.5:
        return [made(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {f'k{i}"[': made(chance, depth - 1) for i in range(chance.randrange(4))}


def test_nesting_is_found_among_strings_and_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    for block, large in ((1 << 20, 1 << 20), (7, 1 << 20), (1 << 20, 0)):
        monkeypatch.setattr("agentgw.gateway.http.nesting._BLOCK", block)
        monkeypatch.setattr("agentgw.gateway.http.nesting.LARGE", large)
        for _ in range(300):
            value = made(chance, 7)
            body, depth = msgspec.json.encode(value), depth_of(value)
            assert not too_deep(body, max(depth, 1))
            assert depth < 2 or too_deep(body, depth - 1)


def test_many_brackets_are_not_deep() -> None:
    assert not too_deep(b"[" + b"[[]],{}," * 100_000 + b"1]", 3)
    assert not too_deep(b'"' + b"[" * 1000 + b'"', 3)
    assert too_deep(b"[" * 10_000_000, 100)


# --- requests under way -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def busy(http: httpx.AsyncClient, key: str = "none") -> AsyncGenerator[None]:
    """A request that takes a place inside the block, because its body is not there yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
    head = b"POST /acp/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n"
    writer.write(head + b"authorization: Bearer %b\r\n\r\n" % key.encode())
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")  # said when the body is asked for
    yield
    writer.write(b"{}")
    assert b" 422 " in await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_requests_past_the_limit_are_refused_in_the_door_s_form() -> None:
    async with gateway(concurrency=1) as (http, _):
        async with busy(http):
            for method, path, headers, form in DOORS:
                answer = await http.request(method, path, headers=headers, content=b"{}")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
                assert "too many requests" in said(form, answer.content)[1]
            for probe in ("/healthz", "/readyz", "/metrics"):
                assert (await http.get(probe)).status_code == 200
            assert (await http.get("/acp/ping")).status_code == 200  # reading has places of its own
        assert (await http.post("/acp/runs", content=b"{}")).status_code == 422


async def test_listeners_keep_no_call_from_being_served_and_have_a_bound() -> None:
    async with (
        gateway(concurrency=1) as (http, _),
        http.stream("POST", "/mcp", json=LISTEN, headers=LISTEN_HEADERS) as stream,
    ):
        first = stream.aiter_bytes()
        await anext(first)
        assert (await http.post("/acp/runs", content=b"{}")).status_code == 422
        assert (await http.post("/mcp", json=LISTEN, headers=LISTEN_HEADERS)).status_code == 503
        assert (await http.get("/acp/agents")).status_code == 503


async def made_key(gateway: process.Gateway, name: str, **more: Any) -> str:
    """A new key for all agents, also for the admin API; its secret."""
    assert gateway.manager is not None
    return (await gateway.manager.create_key(AddKey(name=name, admin=True, **more))).secret


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_one_key_leaves_places_to_the_others() -> None:
    async with gateway(concurrency=3, per_key=1) as (http, ours):
        ann, bob = [await made_key(ours, name) for name in ("ann", "bob")]
        async with busy(http, ann):
            for method, path, headers, form in DOORS:
                ask = {"headers": {**headers, **bearer(ann)}, "content": b"{}"}
                answer = await http.request(method, path, **ask)
                assert (answer.status_code, answer.headers["retry-after"]) == (429, "1"), path
                assert "this key has too many requests" in said(form, answer.content)[1]
            for key in (bob, "owner"):
                assert (await http.post("/acp/runs", content=b"{}", headers=bearer(key))).status_code == 422
            assert (await http.get("/acp/agents", headers=bearer(ann))).status_code == 200
            async with busy(http, bob), busy(http, "owner"):
                answer = await http.post("/acp/runs", content=b"{}", headers=bearer("owner"))
                assert answer.status_code == 503
        assert (await http.post("/acp/runs", content=b"{}", headers=bearer(ann))).status_code == 422


async def test_one_key_leaves_room_to_listen() -> None:
    headers = LISTEN_HEADERS
    async with gateway(concurrency=3, per_key=1) as (http, ours):
        ann, bob = [await made_key(ours, name) for name in ("ann", "bob")]
        async with http.stream("POST", "/mcp", json=LISTEN, headers=headers | bearer(ann)) as stream:
            first = stream.aiter_bytes()
            await anext(first)
            assert (await http.post("/acp/runs", content=b"{}", headers=bearer(ann))).status_code == 422
            assert (await http.get("/acp/agents", headers=bearer(ann))).status_code == 429
            again = await http.post("/mcp", json=LISTEN, headers=headers | bearer(ann))
            assert again.status_code == 429
            assert (await http.get("/acp/agents", headers=bearer(bob))).status_code == 200


async def test_two_keys_leave_places_to_the_others() -> None:
    async with gateway(concurrency=8, per_key=6) as (http, ours), contextlib.AsyncExitStack() as stack:
        ann, bob, carol = [await made_key(ours, name) for name in ("ann", "bob", "carol")]
        for key in (ann, bob, ann, bob, ann, bob):
            await stack.enter_async_context(busy(http, key))
        for key, status in ((ann, 422), (bob, 422), (carol, 422)):
            assert (await http.post("/acp/runs", content=b"{}", headers=bearer(key))).status_code == status
        await stack.enter_async_context(busy(http, ann))
        for key, status in ((ann, 429), (bob, 429), (carol, 422)):
            assert (await http.post("/acp/runs", content=b"{}", headers=bearer(key))).status_code == status


async def test_without_keys_all_places_are_everybody_s() -> None:
    async with gateway(concurrency=3, per_key=1) as (http, _), busy(http), busy(http):
        assert (await http.post("/acp/runs", content=b"{}")).status_code == 422


# --- requests in a time -----------------------------------------------------------------------------


async def test_requests_past_the_rate_are_refused_in_the_door_s_form() -> None:
    async with gateway(rate=0.001, burst=1) as (http, _):
        assert (await http.get("/acp/ping")).status_code == 200
        for method, path, headers, form in DOORS:
            answer = await http.request(method, path, headers=headers, content=b"{}")
            assert answer.status_code == 429, path
            assert 900 < int(answer.headers["retry-after"]) <= 1000
            assert "too many requests" in said(form, answer.content)[1]
        for probe in ("/healthz", "/readyz", "/metrics"):
            assert (await http.get(probe)).status_code == 200
        owner = {"authorization": "Bearer owner"}
        assert (await http.get("/api/agents", headers=owner)).status_code == 200


async def test_a_key_may_have_a_rate_of_its_own() -> None:
    async with gateway(rate=0.001, burst=1) as (http, ours):
        slow, usual, free = [
            bearer(await made_key(ours, f"k{n}", rate=rate)) for n, rate in enumerate((0.01, None, 0))
        ]
        assert {(await http.get("/acp/ping", headers=free)).status_code for _ in range(20)} == {200}
        for headers, seconds in ((slow, 100), (usual, 1000)):
            assert (await http.get("/acp/ping", headers=headers)).status_code == 200
            for method, path, more, form in DOORS:
                answer = await http.request(method, path, headers={**more, **headers}, content=b"{}")
                assert answer.status_code == 429, path
                assert seconds * 0.9 < int(answer.headers["retry-after"]) <= seconds
                assert "too many requests" in said(form, answer.content)[1]


async def test_a_key_s_own_rate_needs_no_other() -> None:
    async with gateway() as (http, ours):
        slow, usual = bearer(await made_key(ours, "slow", rate=0.01)), bearer(await made_key(ours, "usual"))
        codes = [(await http.get("/acp/ping", headers=slow)).status_code for _ in range(12)]
        assert codes == [200] * 10 + [429] * 2  # ten at once, where limits.burst says nothing
        assert {(await http.get("/acp/ping", headers=usual)).status_code for _ in range(20)} == {200}


async def test_by_default_any_number_of_requests_is_served() -> None:
    async with gateway() as (http, _):
        assert {(await http.get("/acp/ping")).status_code for _ in range(50)} == {200}
