"""What tasks say that say much: it is in the store's log and not in memory, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway import history, tasklog
from agentgw.gateway.errors import ConfigError
from agentgw.gateway.lifecycle import Folding
from agentgw.gateway.light import is_light, light, lightened, whole
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    File,
    Finished,
    InputRequest,
    InputRequired,
    Invocation,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Place,
    Progress,
    Started,
    StateChanged,
    Task,
    TaskState,
    Text,
)
from agentgw.gateway.store import Batch, StoredLog
from agentgw.registry.memory import MemoryStore

from ..support.memory import MemoryUpstream, hub, say, say_at_most

PIECE = "x" * 64 * 1024

parts = st.lists(
    st.builds(Text, text=st.text("ab", max_size=3), name=st.sampled_from([None, "n"]))
    | st.builds(File, content=st.binary(max_size=3)),
    max_size=3,
).map(lambda found: tuple[Part, ...](found))
messages = st.builds(Message, role=st.just("agent"), parts=parts)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(MessageDelta, parts=parts),
    st.builds(MessageDone, message=messages),
    st.builds(
        ArtifactDelta,
        artifact=st.builds(Artifact, artifact_id=st.sampled_from(["a", "b"]), parts=parts),
        append=st.booleans(),
    ),
    st.builds(Progress, message=st.just("p")),
    st.builds(StateChanged, state=st.just(TaskState.WORKING), message=st.none() | messages),
    st.builds(InputRequired, request=st.builds(InputRequest, message=messages)),
    st.builds(Finished, state=st.just(TaskState.COMPLETED), message=st.none() | messages),
)


@given(st.lists(events, max_size=12), st.integers(0, 12))
def test_it_is_made_whole_from_its_log(happened: list[Event], until: int) -> None:
    task = Task(id="t", context_id="c", agent="a", input=Message(role="user", parts=()), created_at="0")
    log = [Logged(seq=n, at=str(n), event=event) for n, event in enumerate(happened, 1)]
    plain, folding = Folding(task), Folding(task)
    for logged in log[:until]:
        plain.add(logged.event, logged.at)
        folding.add(logged.event, logged.at)
    folding = Folding(lightened(folding.task))
    for logged in log[until:]:
        plain.add(logged.event, logged.at)
        folding.add(light(logged.event), logged.at)
    found = folding.task
    assert is_light(found) and not is_light(plain.task)
    assert not any(one.parts for one in (*found.messages, *found.artifacts))
    assert (found.state, found.status_message, found.input_request) == (
        plain.task.state, plain.task.status_message, plain.task.input_request,
    )  # fmt: skip
    if log:
        assert whole(found, log) == plain.task


@given(st.lists(events, max_size=12), st.sets(st.integers(1, 12)), st.sets(st.integers(1, 12)))
def test_a_log_says_at_any_time_what_folding_each_event_says(
    happened: list[Event], read: set[int], written: set[int]
) -> None:
    async def nothing(_: str, __: int) -> Sequence[Logged]:
        return ()

    task = Task(id="t", context_id="c", agent="a")
    log, plain = tasklog.TaskLog(task, "somebody", nothing), Folding(task)
    for number, event in enumerate(happened, 1):
        before = log.last_seq
        log.append(event)
        for logged in log.unsaved()[-1:] if log.last_seq > before else ():
            plain.add(logged.event, logged.at)
        assert log.state is plain.state
        if number in written:
            log.saved(None, log.last_seq)
        if number in read:
            assert log.task == plain.task
    assert log.task == plain.task


@given(
    st.lists(st.lists(st.just(Started(task_id="up")) | events, max_size=5), max_size=5), st.integers(0, 12)
)
def test_what_comes_at_once_is_logged_as_if_it_came_one_by_one(turns: list[list[Event]], most: int) -> None:
    """A reader that takes nothing makes it go one by one. ``most``: what a task says that is not light."""

    async def run() -> None:
        quick, slow = new(), new()
        reader = slow.events()
        reading = asyncio.ensure_future(anext(reader, None))
        await asyncio.sleep(0)
        for happened in turns:
            quick.append(*happened)
            slow.append(*happened)
            assert (quick.state, quick.settled_now, quick.last_seq) == (
                slow.state, slow.settled_now, slow.last_seq,
            )  # fmt: skip
            assert quick.upstream == slow.upstream
            assert [x.event for x in quick.unsaved()] == [x.event for x in slow.unsaved()]
            assert is_light(quick.task) is is_light(slow.task)
            assert dated(quick.task) == dated(slow.task)
        reading.cancel()

    with pytest.MonkeyPatch.context() as patched:
        say_at_most(most, patched)
        asyncio.run(run())


async def test_what_a_relay_reports_does_not_overtake_texts() -> None:
    entry = new()
    entry.append(Started(task_id="up"))
    entry.noted = True
    assert entry.more("a", Place())
    entry.replace(Task(id="t", context_id="c", agent="a", state=TaskState.WORKING))
    entry.append(MessageDone(message=Message(role="agent", parts=(Text(text="b"),))))
    assert [(x.seq, type(x.event)) for x in await entry.log()] == [
        (1, Started), (2, MessageDelta), (3, MessageDone),
    ]  # fmt: skip


async def test_an_ended_task_that_was_followed_holds_itself_once() -> None:
    entry = new()
    reader = entry.events()
    reading = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    entry.append(Started(task_id="up"))
    entry.append(MessageDone(message=Message(role="agent", parts=(Text(text="b"),))))
    assert entry.task.state is TaskState.WORKING
    entry.append(Finished(state=TaskState.COMPLETED))
    assert entry.task.state is TaskState.COMPLETED
    assert len(entry.task.messages) == 1
    assert entry._folding is None  # pyright: ignore[reportPrivateUsage]
    reading.cancel()


def test_artifacts_that_nobody_follows_may_wait_to_be_written() -> None:
    """They are written together; what is no piece of an answer is written soon."""
    entry = new()
    entry.append(Started(task_id="up"))
    entry.saved(entry.snapshot(), entry.last_seq)
    entry.append(ArtifactDelta(artifact=Artifact(artifact_id="a", parts=())))
    assert entry.waits()
    entry.append(
        MessageDone(message=Message(role="agent", parts=())),
        ArtifactDelta(artifact=Artifact(artifact_id="b", parts=())),
    )
    assert not entry.waits()


def test_what_a_light_task_says_is_not_in_memory() -> None:
    entry, text = new(), "x" * (tasklog.MOST + 1)
    held = sys.getrefcount(text)
    entry.append(Started(task_id="up"), MessageDone(message=Message(role="agent", parts=(Text(text=text),))))
    entry.append(Finished(state=TaskState.COMPLETED))
    assert is_light(entry.task)
    entry.saved(entry.snapshot(), entry.last_seq)
    assert sys.getrefcount(text) == held


def new() -> tasklog.TaskLog:
    async def nothing(_: str, __: int) -> Sequence[Logged]:
        return ()

    return tasklog.TaskLog(Task(id="t", context_id="c", agent="a"), "somebody", nothing)


def dated(task: Task) -> Task:
    """The task without its dates."""
    return msgspec.structs.replace(task, created_at="", updated_at="")


class Slow(MemoryStore):
    """Writes only when it is let; or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.broken = False

    async def save(self, batch: Batch) -> Sequence[int]:
        await self.open.wait()
        if self.broken:
            raise ConfigError("the disk is full")
        return await super().save(batch)


