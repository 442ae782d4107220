"""Names of tools and prompts where many agents share one list, pure.

Hosts accept at most 64 characters of ``[A-Za-z0-9_-]``, some add a prefix of their own: 60 is safe.
"""

from __future__ import annotations

import re
from hashlib import sha256

LIMIT = 60
SEPARATOR = "__"
_FIT = re.compile(rf"[A-Za-z0-9_-]{{1,{LIMIT}}}")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_DIGITS = 6


def fit(full: str) -> str:
    """``full`` where hosts accept it; else cut, unfit characters replaced, with ``_`` and 6 hex digits of
    the SHA-256 of ``full``, so that two long names stay two."""
    if _FIT.fullmatch(full):
        return full
    digest = sha256(full.encode()).hexdigest()[:_DIGITS]
    return f"{_UNFIT.sub('_', full)[: LIMIT - _DIGITS - 1]}_{digest}"


def qualified(agent: str, name: str) -> str:
    """The name of an agent's tool or prompt in the shared list: ``{agent}__{name}``, made fit.

    An agent's name never holds ``_``, so the first ``__`` of an uncut name ends the agent's.
    """
    return fit(f"{agent}{SEPARATOR}{name}")


def split(name: str) -> tuple[str, str] | None:
    """(agent, own name) of an uncut qualified name; None where there is no separator. The way back from a
    cut name is a look into the lists it may stand in."""
    agent, found, own = name.partition(SEPARATOR)
    return (agent, own) if found and agent and own else None
