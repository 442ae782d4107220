"""What agents and clients say never steers the terminal, nor the log: every listing, every note."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from agentgw.cli import terminal

from .test_call import BASE, CALL, turn

Cli = Any
Fake = Any

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x9d\x7f\r\x08red\u0085"
STEERING = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))} - {"\n", "\t"}
SKILL = {"id": EVIL, "name": EVIL, "description": EVIL}
AGENT = {
    "name": "sly", "protocol": "acp", "target": EVIL, "enabled": True, "health": "ok", "description": EVIL,
    "skills": [SKILL], "detail": EVIL, "version": EVIL, "remote": EVIL, "circuit": "open",
}  # fmt: skip
SPAN = {
    "name": EVIL, "trace_id": "ab" * 16, "span_id": "1" * 16, "parent_id": None, "kind": "server", "start": 1,
    "duration_ms": 1.0, "attributes": {"a": EVIL}, "status": "error",
}  # fmt: skip
TRACE = {
    "trace_id": "ab" * 16, "agent": EVIL, "client_protocol": EVIL, "agent_protocol": EVIL, "state": EVIL,
    "started_at": EVIL, "duration_ms": 1.0,
}  # fmt: skip
FILE = {"type": "file", "uri": EVIL, "name": EVIL, "media_type": EVIL}
SCHEMA = {"type": "object", "properties": {EVIL: {"type": "string", "description": EVIL}}}
ASKED = {
    "kind": "url",
    "prompt": EVIL,
    "message": {"role": "agent", "parts": []},
    "schema": SCHEMA,
    "url": EVIL,
}
COMMANDS = {
    "agents list": ("GET /api/agents", [AGENT]),
    "agents show sly": ("GET /api/agents/sly", AGENT),
    "agents check sly": ("POST /api/agents/sly/check", AGENT),
    "agents add sly http://127.0.0.1:1": ("POST /api/agents", {"agents": [AGENT], "warnings": [EVIL]}),
    "traces": ("GET /api/traces?limit=20", [TRACE]),
    "traces show abab": ("GET /api/traces/abab", TRACE | {"spans": [SPAN]}),
}


def harmless(text: str) -> bool:
    return not STEERING & set(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_listing_is_steered(command: str, cli: Cli, fake: Fake) -> None:
    route, answer = COMMANDS[command]
    fake.routes[route] = lambda exchange: exchange.answer(200, answer)
    done = cli.at(fake.url).run(*command.split(" "))
    assert "owned" in done.stdout
    assert harmless(done.stdout + done.stderr)
    in_json = cli.at(fake.url).run(*command.split(" "), "--json")
    assert harmless(in_json.stdout + in_json.stderr)
    assert json.dumps(EVIL)[1:-1] in json.dumps(json.loads(in_json.stdout))  # and nothing is lost


def test_no_note_of_a_call_is_steered(cli: Cli, fake: Fake) -> None:
    file = {"type": "message_delta", "parts": [FILE]}
    fake.routes[CALL] = turn(file, end=BASE | {"state": "input_required", "input_request": ASKED})
    done = cli.at(fake.url).run("call", "echo", "hi")
    assert done.stderr.count("owned") >= 4
    assert harmless(done.stderr)
    fault = {"code": "agent_error", "message": EVIL}
    fake.routes[CALL] = turn(end=BASE | {"state": "failed", "fault": fault})
    done = cli.at(fake.url).run("call", "echo", "hi")
    assert "owned" in done.stderr
    assert harmless(done.stderr)


def test_the_log_is_not_steered_and_a_message_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging._StderrHandler(logging.WARNING)  # type: ignore[attr-defined]
    monkeypatch.setattr(logging, "lastResort", handler)
    terminal.tame_log()
    log = logging.Logger("agentgw.test")
    log.addHandler(handler)
    log.warning("%s failed: %s", "sly", f"{EVIL}\nagentgw: all is well")
    try:
        raise RuntimeError(EVIL)
    except RuntimeError:
        log.exception("a request failed")
    told = capsys.readouterr().err
    first, *rest = told.splitlines()
    assert first.startswith("sly failed: ]0;owned") and first.endswith("agentgw: all is well")
    assert rest[0] == "a request failed" and len(rest) >= 4
    assert harmless(told)


def test_a_note_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.note(EVIL, style=terminal.RED)
    assert harmless(capsys.readouterr().err)
