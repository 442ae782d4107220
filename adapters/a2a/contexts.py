"""One agent, several callers: whose ``contextId`` is called what there. Pure.

Callers without a key are one principal, and their ids are the agent's as they are, unless the agent calls
somebody else's conversation so. An id that a caller with a key chose might be another caller's too: the agent
gets one made from both, and the caller sees its own.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID, uuid5

from ...gateway.model import Principal

_SPACE = UUID("6f1f5c8e-2d0e-4b7b-9a43-8c5a1f2f7d10")
_ANONYMOUS = Principal().id
# Where a result, or what is in one, names its conversation.
_INSIDE = ("task", "message", "statusUpdate", "artifactUpdate", "status")


def context_at_agent(context_id: str, principal: Principal, *, others: bool) -> str:
    """What the agent is told for an id that this caller chose. ``others``: the agent calls a conversation so
    that is another caller's."""
    if principal.id == _ANONYMOUS and not others:
        return context_id
    return str(uuid5(_SPACE, f"{principal.id}\n{context_id}"))


def renamed(value: Any, old: str, new: str) -> Any:
    """A result, event, task or message (JSON of either revision) that calls its conversation ``new`` where it
    said ``old``. What people wrote (parts, metadata) is not looked into."""
    if not isinstance(value, dict):
        return value
    wire = dict(cast("dict[str, Any]", value))
    if wire.get("contextId") == old:
        wire["contextId"] = new
    for key in _INSIDE:
        if key in wire:
            wire[key] = renamed(wire[key], old, new)
    history = wire.get("history")
    if isinstance(history, list):
        wire["history"] = [renamed(m, old, new) for m in cast("list[Any]", history)]
    return wire
