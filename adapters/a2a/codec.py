"""Parts, messages, artifacts and tasks: A2A 1.0 and 0.3 JSON ↔ the canonical model. Pure.

One set of functions serves both revisions: they differ in how parts are written, in the names of states and
roles, and in the ``kind`` tag of 0.3. What the model has no name for is kept under ``extra["a2a"]`` and comes
back out, so protocol → canonical → protocol is the identity; 0.3 ↔ 1.0 falls out of it. Decoding raises
``Malformed`` with the place of the fault.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ...gateway.lifecycle import PAUSED
from ...gateway.model import (
    Artifact,
    Data,
    Extra,
    File,
    Message,
    Part,
    Task,
    TaskState,
    Text,
)
from .questions import question_to
from .wire import V03, V10, Json, Version

S = TaskState
# The model's ``canceling`` has no name in A2A: the task still works.
STATES: Mapping[Version, Mapping[TaskState, str]] = {
    V10: {s: f"TASK_STATE_{(S.WORKING if s is S.CANCELING else s).value.upper()}" for s in S},
    V03: {s: (S.WORKING if s is S.CANCELING else s).value.replace("_", "-") for s in S},
}
STATE_OF: Mapping[Version, Mapping[str, TaskState]] = {
    v: {name: state for state, name in names.items() if state is not S.CANCELING}
    for v, names in STATES.items()
}
_ROLES: Mapping[Version, Mapping[str, str]] = {
    V10: {"user": "ROLE_USER", "agent": "ROLE_AGENT"},
    V03: {"user": "user", "agent": "agent"},
}


class Malformed(ValueError):
    """JSON that is not what the specification says; the message names the place, safe to show."""


# --- helpers -----------------------------------------------------------------------------------


def text_at(wire: Json, key: str) -> str | None:
    """The string under ``key``; None when it is absent or null."""
    value = wire.get(key)
    if value is None or isinstance(value, str):
        return value
    raise Malformed(f"{key} must be a string")


def no_aliases(wire: Json, *names: str) -> None:
    """Raises Malformed for a member that is none of these ``names``, but that another reader may take for
    one: ProtoJSON knows snake case, too, and some libraries tell no case. What is passed on as it came must
    not mean another task there than it did here."""
    meant = {name.lower(): name for name in names}
    for key in wire:
        name = meant.get(key.replace("_", "").lower())
        if name is not None and name != key:
            raise Malformed(f"{key[:40]!r} must be written {name}")


def object_at(wire: Json, key: str) -> dict[str, Any] | None:
    """The object under ``key``; None when it is absent or null."""
    value = wire.get(key)
    return None if value is None else as_object(value, key)


def as_object(value: Any, place: str) -> dict[str, Any]:
    """``value`` if it is a JSON object."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise Malformed(f"{place} must be an object")


def list_at(wire: Json, key: str) -> list[Any]:
    """The array under ``key``; empty when it is absent or null."""
    value = wire.get(key)
    if value is None:
        return []
    if isinstance(value, list):
        return cast("list[Any]", value)
    raise Malformed(f"{key} must be an array")


def objects_at(wire: Json, key: str) -> list[dict[str, Any]]:
    """The objects in the array under ``key``; anything else in it is passed over."""
    return [cast("dict[str, Any]", x) for x in list_at(wire, key) if isinstance(x, dict)]


def kept(wire: Json, known: frozenset[str], **more: Any) -> Extra:
    """What the model has no name for, under the protocol's key."""
    rest = {k: v for k, v in wire.items() if k not in known} | {k: v for k, v in more.items() if v}
    return {"a2a": rest} if rest else {}


def own(extra: Extra) -> dict[str, Any]:
    """This protocol's part of an ``extra``, as a fresh dict."""
    return dict(extra.get("a2a", {}))


