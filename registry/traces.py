"""One row per call out of its spans: what ``agentgw traces`` lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

Spans = Iterable[Mapping[str, Any]]


def is_call(span: Mapping[str, Any]) -> bool:
    """Whether a span (``telemetry.span_json``) is a call at a door: a server span that names its agent."""
    return span["kind"] == "server" and bool(span["attributes"].get("agentgw.agent"))


def row(call: Mapping[str, Any]) -> dict[str, Any]:
    """The listing's row for a call."""
    attributes: Mapping[str, Any] = call["attributes"]
    return {
        "trace_id": call["trace_id"],
        "agent": attributes["agentgw.agent"],
        "client_protocol": attributes.get("agentgw.client_protocol", ""),
        "agent_protocol": attributes.get("agentgw.agent_protocol", ""),
        "state": attributes.get("agentgw.state", ""),
        "started_at": stamp(call["start"]),
        "duration_ms": call["duration_ms"],
    }


def listing(spans: Spans, limit: int) -> list[dict[str, Any]]:
    """The rows of the last traces, newest first. A trace is its earliest call, the outermost where an agent
    called through the gateway again, in whatever order the spans come; one without any call is left out."""
    roots: dict[str, Mapping[str, Any]] = {}
    for span in spans:
        if is_call(span):
            root = roots.setdefault(span["trace_id"], span)
            if span["start"] < root["start"]:
                roots[span["trace_id"]] = span
    newest = sorted(roots.values(), key=lambda span: span["start"], reverse=True)
    return [row(call) for call in newest[:limit]]


def one(spans: Spans, trace_id: str) -> list[dict[str, Any]]:
    """The spans of the only trace whose id begins with ``trace_id``, oldest first; empty when there are none
    or several."""
    found = [dict(span) for span in spans if span["trace_id"].startswith(trace_id)]
    if len({span["trace_id"] for span in found}) != 1:
        return []
    return sorted(found, key=lambda span: span["start"])


def stamp(ns: int) -> str:
    """Nanoseconds since the epoch as UTC ISO 8601 with milliseconds, ending in Z."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"
