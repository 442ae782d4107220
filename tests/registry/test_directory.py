"""The directory: what the doors see, and how it stays fresh. No clock: agents answer when the test says."""

import asyncio
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec
import pytest

from agentgw.gateway.config import AgentEntry, Config, Limits
from agentgw.gateway.errors import (
    AgentError,
    BadUpstream,
    ConfigError,
    InvalidRequest,
    Unauthenticated,
    UnknownAgent,
    Unreachable,
    UpstreamFailed,
    UpstreamTimeout,
)
from agentgw.gateway.model import Agent, Record
from agentgw.registry.memory import MemoryStore

from ..support.agents import World, adapter, registry


def record(name: str, url: str = "", **fields) -> Record:
    return Record(name=name, protocol="a2a", url=url or f"http://{name}", **fields)


@asynccontextmanager
async def directory(world, *records, store=None, refresh=True, config=None, every=3600.0, environ=None):
    store = store or MemoryStore()
    for r in records:
        await store.put_record(r)
    _, made = registry(
        adapter("a2a", world), store=store, config=config, every=every, debounce=0, environ=environ
    )
    await made.start(refresh=refresh)
    try:
        yield made
    finally:
        await made.aclose()


async def changes(directory, wanted):
    """Wait for changes until ``wanted()`` holds."""
    changed = asyncio.Event()
    unsubscribe = directory.on_change(changed.set)
    try:
        while not wanted():
            await changed.wait()
            changed.clear()
    finally:
        unsubscribe()


def agent_of(directory, name):
    view = directory.get(name)
    return view and view.agent and view.agent.name


# --- snapshot -------------------------------------------------------------------------------------


async def test_starting_waits_for_no_agent():
    world = World()
    world.answers["http://a"] = asyncio.Event().wait
    async with directory(world, record("a")) as d:
        assert d.views()["a"].health.status == "unknown"


async def test_health_is_known_between_gateways_as_it_was_last_found():
    world, store = World(), MemoryStore()
    world.put("http://a", "A")
    async with directory(world, record("a"), record("b"), store=store) as d:
        await asyncio.gather(d.check("a"), d.check("b"))
        found = {name: d.get(name).health for name in ("a", "b")}
    assert [h.status for h in found.values()] == ["ok", "down"]
    async with directory(World(), store=store, refresh=False) as d:
        assert {name: d.get(name).health for name in ("a", "b")} == found  # with its time
        await d.remove("a")
        await d.put(record("a"))
        assert d.get("a").health.status == "unknown"
    config = configured(b={"url": "http://other", "protocol": "a2a"})
    async with directory(World(), store=store, config=config, refresh=False) as d:
        assert d.get("b").health.status == "unknown"  # it was another's
    world.answers["http://b"] = asyncio.Event().wait
    async with directory(world, store=store) as d:  # a gateway asks anew
        assert d.get("b").health.status == "unknown"


async def test_health_that_stays_is_written_at_first_and_at_the_end(monkeypatch):
    class Counting(MemoryStore):
        written: ClassVar[list[str]] = []

        async def put_item(self, space: str, key: str, value: bytes) -> None:
            self.written.append(msgspec.json.decode(value)["health"]["checked_at"])

    times = iter("1234")
    monkeypatch.setattr("agentgw.registry.health.now", lambda: next(times))
    async with directory(World(), record("a"), store=Counting(), refresh=False) as d:
        for _ in range(3):
            await d.check("a")
        assert Counting.written == ["1"]
    assert Counting.written == ["1", "3"]


async def test_agents_are_described_after_the_start():
    world = World()
    world.put("http://a", "A")
    world.put("http://b", "B")
    async with directory(world, record("a"), record("b")) as d:
        await changes(d, lambda: agent_of(d, "a") and agent_of(d, "b"))
        assert d.views()["a"].health.status == "ok"
        assert d.views()["a"].health.checked_at


