"""Tasks that a former process left at work: taken up again where their agents still know them.

Who waits for such a task gets its end as if nothing had been. What can't be taken up is failed, with a
reason: nothing works for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from .errors import (
    ConfigError,
    GatewayError,
    UnknownTask,
    Unreachable,
    UpstreamFailed,
    UpstreamTimeout,
    for_operator,
)
from .lifecycle import PAUSED, TERMINAL, Folding
from .link import Cut
from .model import Event, Finished, Principal, Record, Started, StateChanged, TaskRef, TaskState, Trace
from .ports import AgentView, Keeps, Rejoins, Tell
from .taskbook import TaskBook
from .tasklog import TaskLog
from .turn import Telling

log = logging.getLogger("agentgw.engine")
Seen = tuple[str, str]  # a task that relays saw: its id, and whose it is

AT_ONCE = 32  # tasks that agents are asked about at the same time
AGAIN_FIRST, AGAIN_MOST, AGAIN_GROWTH = (
    0.2,
    10.0,
    1.6,
)  # seconds before an agent that is not there is asked again
READ_FIRST, READ_MOST = 1.0, 60.0  # seconds before a store that can't be read is read again
LOOK_FIRST, LOOK_MOST = 2.0, 300.0  # seconds between looks at tasks that relays saw
MOST_FOLLOWED = 10_000  # tasks that have begun here


class Pickup:
    """``views``: the agents now; ``patience``: for how many seconds an agent may give no answer about a task
    that relays saw."""

    def __init__(
        self,
        views: Callable[[], Mapping[str, AgentView]],
        book: TaskBook,
        patience: Callable[[Record], float],
    ) -> None:
        self._views = views
        self._book = book
        self._patience = patience
        self._unanswered: dict[str, float] = {}  # since when, by task
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._followed = 0
        self.unheard: set[TaskLog] = set()  # whose agents have not answered yet

    def hopeless(self, entry: TaskLog, whole: bool = True) -> UpstreamFailed | None:
        """Why the task can't be taken up; None: it can be tried. ``whole``: all that was kept of it could be
        read."""
        view = self._views().get(entry.agent)
        if not whole:
            return lost(entry, "what was kept of the call can't be read")
        if view is None:
            return lost(entry, f"{entry.agent} is not there any more")
        if entry.upstream is None or not entry.upstream.task_id:
            return lost(entry, f"{entry.agent} had not said yet how to find the task again")
        if view.record.protocol != "auto" and not isinstance(view.upstream, Rejoins):
            return lost(entry, f"{entry.agent} can't be asked what became of the call")
        return None

    def expect(self, entry: TaskLog, runner: asyncio.Task[None]) -> None:
        """The ``runner`` will ask the agent (``rejoined``)."""
        self.unheard.add(entry)
        runner.add_done_callback(lambda _: self.unheard.discard(entry))

    async def rejoined(self, entry: TaskLog, tell: Tell) -> None:
        """The work of the task's runner: what the agent has done and does. An agent that is not there is
        tried again until the runner's limits of time end it."""
        try:
            await self._until_rejoined(entry, tell)
        except UnknownTask:
            raise lost(entry, f"{entry.agent} no longer knows the task") from None

    async def _until_rejoined(self, entry: TaskLog, tell: Tell) -> None:
        pause = AGAIN_FIRST
        while True:
            if (reason := self.hopeless(entry)) is not None:
                raise reason
            try:
                await self._rejoin(entry, tell)
                return
            except (Unreachable, UpstreamTimeout) as e:
                log.debug("a task of %s can't be taken up yet: %s", entry.agent, e.message)
            self.unheard.add(entry)
            await asyncio.sleep(pause)
            pause = min(pause * AGAIN_GROWTH, AGAIN_MOST)

    async def _rejoin(self, entry: TaskLog, tell: Tell) -> None:
        """Holds a place until the agent has shown that it knows the task."""
        upstream, ref = self._views()[entry.agent].upstream, entry.upstream
        if not isinstance(upstream, Rejoins) or ref is None:
            raise Unreachable(f"{entry.agent} has not answered yet")
        async with _Place(self._gate) as place:

            def told(*events: Event) -> Awaitable[None] | None:
                if any(isinstance(event, Started) for event in events):
                    self.unheard.discard(entry)
                    place.free()
                    events = tuple(event for event in events if not isinstance(event, Started))
                return tell(*events) if events else None

            await upstream.rejoin(ref, await entry.whole(), Trace(), Telling(told))

    # --- what relays saw ---------------------------------------------------------------------

    async def follow(self, task: Seen) -> None:
        """``look_after`` one that has just begun; of too many at once none more."""
        if self._followed < MOST_FOLLOWED:
            self._followed += 1
            try:
                await asyncio.sleep(LOOK_FIRST)
                await self.look_after([task], restarted=False)
            finally:
                self._followed -= 1

    async def look_after(self, tasks: Sequence[Seen], *, restarted: bool = True) -> None:
        """Learn what becomes of tasks that agents keep themselves and whose clients may not come back.
        ``restarted``: a former process saw them."""
        pause, open_ = LOOK_FIRST, list(tasks)
        while open_:
            jobs = (self._look(*task, restarted) for task in open_)
            ended = await asyncio.gather(*jobs)
            open_ = [task for task, end in zip(open_, ended, strict=True) if not end]
            await asyncio.sleep(pause)
            pause = min(pause * 2, LOOK_MOST)

    async def _look(self, task_id: str, owner: str, restarted: bool) -> bool:
        """Take down how the task stands; whether there is nothing more to learn."""
        principal = Principal(id=owner)
        try:
            entry = await self._book.get(task_id, principal)
        except UnknownTask:  # forgotten
            self._unanswered.pop(task_id, None)
            return True
        except GatewayError:  # nothing can be read now
            return False
        view = self._views().get(entry.agent)
        keeps = view is not None and isinstance(view.upstream, Keeps)
        # What waits for its client is looked after only where nobody else tells of its end.
        over = TERMINAL | PAUSED if view is not None and isinstance(view.upstream, Rejoins) else TERMINAL
        if entry.state in over:  # somebody else has learnt it
            self._unanswered.pop(task_id, None)
            return True
        if entry.state in PAUSED and not keeps:  # it is not known (yet) what the agent speaks
            return False
        folding = Folding(entry.task)
        if view is None:
            folding.add(_failure(lost(entry, f"{entry.agent} is not there any more", restarted)))
        else:
            await self._looked(view, entry, folding, restarted)
        if folding.state is not entry.state:
            self._book.observe(folding.task, principal, entry.agent)
        return folding.state in over

    async def _looked(self, view: AgentView, entry: TaskLog, folding: Folding, restarted: bool) -> None:
        """What the agent says goes into ``folding``; that it has said nothing for too long, too."""
        upstream = view.upstream

        def told(*events: Event) -> None:
            for event in events:
                folding.add(event)

        async with self._gate:
            try:
                if isinstance(upstream, Keeps):
                    state = await upstream.stands(entry.task, Principal(id=entry.principal))
                    folding.add(Finished(state=state) if state in TERMINAL else StateChanged(state=state))
                elif isinstance(upstream, Rejoins):
                    ref = TaskRef(task_id=entry.id)
                    await upstream.rejoin(ref, entry.task, Trace(), Telling(told), follow=False)
                else:
                    raise Unreachable(f"{entry.agent} can't be asked")
            except UnknownTask:
                folding.add(_failure(lost(entry, f"{entry.agent} no longer knows the task", restarted)))
            except GatewayError as e:
                log.debug("looking at a task of %s: %s", entry.agent, e.message)
                self._no_answer(view, entry, folding)
                return
            except Exception:
                log.exception("looking at a task of %s failed", entry.agent)
                self._no_answer(view, entry, folding)
                return
        self._unanswered.pop(entry.id, None)

    def _no_answer(self, view: AgentView, entry: TaskLog, folding: Folding) -> None:
        since = self._unanswered.setdefault(entry.id, time.monotonic())
        promised = view.upstream.kept_until(entry.task) if isinstance(view.upstream, Keeps) else 0.0
        if time.monotonic() - since < self._patience(view.record) or time.time() < promised:
            return
        del self._unanswered[entry.id]
        folding.add(_failure(lost(entry, f"{entry.agent} does not say any more how the task stands", False)))


async def persistently(work: Callable[[], Awaitable[None]], what: str) -> None:
    """Do ``work``, again after a while if the store can't be read now; the log tells ``what`` can't be done
    yet. Where the process that has the store is gone, this one ends, too."""
    pause = READ_FIRST
    while True:
        try:
            await work()
            return
        except Cut:
            return
        except ConfigError as e:
            log.error("%s yet: %s", what, for_operator(e))
        await asyncio.sleep(pause)
        pause = min(pause * 2, READ_MOST)


def lost(entry: TaskLog, why: str, restarted: bool = True) -> UpstreamFailed:
    """The error of a task that is not taken up again."""
    error = UpstreamFailed(entry.agent)
    error.message = f"the gateway was restarted, and {why}" if restarted else why
    return error


def _failure(error: GatewayError) -> Finished:
    return Finished(state=TaskState.FAILED, fault=error.fault())


class _Place:
    """A place at a gate, which may be given up before the block ends."""

    def __init__(self, gate: asyncio.Semaphore) -> None:
        self._gate = gate
        self._held = False

    async def __aenter__(self) -> _Place:
        await self._gate.acquire()
        self._held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.free()

    def free(self) -> None:
        if self._held:
            self._held = False
            self._gate.release()
