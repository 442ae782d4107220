"""One task's event log: appended by its runner, read by any number of subscribers from any point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from .lifecycle import PAUSED, TERMINAL, Folding
from .model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    File,
    Finished,
    InputRequired,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Progress,
    Started,
    StateChanged,
    Task,
    TaskRef,
    TaskState,
    Text,
)
from .store import StoredTask

_encode = msgspec.json.Encoder().encode
LoadEvents = Callable[[str, int], Awaitable[Sequence[Logged]]]


def now() -> str:
    """The time as the model writes it: UTC, milliseconds, ``Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TaskLog:
    """A task with its events. Implements ``ports.TaskHandle``.

    ``stored``: how many events are in the store already; those before ``first`` are only there (a task that
    was loaded back), and ``load`` fetches them. ``relayed``: a relay saw it pass; there is no log, and its
    agent knows best what it is. ``watchers``: how many follow it.
    """

    def __init__(
        self,
        task: Task,
        principal: str,
        load: LoadEvents,
        *,
        upstream: TaskRef | None = None,
        last_seq: int = 0,
        relayed: bool = False,
    ) -> None:
        self.id, self.agent, self.context_id = task.id, task.agent, task.context_id
        self.principal = principal
        self.upstream = upstream
        self.stored = last_seq
        self.relayed = relayed
        self._weight: int | None = _task_weight(task)
        self.runner: asyncio.Task[None] | None = None
        self.canceled_by_client = False
        self.watchers = 0
        self._folding = Folding(task)
        self._saved: TaskState | None = None  # the state that the store has seen
        self._first = last_seq
        self._load = load
        self._events: list[Logged] = []
        self._changed = asyncio.Event()

    @property
    def task(self) -> Task:
        """The task as it is now. Puts together what came since the last reading."""
        return self._folding.task

    @property
    def state(self) -> TaskState:
        """Its state now; cheap."""
        return self._folding.state

    @property
    def weight(self) -> int:
        """Roughly the bytes held."""
        if self._weight is None:
            self._weight = _task_weight(self.task)
        return self._weight

    @property
    def last_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._first + len(self._events)

    @property
    def settled_now(self) -> bool:
        """Whether the task has ended or waits for input."""
        return self.state in TERMINAL or self.state in PAUSED

    @property
    def running(self) -> bool:
        """Whether a runner is at work on it."""
        return self.runner is not None and not self.runner.done()

    def append(self, event: Event) -> None:
        """Log an event, fold it into the task, wake the subscribers. After the end: ignored."""
        if self.state in TERMINAL:
            return
        at = now()
        self._folding.add(event, at)
        self._events.append(Logged(seq=self.last_seq + 1, at=at, event=event))
        if self._weight is not None:
            self._weight += _weight(event)
        if isinstance(event, Started):
            self.upstream = TaskRef(
                task_id=event.task_id or (self.upstream.task_id if self.upstream else ""),
                context_id=event.context_id or (self.upstream.context_id if self.upstream else None),
            )
        self._wake()

    def replace(self, task: Task) -> None:
        """Take over what a relay saw of the task."""
        if self.state not in TERMINAL:
            self._folding = Folding(task)
            self.context_id = task.context_id
            self._weight = None  # a stream has many updates, and only who tidies up asks
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def events(self, after: int = 0) -> AsyncGenerator[Logged]:
        self.watchers += 1
        try:
            if after < self._first:
                for logged in await self._load(self.id, after):
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
        finally:
            self.watchers -= 1

    async def log(self) -> Sequence[Logged]:
        first = self._first
        stored = await self._load(self.id, 0) if first else ()
        return [*(logged for logged in stored if logged.seq <= first), *self._events]

    async def settled(self) -> Task:
        return await self._until(lambda: self.settled_now)

    async def changed(self) -> None:
        """Wait for the next change, whatever it is."""
        self.watchers += 1
        try:
            await self._changed.wait()
        finally:
            self.watchers -= 1

    async def ended(self) -> Task:
        """Wait for the end itself, through any questions."""
        return await self._until(lambda: self.state in TERMINAL)

    async def begun(self) -> TaskRef | None:
        """Wait until the agent has said what it calls the task; None if it ended without."""
        await self._until(lambda: self.upstream is not None or self.state in TERMINAL)
        return self.upstream

    async def _until(self, reached: Callable[[], bool]) -> Task:
        self.watchers += 1
        try:
            while not reached():
                await self._changed.wait()
        finally:
            self.watchers -= 1
        return self.task

    def unsaved(self) -> Sequence[Logged]:
        """Events that the store does not have yet."""
        return self._events[max(self.stored - self._first, 0) :]

    def snapshot(self) -> StoredTask | None:
        """What the store keeps of the task itself; None when it has seen this state: the events are enough
        to make the rest of a running task from what it has."""
        if self._saved is self.state and not self.relayed and not self.settled_now:
            return None
        return StoredTask(
            task=self.task,
            principal=self.principal,
            upstream=self.upstream,
            last_seq=self.last_seq,
            relayed=self.relayed,
        )

    def saved(self, snapshot: StoredTask | None, seq: int) -> None:
        """The store has the snapshot, and the events up to ``seq``."""
        self.stored = max(self.stored, seq)
        if snapshot is not None:
            self._saved = snapshot.task.state

    def restore(self, events: Sequence[Logged]) -> None:
        """Take in events that were stored after the task itself was."""
        for logged in events:
            if logged.seq == self._first + 1:
                self._folding.add(logged.event, logged.at)
                self._first = self.stored = logged.seq


def _task_weight(task: Task) -> int:
    said = (task.input, task.status_message, *task.messages, *task.artifacts)
    size = sum(_item_weight(item) for item in said if item is not None)
    return 1000 + size + _free(task.metadata) + _free(task.extra) + _free(task.fault and task.fault.data)


def _weight(event: Event) -> int:
    match event:
        case MessageDelta(parts=parts):
            return 200 + _parts_weight(parts)
        case MessageDone(message=item) | ArtifactDelta(artifact=item):
            return 200 + _item_weight(item)
        case StateChanged(message=Message() as message) | Finished(message=Message() as message):
            return 200 + _item_weight(message)
        case InputRequired(request=request):
            return 200 + _item_weight(request.message) + _free(request.schema) + _free(request.extra)
        case Progress(data=data, extra=extra):
            return 200 + _free(data) + _free(extra)
        case _:
            return 200


def _item_weight(item: Message | Artifact) -> int:
    match item:
        case Message(message_id=name):
            size = len(name or "")
        case Artifact(name=name, description=description):
            size = len(item.artifact_id) + len(name or "") + len(description or "")
    return size + _parts_weight(item.parts) + _free(item.metadata) + _free(item.extra)


def _parts_weight(parts: tuple[Part, ...]) -> int:
    size = 0
    for part in parts:
        match part:
            case Text(text=text):
                size += len(text)
            case File(content=bytes() as content):
                size += len(content)
            case Data(data=data):
                size += 500 + _free(data)
            case File(uri=uri):
                size += 500 + len(uri or "")
        if part.metadata or part.extra:
            size += _free(part.metadata) + _free(part.extra)
    return size


def _free(value: Any) -> int:
    """Free-form JSON: its length when written."""
    return len(_encode(value)) if value else 0
