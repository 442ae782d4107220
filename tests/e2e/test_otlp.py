"""Spans arrive at an OTLP/HTTP collector that the standard variables name."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from .conftest import register


class Collector(BaseHTTPRequestHandler):
    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    handler = type("Handler", (Collector,), {"received": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.received
        server.shutdown()


def test_export(collector: Any, start_gateway: Any, peers: Any, until: Any) -> None:
    endpoint, received = collector
    gateway = start_gateway(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="100")
    register(gateway, "a2a", url=peers.a2a, protocol="a2a")
    trace_id = bytes.fromhex(gateway.cli.json("call", "a2a", "echo hello")["trace_id"])

    def spans() -> dict[bytes, Span]:
        scopes = [
            scope for export in received for spans in export.resource_spans for scope in spans.scope_spans
        ]
        return {span.span_id: span for scope in scopes for span in scope.spans if span.trace_id == trace_id}

    def complete() -> bool:
        return any(span.kind == Span.SPAN_KIND_CLIENT for span in spans().values())

    until("the spans of the call arrive", complete)
    client = next(span for span in spans().values() if span.kind == Span.SPAN_KIND_CLIENT)
    until("its parent arrives", lambda: client.parent_span_id in spans())
    assert 0 < client.start_time_unix_nano <= client.end_time_unix_nano
    names = {
        attribute.value.string_value
        for export in received
        for spans_of in export.resource_spans
        for attribute in spans_of.resource.attributes
        if attribute.key == "service.name"
    }
    assert names == {"agentgw"}
