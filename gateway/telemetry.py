"""Tracing without an SDK on the request's path.

A span is a small object with times and attributes; ending it appends it to a list. A background task
hands finished spans on in batches, as they are: to the local store (``agentgw traces``) and, where the
standard ``OTEL_*`` variables switch it on, to the OpenTelemetry SDK's batch processor (``otlp``). Attributes
follow the OpenTelemetry semantic conventions for MCP, A2A (``a2a.*``) and generative AI. Payloads are not
recorded.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from time import time_ns
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from .model import Principal, Trace

Kind = Literal["server", "client", "internal"]
Attribute = str | int | float | bool
LENGTH = 1024  # characters of a name or an attribute that are kept: clients choose tools' names, tasks' ids
_NO_TRACE = Trace()
_SHARE = (1 << 64) - 1  # the bits of a trace's id that decide whether it is exported


class _Inner(Trace, frozen=True):
    """The context of a span of ours: ``parsed`` is what ``parse_traceparent`` finds in it."""

    parsed: tuple[str, str, bool] | None = None


class Span(msgspec.Struct, eq=False):
    """One hop. ``end`` hands it on; what was not ended is never seen.

    ``trace_id`` is 32 and ``span_id`` 16 hex digits; times are nanoseconds since the epoch.
    ``status`` is "unset" or "error"; ``error.type`` stands in the attributes. ``principal``: whose request it
    is, for the audit log alone.
    """

    name: str
    kind: Kind
    trace_id: str
    span_id: str
    parent_id: str | None
    sampled: bool
    outer: Trace  # the caller's context: what goes on unchanged with ``trace``
    attributes: dict[str, Attribute]
    start_ns: int
    done: Callable[[Span], None] | None
    end_ns: int = 0
    status: Literal["unset", "error"] = "unset"
    inner: Trace | None = None
    principal: Principal | None = None

    @property
    def trace(self) -> Trace:
        """The context to hand to the next hop: this span is its parent."""
        if self.inner is None:
            flags = "01" if self.sampled else "00"
            outer = self.outer if self.parent_id is not None else _NO_TRACE
            self.inner = _Inner(
                f"00-{self.trace_id}-{self.span_id}-{flags}",
                outer.tracestate,
                self.outer.baggage,
                (self.trace_id, self.span_id, self.sampled),
            )
        return self.inner

    def set(self, name: str, value: Attribute | None) -> None:
        """Set an attribute; None sets nothing."""
        if value is not None:
            self.attributes[name] = value

    def end(self, error: str | None = None) -> None:
        """The hop is over; ``error`` is an ``error.type``. A second call changes nothing."""
        done = self.done
        if done is None:
            return
        self.done = None
        self.end_ns = time_ns()
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
    (0..1); a caller's own decision is kept. ``limit`` bounds what waits for the next flush: spans that begin
    past it are dropped, and counted in ``dropped``, when they end."""

    def __init__(self, sampling: float = 1.0, limit: int = 20_000) -> None:
        self.sample(sampling)
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
        """Begin a span now. ``parent``: the caller's context; without a valid one a new trace begins. The
        attributes are the span's from now on."""
        if isinstance(parent, _Inner):
            context = parent.parsed
        else:
            context = None if parent.traceparent is None else parse_traceparent(parent.traceparent)
        if context is None:
            number, parent_id = _random(128), None
            trace_id, sampled = f"{number:032x}", number & _SHARE < self._bound
        else:
            trace_id, parent_id, sampled = context
        return Span(
            name,
            kind,
            trace_id,
            f"{_random(64):016x}",
            parent_id,
            sampled,
            parent,
            {} if attributes is None else attributes,
            time_ns(),
            self._finished.append if len(self._finished) < self._limit else self._drop,
        )

    def _drop(self, span: Span) -> None:
        self.dropped += 1

    def sample(self, share: float) -> None:
        """The share of new traces that is exported from now on."""
        self._bound = int(share * (_SHARE + 1))

    def drain(self) -> Sequence[Span]:
        """The spans finished since the last call."""
        finished = self._finished.copy()
        self._finished.clear()
        return finished


# Ids need not be secret, only unique: a generator of this process, which is another one after a fork.
_generator = random.Random()
_random = _generator.getrandbits
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_generator.seed)


_traceparent = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])(?=-|\\Z)"
).match


def parse_traceparent(value: str | None) -> tuple[str, str, bool] | None:
    """Trace id, parent span id, sampled flag; None if invalid (W3C Trace Context, section 3.2)."""
    if value is None or (found := _traceparent(value)) is None:
        return None
    if len(value) != 55 and value.startswith("00"):  # only later versions may have more to say
        return None
    trace_id, span_id, flags = found.groups()
    return trace_id, span_id, flags in "13579bdf"


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
    headers = [("traceparent", trace.traceparent)] if trace.traceparent else []
    if trace.tracestate:
        headers.append(("tracestate", trace.tracestate))
    if trace.baggage:
        headers.append(("baggage", trace.baggage))
    return headers


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
