"""What passes in an A2A stream, ↔ JSON. Pure.

An *item* is one stream event or unary result: a task, a message, or an ``Update`` of a task. ``reader`` turns
an agent's items into canonical events, ``writer`` a task's event log into items for a client.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...gateway.lifecycle import PAUSED, TERMINAL
from ...gateway.model import (
    ArtifactDelta,
    Fault,
    Finished,
    InputRequest,
    InputRequired,
    Message,
    StateChanged,
    Task,
    TaskState,
    text_of,
)
from .codec import (
    Malformed,
    artifact_from,
    artifact_to,
    as_object,
    kept,
    message_from,
    message_to,
    object_at,
    own,
    put,
    status_from,
    status_to,
    task_from,
    task_to,
    text_at,
)
from .questions import question_from, question_to
from .wire import V03, V10, Json, Version

StatusEvent = StateChanged | InputRequired | Finished


class Update(msgspec.Struct, frozen=True):
    """A change of a task: of its status, or of an artifact. ``at``: the status's timestamp."""

    task_id: str
    context_id: str
    event: StatusEvent | ArtifactDelta
    at: str = ""


Item = Task | Message | Update

_STATUS_UPDATE = frozenset({"kind", "taskId", "contextId", "status", "metadata", "final"})
_ARTIFACT_UPDATE = frozenset({"kind", "taskId", "contextId", "artifact", "metadata", "append", "lastChunk"})


# --- items ↔ JSON ------------------------------------------------------------------------------


def item_from(value: Any, v: Version) -> Item:
    """An item: in 1.0 an object with one member that names its type, in 0.3 an object with a ``kind``."""
    wire = as_object(value, "result")
    if v == V03:
        match wire.get("kind"):
            case "task":
                return task_from(wire, v)
            case "message":
                return message_from(wire, v)
            case "status-update":
                return _status_update_from(wire, v)
            case "artifact-update":
                return _artifact_update_from(wire, v)
            case kind:
                raise Malformed(f"unknown kind of result: {kind!r}"[:120])
    if "task" in wire:
        return task_from(wire["task"], v)
    if "message" in wire:
        return message_from(wire["message"], v)
    if "statusUpdate" in wire:
        return _status_update_from(as_object(wire["statusUpdate"], "statusUpdate"), v)
    if "artifactUpdate" in wire:
        return _artifact_update_from(as_object(wire["artifactUpdate"], "artifactUpdate"), v)
    raise Malformed("a result is one of task, message, statusUpdate and artifactUpdate")


def item_to(item: Item, v: Version, *, history_length: int | None = None) -> dict[str, Any]:
    """The way back."""
    match item:
        case Task():
            name, wire = "task", task_to(item, v, history_length=history_length)
        case Message():
            name, wire = "message", message_to(item, v)
        case Update(event=event):
            if isinstance(event, ArtifactDelta):
                name, wire = "artifactUpdate", _artifact_update_to(item, event, v)
            else:
                name, wire = "statusUpdate", _status_update_to(item, event, v)
    return {name: wire} if v == V10 else wire


def _status_update_from(wire: Json, v: Version) -> Update:
    state, message, at, rest = status_from(object_at(wire, "status") or {}, v)
    if v == V03 and wire.get("final") is not _is_final(state):
        rest["final"] = {"value": wire.get("final")}
    metadata = object_at(wire, "metadata")
    extra = kept(wire, _STATUS_UPDATE, **rest)
    event = status_event(state, message, metadata=metadata, extra=extra)
    return Update(text_at(wire, "taskId") or "", text_at(wire, "contextId") or "", event, at)


def status_event(
    state: TaskState, message: Message | None, *, metadata: Any = None, extra: Any = None
) -> StatusEvent:
    """A status as the canonical event that says the same."""
    extra = extra or {}
    if state in PAUSED:
        if metadata is not None:
            extra = {"a2a": {**extra.get("a2a", {}), "metadata": metadata}}
        message = message or Message(role="agent", parts=())
        if state is TaskState.AUTH_REQUIRED:
            return InputRequired(request=InputRequest(message=message, kind="auth", extra=extra))
        return InputRequired(request=question_from(message, extra))
    if state in TERMINAL:
        fault = None
        if state in (TaskState.FAILED, TaskState.REJECTED):
            words = text_of(message.parts) if message else ""
            fault = Fault(code="agent_error", message=words or f"the task was {state.value}")
        return Finished(state=state, message=message, fault=fault, metadata=metadata, extra=extra)
    return StateChanged(state=state, message=message, metadata=metadata, extra=extra)


def _is_final(state: TaskState) -> bool:
    return state in TERMINAL or state in PAUSED


def _status_update_to(update: Update, event: StatusEvent, v: Version) -> dict[str, Any]:
    if isinstance(event, InputRequired):
        request = event.request
        rest = own(request.extra)
        state = TaskState.AUTH_REQUIRED if request.kind == "auth" else TaskState.INPUT_REQUIRED
        empty = not request.message.parts and request.message.message_id is None
        message, metadata = (None if empty else question_to(request)), rest.pop("metadata", None)
    else:
        rest, state, message, metadata = own(event.extra), event.state, event.message, event.metadata
    final = rest.pop("final", None)
    status = status_to(state, message, update.at, rest, v)
    wire = rest | {"taskId": update.task_id, "contextId": update.context_id, "status": status}
    if v == V03:
        wire["kind"] = "status-update"
        put(wire, final=_is_final(state) if final is None else final["value"])
    return put(wire, metadata=metadata)


def _artifact_update_from(wire: Json, v: Version) -> Update:
    explicit = {k: False for k in ("append", "lastChunk") if wire.get(k) is False}
    extra = kept(wire, _ARTIFACT_UPDATE)
    if explicit:
        extra = {"a2a": {**extra.get("a2a", {}), **explicit}}
    event = ArtifactDelta(
        artifact=artifact_from(wire.get("artifact"), v),
        append=wire.get("append") is True,
        last=wire.get("lastChunk") is True,
        metadata=object_at(wire, "metadata"),
        extra=extra,
    )
    return Update(text_at(wire, "taskId") or "", text_at(wire, "contextId") or "", event)


def _artifact_update_to(update: Update, event: ArtifactDelta, v: Version) -> dict[str, Any]:
    wire = own(event.extra) | {
        "taskId": update.task_id,
        "contextId": update.context_id,
        "artifact": artifact_to(event.artifact, v),
    }
    if event.append:
        wire["append"] = True
    if event.last:
        wire["lastChunk"] = True
    if v == V03:
        wire["kind"] = "artifact-update"
    return put(wire, metadata=event.metadata)


def is_settled(item: Item) -> bool:
    """Whether a turn is over with it."""
    match item:
        case Task(state=state):
            return state in TERMINAL or state in PAUSED
        case Update(event=event):
            return isinstance(event, InputRequired | Finished)
        case Message():
            return True
