"""A2A 1.0's JSON as nearly everybody writes it, read from bytes into structs: a few times as fast as through
dictionaries. Pure.

Understood is what the specification names, where it stands as it should. Anything else (a field of an
extension, base64 in the other alphabet, what is wrong) goes the long way, through ``codec`` and ``events``,
which take it all and have words for it. What is read here they read the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ...gateway.model import Artifact, ArtifactDelta, Data, Extra, File, Message, Part, Task, TaskState, Text
from ...gateway.readable import UNREADABLE
from .codec import STATE_OF, STATES, message_artifact, message_to, of_task, task_from
from .events import Item, Update, item_from, item_to, status_event
from .wire import V10, Version

_encode = msgspec.json.Encoder().encode
_STATES = STATE_OF[V10]
_ROLES = ("ROLE_USER", "ROLE_AGENT")
Free = Mapping[str, Any] | None


class Wire(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, frozen=True, gc=False
):
    """What has no other fields than these. ``of``: the way back; None for what holds more."""


class WirePart(Wire, frozen=True):
    text: str | None = None
    data: Any = UNSET
    raw: bytes | None = None
    url: str | None = None
    filename: str | None = None
    media_type: str | None = None
    metadata: Free = None

    def read(self) -> Part:
        media, name, metadata = self.media_type, self.filename, self.metadata
        if self.text is not None:
            return Text(text=self.text, media_type=media, name=name, metadata=metadata)
        if self.data is not UNSET:
            return Data(data=self.data, media_type=media, name=name, metadata=metadata)
        if self.raw is not None:
            return File(content=self.raw, media_type=media, name=name, metadata=metadata)
        if self.url is None:
            raise msgspec.ValidationError("a part without content")
        return File(uri=self.url, media_type=media, name=name, metadata=metadata)

    @staticmethod
    def of(part: Part) -> WirePart | None:
        if part.extra.get("a2a"):
            return None
        media, name, metadata = part.media_type, part.name, part.metadata
        match part:
            case Text(text=text):
                return WirePart(text=text, filename=name, media_type=media, metadata=metadata)
            case Data(data=data):
                return WirePart(data=data, filename=name, media_type=media, metadata=metadata)
            case File(content=bytes() as content):
                return WirePart(raw=content, filename=name, media_type=media, metadata=metadata)
            case File(uri=uri):
                return WirePart(url=uri or "", filename=name, media_type=media, metadata=metadata)


def _parts(wire: list[WirePart] | None) -> tuple[Part, ...]:
    if not wire:
        return ()
    return (wire[0].read(),) if len(wire) == 1 else tuple([part.read() for part in wire])


def _of_parts(parts: tuple[Part, ...]) -> list[WirePart] | None:
    made = [wire for part in parts if (wire := WirePart.of(part)) is not None]
    return made if len(made) == len(parts) else None


class WireMessage(Wire, frozen=True):
    role: Any = None
    parts: list[WirePart] | None = None
    message_id: str | None = None
    context_id: str | None = None
    task_id: str | None = None
    metadata: Free = None
    extensions: Any = UNSET
    reference_task_ids: Any = UNSET

    @property
    def whole(self) -> bool:
        """Whether a client's message has all that it must have."""
        return bool(self.message_id and self.parts and self.role in _ROLES)

    def read(self) -> Message:
        return Message(
            role="user" if self.role == "ROLE_USER" else "agent",
            parts=_parts(self.parts),
            message_id=self.message_id,
            context_id=self.context_id,
            task_id=self.task_id,
            metadata=self.metadata,
            extra={} if self.extensions is self.reference_task_ids is UNSET else self._extra(),
        )

    def _extra(self) -> Extra:
        named = {"extensions": self.extensions, "referenceTaskIds": self.reference_task_ids}
        return {"a2a": {key: value for key, value in named.items() if value is not UNSET}}

    @staticmethod
    def of(message: Message) -> WireMessage | None:
        parts = _of_parts(message.parts)
        if parts is None or message.extra.get("a2a"):
            return None
        return WireMessage(
            role="ROLE_USER" if message.role == "user" else "ROLE_AGENT",
            parts=parts,
            message_id=message.message_id,
            context_id=message.context_id,
            task_id=message.task_id,
            metadata=message.metadata,
        )


# --- results -----------------------------------------------------------------------------------


class WireArtifact(Wire, frozen=True):
    artifact_id: str | None = None
    parts: list[WirePart] | None = None
    name: str | None = None
    description: str | None = None
    metadata: Free = None
    extensions: Any = UNSET

    def read(self) -> Artifact:
        return Artifact(
            artifact_id=self.artifact_id or "",
            parts=_parts(self.parts),
            name=self.name,
            description=self.description,
            metadata=self.metadata,
            extra={} if self.extensions is UNSET else {"a2a": {"extensions": self.extensions}},
        )

    @staticmethod
    def of(artifact: Artifact) -> WireArtifact | None:
        parts = _of_parts(artifact.parts)
        if parts is None or artifact.extra.get("a2a"):
            return None
        return WireArtifact(
            artifact_id=artifact.artifact_id,
            parts=parts,
            name=artifact.name,
            description=artifact.description,
            metadata=artifact.metadata,
        )


class WireStatus(Wire, frozen=True):
    state: str | None = None
    message: WireMessage | None = None
    timestamp: str | None = None

    def read(self) -> tuple[TaskState, dict[str, Any]]:
        """The state, and its name where it is not known: such a one counts as working."""
        word = self.state or ""
        known = _STATES.get(word)
        return (TaskState.WORKING, {"state": word}) if known is None else (known, {})


