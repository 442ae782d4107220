"""A2A 1.0's JSON as nearly everybody writes it, read from bytes into structs: a few times as fast as through
dictionaries. Pure.

Understood is what the specification names, where it stands as it should. Anything else (a field of an
extension, base64 in the other alphabet, what is wrong) goes the long way, through ``codec`` and ``events``,
which take it all and have words for it. What is read here they read the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ...gateway.model import Artifact, ArtifactDelta, Data, Extra, File, Message, Part, Task, TaskState, Text
from ...gateway.readable import UNREADABLE
from ...gateway.sse import escaped
from .codec import STATE_OF, STATES, message_artifact, message_to, of_task, task_from
from .events import Item, Update, item_from, item_to, status_event
from .wire import V10, Version

_encode = msgspec.json.Encoder().encode
_STATES = STATE_OF[V10]
_ROLES = ("ROLE_USER", "ROLE_AGENT")
Free = Mapping[str, Any] | None
Framed = Callable[[bytes], bytes]


class _Wire(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, frozen=True, gc=False
):
    """What has no other fields than these. ``of``: the way back; None for what holds more."""


class WirePart(_Wire, frozen=True):
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
    return tuple([part.read() for part in wire]) if wire else ()


def _of_parts(parts: tuple[Part, ...]) -> list[WirePart] | None:
    made = [wire for part in parts if (wire := WirePart.of(part)) is not None]
    return made if len(made) == len(parts) else None


class WireMessage(_Wire, frozen=True):
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
            extra=self._extra(),
        )

    def _extra(self) -> Extra:
        if self.extensions is UNSET and self.reference_task_ids is UNSET:
            return {}
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


class WireArtifact(_Wire, frozen=True):
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


class WireStatus(_Wire, frozen=True):
    state: str | None = None
    message: WireMessage | None = None
    timestamp: str | None = None

    @property
    def known(self) -> TaskState:
        """The state; one that is not known counts as working."""
        return _STATES.get(self.state or "", TaskState.WORKING)

    def rest(self) -> dict[str, Any]:
        """The state's name where it is not known."""
        word = self.state or ""
        return {} if word in _STATES else {"state": word}


