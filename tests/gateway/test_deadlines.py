"""Time limits that share a timer."""

from __future__ import annotations

import asyncio

import pytest

from agentgw.gateway.deadlines import Deadlines

SOON, LATE = 0.01, 60.0


async def test_a_block_that_takes_too_long_ends() -> None:
    deadlines = Deadlines()
    limit = deadlines.within(SOON)
    with pytest.raises(TimeoutError), limit:
        await asyncio.Event().wait()
    assert limit.expired
    await asyncio.sleep(0)  # the task itself was not cancelled


async def test_each_block_has_its_own_limit() -> None:
    """The timer, set for the first, rings for a later and shorter one too, and again for those after it."""
    deadlines = Deadlines()
    ended: list[str] = []

    async def block(name: str, seconds: float) -> None:
        with pytest.raises(TimeoutError), deadlines.within(seconds):
            await asyncio.Event().wait()
        ended.append(name)

    with deadlines.within(LATE):
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for name, seconds in (("last", 10 * SOON), ("first", SOON), ("second", 2 * SOON)):
                group.create_task(block(name, seconds))
    assert ended == ["first", "second", "last"]


async def test_a_block_that_is_done_in_time_is_left_alone() -> None:
    deadlines = Deadlines()
    with deadlines.within(SOON) as limit:
        pass
    with pytest.raises(TimeoutError), deadlines.within(2 * SOON):
        await asyncio.Event().wait()
    assert not limit.expired


async def test_what_goes_wrong_inside_and_cancellation_pass() -> None:
    deadlines = Deadlines()
    with pytest.raises(ValueError, match="mine"), deadlines.within(LATE):
        raise ValueError("mine")

    async def block() -> None:
        with deadlines.within(LATE):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
