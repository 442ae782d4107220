"""MCP servers behind the gateway: own names at /mcp/{agent}, prompts, resources, tools as agents."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import register
from .reply import Request
from .table import CLIENTS

MCP = [kind for kind in CLIENTS if kind.startswith("mcp")]
OTHERS = [kind for kind in CLIENTS if not kind.startswith("mcp")]
SERVERS = ["mcp-http", "mcp-stdio"]
Make = Callable[..., Any]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("kind", MCP)
async def test_one_server_keeps_its_own_names(kind: str, server: str, client_of: Make, gateway: Any) -> None:
    async with client_of(kind, gateway.url, path=f"/mcp/{server}").connect() as client:
        assert "echo" in {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("add", {"a": 1, "b": 2})
        assert result.structured_content == {"sum": 3}
        assert {prompt.name for prompt in (await client.list_prompts()).prompts} == {"greet", "motto"}
        greeting = (await client.get_prompt("greet", {"name": "Ada"})).messages[0].content
        assert greeting.text == "Say hello to Ada."
        uris = {str(resource.uri) for resource in (await client.list_resources()).resources}
        assert uris == {"peer://manual", "peer://logo"}
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == ["peer://page/{number}"]
        assert (await client.read_resource("peer://manual")).contents[0].text == "Read me first."
        assert (await client.read_resource("peer://page/7")).contents[0].text == "This is page 7."
        assert (await client.read_resource("peer://logo")).contents[0].mime_type == "image/png"


@pytest.mark.parametrize("kind", MCP)
async def test_all_servers_at_one_door(kind: str, client_of: Make, gateway: Any) -> None:
    async with client_of(kind, gateway.url).connect() as client:
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert {"mcp-http__greet", "mcp-stdio__motto"} <= prompts
        greeting = (await client.get_prompt("mcp-stdio__greet", {"name": "Ada"})).messages[0].content
        assert greeting.text == "Say hello to Ada."
        assert "peer://manual" in {
            str(resource.uri) for resource in (await client.list_resources()).resources
        }
        assert (await client.read_resource("peer://manual")).contents[0].text == "Read me first."


@pytest.mark.parametrize("kind", MCP)
async def test_tool_names_fit(kind: str, client_of: Make, gateway: Any) -> None:
    for name in await client_of(kind, gateway.url).names():
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name)


@pytest.mark.parametrize("kind", [pytest.param(MCP[0], marks=pytest.mark.slow), *MCP[1:]])
async def test_long_names_are_cut(kind: str, client_of: Make, start_gateway: Any, peers: Any) -> None:
    agent = "a" * 58
    gateway = start_gateway()
    register(gateway, agent, url=peers.mcp_single, protocol="mcp")
    client = client_of(kind, gateway.url)
    (name,) = await client.names()
    full = f"{agent}__reverse"
    assert len(name) == 60
    assert name == full[:53] + "_" + hashlib.sha256(full.encode()).hexdigest()[:6]
    async with client.connect() as connection:
        result = await connection.call_tool(name, {"text": "abc"})
        assert result.content[0].text == "cba"


@pytest.mark.parametrize("kind", OTHERS)
async def test_single_tool_takes_plain_text(kind: str, client_of: Make, gateway: Any) -> None:
    reply = await client_of(kind, gateway.url).call(Request("mcp-single", "abc"))
    assert (reply.state, reply.text) == ("completed", "cba"), reply


@pytest.mark.parametrize("kind", OTHERS)
async def test_plain_text_to_many_tools_gets_their_list(kind: str, client_of: Make, gateway: Any) -> None:
    client = client_of(kind, gateway.url)
    asked = await client.call(Request("mcp-http", "please do something"))
    assert asked.state == "input_required", asked
    assert "stream_words" in asked.raw and "receive_file" in asked.raw
    answer = Request(
        "mcp-http", tool="echo", arguments={"text": "hi"}, task=asked.task, context=asked.context
    )
    reply = await client.call(answer)
    assert (reply.state, reply.data) == ("completed", [{"echo": "hi"}]), reply


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind.startswith("a2a")])
async def test_skill_in_metadata_takes_plain_text(kind: str, client_of: Make, gateway: Any) -> None:
    reply = await client_of(kind, gateway.url).call(Request("mcp-http", "hi", metadata={"skill": "echo"}))
    assert (reply.state, reply.data) == ("completed", [{"echo": "hi"}]), reply
