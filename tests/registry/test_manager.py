"""The rules of registering, as ``agentgw agents`` and the admin API know them."""

from contextlib import asynccontextmanager

import pytest

from agentgw.gateway.config import AgentEntry, Config
from agentgw.gateway.control import AddAgent, NameTaken
from agentgw.gateway.errors import (
    BadUpstream,
    ConfigError,
    GatewayError,
    InvalidRequest,
    Unauthenticated,
    UnknownAgent,
    Unreachable,
)
from agentgw.gateway.model import Record
from agentgw.gateway.store import Batch
from agentgw.gateway.telemetry import Span, Template
from agentgw.registry.memory import MemoryStore

from ..support.agents import World, adapter, registry

URL = "http://one.example"
MANY = "http://many.example"
GONE = "http://gone.example"
CLOSED = "http://closed.example"
ENVIRON = {"TOKEN": "s3cret"}


def world() -> World:
    made = World()
    made.put(URL, "One", description="the only one", version="1.2")
    made.put(MANY, "echo", "My Agent!", "my agent?")
    made.put("server", "tools", conversational=False)
    made.answers[CLOSED] = Unauthenticated("who are you?")
    return made


@asynccontextmanager
async def manager(made: World | None = None, store: MemoryStore | None = None):
    made = made or world()
    config = Config(agents={"fixed": AgentEntry(url=URL, protocol="a2a")})
    here, directory = registry(
        adapter("a2a", made),
        adapter("mcp", World() if made is None else made, stdio=True, probes=False),
        store=store,
        config=config,
        environ=ENVIRON,
    )
    await directory.start(refresh=False)
    try:
        yield here, directory
    finally:
        await directory.aclose()


def spec(name: str | None = "new", url: str | None = URL, **fields) -> AddAgent:
    return AddAgent(name=name, url=url, **fields)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "error", "line"),
    [
        (spec("New Agent"), InvalidRequest, "try 'new-agent'"),
        (spec("-a"), InvalidRequest, "try 'a'"),
        (spec("a" * 64), InvalidRequest, f"try '{'a' * 63}'"),
        (spec("new\n"), InvalidRequest, "try 'new'"),
        (spec(None), InvalidRequest, "needs a name"),
        (spec(url=None), InvalidRequest, "either a URL or a command"),
        (spec(command=("x",)), InvalidRequest, "either a URL or a command"),
        (spec("taken"), NameTaken, "choose another name, or say --replace"),
        (spec("fixed"), InvalidRequest, "configuration file"),
        (spec("fixed", replace=True), InvalidRequest, "configuration file"),
        (spec(url="ftp://x"), InvalidRequest, "not a URL"),
        (spec(url="http://me:pw@x"), InvalidRequest, "--header"),
        (spec(protocol="smtp"), InvalidRequest, "there are auto, a2a, mcp"),
        (spec(env={"A": "b"}), InvalidRequest, "go with a command"),
        (spec(cwd="/"), InvalidRequest, "go with a command"),
        (spec(url=None, command=("x",), headers={"A": "b"}), InvalidRequest, "go with a URL"),
        (spec(url=None, command=("x",), remote="r"), InvalidRequest, "go with a URL"),
        (spec(url=None, command=("x",), cwd="here"), InvalidRequest, "from the root"),
        (spec(url=None, command=("x",), env={"A B": "c"}), InvalidRequest, "variable's name"),
        (spec(url=None, command=("x",), protocol="a2a"), InvalidRequest, "can't be a command"),
        (spec(url=None, command=("x",), all=True), InvalidRequest, "--all goes with a URL alone"),
        (spec(remote="r", all=True), InvalidRequest, "--all goes with a URL alone"),
        (spec(headers={"Authorization": "Bearer s3cret"}), InvalidRequest, "${AGENT_TOKEN}"),
        (spec(headers={"X": "${UNSET}"}), ConfigError, "UNSET"),
        (spec(url=MANY), InvalidRequest, "echo, My Agent!, my agent?; use --remote NAME or --all"),
        (spec(url=MANY, remote="nobody"), InvalidRequest, "no agent 'nobody'"),
        (spec(url=MANY, protocol="a2a"), InvalidRequest, "use --remote NAME or --all"),
        (spec(url=GONE), Unreachable, "nothing at http://gone.example answers as a2a"),
        (spec(None, url=GONE, all=True), Unreachable, "nothing at"),
        (spec(None, url=GONE, all=True, protocol="a2a"), Unreachable, "does not answer as a2a"),
        (spec(None, url=CLOSED, all=True), Unreachable, "asks for credentials"),
        (spec(url=None, command=("nothing",)), Unreachable, "--protocol mcp"),
    ],
)
async def test_what_is_refused_and_how(wanted, error, line):
    async with manager() as (here, directory):
        await directory.put(Record(name="taken", protocol="a2a", url=URL))
        before = list(directory.records())
        with pytest.raises(error) as refused:
            await here.add_agent(wanted)
        assert line in refused.value.message
        assert "\n" not in refused.value.message and "s3cret" not in refused.value.message
        assert list(directory.records()) == before


