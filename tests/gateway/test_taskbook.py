"""What the hub keeps of tasks: in memory as long as needed, in the store for good."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from agentgw.gateway import taskbook
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.conversations import LENGTH, Conversations
from agentgw.gateway.engine import Hub
from agentgw.gateway.errors import ConfigError, InvalidRequest, UnknownTask
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    File,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    MessageDelta,
    MessageDone,
    Principal,
    Progress,
    Started,
    Task,
    TaskState,
    Text,
    text_of,
)
from agentgw.gateway.store import Batch, StoredContext, StoredTask
from agentgw.gateway.tasklog import ALONE, PASSES, WAITING
from agentgw.registry.memory import MemoryStore

from ..support.memory import MemoryUpstream, hub, say

ALICE, BOB = Principal(id="alice"), Principal(id="bob")
FEW = Config(limits=Limits(tasks=2))


async def asks(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id=f"up {text_of(call.message.parts)}")
    yield InputRequired(request=InputRequest(message=Message(role="agent", parts=(Text(text="?"),))))


async def thanks(reply: InputReply) -> AsyncIterator[Event]:
    yield MessageDelta(parts=reply.message.parts)
    yield Finished(state=TaskState.COMPLETED)


def seen(task_id: str, state: TaskState = TaskState.WORKING, context_id: str = "c") -> Task:
    return Task(id=task_id, context_id=context_id, agent="", state=state)


class Recording(MemoryStore):
    """Says what it was given to write; fails while ``broken``."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[TaskState] = []
        self.numbers: list[int] = []
        self.broken = False

    async def save(self, batch: Batch) -> Sequence[int]:
        if self.broken:
            raise ConfigError("the disk is full")
        self.tasks += [t.task.state for t in batch.tasks]
        self.numbers += [logged.seq for _, events in batch.events for logged in events]
        return await super().save(batch)


async def test_open_questions_leave_memory_and_can_still_be_answered() -> None:
    agent = MemoryUpstream(asks, thanks)
    engine = hub(FEW, MemoryStore(), ask=agent)
    handles = [await engine.invoke(say(str(i), "ask")) for i in range(5)]
    for handle in handles:
        await handle.settled()
        assert handle.runner is not None
        await asyncio.wait([handle.runner])
    await engine.flush()
    assert len(engine._book._tasks) == 2  # pyright: ignore[reportPrivateUsage]
    again = await engine.invoke(say("red", "ask", task_id=handles[0].id))
    assert again is not handles[0]
    assert (await again.settled()).messages[0].parts == (Text(text="red"),)
    assert agent.replies[0][0].task_id == "up 0"
    assert [logged.seq async for logged in again.events()] == [1, 2, 3, 4, 5]
    assert [logged.seq for logged in await again.log()] == [1, 2, 3, 4, 5]


