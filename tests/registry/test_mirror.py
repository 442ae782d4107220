"""The directory in a worker shows what the owner's does, with upstreams of its own."""

import asyncio
from contextlib import asynccontextmanager

import msgspec

from agentgw.gateway.config import Config
from agentgw.gateway.link import Unpack, pack
from agentgw.gateway.model import Agent, Health, Record
from agentgw.gateway.ports import Adapter
from agentgw.registry import mirror as mirrored
from agentgw.registry.memory import MemoryStore
from agentgw.registry.mirror import Mirror, News, Seen, Telling

from ..support.agents import FakeHost, World, adapter, registry
from ..support.memory import MemoryUpstream


def seen(name, *, description="", url="", status="ok", **fields):
    record = Record(name=name, protocol="a2a", url=url or f"http://{name}", **fields)
    return Seen(record, Agent(name=name, description=description), Health(status=status))


@asynccontextmanager
async def mirror(look=None, said=None):
    async def nothing(name):
        raise AssertionError(name)

    world = World()
    made = Mirror({"a2a": adapter("a2a", world)}, FakeHost({}), Config(), look or nothing, said or print)
    try:
        yield made
    finally:
        await made.aclose()


def notified(made):
    calls = []
    made.on_change(lambda: calls.append(None))
    return calls


async def test_shows_what_it_is_told():
    async with mirror() as made:
        calls = notified(made)
        before = made.views()
        made.take(News([seen("one"), seen("two")]))
        assert list(made.views()) == ["one", "two"] and not before
        made.take(News([seen("one", description="new")], ["two"]))
        assert list(made.views()) == ["one"]
        assert made.views()["one"].description == "new"
        await asyncio.sleep(0)
        assert len(calls) == 1  # both at one time


async def test_an_upstream_stays_as_long_as_it_reaches_the_same():
    async with mirror() as made:
        made.take(News([seen("one"), seen("two")]))
        one, two = (made.views()[name].upstream for name in ("one", "two"))
        made.take(News([seen("one", status="down"), seen("two", url="http://elsewhere")]))
        assert made.views()["one"].upstream is one
        assert made.views()["one"].health.status == "down"
        assert made.views()["two"].upstream is not two
        made.take(News(gone=["one"]))
        await one.closed.wait()


async def test_health_alone_is_no_change_of_lists():
    async with mirror() as made:
        made.take(News([seen("one")]))
        await asyncio.sleep(0)
        calls = notified(made)
        made.take(News([seen("one", status="down")]))
        await asyncio.sleep(0)
        assert not calls


async def test_an_upstream_reads_again_what_another_process_found_changed():
    async with mirror() as made:
        made.take(News([seen("one")]))
        told = []
        made.views()["one"].upstream.outdated = lambda: told.append(None)
        made.take(News([seen("one", status="down")]))
        assert not told
        made.take(News([seen("one", description="new")]))
        assert told


async def test_who_was_never_described_is_looked_at_by_the_owner():
    asked = []

    async def look(name):
        asked.append(name)
        made.take(News([seen("one", description="found")]))

    async with mirror(look) as made:
        made.take(News([Seen(seen("one").record, None, Health())]))
        assert (await made.described("one")).description == "found"
        assert (await made.described("one")).description == "found"
        assert await made.described("nobody") is None
        assert asked == ["one"]


async def test_only_what_has_changed_is_told():
    world, store = World(), MemoryStore()
    for name in ("one", "two"):
        world.put(f"http://{name}", name)
        await store.put_record(Record(name=name, protocol="a2a", url=f"http://{name}"))
    _, directory = registry(adapter("a2a", world), store=store)
    await directory.start(refresh=False)
    telling = Telling()
    first = telling.news(directory.views())
    assert [s.record.name for s in first.agents] == ["one", "two"]
    assert Unpack(News)(pack(first)) == first
    assert telling.news(directory.views()) is None
    await directory.check("one")
    assert [s.record.name for s in telling.news(directory.views()).agents] == ["one"]
    record = directory.get("two").record
    await directory.put(msgspec.structs.replace(record, enabled=False))
    assert telling.news(directory.views()) == News(gone=["two"])
    await directory.aclose()


async def test_looks_after_its_own_processes(monkeypatch):
    """The owner's look at an agent says nothing of the process that a worker has of it."""
    monkeypatch.setattr(mirrored, "EVERY", 0.001)
    woken = asyncio.Event()

    class Process(MemoryUpstream):
        async def wake(self):
            woken.set()

    process = Adapter(id="a2a", title="A2A", stdio=True, upstream=lambda record, host: Process())
    made = Mirror({"a2a": process}, FakeHost({}), Config(), print, print)
    await made.start()
    try:
        record = Record(name="one", protocol="a2a", command=("serve",))
        made.take(News([Seen(record, None, Health())]))
        async with asyncio.timeout(60):
            await woken.wait()
    finally:
        await made.aclose()
