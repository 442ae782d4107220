"""``/mcp`` in front of agents of every kind: what is listed, and that it follows every change."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from agentgw.adapters.mcp.face import names, tools
from agentgw.adapters.mcp.upstream.upstream import McpUpstream
from agentgw.adapters.mcp.wire import Catalog
from agentgw.gateway.errors import Unreachable
from agentgw.gateway.model import Agent, Record, Skill

from ....support.memory import MemoryUpstream
from .support import Gateway, Raw, by_hand, rpc, served

CLIENTS = ["2026-07-28", "2025-11-25", "2025-06-18"]
TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
METHODS = {
    "tools": "tools/list",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "resourceTemplates": "resources/templates/list",
}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def catalog(*own: dict[str, Any], **more: Any) -> Catalog:
    return Catalog(protocol_version="2026-07-28", era="modern", tools=own, **more)


class Server(McpUpstream):
    """An MCP server whose lists are what the test says."""

    says: Catalog | None = None

    async def _read_catalog(self) -> Catalog:
        if self.says is None:
            raise Unreachable("gone")
        return msgspec.convert(msgspec.to_builtins(self.says), Catalog)  # read anew each time

    async def announce(self, says: Catalog | None) -> None:
        self.says = says
        self._changed()


class Many:
    """A gateway with agents of all kinds, and a client of one revision."""

    def __init__(self, gateway: Gateway, raw: Raw, revision: str) -> None:
        self.gateway = gateway
        self.raw = raw
        self.revision = revision
        self.servers: dict[str, Server] = {}

    async def server(self, name: str, says: Catalog) -> Server:
        server = Server(Record(name=name, protocol="mcp", url="http://unused"), self.gateway.host)
        server.says = says
        self.servers[name] = server
        (agent,) = await server.describe()
        self.gateway.agents.put(name, server, agent, protocol="mcp", url="http://unused")
        return server

    def agent(self, name: str, **fields: Any) -> None:
        """Add it, or have it describe itself anew."""
        known = self.gateway.agents.known.get(name)
        upstream = MemoryUpstream() if known is None else known.upstream
        self.gateway.agents.put(name, upstream, Agent(name=f"{name}'s title", **fields))

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> Any:
        if self.revision == CLIENTS[0]:
            return (await self.raw.modern(method, params)).json()
        return (await self.raw.post(rpc(method, params or {}))).json()

    async def listed(self) -> dict[str, Any]:
        """Every list, and what is said of agents that do not answer."""
        results = {kind: (await self.ask(method))["result"] for kind, method in METHODS.items()}
        metas = [result.get("_meta", {}).get("agentgw/unavailable") for result in results.values()]
        assert all(meta == metas[0] for meta in metas)
        return {"unavailable": metas[0], **{kind: results[kind][kind] for kind in METHODS}}

    def expected(self) -> dict[str, Any]:
        """The same by the book, from what is registered now."""
        made: dict[str, list[Any]] = {kind: [] for kind in METHODS}
        down = []
        for name, view in sorted(self.gateway.agents.known.items()):
            if view.health.status == "down":
                down.append(name)
            server = self.servers.get(name)
            if server is None or view.upstream is not server:
                made["tools"].append(self.marked(tools.definition(names.fit(name), view)))
                continue
            says = server.says or server.last_catalog
            assert says is not None
            for own in says.tools:
                shown = {**own, "name": names.qualified(name, own["name"])}
                made["tools"].append(self.marked(shown) if "extensions" in says.capabilities else shown)
            made["prompts"] += [{**p, "name": names.qualified(name, p["name"])} for p in says.prompts]
            made["resources"] += says.resources
            made["resourceTemplates"] += says.resource_templates
        first = {
            "tools": once(made["tools"], "name"),
            "prompts": made["prompts"],
            "resources": once(made["resources"], "uri"),
            "resourceTemplates": once(made["resourceTemplates"], "uriTemplate"),
        }
        if self.revision != CLIENTS[0]:
            for shown in first["tools"]:
                if shown.get("outputSchema", {}).get("type") != "object":
                    shown.pop("outputSchema", None)
        return {"unavailable": down or None, **first}

    def marked(self, shown: dict[str, Any]) -> dict[str, Any]:
        return {**shown, "execution": {"taskSupport": "optional"}} if self.revision == CLIENTS[1] else shown


def once(items: list[Any], key: str) -> list[Any]:
    found: dict[str, Any] = {}
    for item in items:
        found.setdefault(item[key], item)
    return [dict(item) for item in found.values()]


@pytest.fixture(params=CLIENTS)
async def many(request: pytest.FixtureRequest) -> AsyncIterator[Many]:
    async with made(request.param) as running:
        yield running


@contextlib.asynccontextmanager
async def made(revision: str) -> AsyncIterator[Many]:
    async with served() as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        if revision != CLIENTS[0]:
            await raw.initialize(revision)
        world = Many(gateway, raw, revision)
        manual = {"uri": "x://manual", "name": "of b"}
        page = {"uriTemplate": "x://page/{n}", "name": "page"}
        await world.server(
            "b",
            catalog(
                tool("add", outputSchema={"type": "object"}),
                tool("list", outputSchema={"type": "array"}),
                tool("add", description="a second of the same name"),
                tool("a name with blanks, and " + "long" * 20),
                prompts=({"name": "greet"}, {"name": "greet", "title": "again"}),
                resources=(manual, {"uri": "x://b", "name": "b"}),
                resource_templates=(page,),
            ),
        )
        await world.server(
            "d",
            catalog(
                tool("dig"),
                capabilities=TASKS,
                prompts=({"name": "greet"},),
                resources=({**manual, "name": "of d"}, {"uri": "x://d", "name": "d"}),
                resource_templates=({**page, "name": "another"},),
            ),
        )
        world.agent("a", description="the first", skills=(Skill(id="s", name="S"),))
        world.agent("c" * 62)
        world.agent("e")
        yield world


async def test_every_kind_of_agent_is_listed_as_it_is(many: Many) -> None:
    listed = await many.listed()
    assert listed == many.expected()
    assert [r["name"] for r in listed["resources"]] == ["of b", "b", "d"], "the first owner's"
    assert [t["name"] for t in listed["tools"]][:3] == ["a", "b__add", "b__list"]


async def down(many: Many) -> None:
    many.gateway.agents.health("b", "down")


async def gone(many: Many) -> None:
    many.gateway.agents.remove("d")


async def new(many: Many) -> None:
    many.agent("bb", description="new")


async def other_words(many: Many) -> None:
    many.agent("a", description="the first, in other words", skills=(Skill(id="s", name="S"),))


async def other_skill(many: Many) -> None:
    many.agent("a", description="the first", skills=(Skill(id="t", name="T"),))


async def other_tools(many: Many) -> None:
    await many.servers["b"].announce(catalog(tool("multiply")))


async def other_prompts(many: Many) -> None:
    says = many.servers["d"].says
    assert says is not None
    await many.servers["d"].announce(msgspec.structs.replace(says, prompts=({"name": "part"},)))


async def read_by_another(many: Many) -> None:
    many.servers["d"].says = catalog(tool("dive"))
    await many.servers["d"].catalog(refresh=True)


async def became_a_server(many: Many) -> None:
    await many.server("e", catalog(tool("now"), resources=({"uri": "x://d", "name": "of e"},)))


async def shadow_gone(many: Many) -> None:
    many.gateway.agents.remove("b")


CHANGES = [
    down, gone, new, other_words, other_skill, other_tools, other_prompts, read_by_another, became_a_server,
    shadow_gone,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
async def test_lists_follow_every_change(change: Callable[[Many], Awaitable[None]], many: Many) -> None:
    before = await many.listed()
    await change(many)
    after = await many.listed()
    assert after == many.expected()
    assert after != before


async def test_an_agent_that_is_back_is_no_longer_named(many: Many) -> None:
    for status in ("down", "ok"):
        many.gateway.agents.health("b", status)
        assert await many.listed() == many.expected()


async def test_only_what_changed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made_of: list[str] = []
    definition = tools.definition
    monkeypatch.setattr(tools, "definition", lambda n, view: made_of.append(view.name) or definition(n, view))
    async with made(CLIENTS[0]) as many:
        first = (await many.ask("tools/list"))["result"]
        assert made_of == ["a", "c" * 62, "e"]
        assert (await many.ask("tools/list"))["result"] == first
        assert len(made_of) == 3
        many.agent("e", description="other words")
        await other_tools(many)
        await many.ask("tools/list")
        assert made_of[3:] == ["e"]


async def test_a_name_is_found_without_a_look_at_the_others(
    many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agents(*_: Any) -> Any:
        raise AssertionError("all agents were looked at")

    async def call(name: str) -> Any:
        return await many.ask("tools/call", {"name": name, "arguments": {"message": "hi"}})

    await many.ask("tools/list")
    long = next(t["name"] for t in (await many.listed())["tools"] if t["name"].startswith("c"))
    for name in ("a", long):
        assert (await call(name))["result"]["content"][0]["text"] == "hi"
    error = (await call("nobody"))["error"]
    assert (error["code"], error["message"]) == (-32602, "Unknown tool: nobody")
    monkeypatch.setattr(many.gateway.hub, "agents", agents)
    assert (await call("a"))["result"]["content"][0]["text"] == "hi"


async def test_a_new_tool_is_found_before_its_server_announces_it(
    many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many.listed()
    monkeypatch.setattr("agentgw.adapters.mcp.upstream.upstream.REFRESH_AGE", -1.0)
    many.servers["d"].says = catalog(tool("dive"))
    answer = await many.ask("tools/call", {"name": "d__dive", "arguments": {}})
    assert "Unknown tool" not in answer.get("error", {}).get("message", "")
    assert "d__dive" in {t["name"] for t in (await many.listed())["tools"]}
