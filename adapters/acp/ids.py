"""Ids: ACP knows runs and sessions by UUIDs. Pure."""

from __future__ import annotations

import re
import uuid

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NAMES = uuid.UUID("5f6c0b2e-3a5c-4d0e-9a67-6d1c5f1b7a10")


def is_uuid(text: str) -> bool:
    """Whether ACP takes ``text`` for a run's or session's id."""
    return _UUID.fullmatch(text) is not None


def as_uuid(text: str, salt: str = "") -> str:
    """A UUID as it is, made lower case; any other id as a UUID that always comes out the same."""
    return text.lower() if is_uuid(text) and not salt else str(uuid.uuid5(_NAMES, f"{salt}\0{text}"))
