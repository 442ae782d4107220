"""What of the canonical model A2A has no place for. Pure.

The phrases are stable: spans carry them, docs/protocols.md lists them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from ...gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Extra,
    Finished,
    InputRequired,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Progress,
    StateChanged,
    Task,
)

_OURS = frozenset({"a2a", "gateway", "agentgw"})


class Loss(StrEnum):
    """A kind of thing that gets lost."""

    __hash__ = str.__hash__  # Enum's own is written in Python

    AUTHOR = "author of a message"
    FIELDS = "fields that only another protocol has"
    ERROR_DATA = "data of an error"
    MODES = "accepted output modes: only A2A agents are told"


def of_event(event: Event) -> set[Loss]:
    """What an event loses on its way to an A2A client."""
    match event:
        case MessageDelta(parts=parts, author=author):
            return _of_parts(parts) | ({Loss.AUTHOR} if author else set())
        case MessageDone(message=message):
            return of_message(message)
        case ArtifactDelta(artifact=artifact, extra=extra):
            return _of_artifact(artifact) | _of_extra(extra)
        case InputRequired(request=request):
            return of_message(request.message) | _of_extra(request.extra)
        case Finished(message=message, extra=extra, fault=fault):
            lost = {Loss.ERROR_DATA} if fault is not None and fault.data is not None else set[Loss]()
            return lost | of_message(message) | _of_extra(extra)
        case StateChanged(message=message, extra=extra):
            return of_message(message) | _of_extra(extra)
        case Progress(extra=extra):
            return _of_extra(extra)
        case _:
            return set()


def of_task(task: Task) -> set[Loss]:
    """What a task's snapshot loses."""
    lost = of_message(task.input) | of_message(task.status_message) | _of_extra(task.extra)
    for message in task.messages:
        lost |= of_message(message)
    for artifact in task.artifacts:
        lost |= _of_artifact(artifact)
    if task.fault is not None and task.fault.data is not None:
        lost.add(Loss.ERROR_DATA)
    return lost


def of_message(message: Message | None) -> set[Loss]:
    """What a message loses on its way to an A2A agent or client."""
    if message is None:
        return set()
    lost = _of_parts(message.parts) | _of_extra(message.extra)
    return lost | {Loss.AUTHOR} if message.author else lost


def _of_artifact(artifact: Artifact) -> set[Loss]:
    return _of_parts(artifact.parts) | _of_extra(artifact.extra)


def _of_parts(parts: Iterable[Part]) -> set[Loss]:
    lost: set[Loss] = set()
    for part in parts:
        if part.extra:
            lost |= _of_extra(part.extra)
    return lost


def _of_extra(extra: Extra) -> set[Loss]:
    return {Loss.FIELDS for key, fields in extra.items() if key not in _OURS and fields}
