"""The audit log's lines: what is in them, and what can never be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentgw.gateway import audit
from agentgw.gateway.audit import Audit
from agentgw.gateway.model import Principal, Trace
from agentgw.gateway.telemetry import Template, Tracer

EVIL = 'a"\n{"event":"call","principal":"key:other"}\r\x1b[31m\x9b31m\x7f\u2028\u0085'


def lines(log: Audit) -> list[dict[str, Any]]:
    raw = log.drain()
    found = [json.loads(line) for line in raw.split(b"\n") if line]
    assert raw.decode().count("\n") == len(raw.decode().splitlines()) == len(found)
    return found


def ended(log: Audit, *, sampling: float = 1.0, error: str | None = None, **attributes: Any) -> None:
    tracer = Tracer(sampling)
    said = {k.replace("__", "."): v for k, v in attributes.items()}
    span = tracer.start(Template("tools/call x", "server"), Trace(), said)
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
