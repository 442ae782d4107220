"""Tasks that say much: what they say stays in the store's log of events, all else of them in memory. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .lifecycle import Folding
from .model import ArtifactDelta, Event, Extra, Logged, MessageDelta, MessageDone, Task
from .pace import size_of

MOST = 2 * 1024 * 1024  # bytes that the messages and artifacts of a task in memory say
_MARK: Extra = {"gateway": {"light": True}}


def is_light(task: Task) -> bool:
    """Whether its messages and artifacts are without what they say."""
    return "gateway" in task.extra


SAYS = frozenset({MessageDelta, ArtifactDelta, MessageDone})  # events by which a task grows


def said(event: Event) -> int:
    """Roughly the bytes by which a task grows with the event."""
    return size_of(event) if type(event) in SAYS else 0


def lightened(task: Task) -> Task:
    """The task without what its messages and artifacts say."""
    return msgspec.structs.replace(
        task,
        messages=tuple(msgspec.structs.replace(m, parts=()) for m in task.messages),
        artifacts=tuple(msgspec.structs.replace(a, parts=()) for a in task.artifacts),
        extra={**task.extra, **_MARK},
    )


def light(event: Event) -> Event:
    """The event without what it says."""
    match event:
        case MessageDelta():
            return msgspec.structs.replace(event, parts=())
        case MessageDone(message=message):
            return msgspec.structs.replace(event, message=msgspec.structs.replace(message, parts=()))
        case ArtifactDelta(artifact=artifact):
            return msgspec.structs.replace(event, artifact=msgspec.structs.replace(artifact, parts=()))
        case _:
            return event


def whole(task: Task, log: Iterable[Logged]) -> Task:
    """A light task with all that ``log``, from its beginning on, says."""
    folding = Folding(
        Task(
            id=task.id,
            context_id=task.context_id,
            agent=task.agent,
            input=task.input,
            created_at=task.created_at,
            updated_at=task.created_at,
            metadata=task.metadata,
            extra={key: value for key, value in task.extra.items() if key not in _MARK},
        )
    )
    for logged in log:
        folding.add(logged.event, logged.at)
    return folding.task
