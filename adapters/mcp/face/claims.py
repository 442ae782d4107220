"""Which requests to the bare address are MCP's, pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import wire
from ..wire import SSE_TYPE

# Methods of MCP by name; A2A's have no slash (1.0) or begin with message/, agent/ or tasks/ (0.3).
_PREFIXES = (
    "notifications/", "tools/", "prompts/", "resources/", "completion/", "logging/", "sampling/",
    "elicitation/", "roots/", "server/", "subscriptions/",
)  # fmt: skip
_METHODS = frozenset({wire.INITIALIZE, wire.PING, "tasks/update", "tasks/result", "tasks/list"})
# Both protocols have these; MCP names the task ``taskId``, A2A 0.3 ``id``.
_SHARED = frozenset({"tasks/get", "tasks/cancel"})


def claims_post(headers: bool, envelope: Mapping[str, Any]) -> bool:
    """Whether a POST to ``/`` is MCP. ``headers``: it carries one of MCP's own headers."""
    if headers:
        return True
    method = envelope.get("method")
    if not isinstance(method, str):
        return "method" not in envelope
    if method in _SHARED:
        params = envelope.get("params")
        return isinstance(params, Mapping) and "taskId" in params
    return method in _METHODS or method.startswith(_PREFIXES)


def claims_other(method: str, accept: str | None) -> bool:
    """Whether a request of another HTTP method to ``/`` is MCP: a GET that wants events, a DELETE."""
    return method == "DELETE" or (method == "GET" and SSE_TYPE in (accept or "").lower())