def put(wire: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Set the fields that are not None."""
    wire.update({k: v for k, v in fields.items() if v is not None})
    return wire


# --- parts -------------------------------------------------------------------------------------

_PART_V10 = frozenset({"text", "raw", "url", "data", "filename", "mediaType", "metadata"})
_PART_V03 = frozenset({"kind", "text", "data", "file", "filename", "mediaType", "metadata"})
_FILE_V03 = frozenset({"bytes", "uri", "name", "mimeType"})
# How a2a-sdk writes data that is no object where 0.3 allows objects only.
_WRAPPED = "data_part_compat"


def part_from(value: Any, v: Version) -> Part:
    """A part of either revision."""
    wire = as_object(value, "part")
    return _part_from_v10(wire) if v == V10 else _part_from_v03(wire)


def part_to(part: Part, v: Version) -> dict[str, Any]:
    """The same way back. 0.3 has no names for the media type and file name of text and data: they are
    written as 1.0 writes them, which 0.3 readers ignore."""
    return _part_to_v10(part) if v == V10 else _part_to_v03(part)


def _common(wire: Json, known: frozenset[str]) -> dict[str, Any]:
    return {
        "media_type": text_at(wire, "mediaType"),
        "name": text_at(wire, "filename"),
        "metadata": object_at(wire, "metadata"),
        "extra": kept(wire, known),
    }


def _part_from_v10(wire: Json) -> Part:
    common = _common(wire, _PART_V10)
    if isinstance(wire.get("text"), str):
        return Text(text=wire["text"], **common)
    if "data" in wire:
        return Data(data=wire["data"], **common)
    if isinstance(wire.get("raw"), str):
        return File(content=decoded(wire["raw"]), **common)
    if isinstance(wire.get("url"), str):
        return File(uri=wire["url"], **common)
    raise Malformed("a part needs one of text, raw, url and data")


def _part_to_v10(part: Part) -> dict[str, Any]:
    wire = own(part.extra)
    match part:
        case Text(text=text):
            wire["text"] = text
        case Data(data=data):
            wire["data"] = data
        case File(content=bytes() as content):
            wire["raw"] = encoded(content)
        case File(uri=uri):
            wire["url"] = uri or ""
    return put(wire, filename=part.name, mediaType=part.media_type, metadata=part.metadata)


def _part_from_v03(wire: Json) -> Part:
    common = _common(wire, _PART_V03)
    match wire.get("kind"):
        case "text" if isinstance(wire.get("text"), str):
            return Text(text=wire["text"], **common)
        case "data" if "data" in wire:
            return _data_from_v03(wire, common)
        case "file":
            return _file_from_v03(as_object(wire.get("file"), "file"), common)
        case kind:
            raise Malformed(f"a part's kind must be text, file or data: {kind!r}"[:120])


def _data_from_v03(wire: Json, common: dict[str, Any]) -> Data:
    data: Any = wire["data"]
    metadata: dict[str, Any] = common["metadata"] or {}
    wrapped = metadata.get(_WRAPPED) is True and isinstance(data, dict) and list(data) == ["value"]  # pyright: ignore[reportUnknownArgumentType]
    if wrapped and not isinstance(data["value"], dict):
        common["metadata"] = {k: m for k, m in metadata.items() if k != _WRAPPED} or None
        return Data(data=data["value"], **common)
    return Data(data=data, **common)


def _file_from_v03(file: Json, common: dict[str, Any]) -> File:
    rest = {k: v for k, v in file.items() if k not in _FILE_V03}
    if rest:
        common["extra"] = {"a2a": {**common["extra"].get("a2a", {}), "file": rest}}
    common |= {"media_type": text_at(file, "mimeType"), "name": text_at(file, "name")}
    if isinstance(file.get("bytes"), str):
        return File(content=decoded(file["bytes"]), **common)
    if isinstance(file.get("uri"), str):
        return File(uri=file["uri"], **common)
    raise Malformed("a file needs one of bytes and uri")


def _part_to_v03(part: Part) -> dict[str, Any]:
    wire = own(part.extra)
    metadata = part.metadata
    match part:
        case Text(text=text):
            wire |= {"kind": "text", "text": text}
        case Data(data=data) if isinstance(data, dict):
            wire |= {"kind": "data", "data": data}
        case Data(data=data):
            wire |= {"kind": "data", "data": {"value": data}}
            metadata = {**(metadata or {}), _WRAPPED: True}
        case File(content=content, uri=uri):
            kept_file = wire.pop("file", None)  # of the other revision it is a field like any
            file = dict(cast("dict[str, Any]", kept_file)) if isinstance(kept_file, dict) else {}
            file |= {"uri": uri or ""} if content is None else {"bytes": encoded(content)}
            wire |= {"kind": "file", "file": put(file, name=part.name, mimeType=part.media_type)}
            return put(wire, metadata=metadata)
    return put(wire, filename=part.name, mediaType=part.media_type, metadata=metadata)


def encoded(content: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(content).decode("ascii")


def decoded(text: str) -> bytes:
    """base64 as bytes; the URL-safe alphabet and missing padding are understood (ProtoJSON allows them)."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as e:
        raise Malformed("a file's content is not base64") from e


# --- messages and artifacts --------------------------------------------------------------------

_MESSAGE = frozenset({"kind", "messageId", "contextId", "taskId", "role", "parts", "metadata"})
_ARTIFACT = frozenset({"artifactId", "name", "description", "parts", "metadata"})


def _parts(wire: Json, v: Version) -> tuple[Part, ...]:
    return tuple(part_from(p, v) for p in list_at(wire, "parts"))


def message_from(value: Any, v: Version, *, strict: bool = False) -> Message:
    """A message. ``strict``: what the specification requires must be there (a client's message); an agent
    is read leniently."""
    wire = as_object(value, "message")
    role = wire.get("role")
    names = _ROLES[v]
    if strict:
        no_aliases(wire, "taskId", "contextId", "referenceTaskIds")
        if not text_at(wire, "messageId"):
            raise Malformed("message.messageId is required")
        if role not in names.values():
            raise Malformed(f"message.role must be one of {', '.join(names.values())}")
        if not list_at(wire, "parts"):
            raise Malformed("message.parts needs at least one part")
    return Message(
        role="user" if role == names["user"] else "agent",
        parts=_parts(wire, v),
        message_id=text_at(wire, "messageId"),
        context_id=text_at(wire, "contextId"),
        task_id=text_at(wire, "taskId"),
        metadata=object_at(wire, "metadata"),
        extra=kept(wire, _MESSAGE),
    )


def message_to(message: Message, v: Version) -> dict[str, Any]:
    """A message as JSON; nothing is invented, so one without an id stays without."""
    wire = own(message.extra)
    if v == V03:
        wire["kind"] = "message"
    wire["role"] = _ROLES[v][message.role]
    wire["parts"] = [part_to(p, v) for p in message.parts]
    return put(
        wire,
        messageId=message.message_id,
        contextId=message.context_id,
        taskId=message.task_id,
        metadata=message.metadata,
    )


def artifact_from(value: Any, v: Version) -> Artifact:
    wire = as_object(value, "artifact")
    return Artifact(
        artifact_id=text_at(wire, "artifactId") or "",
        parts=_parts(wire, v),
        name=text_at(wire, "name"),
        description=text_at(wire, "description"),
        metadata=object_at(wire, "metadata"),
        extra=kept(wire, _ARTIFACT),
    )


def artifact_to(artifact: Artifact, v: Version) -> dict[str, Any]:
    wire = own(artifact.extra)
    wire["artifactId"] = artifact.artifact_id
    wire["parts"] = [part_to(p, v) for p in artifact.parts]
    return put(wire, name=artifact.name, description=artifact.description, metadata=artifact.metadata)


# --- tasks -------------------------------------------------------------------------------------

_TASK = frozenset({"kind", "id", "contextId", "status", "artifacts", "history", "metadata"})
_STATUS = frozenset({"state", "message", "timestamp"})


def status_from(wire: Json, v: Version) -> tuple[TaskState, Message | None, str, dict[str, Any]]:
    """State, message, timestamp, and what is left for ``extra``. An unknown state counts as working and is
    kept by name."""
    word = text_at(wire, "state") or ""
    state = STATE_OF[v].get(word)
    rest: dict[str, Any] = {}
    if state is None:
        rest["state"] = word
    if more := {k: x for k, x in wire.items() if k not in _STATUS}:
        rest["status"] = more
    message = wire.get("message")
    return (
        state or S.WORKING,
        None if message is None else message_from(message, v),
        text_at(wire, "timestamp") or "",
        rest,
    )


def status_to(
    state: TaskState, message: Message | None, at: str, rest: dict[str, Any], v: Version
) -> dict[str, Any]:
    """The way back; takes its own fields out of ``rest``."""
    status: dict[str, Any] = dict(rest.pop("status", {}))
    status["state"] = rest.pop("state", None) or STATES[v][state]
    return put(status, message=None if message is None else message_to(message, v), timestamp=at or None)


def task_from(value: Any, v: Version, agent: str = "") -> Task:
    """A task's snapshot. Its history is kept aside in 1.0's form: messages of the past are no answer."""
    wire = as_object(value, "task")
    state, message, at, rest = status_from(object_at(wire, "status") or {}, v)
    if isinstance(wire.get("history"), list):
        rest["history"] = [message_to(message_from(m, v), V10) for m in list_at(wire, "history")]
    if wire.get("artifacts") == []:
        rest["artifacts"] = []
    extra = {**{k: x for k, x in wire.items() if k not in _TASK}, **rest}
    return Task(
        id=text_at(wire, "id") or "",
        context_id=text_at(wire, "contextId") or "",
        agent=agent,
        state=state,
        artifacts=tuple(artifact_from(a, v) for a in list_at(wire, "artifacts")),
        status_message=message,
        updated_at=at,
        metadata=object_at(wire, "metadata"),
        extra={"a2a": extra} if extra else {},
    )


def task_to(
    task: Task, v: Version, *, history_length: int | None = None, artifacts: bool = True
) -> dict[str, Any]:
    """A task as JSON. An answer given as messages stands among the artifacts (section 3.7: results are
    artifacts), as the stream sent it. ``history_length``: section 3.2.4."""
    wire = own(task.extra)
    history: list[Any] = list(wire.pop("history", ()))
    known_history = "history" in task.extra.get("a2a", {})
    empty_artifacts = wire.pop("artifacts", None) is not None
    if not known_history and task.input is not None:
        history = [message_to(of_task(task.input, task), V10)]
    message = task.status_message
    if message is None and task.fault is not None:
        message = Message(role="agent", parts=(Text(text=task.fault.message),))
    if message is not None and task.input_request is not None and task.state in PAUSED:
        message = question_to(msgspec.structs.replace(task.input_request, message=message))
    if message is not None and message.message_id is None:  # A2A requires one
        message = msgspec.structs.replace(
            message, message_id=f"{task.id}-status", task_id=task.id, context_id=task.context_id
        )
    status = status_to(task.state, message, task.updated_at, wire, v)
    wire |= {"id": task.id, "contextId": task.context_id, "status": status}
    results = [*task.artifacts, *(message_artifact(m, n + 1) for n, m in enumerate(task.messages))]
    if artifacts and (results or empty_artifacts):
        wire["artifacts"] = [artifact_to(a, v) for a in results]
    if history_length is not None:
        history = history[-history_length:] if history_length > 0 else []
    if history or (known_history and history_length is None):
        wire["history"] = history if v == V10 else [message_to(message_from(m, V10), V03) for m in history]
    if v == V03:
        wire["kind"] = "task"
    return put(wire, metadata=task.metadata)


def of_task(message: Message, task: Task) -> Message:
    """The user's message as it stands in the task's history: it names its task."""
    return msgspec.structs.replace(
        message,
        message_id=message.message_id or f"{task.id}-input",
        context_id=task.context_id,
        task_id=task.id,
    )


def message_artifact(message: Message, number: int) -> Artifact:
    """An answer message as an artifact; ``number`` counts the task's messages from 1."""
    return Artifact(
        artifact_id=message.message_id or f"message-{number}",
        parts=message.parts,
        metadata=message.metadata,
    )
