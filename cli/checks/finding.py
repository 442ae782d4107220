"""What a check finds."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """``problem``: what is, ``fix``: what to do about it, a line each. Not ``wrong``: good to know, and it
    may be meant so."""

    problem: str
    fix: str
    wrong: bool = True
