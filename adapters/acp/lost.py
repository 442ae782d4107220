"""What events lose when they become a run's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ...gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    InputRequired,
    MessageDelta,
    MessageDone,
    StateChanged,
    TaskState,
)
from . import codec
from .losses import Loss


def of_event(event: Event) -> Collection[Loss]:
    """What ACP has no place for in an event, apart from what artifacts lose."""
    find = _FINDS.get(type(event))
    return () if find is None else find(event)


def _of_delta(event: MessageDelta) -> Collection[Loss]:
    return codec.losses(event.parts)


def _of_message(event: MessageDone) -> Collection[Loss]:
    return codec.message_losses(event.message)


def _of_artifact(event: ArtifactDelta) -> Collection[Loss]:
    artifact = event.artifact
    found = set(codec.losses(artifact.parts))
    for thing in (artifact, event):
        if thing.metadata or thing.extra:
            found |= _of(thing, Loss.ARTIFACT_METADATA, Loss.ARTIFACT_FIELDS)
    if artifact.description is not None:
        found.add(Loss.ARTIFACT_DESCRIPTION)
    return found


def _of_state(event: StateChanged | Finished) -> Collection[Loss]:
    message = event.message
    found: set[Loss] = codec.message_losses(message) if message else set()
    if event.metadata or event.extra:
        found |= _of(event, Loss.STATUS_METADATA, Loss.STATUS_FIELDS)
    if event.state is _REJECTED:
        found.add(Loss.REJECTED)
    return found


def _of_question(event: InputRequired) -> Collection[Loss]:
    request = event.request
    found = codec.message_losses(request.message)
    if codec.foreign(request.extra):
        found.add(Loss.STATUS_FIELDS)
    if request.kind == "auth":
        found.add(Loss.AUTH)
    return found


_REJECTED = TaskState.REJECTED
_FINDS: Mapping[type[Event], Callable[[Any], Collection[Loss]]] = {
    MessageDelta: _of_delta,
    MessageDone: _of_message,
    ArtifactDelta: _of_artifact,
    StateChanged: _of_state,
    Finished: _of_state,
    InputRequired: _of_question,
}


def _of(thing: Artifact | ArtifactDelta | StateChanged | Finished, metadata: Loss, fields: Loss) -> set[Loss]:
    found = {metadata} if thing.metadata else set[Loss]()
    return found | ({fields} if codec.foreign(thing.extra) else set())
