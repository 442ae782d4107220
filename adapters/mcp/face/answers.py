"""What a conversational agent answered, as a tool's result and its progress, pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ....gateway.lifecycle import bare
from ....gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    File,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Progress,
    StateChanged,
    Task,
    TaskState,
    Text,
    text_of,
)
from ..codec import block_of

S = TaskState
FAILED = frozenset({S.FAILED, S.REJECTED})
ASKING = frozenset({S.INPUT_REQUIRED, S.AUTH_REQUIRED})
RUNNING = frozenset({S.SUBMITTED, S.WORKING, S.CANCELING})
_COMPLETED = S.COMPLETED
_LINKS = "2025-06-18"  # the first revision with links


def result(task: Task, revision: str, *, note: str = "") -> dict[str, Any]:
    """The task as a CallToolResult: its answer, or its question, or where it stands.

    ``revision``: the client's; older ones lack audio (before 2025-03-26) and links (before 2025-06-18).
    ``note``: a last remark of the gateway's own.
    """
    if not note and (text := _plain(task)) is not None:
        ids = {"state": "completed", "task_id": task.id, "context_id": task.context_id}
        return {"content": [_text(text)], "structuredContent": {**ids, "data": None, "artifacts": []}}
    parts = answer_parts(task)
    blocks = [block_of(part) for part in parts]
    if revision < _LINKS:
        blocks = [_aged(block, revision) for block in blocks]
    blocks += [_text(line) for line in (*_remarks(task, parts), note) if line]
    built: dict[str, Any] = {"content": blocks, "structuredContent": _structured(task, parts)}
    if task.state in FAILED:
        built["isError"] = True
    return built


def _plain(task: Task) -> str | None:
    """What a completed task says, if that is one plain text and nothing else, as most answers are."""
    if task.state is not _COMPLETED or task.artifacts or task.status_message or task.fault:
        return None
    return bare(task.messages[0].parts) if len(task.messages) == 1 else None


def refusal(text: str) -> dict[str, Any]:
    """An error that the model can mend, as a tool's result (2025-11-25, server/tools: Error Handling)."""
    return {"content": [_text(text)], "isError": True}


def answer_parts(task: Task) -> tuple[Part, ...]:
    """The answer: messages, artifacts, the final status message (a question's is its text)."""
    parts = [part for message in task.messages for part in message.parts]
    parts += [part for artifact in task.artifacts for part in artifact.parts]
    if task.status_message is not None and task.state not in RUNNING:
        parts += task.status_message.parts
    return tuple(parts)


def _remarks(task: Task, parts: Sequence[Part]) -> tuple[str, ...]:
    """What the gateway adds in words: how to answer, how to come back, why it failed."""
    request = task.input_request
    if task.state in ASKING and request is not None:
        schema = msgspec.json.encode(request.schema).decode() if request.schema else ""
        return (
            f"Open this address: {request.url}" if request.url else "",
            f"The answer must fit this schema: {schema}" if schema else "",
            f'To answer, call this tool again with task_id "{task.id}" and the answer as message.',
        )
    if task.state in RUNNING:
        return (
            f'The agent is still working. Call this tool again with task_id "{task.id}" and an empty '
            "message to get the result.",
        )
    if task.state is S.CANCELED and not parts:
        return ("The task was canceled.",)
    if task.state in FAILED:
        why = task.fault.message if task.fault else f"{task.agent} failed"
        told = text_of(list(parts))
        return () if told and (task.fault is None or why in told) else (why,)
    return ()


def _structured(task: Task, parts: Sequence[Part]) -> dict[str, Any]:
    data = [part.data for part in parts if isinstance(part, Data)]
    structured: dict[str, Any] = {
        "state": str(task.state),
        "task_id": task.id,
        "context_id": task.context_id,
        "data": None if not data else data[0] if len(data) == 1 else data,
    }
    structured["artifacts"] = [_artifact(artifact) for artifact in task.artifacts]
    if task.state in ASKING and task.input_request is not None:
        request = task.input_request
        asked = {"kind": request.kind, "prompt": request.prompt, "schema": request.schema, "url": request.url}
        structured["input_request"] = {key: value for key, value in asked.items() if value is not None}
    if task.fault is not None:
        fault = {"code": task.fault.code, "message": task.fault.message, "data": task.fault.data}
        structured["error"] = {key: value for key, value in fault.items() if value is not None}
    return structured


def _artifact(artifact: Artifact) -> dict[str, Any]:
    """An artifact for ``structuredContent``; a file's bytes stand in ``content``."""
    built: dict[str, Any] = {"artifact_id": artifact.artifact_id}
    if artifact.name is not None:
        built["name"] = artifact.name
    if artifact.description is not None:
        built["description"] = artifact.description
    return {**built, "parts": [_described(part) for part in artifact.parts]}


def _described(part: Part) -> dict[str, Any]:
    match part:
        case Text(text=text):
            built: dict[str, Any] = {"type": "text", "text": text}
        case Data(data=data):
            built = {"type": "data", "data": data}
        case File(content=content, uri=uri):
            built = (
                {"type": "file", "uri": uri} if content is None else {"type": "file", "size": len(content)}
            )
    named = {"name": part.name, "media_type": part.media_type}
    return {**built, **{key: value for key, value in named.items() if value is not None}}


# --- content blocks ----------------------------------------------------------------------------


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _aged(block: dict[str, Any], revision: str) -> dict[str, Any]:
    """A block that a client of ``revision`` knows, which is older than links; audio came with 2025-03-26."""
    match block:
        case {"type": "resource_link", "uri": uri, **rest}:
            return _text(f"{rest.get('name') or 'file'}: {uri}")
        case {"type": "audio", "data": data, "mimeType": media_type} if revision < "2025-03-26":
            resource = {"uri": "agentgw://file/audio", "mimeType": media_type, "blob": data}
            return {"type": "resource", "resource": resource}
        case _:
            return block


# --- progress --------------------------------------------------------------------------------


def said(event: Event) -> str | None:
    """What an event says while the work goes on; None for what is no progress."""
    match event:
        case MessageDelta(parts=parts) | ArtifactDelta(artifact=Artifact(parts=parts)):
            return text_of(parts) or None
        case StateChanged(message=Message(parts=parts)):
            return text_of(parts) or None
        case Progress(message=message, data=data):
            if message is None and data is not None:
                return msgspec.json.encode(data).decode()
            return message
        case _:
            return None


class Narrator:
    """Feed a task's events, get the texts of its progress. A message that came whole is told whole; one
    that was told piece by piece is not told again."""

    def __init__(self) -> None:
        self._told = False

    def feed(self, event: Event) -> str | None:
        if isinstance(event, MessageDone):
            told, self._told = self._told, False
            return None if told else text_of(event.message.parts) or None
        self._told = self._told or isinstance(event, MessageDelta)
        return said(event)
