"""Ids: ACP knows runs and sessions by UUIDs. Pure."""

from __future__ import annotations

import re
from hashlib import sha1

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SPACE = bytes.fromhex("5f6c0b2e3a5c4d0e9a676d1c5f1b7a10")
_FREE = ~(0xF << 76 | 0x3 << 62)  # all but version and variant
_FIXED = 0x5 << 76 | 0x2 << 62


def is_uuid(text: str) -> bool:
    """Whether ACP takes ``text`` for a run's or session's id."""
    return _UUID.fullmatch(text) is not None


def as_uuid(text: str, salt: str = "") -> str:
    """A UUID as it is, made lower case; any other id as a UUID that always comes out the same."""
    return text.lower() if not salt and _UUID.fullmatch(text) else _named(f"{salt}\0{text}")


def _named(name: str) -> str:
    """A UUID of version 5 (RFC 9562, 5.5), at a fifth of what ``uuid.uuid5`` takes."""
    digest = sha1(_SPACE + name.encode(), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16], "big") & _FREE | _FIXED
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
