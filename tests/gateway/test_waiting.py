"""Waiting that somebody else ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest

from agentgw.gateway.errors import Draining, UpstreamTimeout
from agentgw.gateway.http.request import ClientGone
from agentgw.gateway.waiting import KEPT, Timer, Timers, Waiting

SHORT, LONG = 0.002, 3600.0


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_the_block_ends_with_the_error_that_was_said() -> None:
    waiting = Waiting()
    asyncio.get_running_loop().call_soon(waiting.end, ClientGone())
    with pytest.raises(ClientGone), waiting:
        await for_ever()
    current = asyncio.current_task()
    assert current is not None and current.cancelling() == 0


async def test_what_was_said_outside_counts_at_the_next_block() -> None:
    waiting = Waiting()
    with waiting:
        pass
    waiting.end(ClientGone())
    with pytest.raises(ClientGone), waiting:
        raise AssertionError("it was entered")


async def test_the_first_error_counts() -> None:
    waiting = Waiting()
    loop = asyncio.get_running_loop()
    loop.call_soon(waiting.end, UpstreamTimeout("first"))
    loop.call_soon(waiting.end, ClientGone())
    with pytest.raises(UpstreamTimeout), waiting:
        await for_ever()


async def test_what_has_ended_ends_every_block_with_the_same() -> None:
    waiting = Waiting()
    asyncio.get_running_loop().call_soon(waiting.end, UpstreamTimeout("late", data={"limit": "idle"}))
    for _ in range(3):
        with pytest.raises(UpstreamTimeout) as raised, waiting:
            await for_ever()
        assert (raised.value.message, raised.value.data) == ("late", {"limit": "idle"})


class Thing:
    """Something that a block uses."""


@pytest.mark.parametrize("kind", [ClientGone, Draining, TimeoutError])
async def test_a_block_that_has_ended_holds_nothing(kind: type[Exception]) -> None:
    """Nor does its error: all is gone without the collector."""
    used: list[weakref.ref[Thing]] = []

    async def work() -> None:
        waiting, thing = Waiting(), Thing()
        used.append(weakref.ref(thing))
        asyncio.get_running_loop().call_soon(waiting.end, kind())
        with waiting:
            await for_ever()

    gc.disable()
    try:
        with contextlib.suppress(kind):
            await work()
        await asyncio.sleep(0)  # the loop holds what it has thrown until it goes on
        assert [ref() for ref in used] == [None]
    finally:
        gc.enable()


async def test_an_error_of_the_block_itself_is_told() -> None:
    waiting = Waiting()
    with pytest.raises(KeyError), waiting:
        raise KeyError


async def test_who_ends_the_task_ends_it() -> None:
    """Also where the block shall end in the same moment."""
    entered = asyncio.Event()

    async def work() -> None:
        nonlocal waiting
        waiting = Waiting()
        with waiting:
            entered.set()
            await for_ever()

    waiting: Waiting | None = None
    task = asyncio.create_task(work())
    await entered.wait()
    assert waiting is not None
    waiting.end(ClientGone())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_time_begins_anew_with_each_block() -> None:
    called: list[str] = []
    timer = Timer(LONG)
    waiting = Waiting((timer, lambda: called.append("x")))
    with waiting:
        assert not timer.idle
    assert timer.idle and not called


async def test_time_runs_out_in_the_order_of_the_starts() -> None:
    said: list[str] = []
    over = asyncio.Event()
    timer = Timer(SHORT)

    def first() -> None:
        said.append("first")

    def again() -> None:
        said.append("again")
        over.set()

    def stopped() -> None:
        said.append("stopped")

    timer.start(again)
    timer.start(first)
    timer.start(stopped)
    timer.start(again)
    timer.stop(stopped)
    await over.wait()
    assert said == ["first", "again"] and timer.idle


async def test_one_that_runs_out_may_stop_another_and_start_itself() -> None:
    said: list[str] = []
    over = asyncio.Event()
    timer = Timer(SHORT)

    def second() -> None:
        said.append("second")

    def first() -> None:
        said.append("first")
        timer.stop(second)
        if len(said) < 3:
            timer.start(first)
        else:
            over.set()

    timer.start(first)
    timer.start(second)
    await over.wait()
    assert said == ["first"] * 3


async def test_a_time_that_has_begun_anew_meanwhile_is_waited_for_to_its_end() -> None:
    said: list[bool] = []
    over = asyncio.Event()
    timer = Timer(SHORT)
    loop = asyncio.get_running_loop()

    def late() -> None:
        said.append(timer.restart(late, loop.time() - (0 if len(said) < 2 else SHORT)))
        if not said[-1]:
            over.set()

    timer.start(late)
    await over.wait()
    assert said == [True, True, False] and timer.idle


async def test_one_that_waits_longer_is_stopped_and_started_like_others() -> None:
    called: list[str] = []
    timer, ended = Timer(SHORT), asyncio.Event()

    def late() -> None:
        called.append("late")
        assert timer.restart(late, asyncio.get_running_loop().time() + LONG)
        ended.set()

    timer.start(late)
    await ended.wait()
    assert not timer.idle
    timer.stop(late)
    assert timer.idle
    ended.clear()
    timer.start(late)
    await ended.wait()
    timer.start(late)  # in place of the long wait
    ended.clear()
    await ended.wait()
    timer.stop(late)
    assert timer.idle and called == ["late"] * 3


async def test_lengths_that_callers_choose_are_forgotten() -> None:
    timers = Timers()
    used = timers.of(LONG)
    used.start(print)
    for seconds in range(10 * KEPT):
        timers.of(float(seconds))
    assert timers.of(LONG) is used and timers.of(1.0) is timers.of(1.0)
    assert len(timers) <= KEPT + 1
    used.stop(print)
