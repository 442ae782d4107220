"""What malformed input has led to, once: each with the smallest input that did."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest

from agentgw.adapters.acp.decoding import RunDecoder
from agentgw.adapters.mcp.codec import progress_event
from agentgw.adapters.mcp.face import elicitation
from agentgw.adapters.mcp.upstream import questions
from agentgw.gateway import sse
from agentgw.gateway.model import InputReply, InputRequest, Message, Text

from .agents import HANGS, Answer, Asked
from .asking import BOTH, META, MODERN
from .world import AGENTS, TOKEN, Ask, World

MODERN_CALL = {**BOTH, "mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
NO_TEXT = [
    Ask("POST", "/", b'{"jsonrpc":"2.0","id":1,"method":"x\xff"}'),
    Ask("POST", "/a2a/painter", b'{"jsonrpc":"2.0","id":1,"method":"\xff"}'),
    Ask("POST", "/a2a/painter", b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"\xff"}}'),
    Ask("POST", "/a2a/writer/message:send", b'{"message":{"messageId":"\xff"}}'),
    Ask(
        "POST", "/acp/runs", b'{"agent_name":"writer","input":[{"role":"user","parts":[{"content":"\xff"}]}]}'
    ),
    Ask(
        "POST",
        "/mcp/tools",
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"a":"\xff"}}',
        MODERN_CALL,
    ),
    Ask("POST", "/api/agents", b'{"name":"\xff"}', {"authorization": f"Bearer {TOKEN}"}),
    Ask("POST", "/api/agents/painter/call", b'{"text":"\xff"}', {"authorization": f"Bearer {TOKEN}"}),
]


def test_what_is_not_utf8_is_not_json() -> None:
    with World("painter", "writer", "tools") as world:
        for ask in NO_TEXT:
            answer = world.ask(ask)
            world.judge(ask, answer)
            assert answer.status in (400, 422) or "error" in answer.json, (ask, answer.body)


@pytest.mark.parametrize("agent", ["tools", "modern", "painter", "old", "rest", "writer"])
def test_what_an_agent_says_that_is_not_utf8_reaches_no_client(agent: str) -> None:
    def broken(asked: Asked, answer: Answer) -> Answer:
        # Where nobody but the client looks: in a field that no protocol knows.
        raw = [p if isinstance(p, bytes) else _with(p, b'"x-new":"\xff"') for p in answer.pieces]
        return Answer(
            [b"data: %b\n\n" % p if answer.events else p for p in raw],
            answer.status,
            answer.headers,
            answer.events,
        )

    message: dict[str, Any] = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
    run = {"agent_name": agent, "input": [{"role": "user", "parts": [{"content": "hi"}]}]}
    modern = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    send = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
    asks = {
        "mcp": [Ask("POST", f"/mcp/{agent}", modern, MODERN_CALL)],
        "a2a": [
            Ask("POST", f"/a2a/{agent}", send),
            Ask("POST", f"/a2a/{agent}", send | {"method": "SendStreamingMessage"}),
        ],
        "acp": [Ask("POST", "/acp/runs", {**run, "mode": mode}) for mode in ("sync", "stream")],
    }
    with World(agent) as world:
        world.network.change = broken
        for ask in asks[AGENTS[agent][0]]:
            answer = world.ask(ask)
            world.judge(ask, answer, (500, 502))
            assert b"x-new" not in answer.body


def _with(value: Any, member: bytes) -> bytes:
    inner = value["result"] if isinstance(value, dict) and "result" in value else value
    marked = {**inner, "MARK": 1}
    whole = {**value, "result": marked} if inner is not value else marked
    return json.dumps(whole).encode().replace(b'"MARK": 1', member)


def test_a_rest_agent_that_answers_with_no_json_is_at_fault() -> None:
    with World("rest") as world:
        world.network.change = lambda asked, answer: Answer(
            [b"data: {}\n\n"], headers=[("content-type", "application/json")]
        )
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
        for ask in (
            Ask(
                "POST",
                "/a2a/rest",
                {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}},
            ),
            Ask("POST", "/a2a/rest/message:send", {"message": message}),
        ):
            answer = world.ask(ask)
            world.judge(ask, answer, (500,))
            assert "error" in answer.json


@pytest.mark.parametrize("length", ["%C2%B2", "9" * 5000, "-1", "x"])
def test_a_history_length_that_is_no_number(length: str) -> None:
    with World() as world:
        world.prepare()
        for ask in (
            Ask("POST", f"/a2a/painter/tasks/$task:cancel?historyLength={length}"),
            Ask("GET", f"/a2a/writer/tasks/$foreign?historyLength={length}"),
            Ask("GET", f"/a2a/writer/tasks?historyLength={length}&pageSize={length}"),
        ):
            world.judge(ask, world.ask(ask))


def test_a_time_limit_that_is_none_is_said_before_a_run_is_cancelled() -> None:
    with World() as world:
        world.prepare()
        ask = Ask("POST", "/acp/runs/$run/cancel", {}, {"agentgw-idle-timeout": "soon"})
        answer = world.ask(ask)
        world.judge(ask, answer)
        assert answer.status == 422
        assert world.ask(Ask("GET", "/acp/runs/$run")).json["status"] == "awaiting"


def test_numbers_without_bound() -> None:
    assert progress_event({"progress": 10**400, "total": 1}).progress is None
    decoder = sse.Decoder()
    assert decoder.feed(b"retry: " + b"9" * 5000 + b"\n\n") == [] and decoder.retry is None


@pytest.mark.parametrize("required", [{"a": "b"}, [["a"]], "name", 1])
def test_a_form_whose_required_fields_are_no_list_of_names(required: Any) -> None:
    schema = {
        "type": "object",
        "required": required,
        "properties": {"a": {"type": "string"}, "b": {"type": ["string"]}},
    }
    request = questions.asked({"message": "Who?", "requestedSchema": schema})
    for text in ("me", '{"a":"me"}'):
        questions.answered(request, InputReply(message=Message(role="user", parts=(Text(text=text),))))
    assert elicitation.asked(request, {"elicitation": {}}) is None
    properties = InputRequest(
        message=request.message, kind="form", schema={"type": "object", "properties": 1}
    )
    questions.answered(properties, InputReply(message=Message(role="user", parts=(Text(text="me"),))))


def test_a_session_that_is_forgotten_at_once() -> None:
    """What follows the handshake is answered with 404."""

    def forgets(asked: Asked, answer: Answer) -> Answer:
        return Answer([b""], 404) if b"notifications/initialized" in asked.body else answer

    with World("tools", change=forgets) as world:
        ask = Ask(
            "POST",
            "/mcp/tools",
            {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}},
            MODERN_CALL,
        )
        world.judge(ask, world.ask(ask), (502,))


@pytest.mark.parametrize(
    "capabilities", ['"x"', '{"extensions":{}}', '{"extensions":[{"uri":1,"required":true}]}']
)
def test_a_card_whose_capabilities_are_none(capabilities: str) -> None:
    def says(asked: Asked, answer: Answer) -> Answer:
        return (
            Answer([{**answer.pieces[0], "capabilities": json.loads(capabilities)}])
            if asked.method == "GET"
            else answer
        )

    with World("painter", change=says) as world:
        ask = Ask("GET", "/a2a/painter/.well-known/agent-card.json")
        world.judge(ask, world.ask(ask))
        assert "not A2A" in world.gateway.directory.views()["painter"].health.detail


def test_a_field_of_one_revision_that_means_something_in_the_other() -> None:
    part = {"raw": "YQ==", "file": "YQ=="}
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [part]}
    with World("old") as world:
        ask = Ask(
            "POST",
            "/a2a/old",
            {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}},
        )
        answer = world.ask(ask)
        world.judge(ask, answer)
        assert "result" in answer.json


@pytest.mark.parametrize("agent", ["painter", "old", "rest"])
def test_an_agent_that_is_silent_about_its_extended_card(agent: str) -> None:
    with World(agent) as world:
        world.network.change = lambda asked, answer: Answer([HANGS])
        ask = Ask("GET", f"/a2a/{agent}/extendedAgentCard")
        answer = world.ask(ask)
        world.judge(ask, answer, (504,))
        assert answer.status == 504


def test_a_run_that_is_followed_and_whose_status_is_none() -> None:
    def says(asked: Asked, answer: Answer) -> Answer:
        looks = asked.method == "GET" and "/runs/" in asked.path
        return Answer([{**answer.pieces[0], "status": {"state": "completed"}}]) if looks else answer

    run = {
        "agent_name": "writer",
        "mode": "async",
        "input": [{"role": "user", "parts": [{"content": "work"}]}],
    }
    with World("writer", change=says) as world:
        ask = Ask("POST", "/acp/runs", run)
        answer = world.ask(ask)
        world.run(asyncio.sleep(30))
        gc.collect()
        world.judge(ask, answer)


def test_a_run_whose_events_have_no_type_and_whose_output_no_parts() -> None:
    assert RunDecoder("a").feed({"type": {"a": 1}}) == []
    RunDecoder("a", resumed={"output": [{"role": "agent", "parts": 1, "completed_at": None}]})
