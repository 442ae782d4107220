"""Trace contexts and spans."""

import os

import pytest

from agentgw.gateway.model import Trace
from agentgw.gateway.telemetry import Template, Tracer, parse_traceparent, server_attributes, span_json

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_span_continues_the_callers_trace() -> None:
    tracer = Tracer()
    span = tracer.start(Template("x", "server"), Trace(traceparent=PARENT, tracestate="a=b", baggage="k=v"))
    assert (span.trace_id, span.parent_id) == (PARENT[3:35], PARENT[36:52])
    assert span.trace.traceparent == f"00-{span.trace_id}-{span.span_id}-01"
    assert (span.trace.tracestate, span.trace.baggage) == ("a=b", "k=v")


@pytest.mark.parametrize(
    "bad",
    [None, "", "junk", PARENT.replace("00-0", "ff-0", 1), PARENT + "-more", PARENT.upper(),
     "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01"],
)  # fmt: skip
def test_an_invalid_context_begins_a_new_trace(bad: str | None) -> None:
    assert parse_traceparent(bad) is None
    span = Tracer().start(Template("x", "server"), Trace(traceparent=bad))
    assert span.parent_id is None
    assert parse_traceparent(span.trace.traceparent) is not None


def test_a_later_version_with_more_fields_is_understood() -> None:
    assert parse_traceparent("01" + PARENT[2:] + "-more") is not None


def test_sampling_decides_new_traces_and_keeps_the_callers_decision() -> None:
    never = Tracer(sampling=0.0)
    assert not never.start(Template("x", "server"), Trace()).sampled
    assert never.start(Template("x", "server"), Trace(traceparent=PARENT)).sampled
    assert not Tracer().start(Template("x", "server"), Trace(traceparent=PARENT[:-1] + "0")).sampled


def test_ended_spans_are_drained_once_with_their_error() -> None:
    tracer = Tracer()
    span = tracer.start(Template("x", "client"), Trace(), {"a": 1})
    span.end("boom")
    span.end()
    (done,) = tracer.drain()
    assert tracer.drain() == []
    shown = span_json(done)
    assert shown["attributes"] == {"a": 1, "error.type": "boom"}
    assert shown["status"] == "error"


def test_past_the_limit_spans_are_dropped_and_counted() -> None:
    tracer = Tracer(limit=1)
    for _ in range(3):
        tracer.start(Template("x", "client"), Trace()).end()
    assert (len(tracer.drain()), tracer.dropped) == (1, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_ids_are_unlike_those_of_a_forked_process() -> None:
    def ids() -> bytes:
        spans = [Tracer().start(Template("x", "client"), Trace()) for _ in range(50)]
        return " ".join(s.trace_id + s.span_id for s in spans).encode()

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ids())
        os._exit(0)
    os.waitpid(child, 0)
    seen = os.read(reading, 10_000).split() + ids().split()
    assert len(set(seen)) == 100


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:9000/a", {"server.address": "127.0.0.1", "server.port": 9000}),
        ("https://agents.example/a2a", {"server.address": "agents.example", "server.port": 443}),
        ("agents.example:50051", {"server.address": "agents.example", "server.port": 50051}),
        ("http://[::1]:7/", {"server.address": "::1", "server.port": 7}),
        ("http://host:port/", {"server.address": "host"}),
        ("", {}),
    ],
)
def test_a_client_span_tells_the_server(url: str, told: dict[str, object]) -> None:
    assert server_attributes(url) == told
