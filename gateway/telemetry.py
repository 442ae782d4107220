"""Tracing without an SDK on the request's path.

A span is a small object with times and attributes; ending it appends it to a list. A background task
hands finished spans on in batches: to the local store (``agentgw traces``) and, where the standard
``OTEL_*`` variables switch it on, to the OpenTelemetry SDK's batch processor (``otlp``). Attributes follow
the OpenTelemetry semantic conventions for MCP, A2A (``a2a.*``) and generative AI. Payloads are not
recorded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

from .model import Trace

Kind = Literal["server", "client", "internal"]
Attribute = str | int | float | bool
LENGTH = 1024  # characters of a name or an attribute that are kept: clients choose tools' names, tasks' ids


class Span:
    """One hop. ``end`` hands it on; what was not ended is never seen.

    ``trace_id`` is 32 and ``span_id`` 16 hex digits; times are nanoseconds since the epoch.
    ``status`` is "unset" or "error"; ``error.type`` stands in the attributes.
    """

    __slots__ = (
        "_done",
        "attributes",
        "baggage",
        "end_ns",
        "kind",
        "name",
        "parent_id",
        "sampled",
        "span_id",
        "start_ns",
        "status",
        "trace_id",
        "tracestate",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: Kind,
        parent: Trace,
        done: Callable[[Span], None],
        attributes: dict[str, Attribute],
        sample: Callable[[str], bool],
    ) -> None:
        context = parse_traceparent(parent.traceparent)
        if context is None:
            self.trace_id, self.parent_id = os.urandom(16).hex(), None
            self.sampled = sample(self.trace_id)
            self.tracestate = None
        else:
            self.trace_id, self.parent_id, self.sampled = context
            self.tracestate = parent.tracestate
        self.baggage = parent.baggage
        self.span_id = os.urandom(8).hex()
        self.name = name
        self.kind: Kind = kind
        self.attributes = attributes
        self.status: Literal["unset", "error"] = "unset"
        self._done: Callable[[Span], None] | None = done
        self.start_ns = time.time_ns()
        self.end_ns = 0

    @property
    def trace(self) -> Trace:
        """The context to hand to the next hop: this span is its parent."""
        flags = "01" if self.sampled else "00"
        return Trace(
            traceparent=f"00-{self.trace_id}-{self.span_id}-{flags}",
            tracestate=self.tracestate,
            baggage=self.baggage,
        )

    def set(self, name: str, value: Attribute | None) -> None:
        """Set an attribute; None sets nothing."""
        if value is not None:
            self.attributes[name] = value

    def end(self, error: str | None = None) -> None:
        """The hop is over; ``error`` is an ``error.type``. A second call changes nothing."""
        done, self._done = self._done, None
        if done is None:
            return
        self.end_ns = time.time_ns()
        if error is not None:
            self.status = "error"
            self.attributes["error.type"] = error
        done(self)

    def cut(self) -> None:
        """Shorten what is too long to be kept."""
        self.name = self.name[:LENGTH]
        for name, value in self.attributes.items():
            if isinstance(value, str) and len(value) > LENGTH:
                self.attributes[name] = value[:LENGTH]


class Tracer:
    """Makes spans and collects the finished ones. ``sampling``: share of new traces that is exported
    (0..1); a caller's own decision is kept. ``limit`` bounds what waits for the next flush; past it spans
    are dropped and counted in ``dropped``."""

    def __init__(self, sampling: float = 1.0, limit: int = 20_000) -> None:
        self._bound = int(sampling * (1 << 64))
        self._limit = limit
        self._finished: list[Span] = []
        self.dropped = 0

    def start(
        self,
        name: str,
        kind: Kind,
        parent: Trace,
        attributes: dict[str, Attribute] | None = None,
    ) -> Span:
        """Begin a span now. ``parent``: the caller's context; without a valid one a new trace begins."""
        return Span(name, kind, parent, self._end, {} if attributes is None else attributes, self._sample)

    def _sample(self, trace_id: str) -> bool:
        return int(trace_id[16:], 16) < self._bound

    def _end(self, span: Span) -> None:
        if len(self._finished) < self._limit:
            self._finished.append(span)
        else:
            self.dropped += 1

    def drain(self) -> Sequence[Span]:
        """The spans finished since the last call."""
        finished, self._finished = self._finished, []
        for span in finished:
            span.cut()
        return finished


def parse_traceparent(value: str | None) -> tuple[str, str, bool] | None:
    """Trace id, parent span id, sampled flag; None if invalid (W3C Trace Context, section 3.2)."""
    if value is None or len(value) < 55:
        return None
    parts = value.split("-")
    if len(parts) < 4 or (parts[0] == "00" and len(parts) != 4) or parts[0] == "ff":
        return None
    version, trace_id, span_id, flags = parts[:4]
    if (len(version), len(trace_id), len(span_id), len(flags)) != (2, 32, 16, 2):
        return None
    if not _HEX.issuperset(version + trace_id + span_id + flags):
        return None
    if trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return trace_id, span_id, bool(int(flags, 16) & 1)


_HEX = frozenset("0123456789abcdef")


def export_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for export (OpenTelemetry environment variable specification)."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter:
        return "otlp" in exporter
    return bool(
        environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )


def trace_headers(trace: Trace) -> list[tuple[str, str]]:
    """The context as HTTP headers (also the keys of MCP's ``_meta``)."""
    pairs = (("traceparent", trace.traceparent), ("tracestate", trace.tracestate), ("baggage", trace.baggage))
    return [(name, value) for name, value in pairs if value]


@lru_cache(1024)
def server_attributes(url: str) -> Mapping[str, Attribute]:
    """``server.address`` and ``server.port`` of a client span (semantic conventions, "server") for a
    URL, or an authority as gRPC has it; empty where it names no host."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    if not parts.hostname:
        return {}
    return {"server.address": parts.hostname} | ({"server.port": port} if port else {})


def span_json(span: Span) -> dict[str, Any]:
    """A span as ``agentgw traces show --json`` prints it."""
    return {
        "name": span.name,
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "kind": span.kind,
        "start": span.start_ns,
        "duration_ms": round((span.end_ns - span.start_ns) / 1e6, 3),
        "attributes": span.attributes,
        "status": span.status,
    }
