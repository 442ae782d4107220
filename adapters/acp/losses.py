"""What translations from and to ACP cannot carry: the whole list. Pure.

Each phrase is stable; ``docs/protocols.md`` lists exactly these, and a test keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from functools import lru_cache


class Loss(StrEnum):
    """What ACP has no place for: found while writing ACP."""

    __hash__ = str.__hash__  # Enum's own is written in Python

    REQUEST_METADATA = "request metadata"
    SKILL = "skill"
    MESSAGE_ID = "message id"
    MESSAGE_METADATA = "message metadata"
    MESSAGE_FIELDS = "fields of a message that only its protocol has"
    PART_METADATA = "part metadata"
    PART_FIELDS = "fields of a part that only its protocol has"
    PART_KIND = "text or data, where its media type says the other"
    RELATIVE_LINK = "a relative link: it is text"
    ARTIFACT_ID = "artifact id"
    ARTIFACT_NAME = "artifact name"
    ARTIFACT_BOUNDS = "which parts are one artifact"
    ARTIFACT_DESCRIPTION = "artifact description"
    ARTIFACT_METADATA = "artifact metadata"
    ARTIFACT_FIELDS = "fields of an artifact that only its protocol has"
    ARTIFACT_REPLACED = "an artifact that replaces an earlier one: both are told"
    STATUS_METADATA = "status metadata"
    STATUS_FIELDS = "fields of a status that only its protocol has"
    REJECTED = "rejected: it is failed"
    AUTH = "a question for credentials: it is like any other"


class Unread(StrEnum):
    """What of ACP the canonical model has no place for: found while reading ACP."""

    AGENT_MESSAGES = "agent messages in the input"
    HISTORY = "session history from elsewhere"


def phrases(found: Collection[StrEnum]) -> tuple[str, ...]:
    """Losses as they are told: sorted, each once."""
    return _told(frozenset(found)) if found else ()


@lru_cache(256)
def _told(found: frozenset[StrEnum]) -> tuple[str, ...]:
    return tuple(sorted(map(str, found)))
