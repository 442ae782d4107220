"""What a former process left at work, with agents in memory: each piece once, an end in every case."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway import pickup, taskbook
from agentgw.gateway.catchup import CatchUp
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.engine import Hub
from agentgw.gateway.errors import ConfigError, Draining, UnknownTask, Unreachable
from agentgw.gateway.lifecycle import fold
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    Invocation,
    Message,
    MessageDelta,
    MessageDone,
    Principal,
    Progress,
    Started,
    Task,
    TaskRef,
    TaskState,
    Text,
    Trace,
    text_of,
)
from agentgw.gateway.ports import AgentView, Tell
from agentgw.gateway.store import Place, StoredTask
from agentgw.gateway.taskbook import TaskBook
from agentgw.gateway.tasklog import TaskLog
from agentgw.gateway.telemetry import Tracer
from agentgw.registry.memory import MemoryStore
from agentgw.registry.sqlite import SqliteStore

from ..support.memory import MemoryDirectory, MemoryUpstream, hub, say


class Keeps(MemoryUpstream):
    """An agent that keeps its tasks: ``there(known)`` is what happens when one is picked up."""

    def __init__(self, there: Callable[[Task], AsyncIterator[Event]]) -> None:
        super().__init__(begins)
        self.there = there

    async def rejoin(
        self, task: TaskRef, known: Task, trace: Trace, tell: Tell, *, follow: bool = True
    ) -> None:
        assert task.task_id == "theirs"
        tell(Started(task_id=task.task_id))
        async for event in self.there(known):
            tell(event)


async def begins(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="theirs")
    yield MessageDelta(parts=(Text(text="begun "),))
    await asyncio.Event().wait()


async def ends(known: Task) -> AsyncIterator[Event]:
    assert text_of(known.messages[-1].parts) == "begun "
    yield MessageDelta(parts=(Text(text="and ended"),))
    yield Finished(state=TaskState.COMPLETED)


async def killed(store: MemoryStore, agent: MemoryUpstream) -> tuple[Hub, str]:
    """A hub that had a call at work when it died."""
    first = hub(None, store, echo=agent)
    handle = await first.invoke(say("x", "echo"))
    async for logged in handle.events():
        if logged.seq == 2:
            break
    await first.flush()
    return first, handle.id


async def test_the_log_goes_on_where_it_was() -> None:
    store, agent = MemoryStore(), Keeps(ends)
    _, task_id = await killed(store, agent)
    engine = hub(None, store, echo=agent)
    await engine.start()
    handle = await engine.task(task_id, Principal())
    logged = [e async for e in handle.events()]
    assert [e.seq for e in logged] == [1, 2, 3, 4]
    assert [type(e.event) for e in logged] == [Started, MessageDelta, MessageDelta, Finished]
    assert text_of(handle.task.messages[0].parts) == "begun and ended"


async def test_an_agent_that_is_not_there_is_tried_again() -> None:
    tries: list[Task] = []

    async def there(known: Task) -> AsyncIterator[Event]:
        tries.append(known)
        if len(tries) == 1:
            raise Unreachable("echo is not there")
        if len(tries) == 2:
            yield MessageDelta(parts=(Text(text="and "),))
            raise Unreachable("the connection broke")
        assert text_of(known.messages[-1].parts) == "begun and "
        yield Finished(state=TaskState.COMPLETED)

    store, agent = MemoryStore(), Keeps(there)
    _, task_id = await killed(store, agent)
    engine = hub(None, store, echo=agent)
    await engine.start()
    task = await (await engine.task(task_id, Principal())).settled()
    assert (task.state, len(tries)) == (TaskState.COMPLETED, 3)


async def test_what_is_forgotten_has_failed() -> None:
    async def there(known: Task) -> AsyncIterator[Event]:
        raise UnknownTask("theirs")
        yield

    store, agent = MemoryStore(), Keeps(there)
    _, task_id = await killed(store, agent)
    engine = hub(None, store, echo=agent)
    await engine.start()
    task = await (await engine.task(task_id, Principal())).settled()
    assert task.fault is not None
    assert task.fault.message == "the gateway was restarted, and echo no longer knows the task"


@pytest.mark.parametrize("damaged", [7, 3], ids=["the last", "one among others"])
async def test_the_end_of_a_task_of_which_not_all_can_be_read_comes_after_all_there_is(
    damaged: int, tmp_path: Path
) -> None:
    """Whatever was written together."""
    more = [asyncio.Event() for _ in range(3)]

    async def script(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="theirs")
        for part, event in enumerate(more):
            await event.wait()
            for word in ("a", "b"):
                yield MessageDelta(parts=(Text(text=f"{word}{part} "),))
        await asyncio.Event().wait()

    store, agent = SqliteStore(tmp_path, spans=1), Keeps(ends)
    agent.script = script
    await store.open()
    first = hub(None, store, echo=agent)
    handle = await first.invoke(say("x", "echo"))
    events = handle.events()
    for count, event in zip((1, 2, 2, 2), (*more, None), strict=True):
        for _ in range(count):
            await anext(events)
        await first.flush()
        if event is not None:
            event.set()
    await store.aclose()
    with contextlib.closing(sqlite3.connect(tmp_path / "agentgw.db")) as db, db:
        found = db.execute("UPDATE chunks SET value = '[' WHERE last = ?", (damaged,)).rowcount
        assert found == 1

    store = SqliteStore(tmp_path, spans=1)
    await store.open()
    engine = hub(None, store, echo=agent)
    await engine.start()
    task = await (await engine.task(handle.id, Principal())).settled()
    await engine.flush()  # from here on it is read from there
    log = await (await engine.task(handle.id, Principal())).log()
    await engine.aclose()
    await store.aclose()
    assert [logged.seq for logged in log] == [seq for seq in range(1, 9) if seq not in (damaged - 1, damaged)]
    assert log[-1].event == Finished(state=TaskState.FAILED, fault=task.fault)
    assert task.fault is not None
    assert task.fault.message.endswith("what was kept of the call can't be read")


async def test_without_the_agent_it_has_failed() -> None:
    store = MemoryStore()
    _, task_id = await killed(store, Keeps(ends))
    engine = hub(None, store)
    await engine.start()
    task = (await engine.task(task_id, Principal())).task
    assert task.fault is not None
    assert task.fault.message == "the gateway was restarted, and echo is not there any more"


async def test_what_was_being_canceled_is_canceled() -> None:
    async def there(known: Task) -> AsyncIterator[Event]:
        await agent.canceled.wait()
        yield Finished(state=TaskState.CANCELED)

    store, agent = MemoryStore(), Keeps(there)
    first, task_id = await killed(store, agent)
    agent.on_cancel = lambda ref: asyncio.Event().wait()  # pyright: ignore[reportAttributeAccessIssue]
    await first.cancel(task_id, Principal())
    await first.flush()
    agent.canceled.clear()
    agent.on_cancel = None
    engine = hub(None, store, echo=agent)
    await engine.start()
    handle = await engine.task(task_id, Principal())
    assert (await handle.ended()).state is TaskState.CANCELED


async def test_a_stop_leaves_it_to_the_next_process() -> None:
    """Who follows it hears that the gateway stops; the task itself goes on."""
    store, agent = MemoryStore(), Keeps(ends)
    first, task_id = await killed(store, agent)
    handle = await first.task(task_id, Principal())
    following = asyncio.create_task(handle.settled())
    await asyncio.sleep(0)
    await first.aclose()
    assert type(following.exception()).__name__ == "Draining"
    engine = hub(None, store, echo=agent)
    await engine.start()
    assert (await (await engine.task(task_id, Principal())).settled()).state is TaskState.COMPLETED


async def test_a_stop_does_not_wait_for_an_absent_agent() -> None:
    async def there(known: Task) -> AsyncIterator[Event]:
        raise Unreachable("echo is not there")
        yield

    store, agent = MemoryStore(), Keeps(there)
    _, task_id = await killed(store, agent)
    engine = hub(None, store, echo=agent)
    await engine.start()
    await asyncio.wait_for(engine.drain(), 60)
    await engine.aclose()
    stored = await store.load_task(task_id)
    assert stored is not None
    assert stored.task.state is TaskState.WORKING


async def test_agents_are_not_asked_about_all_tasks_at_once() -> None:
    asked: list[Task] = []
    gate = asyncio.Event()

    class Silent(Keeps):
        async def rejoin(
            self, task: TaskRef, known: Task, trace: Trace, tell: Tell, *, follow: bool = True
        ) -> None:
            asked.append(known)
            await gate.wait()
            await super().rejoin(task, known, trace, tell)

    store, agent = MemoryStore(), Silent(ends)
    first = hub(None, store, echo=agent)
    handles = [await first.invoke(say("x", "echo")) for _ in range(pickup.AT_ONCE + 5)]
    for handle in handles:
        async for logged in handle.events():
            if logged.seq == 2:
                break
    await first.flush()
    engine = hub(None, store, echo=agent)
    await engine.start()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(asked) == pickup.AT_ONCE
    gate.set()
    for handle in handles:
        assert (await (await engine.task(handle.id, Principal())).settled()).state is TaskState.COMPLETED


class Held(MemoryStore):
    """Says only after ``open_`` is set what was at work."""

    def __init__(self) -> None:
        super().__init__()
        self.open_ = asyncio.Event()

    async def load_places(self, states: Sequence[TaskState], limit: int) -> Sequence[Place]:
        if TaskState.WORKING in states:
            await self.open_.wait()
        return await super().load_places(states, limit)


class Failing(MemoryStore):
    """Can't be read for the first two times."""

    tries = 0

    async def load_known(self, task_ids: Sequence[str]) -> Sequence[StoredTask]:
        self.tries += 1
        if self.tries <= 2:
            raise ConfigError("the disk is away")
        return await super().load_known(task_ids)


