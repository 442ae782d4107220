"""What an upstream tells, one event after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from agentgw.gateway.model import Event, InputReply, Invocation, TaskRef
from agentgw.gateway.ports import Tell
from agentgw.gateway.turn import Telling, Work


class Invokes(Protocol):
    """The part of ``ports.Upstream`` that runs turns."""

    async def invoke(self, call: Invocation, tell: Tell) -> None: ...

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply, tell: Tell) -> None: ...


def invoked(upstream: Invokes, call: Invocation) -> AsyncGenerator[Event]:
    """The events of a turn as they come; closing it stops listening."""
    return _told(lambda tell: upstream.invoke(call, tell))


def replied(upstream: Invokes, task: TaskRef, call: Invocation, reply: InputReply) -> AsyncGenerator[Event]:
    """The same for the answer to a question."""
    return _told(lambda tell: upstream.reply(task, call, reply, tell))


async def _told(work: Work) -> AsyncGenerator[Event]:
    events: asyncio.Queue[Event | None] = asyncio.Queue()

    def tell(*told: Event) -> None:
        for event in told:
            events.put_nowait(event)

    job = asyncio.ensure_future(work(Telling(tell)))
    job.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await job
    finally:
        job.cancel()
        await asyncio.wait([job])


async def held_up(work: Work, at: int) -> tuple[int, int]:
    """How many events are told when there is no room from the ``at``th on; and in all, once there is."""
    told: list[Event] = []
    reached = asyncio.Event()
    room: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(*events: Event) -> asyncio.Future[None] | None:
        told.extend(events)
        if len(told) < at or reached.is_set():
            return None
        reached.set()
        return room

    job = asyncio.ensure_future(work(Telling(tell)))
    await reached.wait()
    for _ in range(200):
        await asyncio.sleep(0)
    before = len(told)
    room.set_result(None)
    await job
    return before, len(told)


class Narrow(Tell):
    """Implements ``ports.Tell`` with no room after three events or more, until the loop goes round. ``told``:
    the events; ``pressed``: how often some came all the same."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.pressed = 0
        self._room: asyncio.Future[None] | None = None
        self._since = 0  # events since there was no room

    def __call__(self, *events: Event) -> asyncio.Future[None] | None:
        self.pressed += self._room is not None and not self._room.done()
        self.told.extend(events)
        self._since += len(events)
        self._room = None
        if self._since >= 3:
            self._since = 0
            loop = asyncio.get_running_loop()
            self._room = loop.create_future()
            loop.call_soon(self._room.set_result, None)
        return self._room