async def test_a_view_once_taken_never_changes():
    async with directory(World(), record("a"), refresh=False) as d:
        before = d.views()
        await d.put(record("b"))
        await d.remove("a")
        assert list(before) == ["a"]
        assert list(d.views()) == ["b"]
        with pytest.raises(TypeError):
            before["x"] = None


async def test_a_disabled_agent_is_registered_and_in_no_view():
    world = World()
    world.put("http://a", "A")
    async with directory(world, record("a", enabled=False), refresh=False) as d:
        assert "a" not in d.views()
        assert await d.described("a") is None
        assert [r.name for r in d.records()] == ["a"]
        assert (await d.check("a")).status == "ok"


async def test_the_last_description_is_there_at_the_next_start():
    world, store = World(), MemoryStore()
    world.put("http://a", "A", extra={"a2a": {"raw": {"name": "A"}}})
    async with directory(world, record("a"), store=store, refresh=False) as d:
        await d.check("a")
        described = d.views()["a"].agent
    async with directory(World(), store=store, refresh=False) as d:
        assert d.views()["a"].agent == described


async def test_a_kept_description_of_another_target_is_not_used():
    world, store = World(), MemoryStore()
    world.put("http://a", "A")
    async with directory(world, record("a"), store=store, refresh=False) as d:
        await d.check("a")
        await d.put(record("a", url="http://elsewhere"))
        assert d.views()["a"].agent is None
    async with directory(world, store=store, refresh=False) as d:
        assert d.views()["a"].agent is None


# --- agents of the file ---------------------------------------------------------------------------


def configured(**agents) -> Config:
    return Config(agents={name: AgentEntry(**fields) for name, fields in agents.items()})


async def test_agents_of_the_file_win_and_are_read_only():
    world = World()
    config = configured(a={"url": "http://file", "protocol": "a2a", "total_timeout": 5.0})
    async with directory(world, record("a"), record("b"), config=config, refresh=False) as d:
        assert [(r.name, r.source) for r in d.records()] == [("a", "config"), ("b", "store")]
        assert d.views()["a"].record.url == "http://file"
        assert d.views()["a"].record.total_timeout == 5.0
        for change in (d.put(record("a")), d.remove("a")):
            with pytest.raises(InvalidRequest, match="configuration file"):
                await change


async def test_the_protocol_of_an_agent_of_the_file_is_found_by_probing():
    world, store = World(), MemoryStore()
    config = configured(a={"url": "http://a"})
    async with directory(world, config=config, store=store, refresh=False) as d:
        assert d.views()["a"].record.protocol == "auto"
        assert (await d.check("a")).status == "down"
        with pytest.raises(Unreachable):
            await d.views()["a"].upstream.describe()
        world.put("http://a", "A")
        assert (await d.check("a")).status == "ok"
        assert d.views()["a"].record.protocol == "a2a"
        assert agent_of(d, "a") == "A"
    async with directory(World(), config=config, store=store, refresh=False) as d:
        assert agent_of(d, "a") == "A"  # known from last time, though it is not there now
    async with directory(world, config=config, store=store, refresh=False) as d:
        assert (await d.described("a")).record.protocol == "a2a"  # a call needs more than a description


async def test_what_an_agent_without_a_protocol_needs_is_the_error_of_its_calls():
    config = configured(a={"url": "http://a", "headers": {"Authorization": "Bearer ${UNSET_TOKEN}"}})
    async with directory(World(), config=config, refresh=False) as d:
        with pytest.raises(ConfigError, match="UNSET_TOKEN"):
            await d.views()["a"].upstream.describe()


async def test_a_command_of_the_file_is_an_mcp_server():
    async with directory(World(), config=configured(a={"command": ("run",)}), refresh=False) as d:
        assert d.views()["a"].record.protocol == "mcp"


async def test_a_secret_in_clear_in_the_file_is_warned_of(caplog):
    config = configured(a={"url": "http://a", "headers": {"Authorization": "Bearer s3cret"}})
    async with directory(World(), config=config, refresh=False):
        assert "agent a" in caplog.text and "${" in caplog.text
        assert "s3cret" not in caplog.text


