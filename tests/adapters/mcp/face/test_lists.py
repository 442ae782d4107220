"""``/mcp``: many agents in one list, agents that are down, and what changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import mcp.types as t
import pytest

from agentgw.adapters.mcp.face import offers
from agentgw.gateway.model import Agent

from ....peers import mcp_server
from ....support.memory import MemoryUpstream
from .support import META, VERSION, Gateway, by_hand, client, peer, rpc, served

ERAS = ["handshake", "modern"]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with peer(mcp_server.build(mcp_server.TOOLS)) as url, served(echo=MemoryUpstream()) as running:
        await running.add_server("one", url)
        await running.add_server("two", url)
        yield running


@pytest.mark.parametrize("era", ERAS)
async def test_every_agents_things_under_one_roof(era: str, gateway: Gateway) -> None:
    async with client(f"{gateway.url}/mcp", era) as mcp:
        tools = {tool.name for tool in (await mcp.list_tools()).tools}
        assert {"echo", "one__add", "two__add"} <= tools
        assert (await mcp.call_tool("two__add", {"a": 1, "b": 2})).structured_content == {"sum": 3}
        assert {"one__greet", "two__motto"} <= {p.name for p in (await mcp.list_prompts()).prompts}
        greeting = await mcp.get_prompt("two__greet", {"name": "Ada"})
        assert greeting.messages[0].content.text == "Say hello to Ada."
        uris = [str(resource.uri) for resource in (await mcp.list_resources()).resources]
        assert sorted(uris) == ["peer://logo", "peer://manual"], "each once: the first owner's"
        assert (await mcp.read_resource("peer://page/7")).contents[0].text == "This is page 7."


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("path", ["/mcp", "/mcp/one"])
async def test_a_servers_question_is_the_clients_to_answer(era: str, path: str, gateway: Gateway) -> None:
    async def answer(context: Any, params: Any) -> t.ElicitResult:
        assert params.message == "Which colour?"
        return t.ElicitResult(action="accept", content={"colour": "red"})

    async with client(gateway.url + path, era, elicitation_callback=answer) as mcp:
        result = await mcp.call_tool("one__ask" if path == "/mcp" else "ask", {})
    assert result.content[0].text == "You said red"


@pytest.mark.parametrize("era", ERAS)
async def test_a_long_name_is_cut_for_all_agents_and_kept_at_the_agents_own_door(era: str) -> None:
    name = "a" * 62
    cut = "a" * 53 + "_" + hashlib.sha256(name.encode()).hexdigest()[:6]
    async with served(**{name: MemoryUpstream()}) as gateway:
        for path, expected in (("/mcp", cut), (f"/mcp/{name}", name)):
            async with client(gateway.url + path, era) as mcp:
                assert [tool.name for tool in (await mcp.list_tools()).tools] == [expected]
                result = await mcp.call_tool(expected, {"message": "hi"})
                assert result.content[0].text == "hi"


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_that_is_down_keeps_its_tools_and_is_named(era: str, gateway: Gateway) -> None:
    gateway.agents.health("two", "down")
    async with client(f"{gateway.url}/mcp", era) as mcp:
        listed = await mcp.list_tools()
    assert {"one__add", "two__add"} <= {tool.name for tool in listed.tools}
    assert listed.meta["agentgw/unavailable"] == ["two"]


async def test_an_agent_that_was_never_described_breaks_nothing(gateway: Gateway) -> None:
    class Silent(MemoryUpstream):
        async def describe(self) -> Any:
            await asyncio.Event().wait()

    gateway.agents.put("silent", Silent(), None)
    async with client(f"{gateway.url}/mcp", "modern") as mcp:
        listed = await mcp.list_tools()
        assert "echo" in {tool.name for tool in listed.tools}
        assert listed.meta["agentgw/unavailable"] == ["silent"]
        await mcp.call_tool("one__add", {"a": 1, "b": 2})


async def test_a_stored_description_is_enough_for_the_tools() -> None:
    async with peer(mcp_server.build(mcp_server.TOOLS)) as url, served() as gateway:
        await gateway.add_server("one", url)
        view = gateway.agents.known["one"]
        assert view.agent is not None
        server = offers.server_of(view)
        assert server is not None
        catalog = await server.catalog()
        assert list(offers.remembered(view.agent).tools) == list(catalog.tools)


async def test_a_cut_name_finds_its_tool(gateway: Gateway) -> None:
    agent = "a" * 58
    await gateway.add_server(agent, gateway.agents.known["one"].record.url or "")
    full = f"{agent}__add"
    name = f"{full[:53]}_{hashlib.sha256(full.encode()).hexdigest()[:6]}"
    async with client(f"{gateway.url}/mcp", "modern") as mcp:
        assert name in {tool.name for tool in (await mcp.list_tools()).tools}
        assert (await mcp.call_tool(name, {"a": 2, "b": 2})).structured_content == {"sum": 4}


async def test_what_changes_is_told_on_the_sessions_stream(gateway: Gateway) -> None:
    async with by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        async with raw.stream("GET") as events:
            assert events.answer.headers["content-type"] == "text/event-stream"
            gateway.agents.changed()  # nothing did
            gateway.add(new=MemoryUpstream())
            assert (await events.next())["method"] == "notifications/tools/list_changed"
            gateway.add(new=MemoryUpstream(agent=Agent(name="new", description="now different")))
            assert (await events.next())["method"] == "notifications/tools/list_changed"


async def test_a_subscription_gets_what_it_asked_for_and_ends_well(gateway: Gateway) -> None:
    params = {"_meta": META, "notifications": {"toolsListChanged": True, "resourceSubscriptions": ["x://y"]}}
    headers = {"MCP_Protocol_Version": VERSION, "Mcp_Method": "subscriptions/listen"}
    subscription = {"io.modelcontextprotocol/subscriptionId": "s"}
    async with by_hand(f"{gateway.url}/mcp") as raw:
        message = rpc("subscriptions/listen", params, id="s")
        async with raw.stream("POST", message, **headers) as events:
            first = await events.next()
            assert first["method"] == "notifications/subscriptions/acknowledged"
            assert first["params"] == {"_meta": subscription, "notifications": {"toolsListChanged": True}}
            gateway.add(new=MemoryUpstream())
            changed = await events.next()
            assert changed["method"] == "notifications/tools/list_changed"
            assert changed["params"]["_meta"] == subscription
            await gateway.face.aclose()
            last = await events.next()
            assert last == {
                "jsonrpc": "2.0",
                "id": "s",
                "result": {"resultType": "complete", "_meta": subscription},
            }


@pytest.mark.parametrize(
    ("template", "uri", "fits"),
    [
        ("peer://page/{number}", "peer://page/7", True),
        ("peer://page/{number}", "peer://page/7/8", False),
        ("file:///{+path}", "file:///a/b", True),
        ("a.b://{x}", "aXb://1", False),
        ("x://s{?q,r}", "x://s?q=1&r=2", True),
    ],
)
def test_uri_templates(template: str, uri: str, fits: bool) -> None:
    assert bool(offers.template_pattern(template).fullmatch(uri)) is fits
