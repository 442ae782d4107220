"""What an upstream tells, one event after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from agentgw.gateway.model import Event, InputReply, Invocation, TaskRef
from agentgw.gateway.ports import Tell
from agentgw.gateway.turn import Work


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
    job = asyncio.ensure_future(work(events.put_nowait))
    job.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await job
    finally:
        job.cancel()
        await asyncio.wait([job])
