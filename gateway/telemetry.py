"""Tracing without an SDK on the request's path.

A span is a small object with times and attributes; ending it appends it to a list. A background task
hands finished spans on in batches, as they are: to the local store (``agentgw traces``) and, where the
standard ``OTEL_*`` variables switch it on, to the OpenTelemetry SDK's batch processor (``otlp``). Attributes
follow the OpenTelemetry semantic conventions for MCP, A2A (``a2a.*``) and generative AI. Payloads are not
recorded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from time import time_ns
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from .model import Principal, Trace

Kind = Literal["server", "client", "internal"]
Attribute = str | int | float | bool
LENGTH = 1024  # characters of a name or an attribute that are kept: clients choose tools' names, tasks' ids


class _Inner(Trace, frozen=True):
    """The context of a span of ours: ``parsed`` is what ``parse_traceparent`` finds in it."""

    parsed: tuple[str, str, bool] = ("", "", False)


class Template:
    """What many spans have in common: name, kind, and the attributes that are the same in all of them. Who
    calls whom for what stands here (protocol, operation, agent, tool); what became of a call is its own.

    Whoever starts spans again and again keeps their templates: spans of the same one (the same object) are
    written and counted together. What is too long is cut; attributes that are None are left out. ``call``:
    the client's protocol and the agent, where its spans are calls of agents.
    """

    __slots__ = ("attributes", "call", "kind", "name")

    def __init__(
        self, name: str, kind: Kind, attributes: Mapping[str, Attribute | None] = MappingProxyType({})
    ) -> None:
        self.name = name[:LENGTH]
        self.kind: Kind = kind
        self.attributes: dict[str, Attribute] = {
            name: value[:LENGTH] if isinstance(value, str) else value
            for name, value in attributes.items()
            if value is not None
        }
        agent, door = (self.attributes.get(f"agentgw.{of}") for of in ("agent", "client_protocol"))
        self.call = (str(door or ""), str(agent)) if kind == "server" and agent else None


class Span(msgspec.Struct, eq=False):
    """One hop. ``end`` hands it on; what was not ended is never seen.

    ``trace_id`` is 32 and ``span_id`` 16 hex digits; times are nanoseconds since the epoch. ``own`` are the
    attributes that its template does not have; they win over those. ``template`` may be another one when more
    is known. ``tracestate`` and ``baggage`` came with the trace, to be handed on. ``status`` is "unset"
    or "error"; ``error.type`` stands in the attributes. ``principal``: whose request it is, for the audit log
    alone. Spans are many until they are written, so what can be made of these is not kept.
    """

    template: Template
    trace_id: str
    span_id: str
    parent_id: str | None
    sampled: bool
    tracestate: str | None
    baggage: str | None
    own: dict[str, Attribute]
    start_ns: int
    done: Callable[[Span], None] | None = None
    end_ns: int = 0
    status: Literal["unset", "error"] = "unset"
    principal: Principal | None = None

    @property
    def name(self) -> str:
        return self.template.name

    @property
    def kind(self) -> Kind:
        return self.template.kind

    @property
    def traceparent(self) -> str:
        """W3C Trace Context, section 3.2."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @property
    def trace(self) -> Trace:
        """The context to hand to the next hop: this span is its parent."""
        parsed = self.trace_id, self.span_id, self.sampled
        return _Inner(self.traceparent, self.tracestate, self.baggage, parsed)

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """All of them, the template's and its own; a copy."""
        return {**self.template.attributes, **self.own}

    def set(self, name: str, value: Attribute | None) -> None:
        """Set an attribute; None sets nothing."""
        if value is not None:
            self.own[name] = value

    def end(self, error: str | None = None) -> None:
        """The hop is over; ``error`` is an ``error.type``. A second call changes nothing."""
        done = self.done
        if done is None:
            return
        self.done = None
        self.end_ns = time_ns()
        if error is not None:
            self.status = "error"
            self.own["error.type"] = error
        done(self)

    def cut(self) -> None:
        """Shorten what is too long to be kept."""
        for name, value in self.own.items():
            if isinstance(value, str) and len(value) > LENGTH:
                self.own[name] = value[:LENGTH]


class Tracer:
    """Makes spans and collects the finished ones. ``sampling``: share of new traces that is exported
    (0..1); a caller's own decision is kept. ``limit`` bounds what waits for the next flush: spans that begin
    past it are dropped, and counted in ``dropped``, when they end."""

    def __init__(self, sampling: float = 1.0, limit: int = 20_000) -> None:
        self.sample(sampling)
        self._limit = limit
        self._finished: list[Span] = []
        self._keep = self._finished.append
        self.dropped = 0

    def start(self, template: Template, parent: Trace, own: dict[str, Attribute] | None = None) -> Span:
        """Begin a span now. ``parent``: the caller's context; without a valid one a new trace begins. ``own``
        is the span's from now on."""
        if type(parent) is _Inner:  # isinstance takes far longer to say no
            trace_id, parent_id, sampled = parent.parsed
            state = parent.tracestate
        elif parent.traceparent is not None and (context := parse_traceparent(parent.traceparent)):
            trace_id, parent_id, sampled = context
            state = parent.tracestate
        else:
            trace_id, parent_id, state = _trace_id(), None, None
            sampled = trace_id[16:] < self._bound
        return Span(
            template,
            trace_id,
            _span_id(),
            parent_id,
            sampled,
            state,
            parent.baggage,
            {} if own is None else own,
            time_ns(),
            self._keep if len(self._finished) < self._limit else self._drop,
        )

    def _drop(self, span: Span) -> None:
        self.dropped += 1

    def sample(self, share: float) -> None:
        """The share of new traces that is exported from now on."""
        self._bound = f"{int(share * 2**64):016x}" if share < 1 else "g"  # past all 16 digits

    def drain(self) -> Sequence[Span]:
        """The spans finished since the last call."""
        finished = self._finished.copy()
        self._finished.clear()
        return finished


def _drawn(size: int) -> Iterator[str]:
    """Random hex digits, as many as so many bytes have, again and again, without a step of ours for each."""
    return chain.from_iterable(iter(lambda: os.urandom(256 * size).hex(" ", size).split(), None))


def _draw_anew() -> None:
    global _trace_id, _span_id
    _trace_id, _span_id = _drawn(16).__next__, _drawn(8).__next__


_draw_anew()
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_draw_anew)  # ids are unlike those of the other process


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


def trace_headers(trace: Trace | Span) -> list[tuple[str, str]]:
    """The context, or that in which a span is the parent, as HTTP headers (also the keys of MCP's
    ``_meta``)."""
    traceparent = trace.traceparent
    headers = [("traceparent", traceparent)] if traceparent else []
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