class WireTask(_Wire, frozen=True):
    id: str | None = None
    context_id: str | None = None
    status: WireStatus = WireStatus()
    artifacts: list[WireArtifact] | None = None
    history: list[WireMessage] | UnsetType = UNSET
    metadata: Free = None

    def read(self) -> Task:
        status = self.status
        extra = status.rest()
        if self.history is not UNSET:
            extra["history"] = [message_to(message.read(), V10) for message in self.history]
        if self.artifacts is not None and not self.artifacts:
            extra["artifacts"] = []
        return Task(
            id=self.id or "",
            context_id=self.context_id or "",
            agent="",
            state=status.known,
            artifacts=tuple([artifact.read() for artifact in self.artifacts or ()]),
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


class WireStatusUpdate(_Wire, frozen=True):
    task_id: str | None = None
    context_id: str | None = None
    status: WireStatus = WireStatus()
    metadata: Free = None

    def read(self) -> Update:
        status = self.status
        rest = status.rest() if status.state else None
        event = status_event(
            status.known,
            status.message and status.message.read(),
            metadata=self.metadata,
            extra={"a2a": rest} if rest else {},
        )
        return Update(self.task_id or "", self.context_id or "", event, status.timestamp or "")


class WireArtifactUpdate(_Wire, frozen=True):
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


class WireItem(_Wire, frozen=True):
    """A unary result, or one of a stream."""

    task: WireTask | UnsetType = UNSET
    message: WireMessage | UnsetType = UNSET
    status_update: WireStatusUpdate | UnsetType = UNSET
    artifact_update: WireArtifactUpdate | UnsetType = UNSET

    def read(self) -> Item:
        for item in (self.task, self.message, self.status_update, self.artifact_update):
            if item is not UNSET:
                return item.read()
        raise msgspec.ValidationError("a result that holds nothing")


class WireGrowth(_Wire, frozen=True):
    """A result of a stream that adds to an artifact, or tells it anew, and says nothing else."""

    artifact_update: WireArtifactUpdate


_item = msgspec.json.Decoder(WireItem)


class WireTextPart(_Wire, frozen=True):
    text: str


class WireTextArtifact(_Wire, frozen=True):
    artifact_id: str
    parts: tuple[WireTextPart]


class WireTextUpdate(_Wire, frozen=True):
    artifact: WireTextArtifact
    append: bool
    task_id: str | None = None
    context_id: str | None = None


class WireTextGrowth(_Wire, frozen=True):
    """What nearly all results of a stream are: bare text that continues an artifact."""

    artifact_update: WireTextUpdate


_growth = msgspec.json.Decoder(WireGrowth)
_text_growth = msgspec.json.Decoder(WireTextGrowth)
_task = msgspec.json.Decoder(WireTask)


def item_at(result: bytes | Raw, v: Version) -> Item:
    """What an agent said. Raises Malformed and msgspec.DecodeError."""
    if v == V10:
        try:
            return _item.decode(result).read()
        except msgspec.ValidationError:
            pass
    return item_from(msgspec.json.decode(result), v)


def growth_at(result: bytes | Raw) -> WireArtifactUpdate:
    """What an agent of 1.0 said, where that is a change of an artifact, not yet read, though it can be.
    Raises msgspec.DecodeError for anything else."""
    update = _growth.decode(result).artifact_update
    for part in update.artifact.parts or ():
        if part.text is None:
            part.read()
    return update


def piece_at(result: bytes | Raw) -> ArtifactDelta:
    """What an agent of 1.0 said, read, where that is a change of an artifact. Raises msgspec.DecodeError for
    anything else."""
    try:
        update = _text_growth.decode(result).artifact_update
    except msgspec.ValidationError:
        return piece(growth_at(result))
    if not update.append:
        return piece(growth_at(result))
    parts = (Text(text=update.artifact.parts[0].text),)
    said = Artifact(artifact_id=update.artifact.artifact_id, parts=parts)
    return ArtifactDelta(artifact=said, append=True, last=False)


def piece(update: WireArtifactUpdate) -> ArtifactDelta:
    """What it says, read."""
    text = _continuing(update)
    if text is not None:
        return _text_delta(update.artifact.artifact_id, [text])
    event = update.read().event
    assert isinstance(event, ArtifactDelta)
    return event


def grown(updates: Sequence[WireArtifactUpdate]) -> Iterator[ArtifactDelta]:
    """What they say of one task, read. Bare text that continues bare text is put together: folded it is the
    same."""
    id: str | None = None
    texts: list[str] = []
    for update in updates:
        text = _continuing(update)
        if texts and (text is None or update.artifact.artifact_id != id):
            yield _text_delta(id, texts)
            texts = []
        if text is None:
            yield piece(update)
        else:
            id = update.artifact.artifact_id
            texts.append(text)
    if texts:
        yield _text_delta(id, texts)


def _continuing(update: WireArtifactUpdate) -> str | None:
    """The text, if that is all there is to it."""
    artifact = update.artifact
    if update.append is not True or update.last_chunk is not UNSET or update.metadata is not None:
        return None
    if artifact.parts is None or len(artifact.parts) != 1:
        return None
    part = artifact.parts[0]
    return part.text if part == WirePart(text=part.text) and artifact == _bare(artifact) else None


def _bare(artifact: WireArtifact) -> WireArtifact:
    return WireArtifact(artifact_id=artifact.artifact_id, parts=artifact.parts)


def _text_delta(id: str | None, texts: list[str]) -> ArtifactDelta:
    artifact = Artifact(artifact_id=id or "", parts=(Text(text="".join(texts)),))
    return ArtifactDelta(artifact=artifact, append=True, last=False)


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


def update_json(update: Update, v: Version) -> bytes:
    """A result of a stream that is a change of a task, encoded."""
    event = update.event
    if v == V10 and isinstance(event, ArtifactDelta) and event.metadata is None and not event.extra:
        artifact = WireArtifact.of(event.artifact)
        if artifact is not None:
            growth = WireArtifactUpdate(
                artifact=artifact,
                task_id=update.task_id,
                context_id=update.context_id,
                append=event.append or UNSET,
                last_chunk=event.last or UNSET,
            )
            return _encode(WireGrowth(artifact_update=growth))
    return _encode(item_to(update, v))


_PLACE = secrets.token_hex(16)  # stands for a text while all else is encoded


class TextUpdates:
    """The updates that add bare text to artifacts of one task, encoded: only the text is new each time.
    ``framed``: what else is put around them, in event-stream form."""

    __slots__ = ("_after", "_before", "_framed", "_id", "_names", "_version")

    def __init__(self, task_id: str, context_id: str, v: Version, framed: Framed | None = None) -> None:
        self._names = task_id, context_id
        self._version: Version = v
        self._framed = framed
        self._id: str | None = None  # the latest artifact
        self._before = self._after = b""

    def json(self, artifact_id: str, text: str) -> bytes:
        """``update_json`` of the text appended to the artifact."""
        return update_json(Update(*self._names, _text_delta(artifact_id, [text])), self._version)

    def event(self, artifact_id: str, text: str) -> bytes:
        """The same, framed."""
        if artifact_id != self._id:
            assert self._framed is not None
            around = self._framed(self.json(artifact_id, _PLACE))
            self._id = artifact_id
            self._before, _, self._after = around.partition(b'"%b"' % _PLACE.encode())
        said = _encode(text)
        return b"".join((self._before, said if said.isascii() else escaped(said), self._after))


# --- requests ----------------------------------------------------------------------------------


class WireConfiguration(_Wire, frozen=True):
    accepted_output_modes: list[str] | None = None
    history_length: int | None = None
    return_immediately: Any = None


class WireSend(_Wire, frozen=True):
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
