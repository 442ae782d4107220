"""Pieces of text that are logged in the short way are what the long way logs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.lifecycle import PIECES
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    InputRequest,
    InputRequired,
    Invocation,
    Logged,
    Message,
    MessageDone,
    Place,
    Progress,
    Started,
    StateChanged,
    Task,
    TaskState,
    Text,
)
from agentgw.gateway.ports import Tell
from agentgw.gateway.tasklog import LONG, TaskLog
from agentgw.registry.memory import MemoryStore

from ..support.memory import MemoryUpstream, hub, say

ANSWER = Message(role="agent", parts=(Text(text="x"),))
Step = tuple[str, Place] | Event | int
texts = st.tuples(
    st.text(alphabet="ab", max_size=3),
    st.sampled_from([Place(), Place(author="me"), Place(artifact_id="a"), Place(artifact_id="b")]),
)
steps: st.SearchStrategy[Step] = st.one_of(
    texts,
    texts,
    texts,
    st.sampled_from(
        [
            Started(task_id="t"),
            ArtifactDelta(artifact=Artifact(artifact_id="a", parts=())),
            MessageDone(message=ANSWER),
            Progress(message="p"),
            StateChanged(state=TaskState.CANCELING),
            InputRequired(request=InputRequest(message=ANSWER)),
            StateChanged(state=TaskState.WORKING),
            Finished(state=TaskState.COMPLETED),
        ]
    ),
    st.integers(0, 2),  # what is done between
)


async def nothing(task_id: str, after: int) -> list[Logged]:
    return []


def new() -> TaskLog:
    return TaskLog(Task(id="t", context_id="c", agent="x"), "anonymous", nothing)


@given(st.lists(steps, max_size=14), st.frozensets(st.integers(1, 8)), st.booleans(), st.booleans())
def test_what_grows_is_what_is_appended(
    said: list[Step], refused: frozenset[int], another: bool, waits: bool
) -> None:
    """The same log, the same task; whoever follows gets each event once and in order, and who waits for a
    change is told of each."""

    async def run() -> None:
        quick, slow = new(), new()
        got: list[Event] = []
        also: list[Event] = []
        offers = changes = 0

        def more(text: str, place: Place) -> bool:
            nonlocal offers
            offers += 1
            if offers in refused:
                return False
            got.append(place.event(text))
            return True

        def take(logged: Logged) -> bool:
            if type(logged.event) not in PIECES:
                return False
            got.append(logged.event)
            return True

        async def follow() -> None:
            after = 0
            while True:  # a task that was asked something goes on
                log = quick.events(after, take, more)
                while (logged := await anext(log, None)) is not None:
                    got.append(logged.event)
                after = quick.last_seq
                await asyncio.sleep(0)

        async def read() -> None:
            nonlocal another
            log = quick.events()
            while (logged := await anext(log, None)) is not None:
                also.append(logged.event)
            another = False  # it was asked something, or has ended

        async def wait() -> None:
            nonlocal changes
            while True:
                await quick.changed()
                changes += 1

        following = [asyncio.create_task(follow())]
        if another:
            following.append(asyncio.create_task(read()))
        if waits:
            following.append(asyncio.create_task(wait()))
        seen: list[Event] = []
        logged_at = 0  # steps
        for step in said:
            await rested()
            quick.noted = True  # as its book does
            before = quick.last_seq
            assert len(also) == before or not another
            match step:
                case 0:
                    assert quick.task.messages == slow.task.messages
                case 1:
                    seen += [logged.event for logged in quick.unsaved()]
                    quick.saved(quick.snapshot(), quick.last_seq)
                case int():
                    assert len(await quick.log()) == len(quick._events)  # pyright: ignore[reportPrivateUsage]
                case (text, place):
                    slow.append(place.event(text))
                    if not quick.more(text, place):
                        quick.append(place.event(text))
                case event:
                    slow.append(event)
                    quick.append(event)
            logged_at += quick.last_seq > before
            assert (quick.last_seq, quick.state) == (slow.last_seq, slow.state)
        await rested()
        wanted = [logged.event for logged in await slow.log()]
        assert [*seen, *(logged.event for logged in quick.unsaved())] == wanted
        assert got == wanted
        if another:
            assert also == wanted
        if waits:
            assert changes == logged_at
        numbers = [logged.seq for logged in quick.unsaved()]
        assert numbers == list(range(quick.stored + 1, quick.last_seq + 1))
        left, right = quick.task, slow.task
        assert (left.messages, left.artifacts, left.state) == (right.messages, right.artifacts, right.state)
        for job in following:
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job

    asyncio.run(run())


async def rested() -> None:
    """Everything that can go on has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