# --- what is registered ---------------------------------------------------------------------------


async def test_auto_finds_the_protocol_and_describes_the_agent():
    store = MemoryStore()
    async with manager(store=store) as (here, directory):
        added = await here.add_agent(spec(url=f" {URL}, ", headers={"X-Key": "${TOKEN}", "X-Tenant": "acme"}))
        (agent,) = added.agents
        assert (agent.name, agent.protocol, agent.target) == ("new", "a2a", URL)
        assert (agent.health, agent.description, agent.version) == ("ok", "the only one", "1.2")
        assert [skill.id for skill in agent.skills] == ["run"]
        assert agent.headers == {"X-Key": "${TOKEN}", "X-Tenant": "***"}
        assert list(added.warnings) == []
        (stored,) = await store.records()
        assert stored.headers == {"X-Key": "${TOKEN}", "X-Tenant": "acme"}  # never the secret itself
        assert "new" in directory.views()
        assert (await here.show_agent("new")) == agent


async def test_the_agent_is_called_with_its_resolved_headers():
    made = world()
    async with manager(made) as (here, _):
        await here.add_agent(spec(headers={"Authorization": "Bearer ${TOKEN}"}))
    assert made.headers[URL] == [("authorization", "Bearer s3cret")]


@pytest.mark.parametrize(
    ("wanted", "health", "warned"),
    [
        (spec(url=GONE, protocol="a2a"), "down", "can't be reached"),
        (spec(url=GONE, protocol="mcp"), "down", "can't be reached"),
        (spec(url=GONE, protocol="a2a", headers={"X": "${UNSET}"}), "down", "UNSET"),
        (spec(url=CLOSED, protocol="a2a"), "needs-auth", "who are you?"),
        (spec(url=CLOSED), "needs-auth", "who are you?"),
        (spec(url=None, command=("nothing",), protocol="mcp"), "down", "can't be reached"),
    ],
)
async def test_what_does_not_answer_is_registered_with_a_warning_where_the_protocol_is_known(
    wanted, health, warned
):
    async with manager() as (here, directory):
        added = await here.add_agent(wanted)
        assert added.agents[0].health == health
        (warning,) = added.warnings
        assert f"new is {health}" in warning and warned in warning
        assert "new" in directory.views()


async def test_the_health_of_an_agent_says_which_secret_is_missing(tmp_path):
    reference = f"${{file:{tmp_path}/token}}"
    async with manager() as (here, _):
        added = await here.add_agent(spec(protocol="a2a", headers={"Authorization": f"Bearer {reference}"}))
        assert added.agents[0].health == "down"
        assert reference in added.agents[0].detail and reference in added.warnings[0]
        (tmp_path / "token").write_text("s3cret\n")
        checked = await here.check_agent("new")
        assert (checked.health, checked.detail) == ("ok", "")


async def test_a_command_is_an_mcp_server_unless_said_otherwise():
    async with manager() as (here, directory):
        added = await here.add_agent(spec(url=None, command=["server"], env={"A": "${TOKEN}", "B": "b"}))
        (agent,) = added.agents
        assert (agent.protocol, agent.target, agent.health) == ("mcp", "server", "ok")
        assert agent.env == {"A": "${TOKEN}", "B": "***"}
        assert directory.get("new").record.command == ("server",)


async def test_replacing_takes_the_place_of_what_was_there():
    async with manager() as (here, directory):
        await here.add_agent(spec(description="mine"))
        await here.add_agent(spec(url=None, command=["server"], replace=True))
        record = directory.get("new").record
        assert (record.url, record.command, record.description) == (None, ("server",), None)


async def test_a_replacement_that_fails_leaves_the_old_one():
    async with manager() as (here, _):
        before = (await here.add_agent(spec())).agents[0]
        with pytest.raises(GatewayError):
            await here.add_agent(spec(url=GONE, replace=True))
        assert await here.show_agent("new") == before


