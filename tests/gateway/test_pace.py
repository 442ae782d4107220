"""A client that reads slowly slows the agent down, instead of filling the gateway."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

import msgspec
import pytest

from agentgw.gateway.config import Config, Limits
from agentgw.gateway.errors import Draining
from agentgw.gateway.model import (
    Event,
    Finished,
    Invocation,
    Logged,
    MessageDelta,
    Started,
    Task,
    TaskState,
    Text,
    text_of,
)
from agentgw.gateway.pace import BACKLOG, FAR
from agentgw.gateway.tasklog import TaskLog

from ..support.memory import MemoryUpstream, hub, say

LARGE = "x" * 64 * 1024


class Talker:
    """Says ``text`` a number of times; ``said``: how often it got to."""

    def __init__(self, text: str, times: int) -> None:
        self.text = text
        self.times = times
        self.said = 0

    async def __call__(self, call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        for _ in range(self.times):
            self.said += 1
            yield MessageDelta(parts=(Text(text=self.text),))
        yield Finished(state=TaskState.COMPLETED)


async def rested() -> None:
    """Everything that can go on has gone on."""
    for _ in range(2000):
        await asyncio.sleep(0)


async def opened(events: AsyncIterator[Logged]) -> AsyncGenerator[Logged]:
    """With its first event read."""
    await anext(events)
    return cast("AsyncGenerator[Logged]", events)


async def test_an_agent_waits_for_a_client_that_reads_nothing() -> None:
    talker = Talker(LARGE, 3200)
    handle = await hub(talker=MemoryUpstream(talker)).invoke(say("x", "talker"))
    async with aclosing(await opened(handle.events())) as events:
        await rested()
        assert 0 < talker.said * len(LARGE) <= 2 * BACKLOG
        read = [logged async for logged in events]
    assert len(read) == 3201  # and nothing is lost
    assert (await handle.settled()).state is TaskState.COMPLETED


async def test_many_small_events_may_not_wait_either() -> None:
    talker = Talker("x", 10_000)
    handle = await hub(talker=MemoryUpstream(talker)).invoke(say("x", "talker"))
    async with aclosing(await opened(handle.events())) as events:
        await rested()
        assert FAR / 2 < talker.said <= FAR + 1
        assert len([logged async for logged in events]) == 10_001


async def test_who_leaves_no_longer_holds_the_agent_up() -> None:
    talker = Talker(LARGE, 100)
    handle = await hub(talker=MemoryUpstream(talker)).invoke(say("x", "talker"))
    async with aclosing(await opened(handle.events())):
        await rested()
        assert talker.said < 100
    assert (await handle.settled()).state is TaskState.COMPLETED


async def test_nobody_reading_holds_nothing_up() -> None:
    talker = Talker(LARGE, 100)
    handle = await hub(talker=MemoryUpstream(talker)).invoke(say("x", "talker"))
    assert (await handle.settled()).state is TaskState.COMPLETED


async def test_the_fastest_reader_sets_the_pace() -> None:
    talker = Talker(LARGE, 100)
    handle = await hub(talker=MemoryUpstream(talker)).invoke(say("x", "talker"))
    async with aclosing(await opened(handle.events())) as slow:
        read = [logged async for logged in handle.events()]
        assert len(read) == 102
        assert [read[0], *[logged async for logged in slow]] == read


async def test_time_in_which_the_agent_is_kept_waiting_is_no_silence_of_its() -> None:
    talker = Talker(LARGE, 100)
    config = Config(limits=Limits(idle_timeout=2))
    handle = await hub(config, talker=MemoryUpstream(talker)).invoke(say("x", "talker"))
    async with aclosing(await opened(handle.events())) as events:
        waits = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(2.2, waits.set_result, None)
        await waits
        ends = [logged.event async for logged in events]
    assert isinstance(ends[-1], Finished) and ends[-1].state is TaskState.COMPLETED


async def test_a_task_that_waits_for_its_client_can_be_cancelled() -> None:
    talker = Talker(LARGE, 100)
    handle = await (engine := hub(talker=MemoryUpstream(talker))).invoke(say("x", "talker"))
    async with aclosing(await opened(handle.events())) as events:
        await rested()
        assert handle.task.state is TaskState.WORKING
        await engine.aclose()
        assert [logged async for logged in events][-1].event.state is TaskState.FAILED  # type: ignore[union-attr]


async def nothing(task_id: str, after: int) -> list[Logged]:
    return []


async def waiting(log: TaskLog, *takers: Callable[[Logged], bool]) -> asyncio.Task[list[int]]:
    """Somebody who follows a task, and has come to its newest event."""

    async def follow() -> list[int]:
        return [logged.seq async for logged in log.events(0, *takers)]

    following = asyncio.create_task(follow())
    await rested()
    assert not following.done()
    return following


async def test_who_takes_all_hears_of_the_end() -> None:
    log = TaskLog(Task(id="t", context_id="c", agent="x"), "somebody", nothing)
    following = await waiting(log, lambda logged: True)
    log.append(MessageDelta(parts=(Text(text="a"),)))
    log.append(Finished(state=TaskState.COMPLETED))
    async with asyncio.timeout(60):
        assert await following == []


async def test_who_follows_what_a_relay_saw_hears_of_the_end() -> None:
    task = Task(id="t", context_id="c", agent="x", state=TaskState.WORKING)
    log = TaskLog(task, "somebody", nothing, relayed=True)
    following = await waiting(log)
    log.replace(msgspec.structs.replace(task, state=TaskState.COMPLETED))
    async with asyncio.timeout(60):
        assert await following == []


async def test_who_follows_what_the_next_process_goes_on_with_is_told() -> None:
    log = TaskLog(Task(id="t", context_id="c", agent="x"), "somebody", nothing)
    following = await waiting(log)
    log.leave()
    async with asyncio.timeout(60):
        with pytest.raises(Draining):
            await following


async def test_what_a_taker_raises_is_its_follower_s_alone() -> None:
    go = asyncio.Event()

    async def agent(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await go.wait()
        yield MessageDelta(parts=(Text(text="a"),))
        yield Finished(state=TaskState.COMPLETED)

    def take(logged: Logged) -> bool:
        raise LookupError(logged.seq)

    async def follow(*takers: Callable[[Logged], bool]) -> list[int]:
        return [logged.seq async for logged in handle.events(1, *takers)]

    handle = await hub(agent=MemoryUpstream(agent)).invoke(say("x", "agent"))
    following = [asyncio.create_task(follow(*takers)) for takers in ((), (take,), ())]
    await rested()
    go.set()
    async with asyncio.timeout(60):
        before, between, after = await asyncio.gather(*following, return_exceptions=True)
    assert before == after == [2, 3]
    assert isinstance(between, LookupError) and between.args == (2,)
    assert (await handle.settled()).state is TaskState.COMPLETED


async def test_who_takes_is_not_woken_and_gets_what_it_refuses_in_its_order() -> None:
    go = asyncio.Queue[None]()

    async def agent(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        for n in range(6):
            await go.get()
            yield MessageDelta(parts=(Text(text=str(n)),))
        yield Finished(state=TaskState.COMPLETED)

    told: list[tuple[bool, str]] = []

    def take(logged: Logged) -> bool:
        text = text_of(logged.event.parts) if isinstance(logged.event, MessageDelta) else ""
        if text in ("0", "1", "4"):
            told.append((True, text))
            return True
        return False

    handle = await hub(agent=MemoryUpstream(agent)).invoke(say("x", "agent"))

    async def follow() -> None:
        async for logged in handle.events(1, take):
            event = logged.event
            told.append((False, text_of(event.parts) if isinstance(event, MessageDelta) else "end"))

    following = asyncio.create_task(follow())
    for _ in range(6):
        await rested()
        go.put_nowait(None)
    await following
    assert told == [
        (True, "0"),
        (True, "1"),
        (False, "2"),
        (False, "3"),
        (True, "4"),
        (False, "5"),
        (False, "end"),
    ]
