"""What of the canonical model MCP has no place for. Pure.

The phrases are stable: spans carry them, docs/protocols.md lists them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from ...gateway.model import Artifact, Data, Extra, File, Invocation, Message, Part, Task, Text

MCP = "mcp"
_OURS = frozenset({MCP, "gateway", "agentgw"})


class Loss(StrEnum):
    """A kind of thing that gets lost: in a call of a tool, or in an agent's answer to a host."""

    __hash__ = str.__hash__  # Enum's own is written in Python

    REQUEST_METADATA = "request metadata"
    TEXT = "text beside a tool's arguments"
    FILES = "files that no argument refers to"
    MESSAGE_ID = "message id"
    MESSAGE_METADATA = "message metadata"
    AUTHOR = "author of a message"
    BOUNDS = "where one message ends and the next begins"
    PART_METADATA = "part metadata"
    TEXT_TYPE = "media type of text"
    DATA_TYPE = "media type of data"
    PART_NAME = "name of text, data, image or audio"
    ARTIFACT_METADATA = "artifact metadata"
    FIELDS = "fields that only another protocol has"


def of_call(message: Message, *, text: bool, files: bool) -> set[Loss]:
    """What a message loses when it becomes the call of a tool. ``text``, ``files``: whether there were any
    that no argument took up."""
    lost = _of_message(message)
    for part in message.parts:
        if part.metadata:
            lost.add(Loss.PART_METADATA)
        if part.extra and _foreign(part.extra):
            lost.add(Loss.FIELDS)
        if part.name is not None and not isinstance(part, File):
            lost.add(Loss.PART_NAME)
    if text:
        lost.add(Loss.TEXT)
    if files:
        lost.add(Loss.FILES)
    return lost


def of_request(call: Invocation) -> set[Loss]:
    """What a call says beside its message."""
    return {Loss.REQUEST_METADATA} if call.metadata else set()


def of_answer(task: Task) -> set[Loss]:
    """What a task loses when it becomes the result of a tool."""
    if len(task.messages) == 1 and not task.artifacts and task.status_message is None:
        (message,) = task.messages
        if _is_plain(message):
            return {Loss.AUTHOR} if message.author else set()  # most answers
    said = [*task.messages, *([task.status_message] if task.status_message else ())]
    lost = {Loss.BOUNDS} if len(said) > 1 else set[Loss]()
    for message in said:
        lost |= _of_message(message) | of_parts(message.parts)
        if any(p.name is not None and not _keeps_name(p) for p in message.parts):
            lost.add(Loss.PART_NAME)
        lost |= {Loss.AUTHOR} if message.author else set()
    for artifact in task.artifacts:
        lost |= _of_artifact(artifact)
    return lost


def of_parts(parts: Iterable[Part]) -> set[Loss]:
    """What parts lose when they become content blocks."""
    lost: set[Loss] = set()
    for part in parts:
        if part.metadata:
            lost.add(Loss.PART_METADATA)
        if part.extra and _foreign(part.extra):
            lost.add(Loss.FIELDS)
        if isinstance(part, Text) and part.media_type and not _is_resource(part):
            lost.add(Loss.TEXT_TYPE)
        if isinstance(part, Data) and part.media_type:
            lost.add(Loss.DATA_TYPE)
    return lost


def phrases(found: Collection[Loss]) -> tuple[str, ...]:
    """Losses as they are told: sorted, each once."""
    if not found:
        return ()
    return tuple(sorted({str(loss) for loss in found})) if len(found) > 1 else (str(*found),)


def _of_message(message: Message) -> set[Loss]:
    lost: set[Loss] = set()
    if message.extra and _foreign(message.extra):
        lost.add(Loss.FIELDS)
    if message.message_id is not None:
        lost.add(Loss.MESSAGE_ID)
    if message.metadata:
        lost.add(Loss.MESSAGE_METADATA)
    return lost


def _is_plain(message: Message) -> bool:
    """Whether it is one text and nothing else, whoever says it."""
    if message.extra or message.metadata or message.message_id is not None:
        return False
    match message.parts:
        case (Text(media_type=None, name=None, metadata=None, extra=extra),):
            return not extra
        case _:
            return False


def _of_artifact(artifact: Artifact) -> set[Loss]:
    lost = of_parts(artifact.parts) - {Loss.TEXT_TYPE, Loss.DATA_TYPE}  # ``structuredContent`` has them
    lost |= {Loss.ARTIFACT_METADATA} if artifact.metadata else set()
    return lost | ({Loss.FIELDS} if _foreign(artifact.extra) else set())


def _foreign(extra: Extra) -> bool:
    return bool([protocol for protocol, fields in extra.items() if fields and protocol not in _OURS])


def _is_resource(part: Text) -> bool:
    return part.extra.get(MCP, {}).get("type") == "resource"


def _keeps_name(part: Part) -> bool:
    """Whether the part's block has a place for its name: a link, or an embedded resource."""
    match part:
        case Text():
            return _is_resource(part)
        case Data():
            return False
        case File():
            main = (part.media_type or "").partition("/")[0]
            return part.uri is not None or main not in ("image", "audio")
