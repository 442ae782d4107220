"""One row per call out of its spans: what ``agentgw traces`` lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Spans = Sequence[Mapping[str, Any]]


def row(span: Mapping[str, Any]) -> dict[str, Any] | None:
    """The listing's row for a span (``telemetry.span_json``) that is a call at a door: a server span
    which names its agent. None for any other span."""
    attributes: Mapping[str, Any] = span["attributes"]
    agent = attributes.get("agentgw.agent")
    if span["kind"] != "server" or not agent:
        return None
    return {
        "trace_id": span["trace_id"],
        "agent": agent,
        "client_protocol": attributes.get("agentgw.client_protocol", ""),
        "agent_protocol": attributes.get("agentgw.agent_protocol", ""),
        "state": attributes.get("agentgw.state", ""),
        "started_at": stamp(span["start"]),
        "duration_ms": span["duration_ms"],
    }


def root(spans: Spans) -> dict[str, Any] | None:
    """The row of a whole trace: its earliest call, the outermost where an agent called through the
    gateway again. None when no span is a call."""
    calls = [(span["start"], at) for at, span in enumerate(spans) if row(span) is not None]
    return row(spans[min(calls)[1]]) if calls else None


def stamp(ns: int) -> str:
    """Nanoseconds since the epoch as UTC ISO 8601 with milliseconds, ending in Z."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"
