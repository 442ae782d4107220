"""What becomes of a task, for those who tell a webhook: from the task's log, or from its agent.

A *feed* is one reader's place in the news. It never blocks the task and holds nothing that the task would not
hold anyway: who falls behind takes the task as it stands and goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Protocol

from ....gateway.model import Principal, Task
from ....gateway.ports import Engine, TaskHandle
from ..events import Update
from ..writer import Writer

News = Task | Update

LOOK_AGAIN = 30.0  # seconds after which a quiet task is asked for anew


class Feed(Protocol):
    """A reader's place in the news of one task."""

    @property
    def task(self) -> Task:
        """The task as it is now."""
        ...

    @property
    def behind(self) -> int:
        """How many events this reader has not taken yet."""
        ...

    @property
    def fresh(self) -> bool:
        """Whether there is anything that this reader has not taken."""
        ...

    async def snapshot(self) -> Task:
        """The task as it is now; what comes next is what happens after it."""
        ...

    async def news(self) -> Sequence[News]:
        """What happened since; empty when nothing did. Does not wait for more."""
        ...

    async def changed(self) -> None:
        """Wait for something to happen (or a while). Raises UnknownTask when the task is no more."""
        ...


class LogFeed:
    """The news of a task that the hub runs (or keeps: the gateway's own questions have no log)."""

    def __init__(self, engine: Engine, handle: TaskHandle, principal: Principal) -> None:
        self._engine = engine
        self._handle = handle
        self._principal = principal
        self._seq = 0
        self._seen = handle.task
        self._writer = Writer(handle.task)

    @property
    def task(self) -> Task:
        return self._handle.task

    @property
    def behind(self) -> int:
        return self._handle.last_seq - self._seq

    @property
    def fresh(self) -> bool:
        return self.behind > 0 or self._handle.task.state is not self._seen.state

    async def snapshot(self) -> Task:
        self._seq, self._seen = self._handle.last_seq, self._handle.task
        found = await self._handle.whole(self._seq)
        self._writer = Writer(found)
        return found

    async def news(self) -> Sequence[News]:
        end = self._handle.last_seq
        if end <= self._seq:
            return [await self.snapshot()] if self.fresh else []
        found: list[News] = []
        async with aclosing(self._handle.events(self._seq)) as log:
            async for logged in log:
                found += self._writer.feed(logged)
                self._seq = logged.seq
                if logged.seq >= end:
                    break
        self._seen = self._handle.task
        return found

    async def changed(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN):
                await self._handle.changed()
                return
        self._handle = await self._engine.task(self._handle.task.id, self._principal)


class Told:
    """A task of which there is nothing more to come. Implements ``Feed``."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.behind = 0
        self.fresh = False

    async def snapshot(self) -> Task:
        return self.task

    async def news(self) -> Sequence[News]:
        return []

    async def changed(self) -> None:
        await asyncio.Event().wait()