class Talker:
    """Says ``PIECE`` a number of times; ``said``: how often it got to."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.said = 0

    async def __call__(self, call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up")
        for _ in range(self.times):
            self.said += 1
            artifact = Artifact(artifact_id="a", parts=(Text(text=PIECE),))
            yield ArtifactDelta(artifact=artifact, append=self.said > 1)
        yield Finished(state=TaskState.COMPLETED)


async def rested() -> None:
    """Everything that can go on has gone on."""
    for _ in range(2000):
        await asyncio.sleep(0)


def held(handle: tasklog.TaskLog) -> int:
    """Bytes that it says, in memory."""
    waiting = sum(len(PIECE) for e in handle.unsaved() if isinstance(e.event, ArtifactDelta))
    return waiting + sum(len(p.text) for a in handle.task.artifacts for p in a.parts if isinstance(p, Text))


async def test_an_agent_that_says_much_waits_for_the_store() -> None:
    store, talker = Slow(), Talker(1000)
    store.open.set()
    engine = hub(None, store, talker=MemoryUpstream(talker))
    handle = await engine.invoke(say("x", "talker"))
    await engine.flush()
    store.open.clear()
    await rested()
    most = history.UNWRITTEN + 2 * tasklog.MOST
    assert history.UNWRITTEN < held(handle) < most
    flushing = asyncio.create_task(engine.flush())
    await rested()
    assert held(handle) < most
    store.open.set()
    await flushing
    while not handle.settled_now:
        await engine.flush()
        await rested()
        assert held(handle) < most
    await engine.flush()
    assert held(handle) == 0
    (artifact,) = (await handle.whole()).artifacts
    assert artifact.parts == (Text(text=PIECE * 1000),)


async def test_a_store_that_fails_holds_nothing_up() -> None:
    store, talker = Slow(), Talker(1000)
    store.open.set()
    engine = hub(None, store, talker=MemoryUpstream(talker))
    handle = await engine.invoke(say("x", "talker"))
    await engine.flush()
    await rested()
    store.broken = True
    assert talker.said < 1000
    with pytest.raises(ConfigError):
        await engine.flush()
    await handle.settled()
    (artifact,) = (await handle.whole()).artifacts
    assert artifact.parts == (Text(text=PIECE * 1000),)


async def test_it_comes_back_from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    say_at_most(100_000, monkeypatch)
    store, call = MemoryStore(), say("x", "talker")
    engine = hub(None, store, talker=MemoryUpstream(Talker(5)))
    handle = await engine.invoke(call)
    await handle.settled()
    await engine.flush()
    (stored,) = await store.load_tasks()
    assert is_light(stored.task)
    again = await hub(None, store).task(handle.id, call.principal)
    assert again is not handle
    assert again.task.state is TaskState.COMPLETED
    (artifact,) = (await again.whole()).artifacts
    assert artifact.parts == (Text(text=PIECE * 5),)
    assert (await again.whole()).input == call.message


def test_what_comes_back_in_pieces_is_held_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store had the task as it began, and what it said since."""
    say_at_most(10, monkeypatch)
    entry, parts = new(), (Text(text="x" * 20),)
    entry.restore(StoredLog((Logged(1, "", MessageDelta(message_id="m", parts=parts)),), 1))
    assert is_light(entry.task)
    assert entry.last_seq == 1
