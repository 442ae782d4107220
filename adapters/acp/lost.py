"""What events lose when they become a run's. Pure."""

from __future__ import annotations

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


def of_event(event: Event) -> set[Loss]:
    """What ACP has no place for in an event, apart from what artifacts lose."""
    found: set[Loss] = set()
    match event:
        case MessageDelta(parts=parts):
            found.update(codec.losses(parts))
        case MessageDone(message=message):
            found |= codec.message_losses(message)
        case ArtifactDelta(artifact=artifact):
            found.update(codec.losses(artifact.parts))
            for thing in (artifact, event):
                if thing.metadata or thing.extra:
                    found |= _of(thing, Loss.ARTIFACT_METADATA, Loss.ARTIFACT_FIELDS)
            if artifact.description is not None:
                found.add(Loss.ARTIFACT_DESCRIPTION)
        case StateChanged(message=message) | Finished(message=message):
            if event.metadata or event.extra:
                found |= _of(event, Loss.STATUS_METADATA, Loss.STATUS_FIELDS)
            found |= codec.message_losses(message) if message else set()
            if event.state is TaskState.REJECTED:
                found.add(Loss.REJECTED)
        case InputRequired(request=request):
            found |= codec.message_losses(request.message)
            if codec.foreign(request.extra):
                found.add(Loss.STATUS_FIELDS)
            if request.kind == "auth":
                found.add(Loss.AUTH)
        case _:
            pass
    return found


def _of(thing: Artifact | ArtifactDelta | StateChanged | Finished, metadata: Loss, fields: Loss) -> set[Loss]:
    found = {metadata} if thing.metadata else set[Loss]()
    return found | ({fields} if codec.foreign(thing.extra) else set())
