"""Tasks of MCP servers, as turns of callers of other protocols see them. The server is played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agentgw.adapters.mcp.upstream import following
from agentgw.adapters.mcp.upstream.turns import Turns
from agentgw.adapters.mcp.wire import Caller, Catalog
from agentgw.gateway.errors import AgentError, UpstreamFailed
from agentgw.gateway.model import (
    Data,
    Event,
    Finished,
    InputReply,
    InputRequired,
    Invocation,
    Message,
    Progress,
    TaskRef,
    TaskState,
    Text,
    text_of,
)

from ...support.telling import invoked, replied

FORM = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASK = {"method": "elicitation/create", "params": {"message": "Which city?", "requestedSchema": FORM}}
TASKS = {"tasks": {"requests": {"tools": {"call": {}}}}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MIN_POLL", 0.0)


class Played:
    """A server with one tool; ``looks`` are its answers to tasks/get, the last one again and again."""

    def __init__(
        self, era: Any, *looks: dict[str, Any], support: str = "required", result: Any = None
    ) -> None:
        self.tool = {"name": "job", "inputSchema": {"type": "object"}, "execution": {"taskSupport": support}}
        self.read = Catalog(protocol_version="", era=era, capabilities=TASKS, tools=(self.tool,))
        self.looks = list(looks)
        self.result = result
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.looked = asyncio.Event()
        self.canceled = asyncio.Event()

    async def catalog(self, refresh: bool = False) -> Catalog:
        return self.read

    async def current_catalog(self) -> Catalog:
        return self.read

    async def request(self, method: str, params: Any, *, caller: Caller, losses: Any = ()) -> msgspec.Raw:
        self.sent.append((method, params))
        return msgspec.Raw(msgspec.json.encode(await self._answer(method, caller)))

    async def _answer(self, method: str, caller: Caller) -> Any:
        task = {"taskId": "t1", "status": "working", "createdAt": "", "lastUpdatedAt": ""}
        match method, self.read.era:
            case "tools/call", "modern":
                return {"resultType": "task", **task, "ttlMs": None, "pollIntervalMs": 0}
            case "tools/call", _:
                return {"task": {**task, "ttl": None, "pollInterval": 0}}
            case "tasks/get", _:
                self.looked.set()
                look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
                return {**task, "pollIntervalMs": 0, "pollInterval": 0, **look}
            case "tasks/result", _:
                assert caller.on_request is not None
                return await self.result(caller.on_request)
            case "tasks/cancel", _:
                self.canceled.set()
                return {}
            case _:
                return {}

    def methods(self) -> list[str]:
        return [method for method, _ in self.sent]


def call(**fields: Any) -> Invocation:
    message = Message(role="user", parts=(Data(data={"tool": "job", "arguments": {"n": 1}}),))
    return Invocation(
        agent="peer", message=message, context_id="c", task_id="mine", streaming=False, **fields
    )


async def run(server: Played, **fields: Any) -> tuple[Turns, list[Event]]:
    turns = Turns("peer", server, lambda: 10)
    return turns, [event async for event in invoked(turns, call(**fields))]


async def answer(turns: Turns, text: str) -> list[Event]:
    reply = InputReply(message=Message(role="user", parts=(Text(text=text),)))
    return [event async for event in replied(turns, TaskRef(task_id="mine"), call(), reply)]


def done(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": False}


async def test_a_modern_task_is_followed_through_its_question_to_its_result() -> None:
    server = Played(
        "modern",
        {"statusMessage": "packing"},
        {"statusMessage": "packing"},
        {"status": "input_required", "inputRequests": {"where": ASK}},
        {"status": "input_required", "inputRequests": {"where": ASK}},
        {"status": "completed", "result": done("sent to Rome")},
    )
    turns, events = await run(server)
    assert [e.message for e in events if isinstance(e, Progress)] == ["packing"]
    asked = events[-1]
    assert isinstance(asked, InputRequired)
    assert (asked.request.prompt, asked.request.schema) == ("Which city?", FORM)
    events = await answer(turns, "Rome")
    given = {"where": {"action": "accept", "content": {"city": "Rome"}}}
    updates = [params for method, params in server.sent if method == "tasks/update"]
    assert updates == [{"taskId": "t1", "inputResponses": given}]
    assert text_of(events[-2].artifact.parts) == "sent to Rome"  # type: ignore[union-attr]
    assert events[-1] == Finished(state=TaskState.COMPLETED)


async def test_the_gateway_says_that_it_can_follow_tasks_and_be_asked() -> None:
    capabilities: list[Any] = []

    class Noting(Played):
        async def request(self, method: str, params: Any, *, caller: Caller, losses: Any = ()) -> msgspec.Raw:
            capabilities.append(caller.client_capabilities)
            return await super().request(method, params, caller=caller, losses=losses)

    await run(Noting("modern", {"status": "completed", "result": done("x")}))
    expected = {"elicitation": {"form": {}, "url": {}}, "extensions": {"io.modelcontextprotocol/tasks": {}}}
    assert capabilities == [expected, expected]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"code": -32602, "message": "no such city"}, AgentError("no such city")),
        ({"code": -32603, "message": "Traceback: secret"}, UpstreamFailed("peer")),
    ],
)
async def test_a_failed_task_is_its_error(error: Any, raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught:
        await run(Played("modern", {"status": "failed", "error": error}))
    assert str(caught.value) == str(raised)


@pytest.mark.parametrize("era", ["modern", "handshake"])
async def test_a_task_that_the_server_cancelled(era: str) -> None:
    _, events = await run(Played(era, {"status": "cancelled"}))
    assert events[-1] == Finished(state=TaskState.CANCELED)


@pytest.mark.parametrize("era", ["modern", "handshake"])
@pytest.mark.parametrize("by", ["cancel", "leaving"])
async def test_cancelling_reaches_the_servers_task(era: str, by: str) -> None:
    server = Played(era, {})
    turns = Turns("peer", server, lambda: 10)
    stream = invoked(turns, call())
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await server.looked.wait()
    if by == "cancel":
        await turns.cancel(TaskRef(task_id="mine"))
        assert await waiting == Finished(state=TaskState.CANCELED)
    else:
        waiting.cancel()
    async with asyncio.timeout(60):
        await server.canceled.wait()
    assert server.sent[-1] == ("tasks/cancel", {"taskId": "t1"})


async def test_a_handshake_tool_that_must_be_a_task_is_asked_for_one() -> None:
    async def result(ask: Callable[..., Any]) -> Any:
        answer = await ask("elicitation/create", ASK["params"])
        return done(f"sent to {answer['content']['city']}")

    server = Played("handshake", {"statusMessage": "packing"}, {"status": "input_required"}, result=result)
    turns, events = await run(server)
    assert server.sent[0] == ("tools/call", {"name": "job", "arguments": {"n": 1}, "task": {}})
    assert isinstance(events[-1], InputRequired)
    events = await answer(turns, "Rome")
    assert text_of(events[-2].artifact.parts) == "sent to Rome"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("support", "own", "task"),
    [("optional", {}, False), ("optional", {"x": 1}, True), ("forbidden", {"x": 1}, False)],
)
async def test_when_a_handshake_tool_runs_as_a_task(support: str, own: Any, task: bool) -> None:
    async def result(ask: Callable[..., Any]) -> Any:
        return done("x")

    server = Played("handshake", {"status": "completed"}, support=support, result=result)
    await run(server, extra={"mcp": own})
    assert ("task" in server.sent[0][1]) is task


async def test_a_question_that_can_not_be_put_ends_the_task() -> None:
    ask = {"method": "sampling/createMessage", "params": {}}
    server = Played("modern", {"status": "input_required", "inputRequests": {"s": ask}})
    with pytest.raises(AgentError, match="sampling/createMessage is not supported"):
        await run(server)
    assert server.canceled.is_set()


async def test_a_result_that_names_no_task_is_a_result() -> None:
    assert following.created(msgspec.Raw(b'{"content":[],"task":"x"}')) is None
    assert following.created(msgspec.Raw(b"[]")) is None
