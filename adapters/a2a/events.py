"""What passes in an A2A stream, ↔ the canonical events. Pure, feed-style.

An *item* is one stream event or unary result: a task, a message, or an ``Update`` of a task. ``Reader`` turns
an agent's items into canonical events, ``Writer`` a task's event log into items for a client.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...gateway.lifecycle import PAUSED, TERMINAL
from ...gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    Fault,
    Finished,
    InputRequest,
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
    TaskState,
    Text,
    text_of,
)
from .codec import (
    Malformed,
    artifact_from,
    artifact_to,
    as_object,
    kept,
    message_artifact,
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
        return InputRequired(
            request=InputRequest(
                message=message or Message(role="agent", parts=()),
                kind="auth" if state is TaskState.AUTH_REQUIRED else "text",
                extra=extra,
            )
        )
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
        message, metadata = (None if empty else request.message), rest.pop("metadata", None)
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


# --- an agent's items → events -----------------------------------------------------------------


class Reader:
    """Feed an agent's items, get canonical events. After ``done`` the turn is over.

    Snapshots may come again (polling): what was told already is not told twice.
    """

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._started = False
        self._artifacts: dict[str, Artifact] = {}
        self._state: tuple[TaskState, Message | None] | None = None
        self.task_id = ""
        self.context_id = ""
        self.done = False

    def feed(self, item: Item) -> list[Event]:
        """The events that ``item`` means; none after the end."""
        if self.done:
            return []
        match item:
            case Message():
                return self._message(item)
            case Task():
                return self._task(item)
            case Update(event=event):
                begin = self._begin(item.task_id, item.context_id)
                told = self._artifact(event) if isinstance(event, ArtifactDelta) else self._status(event)
                return [*begin, *told]

    def _begin(self, task_id: str, context_id: str) -> list[Event]:
        if self._started:
            return []
        self._started = True
        self.task_id, self.context_id = task_id, context_id
        return [Started(task_id=task_id or None, context_id=context_id or None)]

    def _message(self, message: Message) -> list[Event]:
        begin = self._begin(message.task_id or "", message.context_id or "")
        self.done = True
        return [*begin, MessageDone(message=message), Finished(state=TaskState.COMPLETED)]

    def _task(self, task: Task) -> list[Event]:
        events = self._begin(task.id, task.context_id)
        for artifact in task.artifacts:
            if self._artifacts.get(artifact.artifact_id) != artifact:
                events += self._artifact(ArtifactDelta(artifact=artifact))
        return [*events, *self._status(status_event(task.state, task.status_message))]

    def _artifact(self, event: ArtifactDelta) -> list[Event]:
        new = event.artifact
        old = self._artifacts.get(new.artifact_id)
        if event.append and old is not None:
            new = msgspec.structs.replace(old, parts=old.parts + new.parts)
        self._artifacts[new.artifact_id] = new
        return [event]

    def _status(self, event: StatusEvent) -> list[Event]:
        if isinstance(event, StateChanged):
            news = (event.state, event.message)
            if news == self._state or (event.state is TaskState.SUBMITTED and event.message is None):
                return []
            self._state = news
            return [event]
        self.done = True
        if isinstance(event, Finished) and event.fault is not None and event.message is None:
            fault = msgspec.structs.replace(event.fault, message=f"{self._agent} failed")
            event = msgspec.structs.replace(event, fault=fault)
        return [event]


# --- a task's log → items ----------------------------------------------------------------------


class Writer:
    """Feed a task's logged events, get the items for a client. ``task``: the snapshot that the client has
    got already; the events are those after it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._open: Message | None = None
        self._messages = len(task.messages)
        if task.messages and "gateway" in task.messages[-1].extra:
            self._open = task.messages[-1]

    def feed(self, logged: Logged) -> Iterator[Update]:
        """The updates that a logged event means for a client."""
        event = logged.event
        match event:
            case MessageDelta():
                yield self._update(self._delta(event))
            case MessageDone(message=message):
                yield self._update(self._message_done(message))
            case ArtifactDelta():
                yield self._update(event)
            case Progress():
                yield self._update(self._progress(event, logged.seq), logged.at)
            case StateChanged(state=TaskState.CANCELING | TaskState.SUBMITTED, message=None):
                pass
            case StateChanged() | InputRequired() | Finished():
                yield self._update(self._completed(event, logged.seq), logged.at)
            case Started():
                pass

    def _update(self, event: StatusEvent | ArtifactDelta, at: str = "") -> Update:
        return Update(self._task.id, self._task.context_id, event, at)

    def _delta(self, event: MessageDelta) -> ArtifactDelta:
        first = self._open is None
        if self._open is None:
            self._messages += 1
            self._open = Message(role="agent", parts=event.parts, message_id=event.message_id)
        else:
            self._open = msgspec.structs.replace(self._open, parts=self._open.parts + event.parts)
        whole = message_artifact(self._open, self._messages)
        artifact = msgspec.structs.replace(whole, parts=event.parts)
        return ArtifactDelta(artifact=artifact, append=not first, last=False)

    def _message_done(self, message: Message) -> ArtifactDelta:
        """The whole message, or, after its pieces, only what they did not hold."""
        opened, self._open = self._open, None
        if opened is None:
            self._messages += 1
            return ArtifactDelta(artifact=message_artifact(message, self._messages))
        name = message_artifact(opened, self._messages).artifact_id
        sent, whole = text_of(opened.parts), text_of(message.parts)
        others = tuple(p for p in message.parts if not isinstance(p, Text) and p not in opened.parts)
        if not whole.startswith(sent):
            artifact = msgspec.structs.replace(message_artifact(message, 0), artifact_id=name)
            return ArtifactDelta(artifact=artifact)
        rest: list[Part] = list(others)
        if whole != sent or not rest:
            rest.insert(0, Text(text=whole[len(sent) :]))
        return ArtifactDelta(artifact=Artifact(artifact_id=name, parts=tuple(rest)), append=True)

    def _progress(self, event: Progress, seq: int) -> StateChanged:
        parts: list[Part] = []
        if event.message:
            parts.append(Text(text=event.message))
        if event.data is not None:
            parts.append(Data(data=event.data))
        numbers = {"progress": event.progress, "total": event.total}
        metadata = {k: n for k, n in numbers.items() if n is not None} or None
        message = Message(role="agent", parts=tuple(parts)) if parts else None
        return StateChanged(
            state=TaskState.WORKING,
            message=None if message is None else self._addressed(message, seq),
            metadata=metadata,
        )

    def _completed(self, event: StatusEvent, seq: int) -> StatusEvent:
        """The status with all that A2A requires of its message: an id, and the ids of its task."""
        if isinstance(event, InputRequired):
            request = event.request
            return InputRequired(
                request=msgspec.structs.replace(request, message=self._addressed(request.message, seq))
            )
        message = event.message
        if message is None and isinstance(event, Finished) and event.fault is not None:
            message = Message(role="agent", parts=(Text(text=event.fault.message),))
        if message is None:
            return event
        return msgspec.structs.replace(event, message=self._addressed(message, seq))

    def _addressed(self, message: Message, seq: int) -> Message:
        return msgspec.structs.replace(
            message,
            role="agent",
            message_id=message.message_id or f"{self._task.id}-{seq}",
            task_id=self._task.id,
            context_id=self._task.context_id,
        )
