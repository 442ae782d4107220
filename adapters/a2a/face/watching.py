"""Following a relayed task at its agent, on behalf of a webhook that the agent knows nothing of.

The gateway subscribes to the task (or looks at it again and again), whether a client looks on or not. What it
sees is told to the hub, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing, suppress

import msgspec

from ....gateway.errors import GatewayError, UnknownAgent, UnknownTask
from ....gateway.lifecycle import TERMINAL, fold
from ....gateway.model import Message, Principal, Task, TaskState, Text, Trace
from ....gateway.ports import Engine
from ..events import Item, Update
from ..problems import TASK_NOT_FOUND
from ..reader import updates_between
from ..upstream.upstream import A2AUpstream
from .news import LOOK_AGAIN, News
from .passage import MARK

log = logging.getLogger("agentgw.a2a.push")

HELD = 64  # events kept for slower readers; who is further behind takes the task as it stands
PAUSE_FIRST, PAUSE_MOST, PAUSE_GROWTH = 0.2, 30.0, 1.6  # seconds before following anew while nothing happens
SILENT = 120.0  # seconds after which an open subscription is not trusted any more


class RelayWatch:
    """One relayed task, followed while it has readers. ``task``: as the client knows it; ``seq``: how many
    events there were."""

    def __init__(self, engine: Engine, task: Task, principal: Principal, trace: Trace) -> None:
        self.task = task
        self.seq = 0
        self._engine = engine
        self._principal = principal
        self._trace = trace
        self._held: deque[tuple[int, News]] = deque(maxlen=HELD)
        self._changed = asyncio.Event()
        self._readers = 0
        self._runner: asyncio.Task[None] | None = None

    # --- for readers -------------------------------------------------------------------------

    def join(self) -> None:
        """One more reader; the first one starts it."""
        self._readers += 1
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name=f"watch {self.task.id}")

    def leave(self) -> bool:
        """One reader less; True when it was the last one, and nothing runs any more."""
        self._readers -= 1
        if not self._readers and self._runner is not None:
            self._runner.cancel()
        return not self._readers

    def since(self, seq: int) -> Sequence[News] | None:
        """What came after ``seq``; None when not all of it is held any more."""
        if self._held and self._held[0][0] > seq + 1:
            return None
        return [item for number, item in self._held if number > seq]

    async def changed(self) -> None:
        """Wait for news, or a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN):
                await self._changed.wait()

    # --- following ---------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = PAUSE_FIRST
        while self.task.state not in TERMINAL:
            before = self.seq
            try:
                await self._follow()
            except GatewayError as e:
                log.debug("watching a task of %s: %s %s", self.task.agent, e.message, e.detail)
                if (e.native or {}).get("code") == TASK_NOT_FOUND:
                    self._tell(self._forgotten())
            pause = PAUSE_FIRST if self.seq > before else min(pause * PAUSE_GROWTH, PAUSE_MOST)
            await self._rest(pause)

    async def _follow(self) -> None:
        """Until the task has ended, or waits, or nothing was heard of it for long."""
        agent = self._engine.agent(self.task.agent, self._principal).upstream
        if not isinstance(agent, A2AUpstream):
            raise UnknownAgent(self.task.agent)
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with (
                aclosing(agent.rejoined(self.task.id, self._trace)) as items,
                asyncio.timeout(SILENT) as timer,
            ):
                async for item in items:
                    timer.reschedule(loop.time() + SILENT)
                    self._tell(item)

    def _forgotten(self) -> Task:
        words = f"{self.task.agent} no longer knows the task"
        message = Message(role="agent", parts=(Text(text=words),), message_id=f"{self.task.id}-status")
        return msgspec.structs.replace(self.task, state=TaskState.FAILED, status_message=message)

    def _tell(self, item: Item) -> None:
        """Take note of what the agent said; of a snapshot that of it which is new."""
        match item:
            case Message():
                return
            case Task():
                news, now = updates_between(self.task, item), item
            case Update():
                news, now = [item], fold(self.task, item.event, item.at)
        if not news:
            return
        known = self.task
        self.task = msgspec.structs.replace(
            now,
            id=known.id,
            context_id=known.context_id,
            agent=known.agent,
            input=known.input,
            extra={**now.extra, MARK: known.extra[MARK]},
        )
        theirs = known.extra[MARK].get("context")
        self._engine.observe(self.task, self._principal, upstream=known.agent, context=theirs)
        for update in news:
            self.seq += 1
            renamed = msgspec.structs.replace(update, task_id=known.id, context_id=known.context_id)
            self._held.append((self.seq, renamed))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _rest(self, pause: float) -> None:
        """Wait; a client that answers the task's question (the hub sees that pass) cuts it short."""
        await asyncio.sleep(PAUSE_FIRST)
        with suppress(TimeoutError, UnknownTask):
            handle = await self._engine.task(self.task.id, self._principal)
            async with asyncio.timeout(pause):
                await handle.changed()


class RelayFeed:
    """One reader's place in the news of a relayed task. Implements ``news.Feed``."""

    def __init__(self, watch: RelayWatch) -> None:
        self._watch = watch
        self._seq = 0

    @property
    def task(self) -> Task:
        return self._watch.task

    @property
    def behind(self) -> int:
        return self._watch.seq - self._seq

    @property
    def fresh(self) -> bool:
        return self.behind > 0

    async def snapshot(self) -> Task:
        self._seq = self._watch.seq
        return self._watch.task

    async def news(self) -> Sequence[News]:
        found = self._watch.since(self._seq)
        self._seq = self._watch.seq
        return [self._watch.task] if found is None else found

    async def changed(self) -> None:
        await self._watch.changed()