# --- health ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "fresh", "known"),
    [
        (Unreachable("can't be reached"), "down", "down"),
        (UpstreamTimeout("late"), "down", "down"),
        (BadUpstream("no JSON"), "down", "degraded"),
        (AgentError("method not found"), "down", "degraded"),
        (UpstreamFailed("a", detail="Traceback"), "down", "degraded"),
        (Unauthenticated("who are you?"), "needs-auth", "needs-auth"),
        (AgentError("no", native={"status": 401}), "needs-auth", "needs-auth"),
        (BadUpstream("no", native={"protocol": "acp", "status": 403}), "needs-auth", "needs-auth"),
        (Unreachable("no", native={"protocol": "http", "code": 401}), "needs-auth", "needs-auth"),
        (AgentError("no", native={"protocol": "mcp", "code": 401}), "down", "degraded"),
        ([], "down", "degraded"),
    ],
)
async def test_health_says_how_the_agent_answers(answer, fresh, known):
    world = World()
    world.answers["http://a"] = answer
    async with directory(world, record("a"), refresh=False) as d:
        health = await d.check("a")
        assert health.status == fresh
        assert health.detail and "\n" not in health.detail and "Traceback" not in health.detail
        world.put("http://a", "A")
        assert (await d.check("a")).status == "ok"
        world.answers["http://a"] = answer
        assert (await d.check("a")).status == known
        assert agent_of(d, "a") == "A"  # the last description stands


async def test_an_agent_that_describes_itself_in_part_is_degraded():
    world = World()
    world.put("http://a", "A", extra={"agentgw": {"degraded": "its prompts can't be listed"}})
    async with directory(world, record("a"), refresh=False) as d:
        health = await d.check("a")
        assert (health.status, health.detail) == ("degraded", "its prompts can't be listed")


async def test_what_is_to_be_said_of_a_healthy_agent():
    world = World()
    world.put("http://a", "A", extra={"agentgw": {"note": "its signature could not be verified"}})
    async with directory(world, record("a"), refresh=False) as d:
        health = await d.check("a")
        assert (health.status, health.detail) == ("ok", "its signature could not be verified")


async def test_the_remote_agent_is_picked_and_missed():
    world = World()
    world.put("http://a", "one", "two")
    async with directory(world, record("a", remote="two"), refresh=False) as d:
        await d.check("a")
        assert agent_of(d, "a") == "two"
        world.put("http://a", "one", "three")
        assert (await d.check("a")).status == "degraded"


async def test_a_bug_in_an_adapter_is_health_not_a_crash(caplog):
    world = World()

    async def broken():
        raise RuntimeError("/secret")

    world.answers["http://a"] = broken
    async with directory(world, record("a"), refresh=False) as d:
        health = await d.check("a")
        assert (health.status, health.detail) == ("down", "the check failed")


async def test_an_unknown_protocol_is_down_and_says_which_there_are():
    async with directory(World(), msgspec.structs.replace(record("a"), protocol="smtp"), refresh=False) as d:
        health = await d.check("a")
        assert health.status == "down"
        assert "'smtp'" in health.detail and "a2a" in health.detail


async def test_an_unset_variable_is_down_and_named():
    world = World()
    world.put("http://a", "A")
    headers = {"Authorization": "Bearer ${NOT_SET}"}
    async with directory(world, record("a", headers=headers), refresh=False, environ={}) as d:
        assert "NOT_SET" in (await d.check("a")).detail
        assert d.get("a").health.status == "down"


async def test_checking_nobody_is_an_error():
    async with directory(World()) as d:
        with pytest.raises(UnknownAgent):
            await d.check("nobody")


# --- waiting for a description --------------------------------------------------------------------