async def test_a_store_that_fails_at_the_start_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickup, "READ_FIRST", 0.0)
    picked_up = asyncio.Event()

    async def there(known: Task) -> AsyncIterator[Event]:
        picked_up.set()
        async for event in ends(known):
            yield event

    store, agent = Failing(), Keeps(there)
    await killed(store, agent)
    engine = hub(None, store, echo=agent)
    await engine.start()
    await asyncio.wait_for(picked_up.wait(), 60)  # nobody asked for it
    assert store.tries == 3


async def test_a_start_waits_for_none_and_who_is_asked_for_is_picked_up_then() -> None:
    asked: list[str] = []

    async def there(known: Task) -> AsyncIterator[Event]:
        asked.append(known.id)
        async for event in ends(known):
            yield event

    store, agent = Held(), Keeps(there)
    _, first = await killed(store, agent)
    _, second = await killed(store, agent)
    engine = hub(None, store, echo=agent)
    await engine.start()
    listed = await engine.tasks(Principal())
    assert [text_of(task.messages[-1].parts) for task in listed] == ["begun "] * 2
    both = await asyncio.gather(*(engine.task(first, Principal()) for _ in range(2)))
    assert both[0] is both[1]
    assert (await both[0].settled()).state is TaskState.COMPLETED
    assert asked == [first]
    store.open_.set()
    while len(asked) < 2:  # noqa: ASYNC110 - in the background, which tells nobody
        await asyncio.sleep(0)
    assert (await (await engine.task(second, Principal())).settled()).state is TaskState.COMPLETED
    assert asked == [first, second]
    await engine.aclose()