async def test_a_task_is_not_forgotten_while_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its conversation may have to be looked up, and others be written meanwhile."""

    class Writing(MemoryStore):
        engine: Hub | None = None

        async def find_context(self, principal: str, agent: str, context_id: str) -> StoredContext | None:
            if self.engine is not None:
                await self.engine.flush()
            return await super().find_context(principal, agent, context_id)

    monkeypatch.setattr(taskbook, "IDLE_BYTES", 1)
    store, agent = Writing(), MemoryUpstream(asks, thanks)
    former = hub(Config(), store, ask=agent)
    handle = await former.invoke(say("1", "ask"))
    await handle.settled()
    await former.flush()
    engine = store.engine = hub(Config(), store, ask=agent)
    answered = await engine.invoke(say("red", "ask", task_id=handle.id))
    assert engine._book._tasks[handle.id] is answered  # pyright: ignore[reportPrivateUsage]
    assert (await answered.settled()).messages[0].parts == (Text(text="red"),)


async def test_what_waits_in_memory_is_the_task_and_not_how_it_came_about() -> None:
    engine = hub(FEW, MemoryStore(), ask=MemoryUpstream(asks, thanks))
    handle = await engine.invoke(say("1", "ask"))
    await handle.settled()
    runner = handle.runner
    assert runner is not None
    await asyncio.wait([runner])
    await engine.flush()
    assert handle.runner is None
    again = await engine.invoke(say("red", "ask", task_id=handle.id))
    assert (await again.settled()).messages[0].parts == (Text(text="red"),)


@pytest.mark.parametrize("place", ["data", "metadata", "extra", "uri", "id", "history"])
async def test_whatever_is_large_in_a_task_counts(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Structured results, above all: they are no text."""
    monkeypatch.setattr(taskbook, "IDLE_BYTES", 100_000)
    large: Any = {"x": ["y" * 60_000]}
    part = Data(data=large if place == "data" else None, metadata=large if place == "metadata" else None)
    file = File(uri="data:," + "y" * 60_000 if place == "uri" else "x:y")
    result = Artifact(artifact_id="r", parts=(part, file), extra=large if place == "extra" else {})
    done = Message(role="agent", parts=(), message_id="i" * (60_000 if place == "id" else 1))

    async def answers(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        yield ArtifactDelta(artifact=result)
        yield MessageDone(message=done)
        yield Finished(state=TaskState.COMPLETED)

    engine = hub(Config(), MemoryStore(), big=MemoryUpstream(answers))
    for i in range(3):
        if place == "history":
            task = seen(str(i), TaskState.COMPLETED)
            engine.observe(msgspec.structs.replace(task, extra=large), ALICE, upstream="big")
        else:
            await (await engine.invoke(say("", "big"))).settled()
    await engine.drain()
    await engine.flush()
    assert len(engine._book._tasks) == 1  # pyright: ignore[reportPrivateUsage]


async def test_relayed_tasks_leave_memory_unless_somebody_follows_them() -> None:
    engine = hub(FEW, MemoryStore(), echo=MemoryUpstream())
    engine.observe(seen("first"), ALICE, upstream="echo")
    following = asyncio.create_task((await engine.task("first", ALICE)).settled())
    await asyncio.sleep(0)
    for i in range(5):
        engine.observe(seen(f"t{i}"), ALICE, upstream="echo")
    await engine.flush()
    assert "t0" not in engine._book._tasks  # pyright: ignore[reportPrivateUsage]
    assert (await engine.task("t0", ALICE)).state is TaskState.WORKING
    engine.observe(seen("first", TaskState.COMPLETED), ALICE, upstream="echo")
    assert (await following).state is TaskState.COMPLETED


async def test_a_restart_fails_what_the_gateway_ran_and_leaves_what_it_relayed() -> None:
    store, gate = MemoryStore(), asyncio.Event()

    async def slow(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await gate.wait()
        for word in ("one ", "two"):
            yield MessageDelta(parts=(Text(text=word),))
        yield Progress(message="then the gateway is killed")
        await asyncio.Event().wait()

    before = hub(None, store, slow=MemoryUpstream(slow))
    handle = await before.invoke(say("x", "slow"))
    before.observe(seen("relayed"), Principal(), upstream="slow")
    await anext(handle.events())
    await before.flush()
    gate.set()
    async for logged in handle.events():
        if isinstance(logged.event, Progress):
            break
    await before.flush()
    after = hub(None, store, slow=MemoryUpstream(slow))
    await after.start()
    failed = (await after.task(handle.id, Principal())).task
    assert (failed.state, text_of(failed.messages[0].parts)) == (TaskState.FAILED, "one two")
    assert failed.fault is not None and failed.fault.message.startswith("the gateway was restarted, and ")
    assert [e.seq async for e in (await after.task(handle.id, Principal())).events()] == [1, 2, 3, 4, 5]
    assert (await after.task("relayed", Principal())).state is TaskState.WORKING
    await before.aclose()


async def test_a_restart_knows_the_open_questions() -> None:
    store = MemoryStore()
    before = hub(None, store, ask=MemoryUpstream(asks, thanks))
    task = await (await before.invoke(say("x", "ask", context_id="c"))).settled()
    await before.aclose()
    after = hub(None, store, ask=MemoryUpstream(asks, thanks))
    await after.start()
    assert after.open_question("ask", "c", Principal()) == task.id
    assert after.open_question("ask", "c", BOB) is None


async def test_an_id_of_anothers_stored_task_is_not_taken_over() -> None:
    store = MemoryStore()
    before = hub(None, store, echo=MemoryUpstream(), evil=MemoryUpstream())
    before.observe(seen("one"), ALICE, upstream="echo")
    await before.flush()
    engine = hub(None, store, echo=MemoryUpstream(), evil=MemoryUpstream())
    engine.observe(seen("one", TaskState.FAILED), BOB, upstream="evil")
    with pytest.raises(UnknownTask):
        await engine.task("one", BOB)
    engine = hub(None, store, echo=MemoryUpstream(), evil=MemoryUpstream())
    engine.observe(seen("one", TaskState.FAILED), ALICE, upstream="evil")
    await engine.flush()
    mine = await engine.task("one", ALICE)
    assert (mine.agent, mine.state) == ("echo", TaskState.WORKING)
    engine.observe(seen("one", TaskState.COMPLETED), ALICE, upstream="echo")
    await engine.flush()
    assert [t.state for t in await engine.tasks(ALICE)] == [TaskState.COMPLETED]


class Slow(Recording):
    """Looks a task up when it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()

    async def load_known(self, task_ids: Sequence[str]) -> Sequence[StoredTask]:
        found = await super().load_known(task_ids)
        await self.go.wait()
        return found


async def test_nothing_is_written_that_was_not_looked_up_before() -> None:
    """While one who asks, or who writes, looks up an id, others come and write."""
    store = Slow()
    engine = hub(FEW, store, echo=MemoryUpstream(), evil=MemoryUpstream())
    for name in ("one", "two"):
        engine.observe(seen(name, TaskState.INPUT_REQUIRED), ALICE, upstream="echo")
    await engine.flush()
    for _ in range(3):  # they leave memory
        await (await engine.invoke(say("x"))).settled()
    await engine.flush()
    store.go.clear()
    store.tasks.clear()
    engine.observe(seen("one", TaskState.FAILED), ALICE, upstream="evil")
    asking = asyncio.create_task(engine.task("one", ALICE))
    await asyncio.sleep(0)
    writing = asyncio.create_task(engine.flush())
    await asyncio.sleep(0)
    engine.observe(seen("two", TaskState.FAILED), ALICE, upstream="evil")
    store.go.set()
    await asyncio.gather(asking, writing)
    assert store.tasks == []
    await engine.flush()
    assert store.tasks == []
    assert (await engine.task("two", ALICE)).agent == "echo"


async def test_an_agent_does_not_draw_a_conversation_to_itself() -> None:
    engine = hub(echo=MemoryUpstream(), evil=MemoryUpstream())
    await (await engine.invoke(say("x", context_id="ours"))).settled()
    engine.observe(seen("t", context_id="ours"), Principal(), upstream="evil")
    assert await engine.context_agent("ours", Principal()) == "echo"


async def test_a_conversation_s_name_has_a_bound() -> None:
    """Names of conversations are kept longer than what was said in them."""
    long, fit = "x" * (LENGTH + 1), "x" * LENGTH

    async def names(call: Invocation) -> AsyncIterator[Event]:
        yield Started(context_id=text_of(call.message.parts))
        yield Finished(state=TaskState.COMPLETED)

    engine = hub(None, MemoryStore(), echo=MemoryUpstream(names))
    with pytest.raises(InvalidRequest, match="longer than"):
        await engine.invoke(say("x", context_id=long))
    with pytest.raises(InvalidRequest, match="longer than"):
        await engine.upstream_context("echo", long, Principal())
    engine.observe(seen("t", context_id=long), Principal(), upstream="echo")
    await (await engine.invoke(say(long, context_id="a"))).settled()
    await (await engine.invoke(say(fit, context_id="b"))).settled()
    assert await engine.upstream_context("echo", "a", Principal()) is None
    assert await engine.upstream_context("echo", "b", Principal()) == fit


async def test_a_conversation_that_is_not_in_memory_any_more_goes_on() -> None:
    """Whose it is, what its agent calls it and where it went are the store's to know."""
    known = Conversations(MemoryStore(), recent=2)
    for n in range(5):
        known.touch(ALICE, "echo", f"c{n}")
        known.put(ALICE.id, "echo", f"c{n}", f"u{n}")
        await known.save()
    assert len(known) == 2
    for n in range(5):
        assert await known.agent(ALICE, f"c{n}") == "echo"
        assert await known.is_others(BOB, "echo", f"u{n}")
        assert not await known.is_others(ALICE, "echo", f"u{n}")
        assert await known.get(ALICE, "echo", f"c{n}") == f"u{n}"
        assert await known.get(BOB, "echo", f"c{n}") is None
        assert await known.get(ALICE, "other", f"c{n}") is None


async def test_what_was_not_written_yet_counts() -> None:
    known = Conversations(Recording(), recent=2)
    known.touch(ALICE, "echo", "c")
    known.put(ALICE.id, "echo", "c", "u")
    known.put(ALICE.id, "evil", "c", "u")
    assert await known.agent(ALICE, "c") == "echo"
    assert await known.is_others(BOB, "evil", "u")


async def test_a_conversation_that_goes_on_is_written_again() -> None:
    """The store forgets what was not written for long."""
    store = MemoryStore()
    known = Conversations(store, recent=2)
    for n in range(4):
        known.touch(ALICE, "echo", "long")
        known.put(ALICE.id, "echo", "long", "u")
        known.touch(ALICE, "echo", f"short{n}")
        await known.save()
    written = list(store._contexts)  # pyright: ignore[reportPrivateUsage]
    assert written.index((ALICE.id, "echo", "long")) > written.index((ALICE.id, "echo", "short2"))


async def test_conversations_that_could_not_be_written_are_written_later() -> None:
    store = Recording()
    engine = hub(None, store, echo=MemoryUpstream())
    await (await engine.invoke(say("x", context_id="ours"))).settled()
    store.broken = True
    with pytest.raises(ConfigError):
        await engine.flush()
    store.broken = False
    await engine.flush()
    assert await store.find_context("anonymous", "echo", "ours") is not None


async def test_events_that_are_written_and_read_are_in_the_store_only() -> None:
    """A slow follower still has those that it has not read; who comes later gets all of them, in order."""
    steps: asyncio.Queue[None] = asyncio.Queue()

    async def talks(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        for n in range(10):
            await steps.get()
            yield MessageDelta(parts=(Text(text=str(n)),))
        yield Finished(state=TaskState.COMPLETED)

    engine = hub(None, MemoryStore(), talks=MemoryUpstream(talks))
    handle = await engine.invoke(say("x", "talks"))
    fast, slow = handle.events(), handle.events()
    assert (await anext(slow)).seq == (await anext(fast)).seq == 1
    held: list[int] = []
    for seq in range(2, 12):
        steps.put_nowait(None)
        assert (await anext(fast)).seq == seq
        await engine.flush()
        held.append(len(handle._events))  # pyright: ignore[reportPrivateUsage]
        if seq == 5:
            assert [(await anext(slow)).seq for _ in range(3)] == [2, 3, 4]
    assert held == [2, 3, 4, 5, 3, 4, 5, 6, 7, 9]
    assert [logged.seq async for logged in fast] == [12]
    assert [logged.seq async for logged in slow] == [5, 6, 7, 8, 9, 10, 11, 12]
    assert handle._events == []  # pyright: ignore[reportPrivateUsage]
    assert [logged.seq async for logged in handle.events()] == list(range(1, 13))
    assert [logged.seq async for logged in handle.events(7)] == list(range(8, 13))
    assert [logged.seq for logged in await handle.log()] == list(range(1, 13))


async def test_a_running_task_is_written_whole_only_when_its_state_changes() -> None:
    steps: asyncio.Queue[None] = asyncio.Queue()

    async def slow(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        for word in "abc":
            await steps.get()
            yield MessageDelta(parts=(Text(text=word),))
        yield Finished(state=TaskState.COMPLETED)

    store = Recording()
    engine = hub(None, store, slow=MemoryUpstream(slow))
    handle = await engine.invoke(say("x", "slow"))
    async for logged in handle.events():
        await engine.flush()
        if logged.seq < 4:
            steps.put_nowait(None)
        listed = await engine.tasks(Principal())
        assert text_of(listed[0].messages[0].parts if listed[0].messages else ()) == "abc"[: logged.seq - 1]
        if logged.seq == 4:
            break
    await handle.settled()
    await engine.flush()
    assert store.tasks == [TaskState.WORKING, TaskState.COMPLETED]
    assert store.numbers == [1, 2, 3, 4, 5]
    stored = await store.load_task(handle.id)
    assert stored is not None and text_of(stored.task.messages[0].parts) == "abc"


async def test_a_few_pieces_wait_to_be_written_with_more_and_nothing_else_does() -> None:
    steps: asyncio.Queue[Event] = asyncio.Queue()

    async def told(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        while True:
            yield await steps.get()

    store = Recording()
    engine = hub(None, store, told=MemoryUpstream(told))
    handle = await engine.invoke(say("x", "told"))
    log = handle.events()
    await anext(log)
    await engine.flush(whole=False)
    assert store.numbers == [1], "that it has begun is written at once"

    async def say_more(event: Event) -> None:
        steps.put_nowait(event)
        await anext(log)
        await engine.flush(whole=False)

    for _ in range(PASSES - 1):
        await say_more(MessageDelta(parts=(Text(text="a"),)))
    assert store.numbers == [1]
    await say_more(MessageDelta(parts=(Text(text="a"),)))
    assert store.numbers == [1, 2, 3, 4, 5, 6], "the fifth time they are written"
    await say_more(MessageDelta(parts=(Text(text="b"),)))
    await engine.flush()
    assert store.numbers[6:] == [7], "who wants all of it written gets that"
    for _ in range(WAITING + 1):
        steps.put_nowait(MessageDelta(parts=(Text(text="c"),)))
        await anext(log)
    await engine.flush(whole=False)
    assert len(store.numbers) == 8 + WAITING, "many do not wait"
    await say_more(MessageDelta(parts=(Text(text="d"),)))
    assert len(store.numbers) == 8 + WAITING
    await say_more(Progress(message="half"))
    assert len(store.numbers) == 10 + WAITING, "what is no piece waits for nothing"
    await say_more(Finished(state=TaskState.COMPLETED))
    assert store.numbers == list(range(1, 12 + WAITING)), "nor does an end"
    await log.aclose()


async def test_fewer_pieces_wait_where_nobody_follows() -> None:
    steps: asyncio.Queue[Event] = asyncio.Queue()

    async def told(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        while True:
            yield await steps.get()

    store = Recording()
    engine = hub(None, store, told=MemoryUpstream(told))
    handle = await engine.invoke(say("x", "told"))
    await handle.begun()
    await engine.flush()
    written = len(store.numbers)

    async def say_more(count: int) -> None:
        log = handle.events(handle.last_seq)
        for _ in range(count):
            steps.put_nowait(MessageDelta(parts=(Text(text="a"),)))
            await anext(log)
        await log.aclose()
        await engine.flush(whole=False)

    await say_more(ALONE)
    assert len(store.numbers) == written
    await say_more(1)
    assert len(store.numbers) == written + ALONE + 1
    await engine.aclose()


async def test_an_agents_own_timeout_is_not_the_idle_timeout() -> None:
    async def times_out(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        raise TimeoutError

    fault = (await (await hub(bad=MemoryUpstream(times_out)).invoke(say("x", "bad"))).settled()).fault
    assert fault is not None and (fault.code, fault.data) == ("upstream_timeout", None)


async def test_a_question_stays_open_when_closing_the_stream_goes_wrong() -> None:
    closed = asyncio.Event()

    async def asks_and_breaks(call: Invocation) -> AsyncIterator[Event]:
        try:
            async for event in asks(call):
                yield event
        finally:
            closed.set()
            raise ValueError("the connection broke")

    engine = hub(ask=MemoryUpstream(asks_and_breaks, thanks))
    handle = await engine.invoke(say("x", "ask"))
    await closed.wait()
    assert handle.runner is not None
    await asyncio.wait([handle.runner])
    assert handle.state is TaskState.INPUT_REQUIRED
    assert (await (await engine.invoke(say("y", "ask", task_id=handle.id))).settled()).fault is None


@pytest.mark.parametrize("field", ["idle_timeout", "total_timeout"])
async def test_a_call_may_want_less_time_than_the_agent_has(field: str) -> None:
    async def hangs(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await asyncio.Event().wait()

    engine = hub(slow=MemoryUpstream(hangs))
    call = msgspec.structs.replace(say("x", "slow"), **{field: 0.01})
    fault = (await (await engine.invoke(call)).settled()).fault
    assert fault is not None and fault.data == {"limit": field}


async def test_a_call_may_not_have_more_time_than_the_agent() -> None:
    async def hangs(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await asyncio.Event().wait()

    engine = hub(Config(limits=Limits(idle_timeout=0.01)), slow=MemoryUpstream(hangs))
    call = msgspec.structs.replace(say("x", "slow"), idle_timeout=1000.0, total_timeout=1e9)
    fault = (await (await engine.invoke(call)).settled()).fault
    assert fault is not None and fault.data == {"limit": "idle_timeout"}