async def test_a_first_description_is_waited_for_but_not_for_ever():
    world = World()
    come = asyncio.Event()

    async def late():
        await come.wait()
        return [Agent(name="A")]

    world.answers["http://a"] = late
    async with directory(world, record("a")) as d:
        view = await d.described("a", timeout=0)
        assert view is not None and view.agent is None
        waiting = asyncio.create_task(d.described("a", timeout=60))
        await asyncio.sleep(0)
        come.set()
        assert (await waiting).agent.name == "A"
        assert world.asked["http://a"] == 1  # those who wait share one check


async def test_an_agent_known_to_be_down_is_not_waited_for():
    world = World()
    async with directory(world, record("a"), refresh=False) as d:
        await d.check("a")
        world.answers["http://a"] = asyncio.Event().wait
        view = await d.described("a", timeout=60)
        assert view.health.status == "down"
        assert world.asked["http://a"] == 1


# --- the same snapshot ----------------------------------------------------------------------------


async def test_a_check_that_finds_nothing_new_leaves_the_snapshot(monkeypatch):
    times = iter("123456")
    monkeypatch.setattr("agentgw.registry.health.now", lambda: next(times))
    world = World()
    world.put("http://a", "A")
    async with directory(world, record("a"), record("b"), refresh=False) as d:
        await asyncio.gather(d.check("a"), d.check("b"))
        before = d.views()
        world.put("http://a", "A")
        found = await asyncio.gather(d.check("a"), d.check("b"))
        assert d.views() is before
        assert [d.get(name).health for name in "ab"] == found, "when it was checked is known all the same"
        assert [h.checked_at for h in found] == ["3", "4"]
        world.put("http://b", "B")
        await d.check("b")
        assert d.views() is not before
        assert d.views()["a"] is not before["a"], "a new snapshot has the newest of all"
        assert d.views()["a"].agent is before["a"].agent


async def test_a_snapshot_is_in_the_order_of_names():
    async with directory(World(), record("b"), record("a"), refresh=False) as d:
        await d.put(record("aa"))
        assert list(d.views()) == ["a", "aa", "b"]


async def test_all_are_asked_at_the_start_and_later_one_after_the_other(monkeypatch):
    world, rest, rests = World(), asyncio.sleep, []
    over = asyncio.Event()

    async def sleep(seconds, result=None):
        rests.append(seconds)
        if len(rests) > 8:
            over.set()
            await asyncio.Event().wait()
        await rest(0)

    monkeypatch.setattr("asyncio.sleep", sleep)
    async with directory(world, *(record(name) for name in "abcd"), every=60.0):
        await over.wait()
    assert rests == [0, 0, 0, 0, 15, 15, 15, 15, 15]


# --- changes --------------------------------------------------------------------------------------


async def test_an_agent_that_says_it_changed_is_asked_once_for_many_times():
    world = World()
    world.put("http://a", "before")
    async with directory(world, record("a"), refresh=False) as d:
        await d.check("a")
        world.put("http://a", "after")
        for _ in range(5):
            d.changed("a")
        d.changed("nobody")
        await changes(d, lambda: agent_of(d, "a") == "after")
        assert world.asked["http://a"] == 2


async def test_a_change_during_a_check_is_asked_for_again():
    world = World()
    asked, come = asyncio.Event(), asyncio.Event()

    async def slow():
        asked.set()
        await come.wait()
        return [Agent(name="before")]

    world.answers["http://a"] = slow
    async with directory(world, record("a"), refresh=False) as d:
        checking = asyncio.create_task(d.check("a"))
        await asked.wait()
        d.changed("a")
        await asyncio.sleep(0)
        world.put("http://a", "after")
        come.set()
        await checking
        await changes(d, lambda: agent_of(d, "a") == "after")


async def test_agents_are_asked_again_and_again():
    world = World()
    again = asyncio.Event()

    async def answer():
        if world.asked["http://a"] == 3:
            again.set()
        return [Agent(name="A")]

    world.answers["http://a"] = answer
    async with directory(world, record("a"), every=0):
        await again.wait()