async def test_all_are_picked_up_once_however_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskbook, "AT_ONCE", 3)
    asked: list[str] = []

    async def there(known: Task) -> AsyncIterator[Event]:
        asked.append(known.id)
        async for event in ends(known):
            yield event

    store, agent = MemoryStore(), Keeps(there)
    ids = {(await killed(store, agent))[1] for _ in range(8)}
    engine = hub(None, store, echo=agent)
    await engine.start()
    entries = await asyncio.gather(*(engine.task(id, Principal()) for id in ids))
    states = {(await entry.settled()).state for entry in entries}
    assert states == {TaskState.COMPLETED}
    assert sorted(asked) == sorted(ids)
    await engine.aclose()


async def test_who_stops_before_it_has_picked_all_up_leaves_them_as_they_were() -> None:
    store, agent = Held(), Keeps(ends)
    _, task_id = await killed(store, agent)
    engine = hub(None, store, echo=agent)
    await engine.start()
    await engine.drain()
    store.open_.set()
    with pytest.raises(Draining):
        await (await engine.task(task_id, Principal())).settled()
    await engine.aclose()
    stored = await store.load_task(task_id)
    assert stored is not None
    assert stored.task.state is TaskState.WORKING


# --- each piece once -------------------------------------------------------------------------


def _events() -> st.SearchStrategy[list[Event]]:
    """The events of a turn as an agent tells them."""
    words = st.sampled_from(["a", "b ", "aa", "ab"])
    delta = st.builds(lambda w: MessageDelta(parts=(Text(text=w),)), words)
    piece = st.builds(
        lambda n, w, more: ArtifactDelta(
            artifact=Artifact(artifact_id=n, parts=(Text(text=w),)), append=more
        ),
        st.sampled_from(["x", "y"]),
        words,
        st.booleans(),
    )
    progress = st.just(Progress(message="busy"))
    return st.lists(st.one_of(delta, piece, progress, st.just("done")), max_size=12).map(_closed)


