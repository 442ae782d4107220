"""HTTP+JSON of 0.3, written after the protobuf definition of its day, ↔ JSON-RPC's form of 0.3. Pure.

``content`` for ``parts``, upper-case states and roles, no ``kind``: the official 0.3 SDKs send and read this
form, and read it strictly, so that only what it names is written. Requests may come in snake case, the
message then called ``request`` (a2a-sdk's compatibility client), or in JSON-RPC's own form (as the
specification's text shows them).

The Python SDK writes a file's content as base64 of base64, the JavaScript SDK as base64: ``nested`` and
``unnested`` are the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from .codec import Malformed, as_object, decoded, encoded
from .wire import Json

_TO_STATE = {
    "submitted": "TASK_STATE_SUBMITTED",
    "working": "TASK_STATE_WORKING",
    "completed": "TASK_STATE_COMPLETED",
    "failed": "TASK_STATE_FAILED",
    "canceled": "TASK_STATE_CANCELLED",
    "input-required": "TASK_STATE_INPUT_REQUIRED",
    "rejected": "TASK_STATE_REJECTED",
    "auth-required": "TASK_STATE_AUTH_REQUIRED",
    "unknown": "TASK_STATE_UNSPECIFIED",
}
_FROM_STATE = {name: state for state, name in _TO_STATE.items()} | {"TASK_STATE_CANCELED": "canceled"}
_TO_ROLE = {"user": "ROLE_USER", "agent": "ROLE_AGENT"}
_FROM_ROLE = {name: role for role, name in _TO_ROLE.items()}


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _get(wire: Json, name: str) -> Any:
    value = wire.get(name)
    return wire.get(_snake(name)) if value is None else value


def _copy(wire: Json, *names: str) -> dict[str, Any]:
    """The named fields that are set (an empty string is protobuf's way to say unset)."""
    return {n: x for n in names if (x := _get(wire, n)) is not None and x != ""}


# --- protobuf's form → JSON-RPC's --------------------------------------------------------------


def send_params_from(value: Json) -> dict[str, Any]:
    """A request's body."""
    message = as_object(value.get("message") or value.get("request"), "message")
    if "content" not in message:
        return {**value, "message": message}
    params: dict[str, Any] = {"message": message_from(message)} | _copy(value, "metadata")
    configuration = value.get("configuration")
    if isinstance(configuration, Mapping):
        c = as_object(configuration, "configuration")
        made = _copy(c, "acceptedOutputModes", "historyLength", "blocking")
        if not made.get("historyLength"):
            made.pop("historyLength", None)  # protobuf writes unset and 0 alike
        made.setdefault("blocking", False)  # and does not write false
        if (push := _get(c, "pushNotification")) is not None:
            made["pushNotificationConfig"] = push
        params["configuration"] = made
    return params


def message_from(value: Any) -> dict[str, Any]:
    wire = as_object(value, "message")
    message = _copy(wire, "messageId", "contextId", "taskId", "metadata", "extensions")
    if isinstance(role := wire.get("role"), str):  # without one, whether that will do is the reader's to say
        message["role"] = _FROM_ROLE.get(role, role)
    parts = wire.get("content") if "content" in wire else wire.get("parts")
    return message | {"kind": "message", "parts": [_part_from(p) for p in parts or ()]}


def _part_from(value: Any) -> dict[str, Any]:
    wire = as_object(value, "part")
    part = _copy(wire, "metadata")
    if "kind" in wire:
        return dict(wire)
    if "text" in wire:
        return part | {"kind": "text", "text": wire["text"]}
    if "data" in wire:
        return part | {"kind": "data", "data": as_object(wire["data"], "data").get("data", {})}
    file = as_object(wire.get("file"), "file")
    made = _copy(file, "mimeType", "name")
    for name, to in (("fileWithUri", "uri"), ("fileWithBytes", "bytes")):
        if (content := _get(file, name)) is not None:
            return part | {"kind": "file", "file": made | {to: content}}
    raise Malformed("a file needs one of fileWithBytes and fileWithUri")


def item_from(value: Any) -> dict[str, Any]:
    """An agent's unary result or stream event."""
    wire = as_object(value, "result")
    for name, read in (("task", task_from), ("message", message_from), ("msg", message_from)):
        if name in wire:
            return read(wire[name])
    if (update := _get(wire, "statusUpdate")) is not None:
        u = as_object(update, "statusUpdate")
        made = _copy(u, "taskId", "contextId", "metadata")
        return made | {
            "kind": "status-update",
            "status": _status_from(u.get("status")),
            "final": u.get("final") is True,
        }
    if (update := _get(wire, "artifactUpdate")) is not None:
        u = as_object(update, "artifactUpdate")
        made = _copy(u, "taskId", "contextId", "append", "lastChunk", "metadata")
        return made | {"kind": "artifact-update", "artifact": _artifact_from(u.get("artifact"))}
    raise Malformed("a result is one of task, message, statusUpdate and artifactUpdate")


def task_from(value: Any) -> dict[str, Any]:
    wire = as_object(value, "task")
    task = _copy(wire, "id", "contextId", "metadata")
    if artifacts := wire.get("artifacts"):
        task["artifacts"] = [_artifact_from(a) for a in artifacts]
    if history := wire.get("history"):
        task["history"] = [message_from(m) for m in history]
    return task | {"kind": "task", "status": _status_from(wire.get("status"))}


def _status_from(value: Any) -> dict[str, Any]:
    wire = as_object(value or {}, "status")
    status = _copy(wire, "timestamp")
    message = wire.get("message") or wire.get("update")
    if message:
        status["message"] = message_from(message)
    return status | {"state": _FROM_STATE.get(wire.get("state") or "", "unknown")}


def _artifact_from(value: Any) -> dict[str, Any]:
    wire = as_object(value, "artifact")
    made = _copy(wire, "artifactId", "name", "description", "metadata", "extensions")
    return made | {"parts": [_part_from(p) for p in wire.get("parts") or ()]}


# --- JSON-RPC's form → protobuf's --------------------------------------------------------------


def send_params_to(params: Json) -> dict[str, Any]:
    """A request's body."""
    body: dict[str, Any] = {"message": message_to(params["message"])} | _copy(params, "metadata")
    if configuration := params.get("configuration"):
        body["configuration"] = _copy(configuration, "acceptedOutputModes", "historyLength", "blocking")
    return body


def message_to(value: Any) -> dict[str, Any]:
    wire = as_object(value, "message")
    message = _copy(wire, "messageId", "contextId", "taskId", "metadata", "extensions")
    message["role"] = _TO_ROLE.get(wire.get("role") or "", "ROLE_AGENT")
    message["content"] = [_part_to(p) for p in wire.get("parts") or ()]
    return message


def _part_to(value: Any) -> dict[str, Any]:
    wire = as_object(value, "part")
    part = _copy(wire, "metadata")
    match wire.get("kind"):
        case "text":
            part["text"] = wire.get("text") or ""
        case "data":
            part["data"] = {"data": wire.get("data")}
        case _:
            file = as_object(wire.get("file"), "file")
            made = _copy(file, "mimeType", "name")
            content = (
                {"fileWithBytes": file["bytes"]} if "bytes" in file else {"fileWithUri": file.get("uri")}
            )
            part["file"] = made | content
    return part


def item_to(value: Any) -> dict[str, Any]:
    """A unary result or stream event for a client."""
    wire = as_object(value, "result")
    match wire.get("kind"):
        case "task":
            return {"task": task_to(wire)}
        case "message":
            return {"message": message_to(wire)}
        case "status-update":
            made = _copy(wire, "taskId", "contextId", "metadata")
            made |= {"status": _status_to(wire.get("status")), "final": wire.get("final") is True}
            return {"statusUpdate": made}
        case "artifact-update":
            made = _copy(wire, "taskId", "contextId", "append", "lastChunk", "metadata")
            return {"artifactUpdate": made | {"artifact": _artifact_to(wire.get("artifact"))}}
        case kind:
            raise Malformed(f"unknown kind of result: {kind!r}"[:120])


def task_to(wire: Json) -> dict[str, Any]:
    task = _copy(wire, "id", "contextId", "metadata")
    if artifacts := wire.get("artifacts"):
        task["artifacts"] = [_artifact_to(a) for a in artifacts]
    if history := wire.get("history"):
        task["history"] = [message_to(m) for m in history]
    return task | {"status": _status_to(wire.get("status"))}


def _status_to(value: Any) -> dict[str, Any]:
    wire = as_object(value or {}, "status")
    status = _copy(wire, "timestamp")
    if message := wire.get("message"):
        status["message"] = message_to(message)
    return status | {"state": _TO_STATE.get(wire.get("state") or "", "TASK_STATE_UNSPECIFIED")}


def _artifact_to(value: Any) -> dict[str, Any]:
    wire = as_object(value, "artifact")
    made = _copy(wire, "artifactId", "name", "description", "metadata", "extensions")
    return made | {"parts": [_part_to(p) for p in wire.get("parts") or ()]}


# --- base64 of base64 --------------------------------------------------------------------------


def nested(value: Any) -> Any:
    """Protobuf's form with files as the Python SDK writes them."""
    return _files(value, lambda text: encoded(text.encode()))


def unnested(value: Any) -> Any:
    """The way back; a file that is not written so is left as it is."""
    return _files(value, _once)


def _once(text: str) -> str:
    try:
        inner = decoded(text).decode("ascii")
        return inner if encoded(decoded(inner)) == inner else text
    except (Malformed, UnicodeDecodeError):
        return text


def _files(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_files(x, change) for x in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for key, x in cast("dict[str, Any]", value).items():
        file = key in ("fileWithBytes", "file_with_bytes") and isinstance(x, str)
        made[key] = change(x) if file else x if key == "metadata" else _files(x, change)
    return made