class WireTask(Wire, frozen=True):
    id: str | None = None
    context_id: str | None = None
    status: WireStatus = WireStatus()
    artifacts: list[WireArtifact] | None = None
    history: list[WireMessage] | UnsetType = UNSET
    metadata: Free = None

    def read(self) -> Task:
        status = self.status
        state, extra = status.read()
        artifacts = self.artifacts
        if self.history is not UNSET:
            extra["history"] = [message_to(message.read(), V10) for message in self.history]
        if artifacts is not None and not artifacts:
            extra["artifacts"] = []
        return Task(
            id=self.id or "",
            context_id=self.context_id or "",
            agent="",
            state=state,
            artifacts=tuple([artifact.read() for artifact in artifacts]) if artifacts else (),
            status_message=status.message and status.message.read(),
            updated_at=status.timestamp or "",
            metadata=self.metadata,
            extra={"a2a": extra} if extra else {},
        )

    @staticmethod
    def of(task: Task, history_length: int | None = None) -> WireTask | None:
        """Of a task as one that went well has it. ``history_length``: section 3.2.4."""
        if task.extra.get("a2a") or task.fault is not None or task.status_message is not None:
            return None
        results = [*task.artifacts, *(message_artifact(m, n + 1) for n, m in enumerate(task.messages))]
        artifacts = [wire for result in results if (wire := WireArtifact.of(result)) is not None]
        said = (
            [] if task.input is None or history_length == 0 else [WireMessage.of(of_task(task.input, task))]
        )
        history = [wire for wire in said if wire is not None]
        if len(artifacts) < len(results) or len(history) < len(said):
            return None
        return WireTask(
            id=task.id,
            context_id=task.context_id,
            status=WireStatus(state=STATES[V10][task.state], timestamp=task.updated_at or None),
            artifacts=artifacts or None,
            history=history or UNSET,
            metadata=task.metadata,
        )


class WireStatusUpdate(Wire, frozen=True):
    task_id: str | None = None
    context_id: str | None = None
    status: WireStatus = WireStatus()
    metadata: Free = None

    def read(self) -> Update:
        status = self.status
        state, rest = status.read()
        event = status_event(
            state,
            status.message and status.message.read(),
            metadata=self.metadata,
            extra={"a2a": rest} if rest and status.state else {},
        )
        return Update(self.task_id or "", self.context_id or "", event, status.timestamp or "")


class WireArtifactUpdate(Wire, frozen=True):
    artifact: WireArtifact
    task_id: str | None = None
    context_id: str | None = None
    append: bool | UnsetType = UNSET
    last_chunk: bool | UnsetType = UNSET
    metadata: Free = None

    def read(self) -> Update:
        said = {"append": self.append, "lastChunk": self.last_chunk}
        no = {key: False for key, value in said.items() if value is False}
        event = ArtifactDelta(
            artifact=self.artifact.read(),
            append=self.append is True,
            last=self.last_chunk is True,
            metadata=self.metadata,
            extra={"a2a": no} if no else {},
        )
        return Update(self.task_id or "", self.context_id or "", event)


class WireItem(Wire, frozen=True):
    """A unary result, or one of a stream."""

    task: WireTask | UnsetType = UNSET
    message: WireMessage | UnsetType = UNSET
    status_update: WireStatusUpdate | UnsetType = UNSET
    artifact_update: WireArtifactUpdate | UnsetType = UNSET

    def read(self) -> Item:
        if (task := self.task) is not UNSET:
            return task.read()
        for item in (self.message, self.status_update, self.artifact_update):
            if item is not UNSET:
                return item.read()
        raise msgspec.ValidationError("a result that holds nothing")


_item = msgspec.json.Decoder(WireItem)


_task = msgspec.json.Decoder(WireTask)


def item_at(result: bytes | Raw, v: Version) -> Item:
    """What an agent said. Raises Malformed and msgspec.DecodeError."""
    if v == V10:
        try:
            return _item.decode(result).read()
        except msgspec.ValidationError:
            pass
    return item_from(msgspec.json.decode(result), v)


def task_at(result: bytes | Raw, v: Version) -> Task:
    """The task that an agent said. Raises Malformed and msgspec.DecodeError."""
    if v == V10:
        try:
            return _task.decode(result).read()
        except msgspec.ValidationError:
            pass
    return task_from(msgspec.json.decode(result), v)


def task_json(task: Task, v: Version, history_length: int | None = None) -> bytes:
    """The way back: a unary result that is a task, encoded. ``history_length``: section 3.2.4."""
    wire = WireTask.of(task, history_length) if v == V10 else None
    if wire is None:
        return _encode(item_to(task, v, history_length=history_length))
    return _encode(WireItem(task=wire))


# --- requests ----------------------------------------------------------------------------------


class WireConfiguration(Wire, frozen=True):
    accepted_output_modes: list[str] | None = None
    history_length: int | None = None
    return_immediately: Any = None


class WireSend(Wire, frozen=True):
    """The parameters of SendMessage and SendStreamingMessage, but for those with a webhook."""

    message: WireMessage
    configuration: WireConfiguration = WireConfiguration()
    metadata: Free = None
    tenant: Any = None


_send = msgspec.json.Decoder(WireSend)


def send_at(params: bytes | Raw) -> tuple[WireSend, Message] | None:
    """The parameters of a message, and it; None for what is to be read the long way."""
    try:
        wire = _send.decode(params)
        if not wire.message.whole or (wire.configuration.history_length or 0) < 0:
            return None
        return wire, wire.message.read()
    except UNREADABLE:
        return None
