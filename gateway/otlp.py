"""Export to OpenTelemetry, where the standard ``OTEL_*`` environment variables switch it on.

Imported only then: the SDK costs start-up time. Spans are built by hand after the fact and given to the
SDK's batch processor, which exports on a thread of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from .telemetry import Span

_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}


class Exporter:
    """Hands finished spans to the SDK. ``version`` is the gateway's."""

    def __init__(self, version: str) -> None:
        named = Resource.create()  # what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins
        own = {"service.version": version}
        if str(named.attributes.get("service.name", "")).startswith("unknown_service"):
            own["service.name"] = "agentgw"
        self._resource = named.merge(Resource(own))
        self._scope = InstrumentationScope("agentgw", version)
        self._processor = BatchSpanProcessor(OTLPSpanExporter())

    def export(self, spans: Sequence[Span]) -> None:
        """Queue the sampled ones among ``spans``; never blocks on the network."""
        for span in spans:
            if span.sampled:
                span.cut()
                self._processor.on_end(self._readable(span))

    def _readable(self, span: Span) -> ReadableSpan:
        trace_id, flags = int(span.trace_id, 16), TraceFlags(TraceFlags.SAMPLED)
        context = SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=flags)
        parent = (
            SpanContext(trace_id, int(span.parent_id, 16), is_remote=span.kind == "server", trace_flags=flags)
            if span.parent_id
            else None
        )
        return ReadableSpan(
            name=span.name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            instrumentation_scope=self._scope,
            status=Status(StatusCode.ERROR if span.status == "error" else StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
        )

    def close(self) -> None:
        """Export what is queued; blocks for at most the exporter's own timeout."""
        self._processor.shutdown()
