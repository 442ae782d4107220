"""Traces as text: a table of calls, and one call's hops as a tree with bars."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from .find import control
from .terminal import BOLD, DIM, RED, WrongUse, note, one_line, paint, print_json, table

Span = Mapping[str, Any]
BAR = 24  # characters for the whole call
# What the heading says, or what tells nothing to a person.
_HIDDEN = ("agentgw.agent", "agentgw.client_protocol", "agentgw.agent_protocol", "agentgw.state")
_HIDDEN_PREFIXES = ("server.", "network.", "jsonrpc.", "url.")


async def recent(limit: int, as_json: bool) -> None:
    """Print the last calls."""
    async with control(reading=True) as here:
        calls = await here.traces(limit)
    if as_json:
        print_json(calls)
    elif calls:
        print(listing(calls))
    else:
        note("no calls yet")


async def one(trace_id: str, as_json: bool) -> None:
    """Print one call."""
    if not trace_id.strip():
        raise WrongUse("which one: agentgw traces show ID (agentgw traces lists the last ones)")
    async with control(reading=True) as here:
        trace = await here.trace(trace_id)
    if as_json:
        print_json(trace)
    else:
        print(tree(trace))


def listing(calls: Sequence[Mapping[str, Any]], zone: tzinfo | None = None) -> str:
    """The calls as a table; times in ``zone`` (None: the local one)."""
    rows = [
        (
            moment(call.get("started_at"), zone),
            str(call.get("agent") or "-"),
            way(call),
            str(call.get("state") or "-"),
            duration(call.get("duration_ms")),
            str(call.get("trace_id") or "-"),
        )
        for call in calls
    ]
    return table(("TIME", "AGENT", "CLIENT → AGENT", "STATE", "DURATION", "TRACE"), rows)


def way(call: Mapping[str, Any]) -> str:
    """From which protocol to which: ``mcp → a2a``."""
    return f"{call.get('client_protocol') or '-'} → {call.get('agent_protocol') or '-'}"


def moment(value: Any, zone: tzinfo | None = None) -> str:
    """An ISO time for people, to the second."""
    try:
        return datetime.fromisoformat(str(value)).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return str(value or "-")


def duration(ms: Any) -> str:
    """Milliseconds for people: ``0.4 ms``, ``12 ms``, ``3.2 s``, ``2 min 5 s``."""
    if not isinstance(ms, int | float):
        return "-"
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    seconds = round(ms / 1000)
    return f"{seconds // 60} min {seconds % 60} s"


def tree(trace: Mapping[str, Any]) -> str:
    """One call: a heading, then each hop under its parent with a bar for when it ran."""
    spans = sorted(trace.get("spans") or (), key=lambda s: s["start"])
    heading = (
        f"{trace.get('agent') or '-'}: {way(trace)}, {trace.get('state') or '-'}, "
        f"{duration(trace.get('duration_ms'))}"
    )
    lines = [paint(one_line(heading), BOLD, sys.stdout), f"trace {trace.get('trace_id')}"]
    if spans:
        begin = min(s["start"] for s in spans)
        total = max(s["start"] + s["duration_ms"] * 1e6 for s in spans) - begin
        lines.append("")
        for depth, span in walk(spans):
            lines += _hop(depth, span, begin, total)
    return "\n".join(lines)


def walk(spans: Sequence[Span]) -> list[tuple[int, Span]]:
    """The spans with their depth, each after its parent; one whose parent is elsewhere stands at the top."""
    known = {s["span_id"] for s in spans}
    children: dict[str | None, list[Span]] = {}
    for span in spans:
        parent = span.get("parent_id")
        children.setdefault(parent if parent in known and parent != span["span_id"] else None, []).append(
            span
        )
    ordered: list[tuple[int, Span]] = []
    stack = [(0, span) for span in reversed(children.get(None, []))]
    while stack:
        depth, span = stack.pop()
        ordered.append((depth, span))
        stack += [(depth + 1, child) for child in reversed(children.get(span["span_id"], []))]
    return ordered


def _hop(depth: int, span: Span, begin: int, total: float) -> list[str]:
    indent = "  " * depth
    offset = (span["start"] - begin) / 1e6
    failed = span.get("status") == "error"
    title = f"{indent}{one_line(str(span['name']))} ({span.get('kind')})" + (" failed" if failed else "")
    line = (
        f"{'+' + duration(offset):>10} {duration(span['duration_ms']):>10}  "
        f"{bar(span['start'] - begin, span['duration_ms'] * 1e6, total)}  "
    )
    shown = [line + paint(title, RED if failed else None, sys.stdout)]
    attributes: Mapping[str, Any] = span.get("attributes") or {}
    details = ", ".join(f"{k}={one_line(str(v))}" for k, v in attributes.items() if _matters(k))
    if details:
        shown.append(" " * (24 + BAR + 2) + indent + "  " + paint(details, DIM, sys.stdout))
    return shown


def _matters(key: str) -> bool:
    return key not in _HIDDEN and not key.startswith(_HIDDEN_PREFIXES)


def bar(offset: float, length: float, total: float) -> str:
    """Where in the whole call a hop ran: ``   ━━━━━    ``."""
    if total <= 0:
        return "━" * BAR
    start = min(int(offset / total * BAR), BAR - 1)
    size = max(1, min(round(length / total * BAR), BAR - start))
    return (" " * start + "━" * size).ljust(BAR)
