"""All stores keep what they are given; the SQLite one alone also keeps it across processes."""

import asyncio
import contextlib
import os
import socket
import sqlite3
import stat
import sys
import tempfile
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.access import SPACE, Access
from agentgw.gateway.control import AddKey
from agentgw.gateway.errors import ConfigError
from agentgw.gateway.link import Link
from agentgw.gateway.model import (
    Agent,
    Artifact,
    ArtifactDelta,
    Data,
    Fault,
    File,
    Finished,
    Logged,
    Message,
    Progress,
    Record,
    Skill,
    Started,
    Task,
    TaskRef,
    TaskState,
    Text,
    Trace,
)
from agentgw.gateway.store import Batch, Place, StoredContext, StoredLog, StoredTask
from agentgw.gateway.telemetry import LENGTH, Span, Template, Tracer, span_json
from agentgw.registry import contexttable, lock, schema
from agentgw.registry.keys import Keys
from agentgw.registry.memory import MemoryStore
from agentgw.registry.remote import remote, served
from agentgw.registry.sqlite import FILE, PAGE, WAL, SqliteStore

from ..support.examples import examples

encode = msgspec.json.encode

# --- what goes in comes out -----------------------------------------------------------------------

word = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json = st.recursive(
    st.none() | st.booleans() | numbers | word,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(word, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(word, json, max_size=3)
extra = st.dictionaries(st.sampled_from(["mcp", "a2a", "acp"]), objects, max_size=2)
parts = st.lists(
    st.builds(Text, text=word, media_type=st.none() | word, metadata=st.none() | objects, extra=extra)
    | st.builds(Data, data=json, name=st.none() | word)
    | st.builds(File, content=st.none() | st.binary(max_size=20), uri=st.none() | word),
    max_size=3,
).map(tuple)
messages = st.builds(Message, role=st.sampled_from(["user", "agent"]), parts=parts, extra=extra)
tasks = st.builds(
    Task,
    id=word,
    context_id=word,
    agent=word,
    state=st.sampled_from(TaskState),
    input=st.none() | messages,
    messages=st.lists(messages, max_size=2).map(tuple),
    fault=st.none() | st.builds(Fault, code=word, message=word, data=json),
    created_at=word,
    extra=extra,
)
stored = st.builds(
    StoredTask,
    task=tasks,
    principal=word,
    upstream=st.none() | st.builds(TaskRef, task_id=word, context_id=st.none() | word),
    last_seq=st.integers(0, 2**40),
)
events = (
    st.builds(Started, task_id=st.none() | word)
    | st.builds(Progress, message=st.none() | word, data=json)
    | st.builds(
        ArtifactDelta, artifact=st.builds(Artifact, artifact_id=word, parts=parts), append=st.booleans()
    )
    | st.builds(Finished, state=st.sampled_from(TaskState), message=st.none() | messages)
)
records = st.builds(
    Record,
    name=word,
    protocol=word,
    url=st.none() | word,
    command=st.lists(word, max_size=2).map(tuple),
    headers=st.dictionaries(word, word, max_size=2),
    enabled=st.booleans(),
    idle_timeout=st.none() | st.floats(0, 1e6),
)
agents = st.builds(
    Agent,
    name=word,
    skills=st.lists(st.builds(Skill, id=word, name=word, input_schema=st.none() | objects), max_size=2).map(
        tuple
    ),
    conversational=st.booleans(),
    extra=extra,
)


@asynccontextmanager
async def opened(kind, home: Path, **options):
    store = MemoryStore(**options) if kind == "memory" else SqliteStore(home, **({"spans": 100} | options))
    await store.open()
    try:
        if not isinstance(store, SqliteStore) or kind == "sqlite":
            yield store
            return
        here, there = socket.socketpair()
        owner, worker = await Link(served(store)).open(here), await Link({}).open(there)
        yield remote(worker)
        worker.close()
        owner.close()
    finally:
        await store.aclose()


@pytest.fixture(params=["memory", "sqlite", "remote"])
def kind(request):
    return request.param


@examples(30)
@given(stored, st.lists(events, max_size=4), records, agents)
def test_everything_comes_back_as_it_was(stored, events, record, agent):
    async def there_and_back(kind, home):
        log = [Logged(seq=n, at="2026-01-01T00:00:00Z", event=e) for n, e in enumerate(events, 1)]
        async with opened(kind, home) as store:
            await store.save(Batch(tasks=[stored], events=[(stored.task.id, log)]))
            await store.put_record(record)
            await store.put_description(record.name, agent)
            assert await store.load_task(stored.task.id) == stored
            assert list(await store.load_tasks()) == [stored]
            assert list(await store.load_events(stored.task.id)) == log
            assert list(await store.load_events(stored.task.id, after=1)) == log[1:]
            assert list(await store.records()) == [record]
            assert await store.descriptions() == {record.name: agent}

    for kind in ("memory", "sqlite", "remote"):
        with tempfile.TemporaryDirectory() as home:
            asyncio.run(there_and_back(kind, Path(home)))


# --- registry -------------------------------------------------------------------------------------


def record(name: str, **fields) -> Record:
    return Record(name=name, protocol="mcp", url=f"http://127.0.0.1/{name}", **fields)


async def test_records_are_replaced_sorted_and_removed_with_their_description(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        for r in (record("b"), record("a"), record("b", description="newer")):
            await store.put_record(r)
        await store.put_description("a", Agent(name="a"))
        assert list(await store.records()) == [record("a"), record("b", description="newer")]
        await store.remove_record("a")
        await store.remove_record("never-there")
        assert [r.name for r in await store.records()] == ["b"]
        assert await store.descriptions() == {}


# --- tasks ----------------------------------------------------------------------------------------


def stored_task(id: str, at: int, state=TaskState.COMPLETED, agent="a", context="c", principal="p"):
    task = Task(id=id, context_id=context, agent=agent, state=state, created_at=f"2026-01-01T00:00:{at:02}Z")
    return StoredTask(task=task, principal=principal)


async def test_tasks_are_found_by_what_is_known_of_them_newest_first(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        await store.save(
            Batch(
                tasks=[
                    stored_task("old", 1),
                    stored_task("new", 3, agent="b"),
                    stored_task("mid", 2, state=TaskState.WORKING, context="d"),
                    stored_task("other", 4, principal="q"),
                ]
            )
        )

        async def ids(**wanted):
            return [t.task.id for t in await store.load_tasks(**wanted)]

        assert await ids() == ["other", "new", "mid", "old"]
        assert await ids(limit=2) == ["other", "new"]
        assert await ids(principal="p") == ["new", "mid", "old"]
        assert await ids(principal="p", agent="a") == ["mid", "old"]
        assert await ids(context_id="d") == ["mid"]
        assert await ids(states=[TaskState.WORKING, TaskState.FAILED]) == ["mid"]
        assert await store.load_task("nobody") is None


async def test_a_task_saved_again_replaces_itself(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        await store.save(Batch(tasks=[stored_task("t", 1, state=TaskState.WORKING)]))
        await store.save(Batch(tasks=[stored_task("t", 1)]))
        assert [t.task.state for t in await store.load_tasks()] == [TaskState.COMPLETED]


async def test_the_oldest_ended_tasks_go_with_their_events_past_the_limit(kind, tmp_path):
    async with opened(kind, tmp_path, tasks=2) as store:
        entry = Logged(seq=1, at="", event=Started())
        everyone = [stored_task("running", 0, state=TaskState.WORKING), stored_task("ended", 1)]
        await store.save(Batch(tasks=everyone, events=[("running", [entry]), ("ended", [entry])]))
        await store.save(Batch(tasks=[stored_task("newest", 2)]))
        assert [t.task.id for t in await store.load_tasks()] == ["newest", "running"]
        assert list(await store.load_events("ended")) == []
        assert list(await store.load_events("running")) == [entry]


async def test_of_a_forgotten_task_no_later_events_stay_on_disk(tmp_path):
    """Those that stand in rows of their own, beside the task."""
    path = tmp_path / "agentgw.db"
    async with opened("sqlite", tmp_path, tasks=2) as store:
        log = [Logged(seq=n, at="", event=Started()) for n in (1, 2)]
        for seq, state in ((0, TaskState.WORKING), (1, TaskState.COMPLETED)):
            both = [stored_task("going", 0, state=TaskState.WORKING), stored_task("gone", 1, state=state)]
            await store.save(Batch(tasks=both, events=[(t.task.id, [log[seq]]) for t in both]))
        rows = "SELECT count(*) FROM chunks"
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute(rows).fetchone() == (2,)
            await store.save(Batch(tasks=[stored_task("newest", 2)]))
            assert db.execute(rows).fetchone() == (1,)
        assert list(await store.load_events("going")) == log


async def test_places_and_logs_are_read_without_the_tasks(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        log = [Logged(seq=n, at="", event=Started()) for n in (1, 2, 3)]
        states = (TaskState.WORKING, TaskState.INPUT_REQUIRED, TaskState.WORKING)
        tasks = [stored_task(f"t{n}", n, state=state) for n, state in enumerate(states)]
        await store.save(Batch(tasks=tasks, events=[("t0", log), ("t2", log[:1])]))
        found = await store.load_places([TaskState.WORKING, TaskState.SUBMITTED], 10)
        assert [place.id for place in found] == ["t2", "t0"]
        task = tasks[0]
        assert found[1] == Place("t0", task.principal, task.task.agent, task.task.context_id)
        assert [p.id for p in await store.load_places([TaskState.WORKING], 1)] == ["t2"]
        logs = await store.load_logs([("t2", 0), ("t0", 1), ("nobody", 0)])
        assert list(logs) == [StoredLog(tuple(log[:1]), 1), StoredLog(tuple(log[1:]), 3), StoredLog()]


def context(id, upstream, *, principal="p", agent="a", turn=True):
    return StoredContext(principal=principal, agent=agent, context_id=id, upstream_id=upstream, turn=turn)


async def test_a_conversation_is_found_as_it_was_last_saved(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        await store.save(Batch(contexts=[context("one", "1"), context("two", "2")]))
        await store.save(Batch(contexts=[context("one", "renamed"), context("one", "b's", agent="b")]))
        assert await store.find_context("p", "a", "one") == context("one", "renamed")
        assert await store.find_context("p", "a", "two") == context("two", "2")
        assert await store.find_context("q", "a", "one") is None
        assert await store.find_context("p", "a", "three") is None


async def test_a_conversation_s_agent_is_the_one_it_went_to_last(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        await store.save(Batch(contexts=[context("c", "1"), context("c", "x", agent="evil", turn=False)]))
        assert await store.context_agent("p", "c") == "a"
        await store.save(Batch(contexts=[context("c", "x", agent="evil", turn=False)]))
        assert await store.context_agent("p", "c") == "a"
        await store.save(Batch(contexts=[context("c", "2", agent="b"), context("named", "3", turn=False)]))
        assert await store.context_agent("p", "c") == "b"
        assert await store.context_agent("p", "named") == "a"
        assert await store.context_agent("q", "c") is None


async def test_what_an_agent_calls_a_conversation_stays_its_first_principal_s(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        await store.save(Batch(contexts=[context("one", "u"), context("silent", "")]))
        await store.save(Batch(contexts=[context("two", "u", principal="q"), context("one", "u")]))
        await store.save(Batch(contexts=[context("one", "u")]))
        await store.save(Batch(contexts=[context("two", "u", principal="q")]))
        assert await store.context_owner("a", "u") == "p"
        assert await store.context_owner("b", "u") is None
        assert await store.context_owner("a", "") is None


async def test_sqlite_finds_conversations_again_after_a_start_and_forgets_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr(contexttable, "CHANGES", 6)
    monkeypatch.setattr(contexttable, "GENERATION", 3)

    async def known(store):
        return [n for n in range(10) if await store.find_context("p", "a", f"c{n}")]

    async with opened("sqlite", tmp_path) as store:
        for n in range(10):
            await store.save(Batch(contexts=[context(f"c{n}", f"u{n}")]))
            assert await store.find_context("p", "a", f"c{n}") == context(f"c{n}", f"u{n}")
        kept = await known(store)
        assert kept[-3:] == [7, 8, 9]
    async with opened("sqlite", tmp_path) as store:
        assert await known(store) == list(range(4, 10))
        assert await store.context_owner("a", "u9") == await store.context_owner("a", "u4") == "p"
        assert await store.context_agent("p", "c4") == "a"


# --- spans ----------------------------------------------------------------------------------------


def span(trace: str, start_ms: int, *, kind="server", agent="analyst", state="completed", name="call"):
    start = 1_767_225_600_000_000_000 + start_ms * 1_000_000
    shared = Template(name, kind, {"agentgw.client_protocol": "mcp", "agentgw.agent": agent or None})
    own = {"agentgw.agent_protocol": "a2a", "agentgw.state": state}
    return Span(shared, trace * 32, "0" * 16, None, True, None, None, own, start, None, start + 12_500_000)


async def test_a_trace_is_listed_as_its_outermost_call(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        await store.save(
            Batch(spans=[span("a", 20, agent="inner", state="failed"), span("a", 15, kind="client")])
        )
        await store.save(Batch(spans=[span("a", 10, agent="outer"), span("b", 30), span("c", 40, agent="")]))
        await store.save(Batch(spans=[span("a", 25, agent="later", state="failed")]))
        listed = await store.traces()
        assert [row["trace_id"][0] for row in listed] == ["b", "a"]
        assert listed[1] == {
            "trace_id": "a" * 32,
            "agent": "outer",
            "client_protocol": "mcp",
            "agent_protocol": "a2a",
            "state": "completed",
            "started_at": "2026-01-01T00:00:00.010Z",
            "duration_ms": 12.5,
        }
        assert len(await store.traces(limit=1)) == 1


async def test_a_trace_is_found_by_its_unambiguous_beginning(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        await store.save(Batch(spans=[span("a", 2, name="second"), span("a", 1, name="first"), span("b", 3)]))
        assert [s["name"] for s in await store.trace("aaaa")] == ["first", "second"]
        assert [s["name"] for s in await store.trace("a" * 32)] == ["first", "second"]
        assert list(await store.trace("")) == []
        assert list(await store.trace("c")) == []


async def test_spans_come_back_as_they_were(kind, tmp_path):
    tracer = Tracer()
    server = Template("tools/call über", "server", {"a": "ü", "b": 1, "n": 1, "f": 0.5, "yes": True})
    outer = tracer.start(server, Trace(), {"own": "é", "b": 2})
    inner = tracer.start(Template("tools/call über", "client"), outer.trace)
    inner.end("timeout")
    outer.end()
    spans = tracer.drain()
    async with opened(kind, tmp_path) as store:
        await store.save(Batch(spans=spans))
        assert await store.trace(outer.trace_id) == [span_json(outer), span_json(inner)]


async def test_a_span_that_cannot_be_written_takes_no_other_along(tmp_path):
    async with opened("sqlite", tmp_path) as store:
        await store.save(
            Batch(
                spans=[span("a", 1), span("a", 2, name="\ud800"), span("a", 3, state="\ud800"), span("a", 4)]
            )
        )
        assert [s["name"] for s in await store.trace("a")] == ["call", "", "", "call"]


async def test_what_is_long_is_cut(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        long = span("a", 1, name="x" * 5000, agent="ü" * 5000, state="y" * 5000)
        await store.save(Batch(spans=[long, span("b", 2)]))
        (cut,) = await store.trace("a")
        assert (cut["name"], cut["attributes"]["agentgw.agent"]) == ("x" * LENGTH, "ü" * LENGTH)
        assert cut["attributes"]["agentgw.state"] == "y" * LENGTH


async def test_many_spans_at_once_are_kept_up_to_the_number(kind, tmp_path):
    async with opened(kind, tmp_path, spans=600) as store:
        await store.save(Batch(spans=[span("a", at, name=str(at)) for at in range(700)]))
        await store.save(Batch(spans=[span("a", 700, name="700")]))
        assert [s["name"] for s in await store.trace("a")] == [str(at) for at in range(101, 701)]


async def test_the_oldest_spans_go_and_take_their_trace_along(kind, tmp_path):
    async with opened(kind, tmp_path, spans=3) as store:
        await store.save(Batch(spans=[span("a", 1), span("b", 2), span("b", 3, kind="client")]))
        await store.save(Batch(spans=[span("c", 4)]))
        assert [row["trace_id"][0] for row in await store.traces()] == ["c", "b"]
        assert list(await store.trace("a")) == []
        await store.save(Batch(spans=[span("d", 5), span("d", 6, kind="client")]))
        assert [row["trace_id"][0] for row in await store.traces()] == ["d", "c"]


# --- the data directory ---------------------------------------------------------------------------


async def test_what_was_stored_is_there_at_the_next_start(tmp_path):
    async with opened("sqlite", tmp_path) as store:
        await store.put_record(record("a"))
        await store.save(Batch(tasks=[stored_task("t", 1)]))
    async with opened("sqlite", tmp_path) as store:
        assert list(await store.records()) == [record("a")]
        assert await store.load_task("t") == stored_task("t", 1)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
async def test_only_the_owner_may_look_in(tmp_path):
    home = tmp_path / "new" / "home"
    async with opened("sqlite", home) as store:
        await store.put_record(record("a"))
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
        assert modes == dict.fromkeys(("agentgw.db", "agentgw.db-wal", "agentgw.db-shm", "lock"), 0o600)


async def test_a_registry_is_read_beside_its_owner_and_after(tmp_path):
    async with opened("sqlite", tmp_path) as store:
        await store.put_record(record("a"))
        await store.put_description("a", Agent(name="a"))
        assert SqliteStore.read_registry(tmp_path) == ([record("a")], {"a": Agent(name="a")})
        await store.put_record(record("b"))
        assert len(SqliteStore.read_registry(tmp_path)[0]) == 2
    before = sorted(p.name for p in tmp_path.iterdir())
    assert len(SqliteStore.read_registry(tmp_path)[0]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_reading_no_registry_makes_none(tmp_path):
    assert SqliteStore.read_registry(tmp_path / "none") == ([], {})
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database_is_one_clear_line(tmp_path):
    (tmp_path / "agentgw.db").write_bytes(b"not a database at all, but long enough to have a header" * 30)
    with pytest.raises(ConfigError, match=r"agentgw\.db can't be used: .*move it away"):
        await SqliteStore(tmp_path, spans=1).open()
    with pytest.raises(ConfigError, match="can't be used"):
        SqliteStore.read_registry(tmp_path)


async def test_a_failed_start_gives_the_lock_back(tmp_path):
    (tmp_path / "agentgw.db").write_bytes(b"x" * 4096)
    store = SqliteStore(tmp_path, spans=1)
    with pytest.raises(ConfigError):
        await store.open()
    await store.aclose()  # as a gateway's clean-up does
    (tmp_path / "agentgw.db").unlink()
    async with opened("sqlite", tmp_path, wait=0):
        pass


async def test_damaged_rows_are_one_clear_line(tmp_path):
    async with opened("sqlite", tmp_path) as store:
        await store.put_record(record("a"))
    with sqlite3.connect(tmp_path / "agentgw.db") as db:
        db.execute("UPDATE agents SET value = '{\"name\": 1}'")
    db.close()
    async with opened("sqlite", tmp_path) as store:
        with pytest.raises(ConfigError) as caught:
            await store.records()
    assert str(tmp_path) not in caught.value.message  # clients may hear of it
    assert f"the data in {tmp_path / 'agentgw.db'} can't be read" in caught.value.operator


async def test_a_task_that_can_not_be_read_takes_no_other_along(tmp_path, caplog):
    log = [Logged(seq=1, at="", event=Started(task_id="x"))]
    async with opened("sqlite", tmp_path) as store:
        stored = [stored_task(id, number) for number, id in enumerate(("good", "bad", "logless"))]
        await store.save(Batch(tasks=stored, events=[("good", log), ("logless", log)]))
    with sqlite3.connect(tmp_path / "agentgw.db") as db:
        db.execute("UPDATE tasks SET value = '{\"task\": {\"secret-word\": 1' WHERE id = 'bad'")
        db.execute("UPDATE tasks SET log = '[\"secret-word\"]' WHERE id = 'logless'")
    db.close()
    async with opened("sqlite", tmp_path) as store:
        for _ in range(2):
            found = await store.load_known(["good", "bad", "logless"])
            assert [s.task.id for s in found] == ["good", "logless"]
            assert {s.task.id for s in await store.load_tasks()} == {"good", "logless"}
            with pytest.raises(ConfigError, match="the gateway can't use its data now"):
                await store.load_task("bad")
            logs = await store.load_logs([("logless", 0), ("good", 0)])
            assert logs == [StoredLog(whole=False), StoredLog(tuple(log), 1)]
            with pytest.raises(ConfigError):
                await store.load_events("logless")
    assert [record.args for record in caplog.records] == [
        ("a task of a", "bad"),
        ("what a task has done", "logless"),
    ]


async def test_a_batch_that_fails_leaves_nothing_behind(tmp_path):
    async with opened("sqlite", tmp_path) as store:
        good, bad = Logged(seq=1, at="", event=Started()), Logged(seq=2**70, at="", event=Started())
        await store.save(Batch(tasks=[stored_task("running", 1)]))
        batch = Batch(
            tasks=[stored_task("t", 1)],
            events=[("t", [good]), ("running", [good, bad])],
            contexts=[context("c", "u")],
            spans=[span("a", 1)],
        )
        with pytest.raises(OverflowError):
            await store.save(batch)
        assert await store.load_task("t") is None
        assert await store.find_context("p", "a", "c") is None
        assert list(await store.traces()) == []
        batch.events = [("t", [good]), ("running", [good])]
        await store.save(batch)
        assert await store.load_task("t") is not None
        assert await store.find_context("p", "a", "c") is not None
        for id in ("t", "running"):
            assert list(await store.load_events(id)) == [good]


# --- migrations -----------------------------------------------------------------------------------


def tables(db):
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_migrations_take_up_where_the_database_stands():
    steps = ("CREATE TABLE one (x);", "CREATE TABLE two (x); INSERT INTO one VALUES (1);")
    db = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(db, steps[:1])
    schema.migrate(db, steps)
    schema.migrate(db, steps)
    assert tables(db) == {"one", "two"}
    assert schema.schema_version(db) == 2
    assert db.execute("SELECT count(*) FROM one").fetchone() == (1,)


def test_a_migration_that_fails_changes_nothing():
    db = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(db, ("CREATE TABLE one (x);",))
    with pytest.raises(sqlite3.Error):
        schema.migrate(db, ("", "CREATE TABLE two (x); INSERT INTO nowhere VALUES (1);"))
    assert tables(db) == {"one"}
    assert schema.schema_version(db) == 1


@pytest.mark.parametrize("page", [None, 4096])
async def test_what_waits_in_the_log_has_one_size_whatever_the_pages_of_an_old_file(tmp_path, page):
    if page is not None:
        db = sqlite3.connect(tmp_path / FILE)
        db.execute(f"PRAGMA page_size = {page}")
        db.execute("CREATE TABLE x (x)")
        db.close()
    async with opened("sqlite", tmp_path) as store:

        def read():
            return [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in NAMES]

        size, pages = await store._run(read)
    assert size == (page or PAGE)
    assert size * pages == WAL


NAMES = ("page_size", "wal_autocheckpoint")


async def test_a_resting_store_is_as_it_was(tmp_path):
    async with opened("sqlite", tmp_path) as store:
        await store.save(Batch(tasks=[stored_task("t", 1)]))
        await store.rest()
        assert await store.load_task("t") == stored_task("t", 1)


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    db = sqlite3.connect(tmp_path / "agentgw.db")
    db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(ConfigError, match="newer agentgw"):
        await SqliteStore(tmp_path, spans=1).open()


# --- one owner ------------------------------------------------------------------------------------


HOLD = """
import asyncio, sys
from pathlib import Path
from agentgw.registry.sqlite import FILE, PAGE, WAL, SqliteStore

async def hold():
    store = SqliteStore(Path(sys.argv[1]), spans=1, holder="agentgw serve")
    await store.open()
    print("held", flush=True)
    sys.stdin.read()
    await store.aclose()

asyncio.run(hold())
"""


@asynccontextmanager
async def another_owner(home: Path):
    """A process that owns ``home`` until its standard input ends."""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(home), stdin=PIPE, stdout=PIPE
    )
    try:
        assert await owner.stdout.readline() == b"held\n"
        yield owner
    finally:
        if owner.returncode is None:
            owner.kill()
        await owner.wait()


async def test_two_processes_take_turns(tmp_path):
    async with another_owner(tmp_path) as owner:
        with pytest.raises(ConfigError) as refused:
            await SqliteStore(tmp_path, spans=1, wait=0).open()
        assert f"in use by agentgw serve (process {owner.pid})" in refused.value.message
        waiting = SqliteStore(tmp_path, spans=1, wait=30)
        opening = asyncio.create_task(waiting.open())
        owner.stdin.close()
        await opening
        assert lock.holder(tmp_path) == lock.Holder(pid=os.getpid(), name="agentgw")
        await waiting.aclose()
        assert lock.holder(tmp_path) is None


async def test_a_killed_owner_leaves_the_directory_free(tmp_path):
    async with another_owner(tmp_path) as owner:
        owner.kill()
        await owner.wait()
        async with opened("sqlite", tmp_path, wait=0):
            pass


async def test_items_are_kept_by_space(kind, tmp_path):
    async with opened(kind, tmp_path) as store:
        await store.put_item("a", "k", b"\x00\xff")
        await store.put_item("a", "k2", b"2")
        await store.put_item("a", "k", b"new")
        await store.put_item("b", "k", b"other")
        await store.remove_item("a", "k2")
        await store.remove_item("a", "nothing")
        assert await store.items("a") == {"k": b"new"}
        assert await store.items("b") == {"k": b"other"}
        assert await store.items("c") == {}


def as_it_was(home: Path, version: int) -> None:
    """A database as the gateway left it whose schema had this version."""
    old = {
        "name": "tools/call x", "trace_id": "a" * 32, "span_id": "1" * 16, "parent_id": None,
        "kind": "server", "start": 1_767_225_600_000_000_000, "duration_ms": 12.346,
        "attributes": {"agentgw.agent": "analyst", "agentgw.state": "completed", "n": 1}, "status": "error",
    }  # fmt: skip
    with contextlib.closing(sqlite3.connect(home / "agentgw.db", isolation_level=None)) as db:
        schema.migrate(db, schema.STEPS[:version])
        db.execute("INSERT INTO agents VALUES (?, ?)", ("a", encode(record("a"))))
        task = encode(stored_task("t", 1))
        columns = "id, principal, agent, context_id, state, created_at, value"
        row = ("t", "p", "a", "c", "completed", "2026-01-01", task)
        db.execute(f"INSERT INTO tasks ({columns}) VALUES ({', '.join('?' * 7)})", row)
        if version >= schema.WITH_ITEMS:
            db.execute("INSERT INTO items VALUES (?, 'ci', ?)", (SPACE, encode(OLD_KEY)))
        if version < 3:
            for at in range(300):
                value = encode({**old, "start": old["start"] + at, "span_id": f"{at:016}"})
                db.execute("INSERT INTO spans VALUES (?, ?, ?, ?)", (at + 5, "a" * 32, at, value))
            db.execute("INSERT INTO traces VALUES (?, ?, ?)", ("a" * 32, old["start"], b"{}"))
        else:
            begun = old["start"]
            rows = [(0, "tools/call x", "a" * 32, f"{at:016}", None, begun + at, begun + at + 12_346_000,
                     "analyst", "completed", 1) for at in range(300)]  # fmt: skip
            shape = ["server", "error", "agentgw.agent", "agentgw.state", "n"]
            value = encode({"shapes": [shape], "spans": rows})
            db.execute("INSERT INTO segments VALUES (300, 300, ?)", (value,))
        if version < 4:
            for seq in (1, 2):
                event = encode(Logged(seq=seq, at="", event=Progress(message=str(seq))))
                db.execute("INSERT INTO events VALUES ('t', ?, ?)", (seq, event))
            for name in ("one", "two"):
                db.execute("INSERT INTO contexts VALUES ('p', 'a', ?, 'u')", (name,))


# As keys were kept before they had rates.
OLD_KEY = {
    "name": "ci", "id": "0123456789abcdef", "hash": "ab" * 32, "agents": ["a"], "admin": False,
    "created_at": 1.5, "expires_at": None, "revoked_at": None,
}  # fmt: skip


@pytest.mark.parametrize("version", range(schema.WITH_ITEMS, len(schema.STEPS) + 1))
async def test_the_keys_of_a_former_version_are_good(tmp_path, version):
    as_it_was(tmp_path, version)
    async with opened("sqlite", tmp_path) as store:
        keys = Keys(store)
        access = Access("owner")
        access.take(await keys.all())
        assert [(k.name, k.agents, k.rate, k.state) for k in await keys.list()] == [
            ("ci", ("a",), None, "active")
        ]
        assert access.closed
        new = await keys.create(AddKey(name="more", rate=5.0))
        assert [(k.name, k.rate) for k in await keys.list()] == [("ci", None), ("more", 5.0)]
        assert new.secret


@pytest.mark.parametrize("version", range(1, len(schema.STEPS)))
async def test_what_a_former_version_kept_is_still_there(tmp_path, version):
    as_it_was(tmp_path, version)
    async with opened("sqlite", tmp_path, spans=1000) as store:
        await store.put_item("a", "k", b"v")
        assert await store.items("a") == {"k": b"v"}
        assert list(await store.records()) == [record("a")]
        assert await store.load_task("t") == stored_task("t", 1)
        assert [t.task.id for t in await store.load_tasks(principal="p")] == ["t"]
        if version < 4:
            assert [e.event for e in await store.load_events("t")] == [
                Progress(message="1"), Progress(message="2")
            ]  # fmt: skip
            for name in ("one", "two"):
                assert await store.find_context("p", "a", name) == context(name, "u")
        await store.save(Batch(spans=[span("b", 1)]))
        (new, *old) = await store.traces()
        assert new["trace_id"] == "b" * 32
        assert [(row["agent"], row["started_at"], row["duration_ms"]) for row in old] == [
            ("analyst", "2026-01-01T00:00:00.000Z", 12.346)
        ]
        spans = await store.trace("a")
        assert [s["span_id"] for s in spans] == [f"{at:016}" for at in range(300)]
        assert (spans[0]["name"], spans[0]["status"]) == ("tools/call x", "error")
        assert spans[0]["attributes"] == {"agentgw.agent": "analyst", "agentgw.state": "completed", "n": 1}


@pytest.mark.parametrize("other", [{"principal": "bob"}, {"agent": "evil"}])
async def test_a_task_stays_its_principals_and_its_agents(kind, tmp_path, other):
    task = Task(id="t", context_id="c", agent=other.get("agent", "echo"), state=TaskState.FAILED)
    async with opened(kind, tmp_path) as store:
        mine = StoredTask(task=Task(id="t", context_id="c", agent="echo"), principal="alice")
        await store.save(Batch(tasks=[mine]))
        await store.save(Batch(tasks=[StoredTask(task=task, principal=other.get("principal", "alice"))]))
        assert await store.load_task("t") == mine
