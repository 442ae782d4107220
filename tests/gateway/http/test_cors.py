"""What pages in a browser may read: of origins that the configuration names everything but the admin API, of
others nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import httpx
import pytest

from agentgw.cli import process
from agentgw.gateway.config import Config, Limits, Server
from agentgw.registry.memory import MemoryStore

APP = "http://localhost:6274"
ASKED = {"access-control-request-method": "POST"}
MCP = {"accept": "application/json, text/event-stream"}
INFO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INFO}
PATHS = ["/", "/mcp", "/mcp/any", "/a2a/any/", "/acp/runs", "/runs", "/.well-known/agent-card.json"]


@contextlib.asynccontextmanager
async def gateway(*origins: str, **limits: object) -> AsyncGenerator[httpx.AsyncClient]:
    listener = process.listen("127.0.0.1", 0)
    config = Config(server=Server(origins=origins), limits=Limits(**limits))  # type: ignore[arg-type]
    made = process.Gateway(config, MemoryStore(), bind="127.0.0.1", token="owner")
    async with process.running(made, listener):
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            yield http


def shared(answer: httpx.Response) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if k.startswith("access-control-")}


@pytest.mark.parametrize("path", PATHS)
async def test_a_named_origin_is_told_what_it_may_send(path: str) -> None:
    async with gateway(APP) as http:
        names = "authorization,content-type,mcp-protocol-version,mcp-session-id"
        headers = {"origin": APP, **ASKED, "access-control-request-headers": names}
        answer = await http.options(path, headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        said = shared(answer)
        assert said["access-control-allow-origin"] == APP
        assert said["access-control-allow-headers"] == names
        assert {"GET", "POST", "DELETE"} <= set(said["access-control-allow-methods"].split(", "))
        assert "access-control-allow-credentials" not in said
        assert "Origin" in answer.headers["vary"]


async def test_a_named_origin_may_read_answers_errors_and_streams() -> None:
    async with gateway(APP) as http:
        begun = await http.post("/mcp", json=INITIALIZE, headers={**MCP, "origin": APP})
        assert begun.status_code == 200
        assert shared(begun)["access-control-allow-origin"] == APP
        exposed = shared(begun)["access-control-expose-headers"].lower().split(", ")
        assert {"mcp-session-id", "www-authenticate", "run-id", "a2a-extensions"} <= set(exposed)
        session = {"mcp-session-id": begun.headers["mcp-session-id"], "origin": APP}
        async with http.stream("GET", "/mcp", headers={**MCP, **session}) as stream:
            assert stream.headers["access-control-allow-origin"] == APP
        for path in PATHS:
            answer = await http.post(path, content=b"{", headers={**MCP, "origin": APP})
            assert answer.status_code >= 400 or "error" in answer.json(), path
            assert shared(answer)["access-control-allow-origin"] == APP, path


async def test_a_refusal_of_the_front_may_be_read_too() -> None:
    async with gateway(APP, rate=0.001, burst=1) as http:
        statuses = [await http.get("/acp/ping", headers={"origin": APP}) for _ in range(2)]
        assert [answer.status_code for answer in statuses] == [200, 429]
        assert shared(statuses[1])["access-control-allow-origin"] == APP


@pytest.mark.parametrize("origin", ["http://127.0.0.1:1", "http://localhost:6275", "https://localhost:6274"])
async def test_pages_of_this_machine_read_nothing_unless_they_are_named(origin: str) -> None:
    async with gateway(APP) as http:
        answer = await http.get("/acp/ping", headers={"origin": origin})
        assert answer.status_code == 200
        assert not shared(answer)
        asked = await http.options("/mcp", headers={"origin": origin, **ASKED})
        assert asked.status_code == 403
        assert not shared(asked)


async def test_by_default_no_page_reads_anything() -> None:
    async with gateway() as http:
        for path in PATHS:
            assert not shared(await http.options(path, headers={"origin": APP, **ASKED}))
            answer = await http.get(path, headers={"origin": APP})
            assert not shared(answer)
            assert "origin" not in answer.headers.get("vary", "").lower()


async def test_foreign_origins_are_not_told_either() -> None:
    async with gateway(APP) as http:
        for path in PATHS:
            for method in ("OPTIONS", "GET", "POST"):
                answer = await http.request(method, path, headers={"origin": "https://evil.example", **ASKED})
                assert answer.status_code == 403
                assert not shared(answer)


@pytest.mark.parametrize(
    "path",
    ["/api/agents", "/api/schema", "/api/agents/x/call", "/metrics", "/%2Fapi/agents", "/%2F%2Fmetrics"],
)
async def test_the_admin_api_is_for_no_page_of_another_origin(path: str) -> None:
    async with gateway("*") as http:
        assert not shared(await http.get(path, headers={"origin": APP}))
        asked = await http.options(path, headers={"origin": APP, **ASKED})
        assert asked.status_code == 403
        assert not shared(asked)


async def test_nor_is_the_console() -> None:
    async with gateway("*") as http:
        page = await http.get("/", headers={"origin": APP, "accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert not shared(page)


async def test_any_origin_where_that_is_configured() -> None:
    async with gateway("*") as http:
        answer = await http.get("/acp/ping", headers={"origin": "https://any.example"})
        assert shared(answer)["access-control-allow-origin"] == "https://any.example"


async def test_who_asks_without_an_origin_leaves_nothing_in_caches_for_pages() -> None:
    async with gateway(APP) as http:
        card = await http.get("/.well-known/agent-card.json")
        assert "Origin" in card.headers["vary"]
        assert "A2A-Version" in card.headers["vary"]


async def test_what_a_page_asks_for_can_not_break_the_answer() -> None:
    async with gateway(APP) as http:
        for names in ("x" * 3000, "a;b", "é"):
            headers = {"origin": APP, **ASKED, "access-control-request-headers": names.encode("latin-1")}
            answer = await http.options("/mcp", headers=headers)
            assert answer.status_code in (204, 400)
            assert not answer.headers.get("access-control-allow-headers")


async def test_an_answer_that_passes_two_fronts_is_marked_once() -> None:
    """Where several processes are one gateway, one hands requests to another's inner front."""
    config = Config(server=Server(origins=(APP,)))
    made = process.Gateway(config, MemoryStore(), bind="127.0.0.1", token="owner")
    for front, marked in ((made.app, True), (made.inner, False)):
        transport = httpx.ASGITransport(app=front)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            answer = await http.get("/acp/ping", headers={"origin": APP})
            assert (answer.status_code, bool(shared(answer))) == (200, marked)
