"""One task's event log: appended by its runner, read by any number of subscribers from any point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime

from .lifecycle import PAUSED, TERMINAL, fold
from .model import (
    ArtifactDelta,
    Event,
    File,
    Finished,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Started,
    StateChanged,
    Task,
    TaskRef,
    Text,
)
from .store import StoredTask

LoadEvents = Callable[[str, int], Awaitable[Sequence[Logged]]]


def now() -> str:
    """The time as the model writes it: UTC, milliseconds, ``Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TaskLog:
    """A task with its events. Implements ``ports.TaskHandle``.

    ``stored``: how many events are in the store already; those before ``first`` are only there (a task that
    was loaded back), and ``load`` fetches them. ``weight`` is roughly the bytes held.
    """

    def __init__(
        self,
        task: Task,
        principal: str,
        load: LoadEvents,
        *,
        upstream: TaskRef | None = None,
        last_seq: int = 0,
    ) -> None:
        self.task = task
        self.principal = principal
        self.upstream = upstream
        self.stored = last_seq
        self.weight = 0
        self.runner: asyncio.Task[None] | None = None
        self.canceled_by_client = False
        self._first = last_seq
        self._load = load
        self._events: list[Logged] = []
        self._changed = asyncio.Event()

    @property
    def last_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._first + len(self._events)

    @property
    def settled_now(self) -> bool:
        """Whether the task has ended or waits for input."""
        return self.task.state in TERMINAL or self.task.state in PAUSED

    def append(self, event: Event) -> None:
        """Log an event, fold it into the task, wake the subscribers. After the end: ignored."""
        if self.task.state in TERMINAL:
            return
        at = now()
        self.task = fold(self.task, event, at)
        self._events.append(Logged(seq=self.last_seq + 1, at=at, event=event))
        self.weight += _weight(event)
        if isinstance(event, Started):
            self.upstream = TaskRef(
                task_id=event.task_id or (self.upstream.task_id if self.upstream else ""),
                context_id=event.context_id or (self.upstream.context_id if self.upstream else None),
            )
        self._wake()

    def replace(self, task: Task) -> None:
        """Take over what a relay saw of the task."""
        if self.task.state not in TERMINAL:
            self.task = task
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def events(self, after: int = 0) -> AsyncIterator[Logged]:
        if after < self._first:
            for logged in await self._load(self.task.id, after):
                if logged.seq > self._first:
                    break
                yield logged
                after = logged.seq
        position = max(after - self._first, 0)
        while True:
            changed = self._changed
            while position < len(self._events):
                position += 1
                yield self._events[position - 1]
            if self.settled_now:
                return
            await changed.wait()

    async def settled(self) -> Task:
        while not self.settled_now:
            await self._changed.wait()
        return self.task

    async def changed(self) -> None:
        """Wait for the next change, whatever it is."""
        await self._changed.wait()

    async def ended(self) -> Task:
        """Wait for the end itself, through any questions."""
        while self.task.state not in TERMINAL:
            await self._changed.wait()
        return self.task

    def unsaved(self) -> Sequence[Logged]:
        """Events that the store does not have yet."""
        return self._events[max(self.stored - self._first, 0) :]

    def snapshot(self) -> StoredTask:
        """What the store keeps of the task itself."""
        return StoredTask(
            task=self.task, principal=self.principal, upstream=self.upstream, last_seq=self.last_seq
        )


def _weight(event: Event) -> int:
    match event:
        case MessageDelta(parts=parts):
            return 200 + _parts_weight(parts)
        case MessageDone(message=message):
            return 200 + _parts_weight(message.parts)
        case ArtifactDelta(artifact=artifact):
            return 200 + _parts_weight(artifact.parts)
        case StateChanged(message=Message() as message) | Finished(message=Message() as message):
            return 200 + _parts_weight(message.parts)
        case _:
            return 200


def _parts_weight(parts: tuple[Part, ...]) -> int:
    size = 0
    for part in parts:
        match part:
            case Text(text=text):
                size += len(text)
            case File(content=bytes() as content):
                size += len(content)
            case _:
                size += 500
    return size