async def test_listeners_hear_of_changes_and_not_of_mere_health():
    world = World()
    world.put("http://a", "A")
    async with directory(world, record("a"), refresh=False) as d:
        heard = []
        unsubscribe = d.on_change(lambda: heard.append(1))
        d.on_change(lambda: 1 / 0)  # one that fails takes nobody along
        await asyncio.sleep(0)
        heard.clear()
        await d.check("a")
        await asyncio.sleep(0)
        assert len(heard) == 1
        world.answers["http://a"] = Unreachable("gone")
        await d.check("a")
        await asyncio.sleep(0)
        assert len(heard) == 1
        await d.put(record("b"))
        await d.remove("b")
        await asyncio.sleep(0)
        assert len(heard) == 2  # several changes at one time are one call
        unsubscribe()
        await d.put(record("c"))
        await asyncio.sleep(0)
        assert len(heard) == 2


# --- upstreams ------------------------------------------------------------------------------------


async def test_what_only_people_read_keeps_the_upstream():
    async with directory(World(), record("a"), refresh=False) as d:
        before = d.views()["a"].upstream
        await d.put(record("a", description="in my words"))
        assert d.views()["a"].upstream is before
        assert d.views()["a"].description == "in my words"


async def test_a_changed_record_gets_a_new_upstream_and_the_old_is_closed():
    config = Config(limits=Limits(shutdown_grace=0.0))
    async with directory(World(), record("a"), refresh=False, config=config) as d:
        old = d.views()["a"].upstream
        await d.put(record("a", url="http://new"))
        assert d.views()["a"].upstream is not old
        await old.closed.wait()
        assert not d.views()["a"].upstream.closed.is_set()


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_check_of_the_old_record_does_not_describe_the_new_one(stubborn):
    world = World()
    asked, come = asyncio.Event(), asyncio.Event()

    async def late():
        asked.set()
        try:
            await come.wait()
        except asyncio.CancelledError:
            if not stubborn:
                raise
        return [Agent(name="old")]

    world.answers["http://a"] = late
    world.put("http://new", "new")
    async with directory(world, record("a"), refresh=False) as d:
        checking = asyncio.create_task(d.check("a"))
        await asked.wait()
        await d.put(record("a", url="http://new"))
        await checking
        assert agent_of(d, "a") is None
        assert (await d.check("a")).status == "ok"
        assert agent_of(d, "a") == "new"


async def test_a_new_record_is_asked_while_the_old_one_still_is():
    world = World()
    asked = asyncio.Event()

    async def hang():
        asked.set()
        await asyncio.Event().wait()

    world.answers["http://a"] = hang
    world.put("http://new", "new")
    async with directory(world, record("a"), refresh=False) as d:
        checking = asyncio.create_task(d.check("a"))
        await asked.wait()
        await d.put(record("a", url="http://new"))
        await d.check("a")
        await checking
        assert agent_of(d, "a") == "new"
        assert world.asked == {"http://a": 1, "http://new": 1}


async def test_what_waits_to_be_closed_is_closed_at_the_end():
    async with directory(World(), record("a"), refresh=False) as d:
        old = d.views()["a"].upstream
        await d.put(record("a", url="http://new"))
        assert not old.closed.is_set()
    assert old.closed.is_set()


async def test_removing_forgets_everywhere_and_closes():
    world, store = World(), MemoryStore()
    world.put("http://a", "A")
    async with directory(world, record("a"), store=store, refresh=False) as d:
        await d.check("a")
        upstream = d.views()["a"].upstream
        await d.remove("a")
        assert (list(d.views()), list(d.records())) == ([], [])
        assert (list(await store.records()), await store.descriptions()) == ([], {})
        with pytest.raises(UnknownAgent):
            await d.remove("a")
        await upstream.closed.wait()


async def test_the_end_closes_every_upstream():
    async with directory(World(), record("a"), record("b", enabled=False), refresh=False) as d:
        upstreams = [d.get("a").upstream, d.get("b").upstream]
    assert all(upstream.closed.is_set() for upstream in upstreams)