def _closed(said: list[Event | str]) -> list[Event]:
    """With messages that end where it says so."""
    events: list[Event] = [Started(task_id="theirs")]
    text = ""
    for event in said:
        if isinstance(event, str):
            if text:
                events.append(MessageDone(message=Message(role="agent", parts=(Text(text=text),))))
            text = ""
            continue
        if isinstance(event, MessageDelta):
            text += text_of(event.parts)
        events.append(event)
    return events


BLANK = Task(id="t", context_id="c", agent="echo")


@given(_events(), st.integers(0, 12), st.integers(1, 12))
def test_whatever_was_told_before_the_rest_follows(events: list[Event], told: int, cut: int) -> None:
    """From any point on, in looks of any size: the task comes out as if it had been told at one go."""
    known, whole = BLANK, BLANK
    for event in events:
        whole = fold(whole, event)
    for event in events[:told]:
        known = fold(known, event)
    catching, looks = CatchUp(known), [events[at : at + cut] for at in range(0, len(events), cut)]
    got = known
    for look in looks:
        for event in catching.news(look):
            got = fold(got, event)
    assert [(m.parts, m.extra) for m in got.messages] == [(m.parts, m.extra) for m in whole.messages]
    assert {a.artifact_id: a.parts for a in got.artifacts} == {
        a.artifact_id: a.parts for a in whole.artifacts
    }


def test_nothing_is_told_twice() -> None:
    events: list[Event] = [Started(), MessageDelta(parts=(Text(text="a"),)), Progress(message="busy")]
    known = BLANK
    for event in events:
        known = fold(known, event)
    assert CatchUp(known).news(events) == [Started()]


# --- what relays saw -----------------------------------------------------------------------------


class Server(MemoryUpstream):
    """Its tasks are in ``state``; ``asked``: somebody looked."""

    def __init__(self, state: TaskState) -> None:
        super().__init__()
        self.state = state
        self.asked = asyncio.Event()

    async def stands(self, task: Task, principal: Principal) -> TaskState:
        self.asked.set()
        return self.state

    def kept_until(self, task: Task) -> float:
        return 0.0


async def seen(store: MemoryStore, state: TaskState) -> None:
    """A former process saw a task, ``theirs``, in this state."""
    first = hub(None, store, echo=MemoryUpstream())
    first.observe(Task(id="theirs", context_id="", agent="echo", state=state), Principal(), upstream="echo")
    await first.flush()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickup, "LOOK_FIRST", 0.0)