async def test_one_of_several_agents():
    async with manager() as (here, directory):
        added = await here.add_agent(spec(url=MANY, remote="My Agent!"))
        assert (added.agents[0].remote, directory.get("new").agent.name) == ("My Agent!", "My Agent!")


async def test_all_agents_each_under_a_valid_name_of_its_own():
    async with manager() as (here, directory):
        added = await here.add_agent(spec(None, url=MANY, all=True))
        assert [(a.name, a.remote) for a in added.agents] == [
            ("echo", "echo"),
            ("my-agent", "My Agent!"),
            ("my-agent-2", "my agent?"),
        ]
        assert directory.get("my-agent-2").agent.name == "my agent?"
        with pytest.raises(NameTaken):
            await here.add_agent(spec(None, url=MANY, all=True))
        assert len((await here.add_agent(spec(None, url=MANY, all=True, replace=True))).agents) == 3


async def test_all_is_all_or_nothing():
    async with manager() as (here, directory):
        await here.add_agent(spec("my-agent"))
        with pytest.raises(NameTaken):
            await here.add_agent(spec(None, url=MANY, all=True))
        assert [r.name for r in directory.records()] == ["fixed", "my-agent"]


async def test_two_that_want_one_name_at_the_same_time_do_not_both_get_it():
    made = world()
    async with manager(made) as (here, directory):

        async def meanwhile():
            made.put(URL, "One")
            await directory.put(Record(name="new", protocol="a2a", url=MANY))
            return [*made.answers[URL]]

        made.answers[URL] = meanwhile
        with pytest.raises(NameTaken):
            await here.add_agent(spec())
        assert directory.get("new").record.url == MANY


# --- looking and changing -------------------------------------------------------------------------


async def test_agents_are_listed_by_name_disabled_ones_and_the_files_too():
    async with manager() as (here, _):
        await here.add_agent(spec("zebra"))
        await here.add_agent(spec("ant"))
        await here.set_enabled("zebra", False)
        listed = [(a.name, a.enabled, a.source) for a in await here.list_agents()]
        assert listed == [("ant", True, "store"), ("fixed", True, "config"), ("zebra", False, "store")]


async def test_enabling_and_disabling_is_durable():
    store = MemoryStore()
    async with manager(store=store) as (here, directory):
        await here.add_agent(spec())
        assert (await here.set_enabled("new", False)).enabled is False
        assert "new" not in directory.views()
    async with manager(store=store) as (here, directory):
        assert "new" not in directory.views()
        assert (await here.set_enabled("new", True)).enabled is True
        assert directory.views()["new"].agent.name == "One"  # what it said is not forgotten


async def test_a_check_shows_the_new_health():
    made = world()
    async with manager(made) as (here, _):
        await here.add_agent(spec())
        made.answers[URL] = BadUpstream("gibberish")
        checked = await here.check_agent("new")
        assert (checked.health, checked.detail) == ("degraded", "gibberish")
        assert checked.skills


@pytest.mark.parametrize("name", ["nobody", "fixed"])
async def test_who_is_not_there_or_not_ours_can_not_be_changed(name):
    async with manager() as (here, _):
        error = UnknownAgent if name == "nobody" else InvalidRequest
        for change in (here.set_enabled(name, False), here.remove_agent(name)):
            with pytest.raises(error):
                await change


async def test_removed_is_gone():
    store = MemoryStore()
    async with manager(store=store) as (here, _):
        await here.add_agent(spec())
        await here.remove_agent("new")
        with pytest.raises(UnknownAgent):
            await here.show_agent("new")
        assert list(await store.records()) == []


async def test_a_trace_is_its_row_with_all_its_spans():
    store = MemoryStore()
    start, called = 1_767_225_600_000_000_000, {"agentgw.agent": "one", "agentgw.state": "completed"}

    def span(name, kind, attributes, start):
        ids = ("ab" * 16, "1" * 16, None)
        return Span(Template(name, kind), *ids, True, None, None, attributes, start, None, start + 2_000_000)

    outer = span("tools/call", "server", called, start)
    inner = span("SendMessage", "client", {}, start + 5)
    await store.save(Batch(spans=[inner, outer]))
    async with manager(store=store) as (here, _):
        shown = await here.trace("ABAB")
        assert (shown["agent"], shown["state"], shown["duration_ms"]) == ("one", "completed", 2.0)
        assert [span["name"] for span in shown["spans"]] == ["tools/call", "SendMessage"]
        with pytest.raises(InvalidRequest, match="cdcd"):
            await here.trace("cdcd")
