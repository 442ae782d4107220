"""Which state a request names: what decides who serves it, where several processes are one gateway."""

from __future__ import annotations

import msgspec
import pytest

from agentgw.adapters.a2a.face import named as a2a
from agentgw.adapters.a2a.wire import V03, V10, Op
from agentgw.adapters.mcp import wire
from agentgw.adapters.mcp.face import named as mcp
from agentgw.gateway.mentions import mentions


@pytest.mark.parametrize(
    "method, params, found",
    [
        ("tools/call", {"name": "x", "arguments": {"message": "hi"}}, None),
        ("tools/call", {"name": "x", "arguments": {"context_id": "c"}}, "c"),
        ("tools/call", {"name": "x", "arguments": {"context_id": "c", "task_id": "t"}}, "t"),
        ("tools/call", {"name": "x", "requestState": "s", "arguments": {"context_id": "c"}}, "s"),
        ("tools/call", {"name": "x", "arguments": {"context_id": 7}}, None),
        ("tools/call", {"name": "x", "arguments": ["context_id"]}, None),
        ("prompts/get", {"name": "x", "arguments": {"context_id": "c"}}, None),
        ("tasks/get", {"taskId": "t"}, "t"),
        ("tools/list", {}, None),
    ],
)
def test_mcp(method: str, params: object, found: str | None) -> None:
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert mcp.state(wire.decode(body)[0]) == found
    assert found is None or mentions(body, *mcp.NAMES)


@pytest.mark.parametrize(
    "op, version, params, found",
    [
        (Op.SEND, V10, {"message": {"parts": []}}, None),
        (Op.SEND, V10, {"message": {"contextId": "c"}}, "c"),
        (Op.STREAM, V03, {"message": {"contextId": "c", "taskId": "t"}}, "t"),
        (Op.SEND, V03, {"request": {"taskId": "t"}}, "t"),
        (Op.SEND, V10, {"message": "no"}, None),
        (Op.GET, V10, {"id": "t"}, "t"),
        (Op.GET, V10, {"id": 5}, None),
        (Op.LIST, V10, {"contextId": "c"}, None),
        (Op.PUSH_GET, V10, {"taskId": "t", "id": "config"}, "t"),
        (Op.PUSH_GET, V03, {"id": "t"}, "t"),
        (Op.PUSH_CREATE, V03, {"taskId": "t"}, "t"),
        (Op.PUSH_LIST, V10, {}, None),
    ],
)
def test_a2a(op: Op, version: str, params: object, found: str | None) -> None:
    assert a2a.state(op, msgspec.json.encode(params), version) == found  # type: ignore[arg-type]


def test_names_may_be_written_with_escapes() -> None:
    assert mentions(b'{"task\\u005fid": "t"}', b"task_id")
    assert not mentions(b'{"message": "hi"}', b"task_id")
