"""The audit log's lines: what is in them, and what can never be."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway import audit
from agentgw.gateway.audit import Audit
from agentgw.gateway.model import Principal, Trace
from agentgw.gateway.telemetry import Template, Tracer

EVIL = 'a"\n{"event":"call","principal":"key:other"}\r\x1b[31m\x9b31m\x7f\u2028\u0085'


SHARED = ("agentgw.client_protocol", "mcp.method.name", "agentgw.agent", "gen_ai.tool.name")


def lines(log: Audit) -> list[dict[str, Any]]:
    raw = log.drain()
    found = [json.loads(line) for line in raw.split(b"\n") if line]
    assert raw.decode().count("\n") == len(raw.decode().splitlines()) == len(found)
    return found


def ended(log: Audit, *, sampling: float = 1.0, error: str | None = None, **attributes: Any) -> None:
    tracer = Tracer(sampling)
    said = {k.replace("__", "."): v for k, v in attributes.items()}
    shared = {k: said.pop(k) for k in [*said] if k in SHARED}
    span = tracer.start(Template("tools/call x", "server", shared), Trace(), said)
    span.principal = Principal(id="key:1", name="mine")
    span.end(error)
    tracer.start(Template("POST /runs", "client"), Trace()).end()  # ours to the agent: the same call
    log.spans(tracer.drain())


def test_a_call_says_who_what_and_how_it_went() -> None:
    log = Audit()
    ended(
        log, agentgw__client_protocol="mcp", mcp__method__name="tools/call", agentgw__agent="billing",
        gen_ai__tool__name="pay", agentgw__task="t-1", agentgw__state="failed", error="tool_error",
    )  # fmt: skip
    (line,) = lines(log)
    assert line.pop("time").endswith("Z")
    assert len(line.pop("trace")) == 32
    assert 0 <= line.pop("ms") < 10_000
    assert line == {
        "event": "call", "principal": "key:1", "key": "mine", "door": "mcp", "operation": "tools/call",
        "agent": "billing",
        "tool": "pay", "task": "t-1", "outcome": "failed", "error": "tool_error",
    }  # fmt: skip
    assert lines(log) == []


def test_what_is_not_sampled_is_recorded_all_the_same() -> None:
    log = Audit()
    ended(log, sampling=0.0, agentgw__agent="a")
    assert [line["agent"] for line in lines(log)] == ["a"]


@pytest.mark.parametrize(
    "member", ["agentgw__agent", "gen_ai__tool__name", "agentgw__task", "mcp__method__name"]
)
@pytest.mark.parametrize("text", [EVIL, "\ud800", "x" * 100_000])
def test_nothing_that_a_client_chose_breaks_its_line_or_steers_a_terminal(member: str, text: str) -> None:
    log = Audit()
    ended(log, **{member: text})
    log.change(Principal(), text, 200, text)
    log.refused(Principal(), text, 403, text[:100])
    raw = log._lines[0]
    assert len(raw) < 4000
    assert not set(raw.decode()) & {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028"} - {"\n"}
    found = lines(log)
    assert [line["event"] for line in found] == ["call", "change", "refused"]
    if text == EVIL:
        assert EVIL in found[0].values()  # and nothing of it is gone


def test_who_is_refused_again_and_again_fills_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "KINDS", 10)
    log = Audit()
    for number in range(5000):
        log.refused(Principal(), "POST /mcp", 429, "10.0.0.1")
        log.refused(Principal(id=f"key:{number}"), "POST /acp/runs", 403, "10.0.0.1")
    found = lines(log)
    assert len(found) == 11
    assert found[0]["count"] == 5000
    assert (found[0]["status"], found[0]["operation"], found[0]["peer"]) == (429, "POST /mcp", "10.0.0.1")
    assert sum(line["count"] for line in found) == 10_000


def test_missing_lines_are_told() -> None:
    log = Audit()
    log.lost(3)
    (line,) = lines(log)
    assert (line["event"], line["count"]) == ("lost", 3)


class Line(msgspec.Struct, omit_defaults=True):
    """A call's line, member by member."""

    time: str
    event: str
    principal: str = ""
    key: str = ""
    door: str = ""
    operation: str = ""
    agent: str = ""
    tool: str = ""
    task: str = ""
    context: str = ""
    trace: str = ""
    outcome: str = ""
    error: str = ""
    ms: float = -1.0


TEXTS = st.text(max_size=300) | st.sampled_from(["", EVIL, "mcp", "x" * 255 + "\x9b9"])
OWN = ("agentgw.task", "a2a.task.id", "acp.run.id", "gen_ai.conversation.id", "agentgw.state", "error.type")


@given(
    st.dictionaries(st.sampled_from([*SHARED, "a2a.method.name", "gen_ai.operation.name"]), TEXTS),
    st.dictionaries(st.sampled_from([*OWN, "jsonrpc.request.id"]), TEXTS),
    TEXTS,
    TEXTS,
    st.integers(0, 10**15),
)
def test_a_line_is_its_members_encoded(
    shared: dict[str, Any], own: dict[str, Any], id: str, name: str, took: int
) -> None:
    tracer, log = Tracer(), Audit()
    template = Template("title", "server", shared)
    span = tracer.start(template, Trace(), dict(own))
    span.principal = Principal(id=id, name=name)
    span.end()
    span.end_ns = span.start_ns + took
    log.spans(tracer.drain())
    log.spans([span])
    raw, again = log.drain().splitlines()
    assert raw == again
    found = json.loads(raw)
    assert abs(found["ms"] - took / 1e6) <= 0.001
    operation = shared.get("mcp.method.name") or shared.get("a2a.method.name")
    expected = Line(
        found["time"], "call", id, name[:256], shared.get("agentgw.client_protocol", "")[:256],
        (operation or shared.get("gen_ai.operation.name") or "title")[:256],
        shared.get("agentgw.agent", "")[:256], shared.get("gen_ai.tool.name", "")[:256],
        (own.get("agentgw.task") or own.get("a2a.task.id") or own.get("acp.run.id") or "")[:256],
        own.get("gen_ai.conversation.id", "")[:256], span.trace_id, own.get("agentgw.state", "")[:256],
        own.get("error.type", "")[:256], found["ms"],
    )  # fmt: skip
    written = msgspec.json.encode(expected).decode()
    for unsafe in {*map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029"}:
        written = written.replace(unsafe, f"\\u{ord(unsafe):04x}")
    assert raw.decode() == written
