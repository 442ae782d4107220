"""That a call has begun is told with its answer, or soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from agentgw.adapters.mcp.upstream.begun import Begun
from agentgw.gateway.model import Event, Finished, MessageDelta, Place, Started, TaskState, Text
from agentgw.gateway.ports import Tell
from agentgw.gateway.waiting import Timer

STARTED = Started(task_id="t")
ENDED = Finished(state=TaskState.COMPLETED)
PIECE = MessageDelta(parts=(Text(text="x"),))


class Told(Tell):
    """What was told, and how much of it together."""

    def __init__(self) -> None:
        self.told: list[tuple[Event, ...]] = []
        self.some = asyncio.Event()

    def __call__(self, *events: Event) -> Awaitable[None] | None:
        self.told.append(events)
        self.some.set()
        return None


async def test_what_comes_soon_is_told_together() -> None:
    tell, patience = Told(), Timer(60)
    begun = Begun(tell, STARTED, patience)
    assert tell.told == []
    begun(ENDED)
    begun.now()
    assert tell.told == [(STARTED, ENDED)]
    assert patience.idle


async def test_what_comes_late_is_told_after_it() -> None:
    tell, patience = Told(), Timer(0)
    begun = Begun(tell, STARTED, patience)
    await tell.some.wait()
    begun(PIECE, ENDED)
    assert tell.told == [(STARTED,), (PIECE, ENDED)]


async def test_a_piece_of_text_comes_after_it() -> None:
    tell, patience = Told(), Timer(60)
    begun = Begun(tell, STARTED, patience)
    begun.more("x", Place())
    begun.more("x", Place())
    assert tell.told == [(STARTED,), (PIECE,), (PIECE,)]
    assert patience.idle


async def test_it_is_told_where_nothing_comes() -> None:
    tell, patience = Told(), Timer(60)
    begun = Begun(tell, STARTED, patience)
    begun.now()
    begun.now()
    assert tell.told == [(STARTED,)]
    assert patience.idle