class Talker(MemoryUpstream):
    """Says the words that are put in."""

    def __init__(self) -> None:
        super().__init__()
        self.words: asyncio.Queue[str] = asyncio.Queue()

    async def invoke(self, call: Invocation, tell: Tell) -> None:
        tell(Started(task_id="t"))
        while word := await self.words.get():
            tell.more(word, Place())
        tell(Finished(state=TaskState.COMPLETED))


async def test_texts_are_written_to_the_store_each_time_that_it_is_written() -> None:
    talker, store, taken = Talker(), MemoryStore(), list[str]()
    engine = hub(store=store, talker=talker)
    handle = await engine.invoke(say("x", "talker"))

    async def follow() -> None:
        log = handle.events(0, lambda _: False, lambda text, _: not taken.append(text))
        while await anext(log, None) is not None:
            pass

    following = asyncio.create_task(follow())
    for n in range(12):
        talker.words.put_nowait(str(n))
        await rested()
        if n % 3 == 2:
            await engine.flush()
            written = await store.load_events(handle.id)
            assert [logged.seq for logged in written] == list(range(1, n + 3))
            assert handle._events == []  # pyright: ignore[reportPrivateUsage]
    assert taken
    talker.words.put_nowait("")
    await following
    await engine.aclose()
    said = [logged.event for logged in await store.load_events(handle.id)]
    assert said[1:-1] == [Place().event(str(n)) for n in range(12)]


def log_at_work() -> TaskLog:
    log = new()
    log.append(Started(task_id="t"))
    log.noted = True  # as its book does
    return log


def words(task: Task) -> list[str]:
    return [part.text for message in task.messages for part in message.parts if isinstance(part, Text)]


def test_what_nobody_hears_is_one_event() -> None:
    log, place, other = log_at_work(), Place(), Place(artifact_id="a")
    for n in range(10):
        assert log.more(str(n), place)
    assert log.more("other", other)
    assert log.more("on", place)
    assert [logged.seq for logged in log.unsaved()] == [1, 2, 3, 4]
    assert [logged.event for logged in log.unsaved()][1:] == [
        place.event("0123456789"), other.event("other"), place.event("on")
    ]  # fmt: skip
    assert words(log.task) == ["0123456789on"]


def test_long_texts_that_nobody_hears_are_not_copied_again_and_again() -> None:
    log = log_at_work()
    for _ in range(20):
        assert log.more("x" * LONG, Place())
    assert log.last_seq == 21


def test_what_was_looked_at_is_not_added_to() -> None:
    """Neither what was read of it, nor what is on its way to the store."""
    log = log_at_work()
    assert log.more("a", Place())
    assert words(log.task) == ["a"]
    assert log.more("b", Place())
    assert len(log.unsaved()) == 3
    assert log.more("c", Place())
    log.saved(log.snapshot(), log.last_seq - 1)
    assert [logged.event for logged in log.unsaved()] == [Place().event("c")]
    log.noted = False  # it is being written
    assert not log.more("d", Place())


async def test_who_comes_back_misses_nothing_of_what_was_said_meanwhile() -> None:
    log, taken = log_at_work(), list[str]()
    reading = log.events(log.last_seq, lambda _: False, lambda text, _: not taken.append(text))
    job = asyncio.create_task(anext(reading))
    await rested()
    assert log.more("heard", Place())
    job.cancel()
    with suppress(asyncio.CancelledError):
        await job
    await reading.aclose()
    after = log.last_seq
    assert log.more("not", Place()) and log.more("heard", Place())
    later = log.events(after)
    assert taken == ["heard"]
    assert (await anext(later)).event == Place().event("notheard")
    await later.aclose()
