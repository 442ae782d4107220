"""The gateway's tasks in MCP's words, pure: 2025-11-25, basic/utilities/tasks; from 2026-07-28 on the
extension ``io.modelcontextprotocol/tasks``. The task's id is the gateway's, the same at every door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ....gateway.model import Task, TaskState, text_of
from .. import wire
from ..wire import Era, RpcError
from . import answers

S = TaskState
GET, RESULT, LIST, CANCEL, UPDATE = "tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "tasks/update"
METHODS = frozenset({GET, RESULT, LIST, CANCEL, UPDATE})
STATUS = {"handshake": "notifications/tasks/status", "modern": "notifications/tasks"}
SINCE = "2025-11-25"  # the first revision of the handshake era that has tasks
AFTER = 1.0  # seconds after which a call of a modern client that knows tasks becomes one
POLL = 1000  # milliseconds, what clients are told
# What a server of either era declares that runs tool calls as tasks.
CAPABILITY: Mapping[str, Any] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
ENDED = frozenset({"completed", "failed", "cancelled"})


def known(capabilities: Mapping[str, Any]) -> bool:
    """Whether these capabilities (a modern client's or server's) name the extension."""
    extensions = capabilities.get("extensions")
    return extensions is not None and isinstance(extensions, Mapping) and wire.TASKS_EXTENSION in extensions


def methods(era: Era, revision: str) -> frozenset[str]:
    """Those that a client of this era and revision has."""
    if era == "modern":
        return frozenset({GET, CANCEL, UPDATE})
    return METHODS - {UPDATE} if revision >= SINCE else frozenset()


def missing() -> RpcError:
    """What a modern client is told that did not declare the extension (-32021)."""
    required: dict[str, Any] = {"requiredCapabilities": {"extensions": {wire.TASKS_EXTENSION: {}}}}
    return RpcError(wire.MISSING_CAPABILITY, "Missing required client capability", required)


def offered(capabilities: Mapping[str, Any], era: Era, revision: str) -> dict[str, Any]:
    """``capabilities`` with tasks, as a client of this era and revision knows them."""
    if era == "modern":
        extensions = cast("Mapping[str, Any]", capabilities.get("extensions") or {})
        return {**capabilities, "extensions": {**extensions, wire.TASKS_EXTENSION: {}}}
    return {**capabilities, "tasks": CAPABILITY} if revision >= SINCE else dict(capabilities)


def optional(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool that may be called as a task (2025-11-25: ``execution.taskSupport``)."""
    return {**tool, "execution": {"taskSupport": "optional"}}


def status(task: Task, era: Era, asks: bool) -> str:
    """The task's status. ``asks``: its question can be put to this client; else it has come to an end as
    far as MCP goes: its result is the question, and how to answer it."""
    match task.state:
        case S.INPUT_REQUIRED | S.AUTH_REQUIRED:
            return "input_required" if asks else "completed"
        case S.COMPLETED:
            return "completed"
        case S.FAILED | S.REJECTED:
            # 2025-11-25: failed when the tool's result is an error; modern: for JSON-RPC errors only.
            return "failed" if era == "handshake" else "completed"
        case S.CANCELED:
            return "cancelled"
        case _:
            return "working"


def shape(task: Task, era: Era, asks: bool) -> dict[str, Any]:
    """The fields that a task has in every message."""
    fields: dict[str, Any] = {"taskId": task.id, "status": status(task, era, asks)}
    message = task.status_message
    words = text_of(message.parts) if message is not None and task.state in answers.RUNNING else ""
    if words:
        fields["statusMessage"] = words
    fields |= {"createdAt": task.created_at, "lastUpdatedAt": task.updated_at}
    # Kept for good, like every task of the gateway.
    if era == "handshake":
        return {**fields, "ttl": None, "pollInterval": POLL}
    return {**fields, "ttlMs": None, "pollIntervalMs": POLL}


def created(task: Task, era: Era, asks: bool) -> dict[str, Any]:
    """The CreateTaskResult that a tools/call is answered with."""
    fields = shape(task, era, asks)
    return {"task": fields} if era == "handshake" else {"resultType": "task", **fields}


def related(value: Mapping[str, Any], task_id: str) -> dict[str, Any]:
    """Params or result that belong to a task, and say so (2025-11-25, "Related Task Metadata")."""
    meta = value.get("_meta")
    own = dict(cast("Mapping[str, Any]", meta)) if isinstance(meta, Mapping) else {}
    return {**value, "_meta": {**own, wire.META_RELATED_TASK: {"taskId": task_id}}}
