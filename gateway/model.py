"""The canonical model: the one vocabulary every protocol is translated to and from.

All structs are frozen. Each that comes off a wire has ``extra``: fields the model has no name for,
keyed by the protocol they came from (``{"a2a": {"extensions": [...]}}``). A codec writes back only
what stands under its own key, so unknown fields survive the way home and never leak into another
protocol. Times are UTC ISO 8601 strings ending in ``Z``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")
Extra = Mapping[str, Mapping[str, Any]]
Role = Literal["user", "agent"]


class _Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of the model: immutable, keyword-only, defaults left out when stored. The garbage collector need
    not look at the many that are kept: what never changes can't come to hold itself."""


# --- content ---------------------------------------------------------------------------------


class Text(_Struct, frozen=True, tag="text"):
    """A piece of text. ``media_type`` None means text/plain."""

    text: str
    media_type: str | None = None
    name: str | None = None
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


class Data(_Struct, frozen=True, tag="data"):
    """Structured data: any JSON value. ``media_type`` None means application/json."""

    data: Any
    media_type: str | None = None
    name: str | None = None
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


class File(_Struct, frozen=True, tag="file"):
    """A file: exactly one of ``content`` (the bytes) and ``uri`` (never fetched by the gateway)."""

    content: bytes | None = None
    uri: str | None = None
    media_type: str | None = None
    name: str | None = None
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


Part = Text | Data | File


class Message(_Struct, frozen=True):
    """One turn's content. ``author`` names the agent that speaks when several may."""

    role: Role
    parts: tuple[Part, ...]
    message_id: str | None = None
    author: str | None = None
    context_id: str | None = None
    task_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


class Artifact(_Struct, frozen=True):
    """A result with an identity of its own; ``artifact_id`` is unique within its task."""

    artifact_id: str
    parts: tuple[Part, ...]
    name: str | None = None
    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


# --- tasks -----------------------------------------------------------------------------------


class TaskState(StrEnum):
    """States of a task; which may follow which stands in ``lifecycle``."""

    __hash__ = str.__hash__  # Enum's own is written in Python

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    AUTH_REQUIRED = "auth_required"
    CANCELING = "canceling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"


class Fault(_Struct, frozen=True):
    """What went wrong, safe to show to a client.

    ``code`` is a stable code of ``errors`` (``agent_error`` when the words are the agent's own).
    ``data`` is what the agent sent along; ``native`` keeps its protocol's own error code,
    ``{"protocol": "mcp", "code": -32602}``, for a face of the same protocol.
    """

    code: str
    message: str
    data: Any = None
    native: Mapping[str, Any] | None = None


class InputRequest(_Struct, frozen=True):
    """A question to the client.

    ``kind``: ``text`` (free answer), ``form`` (answer fits ``schema``), ``url`` (the user opens ``url``),
    ``auth`` (the agent needs credentials). ``message`` holds the question as the agent put it.
    """

    message: Message
    kind: Literal["text", "form", "url", "auth"] = "text"
    schema: Mapping[str, Any] | None = None
    url: str | None = None
    request_id: str | None = None
    extra: Extra = {}

    @property
    def prompt(self) -> str:
        """The question's text."""
        return text_of(self.message.parts)


class InputReply(_Struct, frozen=True):
    """The client's answer: ``message`` as it was sent; ``action`` decline or cancel refuses to answer."""

    message: Message
    action: Literal["accept", "decline", "cancel"] = "accept"


