"""ACP on the wire: the envelopes that are looked into, names of fields, and the protocol's fixed words.

From the published OpenAPI document (0.2.0) and acp-sdk 1.0.3, which are not always of one mind; where they
differ, what the SDK sends and accepts counts. Messages and parts stay plain JSON objects: ``codec`` reads
them field by field so that a complaint can name the field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

Json = dict[str, Any]
Mode = Literal["sync", "async", "stream"]

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"
TEXT_TYPE = "text/plain"

TERMINAL = frozenset({"completed", "failed", "cancelled"})
SETTLED = TERMINAL | {"awaiting"}
# A stream ends with one of these; "awaiting" is the client's turn, not an error.
LAST_EVENTS = frozenset({"run.completed", "run.failed", "run.cancelled", "run.awaiting", "error"})

SERVER_ERROR = "server_error"
INVALID_INPUT = "invalid_input"
NOT_FOUND = "not_found"


PAGE = 1000  # the largest ``limit`` of GET /agents


class ErrorBody(msgspec.Struct):
    """An error, in a run or as the body of an HTTP error; ``code`` is open, ``data`` an object."""

    code: str
    message: str = ""
    data: Any = None


class RunHead(msgspec.Struct):
    """What a relay looks at in a Run."""

    run_id: str
    status: str
    agent_name: Any = None
    session_id: str | None = None
    await_request: Any = None
    error: ErrorBody | None = None
    created_at: str | None = None


class EventHead(msgspec.Struct):
    """What a relay looks at in an event of a stream."""

    type: str
    run: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class TextPart(msgspec.Struct, forbid_unknown_fields=True):
    """A piece of plain text and nothing else."""

    content_type: Literal["text/plain"]
    content: msgspec.Raw  # a string
    content_encoding: Literal["plain"] = "plain"
    name: None = None
    content_url: None = None
    metadata: None = None


class TextEvent(msgspec.Struct, forbid_unknown_fields=True):
    """What most events of a stream are."""

    type: Literal["message.part"]
    part: TextPart


class SessionGiven(msgspec.Struct):
    """A session that the client brings along: its id, and URLs of messages (never fetched)."""

    id: str
    history: Sequence[str] = ()
    state: str | None = None


class RunCreate(msgspec.Struct):
    """POST /runs. ``metadata`` is not ACP's: it may name a tool server's ``skill``."""

    agent_name: str
    input: Sequence[Json]
    mode: Mode | None = None
    session_id: str | None = None
    session: SessionGiven | None = None
    metadata: dict[str, Any] | None = None


class RunCreateHead(msgspec.Struct):
    """The same, as a relay reads it: the content stays bytes."""

    agent_name: str
    input: Sequence[Raw]
    mode: Mode | None = None
    session_id: str | None = None
    session: SessionGiven | None = None


class AwaitResume(msgspec.Struct):
    """The answer to an await request; ``message`` is the only type there is."""

    message: Json
    type: Literal["message"] = "message"


class RunResume(msgspec.Struct):
    """POST /runs/{id}."""

    await_resume: AwaitResume
    mode: Mode | None = None


class RunResumeHead(msgspec.Struct):
    """The same, as a relay reads it."""

    await_resume: Raw
    mode: Mode | None = None
