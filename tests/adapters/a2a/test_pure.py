"""Addresses in cards, old and new cards, pages of tasks, errors: the pure parts, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from agentgw.adapters.a2a import rest03
from agentgw.adapters.a2a.card import interfaces
from agentgw.adapters.a2a.codec import Malformed
from agentgw.adapters.a2a.face.listing import page, query_from
from agentgw.adapters.a2a.params import send_from, translated
from agentgw.adapters.a2a.problems import agent_error, agent_http_error, http_error, problem_of, rpc_error
from agentgw.adapters.a2a.upstream.address import same_origin
from agentgw.adapters.a2a.upstream.discovery import candidates
from agentgw.adapters.a2a.wire import V03, V10, RpcError, version_of
from agentgw.adapters.a2a.writer import Writer
from agentgw.gateway.errors import AgentError, BadUpstream, UnknownTask, UpstreamFailed
from agentgw.gateway.model import Event, Logged, Message, MessageDelta, MessageDone, Task, TaskState, Text


@pytest.mark.parametrize(
    ("url", "registered", "expected"),
    [
        ("http://h:1/x", "http://h:1/card", "http://h:1/x"),
        ("http://H/x", "http://h:80", "http://H/x"),
        ("http://0.0.0.0:9/x", "http://127.0.0.1:9", "http://127.0.0.1:9/x"),
        ("http://[::]:9/x", "http://localhost:9", "http://localhost:9/x"),
        ("http://localhost:9/x", "http://127.0.0.1:8", None),
        ("http://localhost:9/x", "http://example.com:9", None),
        ("https://h/x", "http://h/x", None),
        ("http://h:bad/", "http://h", None),
    ],
)
def test_same_origin(url: str, registered: str, expected: str | None) -> None:
    assert same_origin(url, registered) == expected


def test_interfaces_best_first_whatever_the_cards_order() -> None:
    listed = [
        ("HTTP+JSON", "0.3"),
        ("GRPC", "1.0"),
        ("HTTP+JSON", "1.0.1"),
        ("JSONRPC", "0.3.0"),
        ("jsonrpc", "1.0"),
    ]
    card = {
        "supportedInterfaces": [
            {"url": f"http://h/{n}", "protocolBinding": b, "protocolVersion": v}
            for n, (b, v) in enumerate(listed)
        ]
    }
    found = [(i.version, i.binding, i.url[-1]) for i in interfaces(card)]
    assert found == [
        ("1.0", "JSONRPC", "4"),
        ("1.0", "HTTP+JSON", "2"),
        ("0.3", "JSONRPC", "3"),
        ("0.3", "HTTP+JSON", "0"),
        ("1.0", "GRPC", "1"),
    ]
    old = {
        "url": "http://h/",
        "protocolVersion": "0.2.5",
        "additionalInterfaces": [{"url": "http://h/r", "transport": "HTTP+JSON"}],
    }
    assert [(i.version, i.binding) for i in interfaces(old)] == [("0.3", "JSONRPC"), ("0.3", "HTTP+JSON")]


def test_where_a_card_is_looked_for() -> None:
    assert candidates("http://h/a/") == (
        "http://h/a/.well-known/agent-card.json",
        "http://h/a/.well-known/agent.json",
        "http://h/.well-known/agent-card.json",
        "http://h/.well-known/agent.json",
    )
    assert candidates("http://h/.well-known/agent.json")[0] == "http://h/.well-known/agent.json"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (None, V03),
        ("", V03),
        ("1.0", V10),
        ("1.0.1", V10),
        ("1", V10),
        ("0.3.0", V03),
        ("0.2", None),
        ("2.0", None),
    ],
)
def test_versions(text: str | None, version: str | None) -> None:
    assert version_of(text) == version


def test_pages() -> None:
    tasks = [
        Task(
            id=f"t{n}",
            context_id="c",
            agent="a",
            updated_at=f"2026-01-01T00:00:0{n}.000Z",
            state=TaskState.WORKING if n % 2 else TaskState.COMPLETED,
        )
        for n in range(5)
    ]
    shown, first = page(tasks, query_from({"pageSize": "2"}, V10))
    assert [t.id for t in shown] == ["t4", "t3"]
    assert (first["totalSize"], first["pageSize"]) == (5, 2)
    shown, second = page(tasks, query_from({"pageSize": 3, "pageToken": first["nextPageToken"]}, V10))
    assert [t.id for t in shown] == ["t2", "t1", "t0"]
    assert second["nextPageToken"] == ""
    late = query_from(
        {"statusTimestampAfter": "2026-01-01T01:00:03+01:00", "status": "TASK_STATE_WORKING"}, V10
    )
    assert [t.id for t in page(tasks, late)[0]] == ["t3"]


@pytest.mark.parametrize(
    "params", [{"pageSize": 101}, {"pageToken": "?"}, {"status": "nope"}, {"statusTimestampAfter": "soon"}]
)
def test_bad_queries(params: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        query_from(params, V10)


def test_a_message_for_an_agent_of_the_other_revision() -> None:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}
    params = {
        "message": message,
        "configuration": {"returnImmediately": True, "historyLength": 2},
        "metadata": {"k": 1},
    }
    assert translated(send_from(params, V10), V03) == {
        "message": {
            "kind": "message",
            "messageId": "m",
            "role": "user",
            "parts": [{"kind": "text", "text": "x"}],
        },
        "configuration": {"blocking": False, "historyLength": 2},
        "metadata": {"k": 1},
    }


def test_errors_over_both_bindings() -> None:
    problem = problem_of(UnknownTask("t"))
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "TASK_NOT_FOUND",
        "domain": "a2a-protocol.org",
        "metadata": {"task_id": "t"},
    }
    assert rpc_error(problem, V10) == {"code": -32001, "message": "unknown task: t", "data": [detail]}
    status, body = http_error(problem, V10)
    assert (status, body["error"]["status"], body["error"]["details"]) == (404, "NOT_FOUND", [detail])
    assert http_error(problem, V03)[1]["type"] == "TaskNotFoundError"


def test_an_agents_errors_come_in_every_form() -> None:
    own = agent_error("a", RpcError(-32004, "no such thing", [1]))
    assert isinstance(own, AgentError)
    assert (problem_of(own).code, problem_of(own).message, problem_of(own).data) == (
        -32004,
        "no such thing",
        [1],
    )
    for code in (-32603, 0, -32050):
        crashed = agent_error("a", RpcError(code, "Traceback"))
        assert isinstance(crashed, UpstreamFailed)
        assert crashed.message == "a failed"
    body = b'{"error":{"code":404,"message":"gone","details":[{"reason":"TASK_NOT_FOUND"}]}}'
    assert problem_of(agent_http_error("a", 404, body)).code == -32001
    assert (
        problem_of(agent_http_error("a", 404, b'{"type":"TaskNotFoundError","message":"x"}')).code == -32001
    )
    assert problem_of(agent_http_error("a", 404, b'{"code":-32001,"message":"x"}')).code == -32001
    assert isinstance(agent_http_error("a", 404, b"<html>"), BadUpstream)
    assert "secret" not in agent_http_error("a", 500, b"secret").message


def test_base64_of_base64() -> None:
    wire = {"content": [{"file": {"fileWithBytes": "AAEC"}}], "metadata": {"fileWithBytes": "AAEC"}}
    nested = rest03.nested(wire)
    assert nested["content"][0]["file"]["fileWithBytes"] == "QUFFQw=="
    assert nested["metadata"] == wire["metadata"]
    assert rest03.unnested(nested) == wire
    assert rest03.unnested(wire) == wire


def _written(task: Task, *events: Event) -> list[tuple[str, bool, bool]]:
    """Text, append and last of the artifact updates of a log."""
    writer = Writer(task)
    found: list[tuple[str, bool, bool]] = []
    for seq, event in enumerate(events, 1):
        for update in writer.feed(Logged(seq=seq, at="", event=event)):
            delta: Any = update.event
            found.append((delta.artifact.parts[0].text, delta.append, delta.last))
    return found


def test_messages_stream_as_artifacts_without_saying_anything_twice() -> None:
    task = Task(id="t", context_id="c", agent="a")

    def delta(text: str) -> Event:
        return MessageDelta(parts=(Text(text=text),))

    def done(text: str) -> Event:
        return MessageDone(message=Message(role="agent", parts=(Text(text=text),)))

    assert _written(task, done("ab")) == [("ab", False, True)]
    assert _written(task, delta("a"), delta("b"), done("ab")) == [
        ("a", False, False),
        ("b", True, False),
        ("", True, True),
    ]
    assert _written(task, delta("a"), done("abc")) == [("a", False, False), ("bc", True, True)]
    assert _written(task, delta("a"), done("other")) == [("a", False, False), ("other", False, True)]