class Task(_Struct, frozen=True):
    """A task as far as it has come: the fold of its events.

    ``messages`` are the agent's finished (or, while it streams, growing) answers; ``status_message`` is
    what it last said about its state. The answer is messages + artifacts + the final status message.
    """

    id: str
    context_id: str
    agent: str
    state: TaskState = TaskState.SUBMITTED
    input: Message | None = None
    messages: tuple[Message, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    status_message: Message | None = None
    input_request: InputRequest | None = None
    fault: Fault | None = None
    created_at: str = ""
    updated_at: str = ""
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


# --- events ----------------------------------------------------------------------------------


class Started(_Struct, frozen=True, tag="started"):
    """The upstream took the task; its own ids where it has such. Emitted at most once per turn, first."""

    task_id: str | None = None
    context_id: str | None = None


class StateChanged(_Struct, frozen=True, tag="state"):
    """A non-terminal change of state; ``message`` is what the agent says about it (progress, not answer)."""

    state: TaskState
    message: Message | None = None
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


class MessageDelta(_Struct, frozen=True, tag="message_delta"):
    """Parts that join the answer message being written. The first one opens it."""

    parts: tuple[Part, ...]
    message_id: str | None = None
    author: str | None = None


class MessageDone(_Struct, frozen=True, tag="message"):
    """The answer message is complete. Carries all its parts, those sent as deltas included."""

    message: Message


class ArtifactDelta(_Struct, frozen=True, tag="artifact"):
    """An artifact or a piece of one. ``append`` joins ``artifact.parts`` to those already there."""

    artifact: Artifact
    append: bool = False
    last: bool = True
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


class Place(_Struct, frozen=True):
    """Where pieces of bare text go, one after the other: into the message that ``author`` writes, or to the
    end of an artifact. ``event``: what such a piece is in a task's log."""

    author: str | None = None
    artifact_id: str | None = None

    def event(self, text: str) -> MessageDelta | ArtifactDelta:
        parts = (Text(text=text),)
        if self.artifact_id is None:
            return MessageDelta(parts=parts, author=self.author)
        artifact = Artifact(artifact_id=self.artifact_id, parts=parts)
        return ArtifactDelta(artifact=artifact, append=True, last=False)


class Progress(_Struct, frozen=True, tag="progress"):
    """How far the work is: never part of the answer. ``data`` is a protocol's free-form progress event."""

    message: str | None = None
    progress: float | None = None
    total: float | None = None
    data: Any = None
    extra: Extra = {}


class InputRequired(_Struct, frozen=True, tag="input_required"):
    """The agent waits for an answer; the upstream's iterator ends after it. State from ``request.kind``."""

    request: InputRequest


class Finished(_Struct, frozen=True, tag="finished"):
    """The end: ``state`` is terminal. ``message`` is the final status message (part of the answer)."""

    state: TaskState
    message: Message | None = None
    fault: Fault | None = None
    metadata: Mapping[str, Any] | None = None
    extra: Extra = {}


Event = (
    Started | StateChanged | MessageDelta | MessageDone | ArtifactDelta | Progress | InputRequired | Finished
)


class Logged(_Struct, frozen=True):
    """An event in a task's log. ``seq`` counts from 1 without gaps."""

    seq: int
    at: str
    event: Event


# --- agents ----------------------------------------------------------------------------------


class Skill(_Struct, frozen=True):
    """Something an agent can do. ``input_schema`` is set where it takes structured arguments: a tool."""

    id: str
    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    input_modes: tuple[str, ...] = ()
    output_modes: tuple[str, ...] = ()
    extra: Extra = {}


class Agent(_Struct, frozen=True):
    """What an agent says about itself. ``conversational`` False: a tool server (MCP), called by skill.

    ``extra[protocol]["raw"]`` keeps its own description whole (card, manifest, server info).
    """

    name: str
    description: str = ""
    skills: tuple[Skill, ...] = ()
    version: str | None = None
    input_modes: tuple[str, ...] = ()
    output_modes: tuple[str, ...] = ()
    conversational: bool = True
    extra: Extra = {}


class OAuth(_Struct, frozen=True):
    """Client credentials with which the gateway gets its token for an agent (RFC 6749, section 4.4).
    ``client_secret`` is a reference. ``audience`` and ``resource`` (RFC 8707) where the server wants one."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""
    audience: str = ""
    resource: str = ""
    method: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"


class Record(_Struct, frozen=True):
    """A registered agent: where it is and how to call it. Exactly one of ``url`` and ``command``.

    Values of ``headers`` and ``env`` may hold references to secrets, resolved only when used.
    Timeouts are seconds; None means the configured limit. ``remote`` is the agent's name at ``url``.
    ``login``: somebody has logged in to it (``agents login``), so it gets the token that is kept for it.
    """

    name: str
    protocol: str
    url: str | None = None
    command: tuple[str, ...] = ()
    remote: str | None = None
    headers: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    cwd: str | None = None
    enabled: bool = True
    description: str | None = None
    idle_timeout: float | None = None
    total_timeout: float | None = None
    source: Literal["store", "config"] = "store"
    oauth: OAuth | None = None
    login: bool = False

    @property
    def target(self) -> str:
        """The URL, or the command line, for people."""
        return self.url or " ".join(self.command)


class Health(_Struct, frozen=True):
    """Result of the last check; ``detail`` is one line for people, safe to show."""

    status: Literal["ok", "degraded", "down", "unknown", "needs-auth"] = "unknown"
    detail: str = ""
    checked_at: str | None = None


# --- calls -----------------------------------------------------------------------------------


class Principal(_Struct, frozen=True):
    """Who calls. Callers without a key are one principal; the owner's CLI has all rights.

    ``id``: whose tasks, conversations and sessions are whose (``key:<id>`` for a key, so that another key of
    the same name does not inherit). ``admin``: may use the admin API, the metrics and the console.
    ``agents``: the names of those it may reach, at every door; None: all. ``name``: for people and logs.
    """

    id: str = "anonymous"
    owner: bool = False
    admin: bool = False
    agents: frozenset[str] | None = None
    name: str = ""

    def reaches(self, agent: str) -> bool:
        """Whether it may know of the agent of this name."""
        return self.agents is None or agent in self.agents


class Trace(_Struct, frozen=True):
    """W3C trace context to hand on: the values of the headers (or MCP ``_meta`` keys) of these names."""

    traceparent: str | None = None
    tracestate: str | None = None
    baggage: str | None = None


class TaskRef(_Struct, frozen=True):
    """Names a task at the upstream: the upstream's ids, and what its adapter asked to keep."""

    task_id: str
    context_id: str | None = None


class Invocation(_Struct, frozen=True):
    """One call of an agent, as an upstream gets it.

    ``context_id`` is the gateway's name of the conversation (always set when an upstream sees it);
    ``owned``: it is an id that the gateway has issued to this principal (``gateway.owned``);
    ``upstream_context`` is what this agent called it last time, None on the first turn.
    ``metadata`` is the request's, beside the message's own. ``streaming`` False: the client will not
    look before the end, so an upstream may choose its cheaper unary call. ``idle_timeout`` and
    ``total_timeout``: seconds, where the caller wants less than the agent is allowed. ``new_task_id``: the
    id of a new task, where a door has given it out already (it asked which agent is meant); None: the
    gateway chooses.
    """

    agent: str
    message: Message
    skill: str | None = None
    context_id: str | None = None
    task_id: str | None = None
    new_task_id: str | None = None
    owned: bool = False
    upstream_context: str | None = None
    principal: Principal = Principal()
    trace: Trace = Trace()
    client_protocol: str = ""
    streaming: bool = True
    metadata: Mapping[str, Any] | None = None
    idle_timeout: float | None = None
    total_timeout: float | None = None
    extra: Extra = {}


class Translated(_Struct, Generic[T], frozen=True):
    """A translation's result and what it could not carry: ``losses`` are short stable phrases."""

    value: T
    losses: tuple[str, ...] = ()


def text_of(parts: tuple[Part, ...] | list[Part]) -> str:
    """All text of the parts, joined without separator (pieces of one stream join seamlessly)."""
    if len(parts) == 1 and isinstance(part := parts[0], Text):
        return part.text
    return "".join([p.text for p in parts if isinstance(p, Text)])
