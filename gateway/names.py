"""Names of agents: one rule at every door."""

from __future__ import annotations

import re

PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_NAME = re.compile(PATTERN[:-1] + r"\Z")
_UNFIT = re.compile(r"[^a-z0-9]+")


def is_valid(name: str) -> bool:
    """Whether ``name`` may name an agent: 1 to 63 of a-z, 0-9 and ``-``, no ``-`` at either end."""
    return _NAME.match(name) is not None


def fitted(text: str) -> str:
    """The nearest valid name: ``My Agent!`` gives ``my-agent``; ``agent`` where nothing is left."""
    return _UNFIT.sub("-", text.lower()).strip("-")[:63].rstrip("-") or "agent"


def complaint(name: str) -> str:
    """One line on what is wrong with an invalid name, with a valid one to use instead."""
    return f"{name!r} can't name an agent (1 to 63 of a-z, 0-9 and '-', not at an end): try {fitted(name)!r}"