@pytest.mark.parametrize("state", [TaskState.WORKING, TaskState.INPUT_REQUIRED])
async def test_an_agent_of_which_it_is_not_known_yet_what_it_speaks_is_asked_later(
    state: TaskState, looks: None
) -> None:
    store, server = MemoryStore(), Server(TaskState.CANCELED)
    await seen(store, state)
    directory = MemoryDirectory({"echo": MemoryUpstream()}, "auto")
    looked = asyncio.Semaphore(0)

    class Watched(MemoryDirectory):
        def views(self) -> Mapping[str, AgentView]:
            looked.release()
            return directory.views()

    engine = Hub(Watched({}), store, Tracer(), Config())
    await engine.start()
    for _ in range(5):
        await looked.acquire()
    handle = await engine.task("theirs", Principal())
    assert handle.task.state is state
    directory = MemoryDirectory({"echo": server})
    async with asyncio.timeout(60):
        while handle.task.state is state:
            await handle.changed()
    assert handle.task.state is TaskState.CANCELED


async def test_an_agent_that_can_not_be_asked_is_waited_for_as_long_as_its_limit(looks: None) -> None:
    store = MemoryStore()
    await seen(store, TaskState.WORKING)
    engine = hub(Config(limits=Limits(total_timeout=0.001)), store, echo=MemoryUpstream())
    await engine.start()
    handle = await engine.task("theirs", Principal())
    async with asyncio.timeout(60):
        while handle.task.state is TaskState.WORKING:
            await handle.changed()
    assert handle.task.fault is not None
    assert handle.task.fault.message == "echo does not say any more how the task stands"


class Mute(MemoryUpstream):
    """Keeps tasks, and gives no answer about them; each time it is asked counts."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Semaphore(0)

    async def rejoin(
        self, task: TaskRef, known: Task, trace: Trace, tell: Tell, *, follow: bool = True
    ) -> None:
        self.asked.release()
        raise Unreachable("echo is not there")


class Forgetful(TaskBook):
    """Knows no task for as long as ``forgets`` says so."""

    forgets = False

    async def get(self, task_id: str, principal: Principal) -> TaskLog:
        if self.forgets:
            raise UnknownTask(task_id)
        return await super().get(task_id, principal)


@pytest.mark.parametrize("learnt", ["it waits for input", "it is forgotten"])
async def test_an_agent_s_silence_counts_from_its_own_begin(
    learnt: str, looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from one long ago, of a task of which somebody else has learnt more since."""
    clock = SimpleNamespace(monotonic=lambda: clock.at, time=time.time, at=0.0)
    monkeypatch.setattr(pickup, "time", clock)
    agent, book = Mute(), Forgetful(MemoryStore(), 10, lambda entry, whole: None)
    looking = pickup.Pickup(MemoryDirectory({"echo": agent}).views, book, lambda record: 60.0)
    task = [("theirs", Principal().id)]

    def saw(state: TaskState) -> None:
        book.observe(Task(id="theirs", context_id="", agent="echo", state=state), Principal(), "echo")

    async def asked_twice() -> asyncio.Task[None]:
        """So that what the first look has come to is known."""
        agent.asked = asyncio.Semaphore(0)
        job = asyncio.create_task(looking.look_after(task))
        for _ in range(2):
            await asyncio.wait_for(agent.asked.acquire(), 60)
        return job

    saw(TaskState.WORKING)
    first = await asked_twice()
    if learnt == "it waits for input":
        saw(TaskState.INPUT_REQUIRED)
    else:
        book.forgets = True
    await asyncio.wait_for(first, 60)  # there is nothing more to learn

    clock.at, book.forgets = 3600.0, False
    saw(TaskState.WORKING)
    second = await asked_twice()
    assert (await book.get("theirs", Principal())).state is TaskState.WORKING
    clock.at += 61
    await asyncio.wait_for(second, 60)
    assert (await book.get("theirs", Principal())).state is TaskState.FAILED
