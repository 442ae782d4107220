"""Events of an agent's stream as nearly all agents write them, read straight into structs.

Whatever says more, or says it in another way, is read by ``decoding``. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw

from ...gateway.model import Extra, Message, Text
from ...gateway.readable import UNREADABLE, must_be_text
from .codec import role_by
from .wire import Json


class PlainPart(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A piece of plain text and nothing else."""

    content_type: Literal["text/plain"]
    content: str
    content_encoding: Literal["plain"] = "plain"
    name: None = None
    content_url: None = None
    metadata: None = None


class Run(msgspec.Struct, gc=False):
    """What is to be known of a run that works."""

    run_id: str
    status: Literal["created", "in-progress"]
    session_id: str | None = None


class CompletedRun(msgspec.Struct):
    """The same of one that is done; of ``output`` only how much there is."""

    run_id: str
    status: Literal["completed"]
    output: list[Raw]
    session_id: str | None = None


class Opened(msgspec.Struct, gc=False):
    """A message that begins."""

    role: str = ""


class PlainAnswer(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that is one plain text."""

    role: str
    parts: tuple[PlainPart]
    created_at: Any = UNSET
    completed_at: Any = UNSET

    def read(self) -> Message | None:
        """As ``codec.plain_answer`` reads it; None where it is not an agent's."""
        speaker, _, author = self.role.partition("/")
        if speaker != "agent" or role_by(author or None) != self.role:
            return None
        kept: Json = {}
        if self.created_at is not UNSET:
            kept["created_at"] = self.created_at
        if self.completed_at is not UNSET:
            kept["completed_at"] = self.completed_at
        extra: Extra = {"acp": {"fields": kept, "absent": []}} if kept else {}
        text = Text(text=self.parts[0].content)
        return Message(role="agent", parts=(text,), author=author or None, extra=extra)


class _Event(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, gc=False):
    pass


class RunCreated(_Event, tag="run.created"):
    run: Run


class RunInProgress(_Event, tag="run.in-progress"):
    run: Run


class RunCompleted(_Event, tag="run.completed"):
    run: CompletedRun


class MessageCreated(_Event, tag="message.created"):
    message: Opened


class MessagePart(_Event, tag="message.part"):
    part: PlainPart


class MessageCompleted(_Event, tag="message.completed"):
    message: PlainAnswer


Usual = RunCreated | RunInProgress | RunCompleted | MessageCreated | MessagePart | MessageCompleted
_decode = msgspec.json.Decoder(Usual).decode


def author_of(role: str) -> str | None:
    """Who of the agent's side speaks: ``agent/{author}``."""
    return role.partition("/")[2] or None


def usual(event: bytes) -> Usual | None:
    """The event (as JSON), if it is a usual one."""
    try:
        if not event.isascii():
            must_be_text(event)
        return _decode(event)
    except UNREADABLE:
        return None


def usual_ones(events: Sequence[bytes]) -> list[Usual] | None:
    """The same of several, where all are."""
    try:
        if not all(map(bytes.isascii, events)):
            for event in events:
                must_be_text(event)
        return [*map(_decode, events)]
    except UNREADABLE:
        return None
