"""Tasks at the MCP doors, in both eras: of conversational agents, and of servers of the other era."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import mcp_types as t
import pytest
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from pydantic import Field

from agentgw.adapters.mcp.face import tasks
from agentgw.gateway.model import (
    Event,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    Principal,
    Started,
    StateChanged,
    TaskState,
    Text,
    text_of,
)

from ....support.memory import MemoryUpstream
from .support import META, Gateway, Raw, by_hand, client, rpc, served

EXTENSION = "io.modelcontextprotocol/tasks"
ADVERTISED = {"extensions": {EXTENSION: {}}, "elicitation": {"form": {}}}
FORM = {
    "type": "object",
    "properties": {"answer": {"type": "string", "title": "Answer"}},
    "required": ["answer"],
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AFTER", 0.01)


def said(text: str) -> Message:
    return Message(role="agent", parts=(Text(text=text),))


class Long:
    """An agent that works until it is told to go on; says what the message says: ask, fail, or an answer."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.stopped = False
        self.upstream = MemoryUpstream(self.script, self.answered)
        self.upstream.on_cancel = self.stop

    async def stop(self, _: object) -> None:
        self.stopped = True
        self.go.set()

    async def script(self, call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up")
        yield StateChanged(state=TaskState.WORKING, message=said("packing"))
        await self.go.wait()
        match "stop" if self.stopped else text_of(call.message.parts):
            case "stop":
                yield Finished(state=TaskState.CANCELED)
            case "ask":
                yield InputRequired(request=InputRequest(message=said("Which year?")))
            case "fail":
                yield Finished(state=TaskState.FAILED, message=said("no such city"))
            case text:
                yield Finished(state=TaskState.COMPLETED, message=said(f"done: {text}"))

    async def answered(self, reply: InputReply) -> AsyncIterator[Event]:
        yield Finished(state=TaskState.COMPLETED, message=said(f"Year {text_of(reply.message.parts)}."))


@pytest.fixture
async def long() -> Long:
    return Long()


@pytest.fixture
async def gateway(long: Long) -> AsyncIterator[Gateway]:
    async with served(long=long.upstream) as running:
        yield running


@pytest.fixture(params=["/mcp", "/mcp/long"])
async def raw(request: pytest.FixtureRequest, gateway: Gateway) -> AsyncIterator[Raw]:
    async with by_hand(gateway.url + request.param) as one:
        yield one


def arguments(text: str) -> dict[str, Any]:
    return {"name": "long", "arguments": {"message": text}}


async def modern(raw: Raw, method: str, capabilities: Any = None, **params: Any) -> Any:
    declared = ADVERTISED if capabilities is None else capabilities
    meta = {**META, "io.modelcontextprotocol/clientCapabilities": declared}
    name = params.get("taskId", params.get("name"))
    return (await raw.modern(method, {**params, "_meta": meta}, Mcp_Name=name)).json()


async def until(raw: Raw, task_id: str, status: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            got = (await modern(raw, "tasks/get", taskId=task_id))["result"]
            if got["status"] == status:
                return got


# --- the modern era ------------------------------------------------------------------------------


async def test_no_other_spelling_of_a_tasks_id_passes(raw: Raw) -> None:
    created = (await modern(raw, "tools/call", **arguments("x")))["result"]
    answer = await modern(raw, "tasks/get", taskId=created["taskId"], TASKID="another")
    assert answer["error"]["message"] == "there must be one taskId"


async def test_a_long_call_becomes_a_task_and_brings_its_result(raw: Raw, long: Long) -> None:
    created = (await modern(raw, "tools/call", **arguments("x")))["result"]
    assert created["resultType"] == "task"
    assert (created["status"], created["statusMessage"]) == ("working", "packing")
    assert {"createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs"} <= created.keys()
    long.go.set()
    got = await until(raw, created["taskId"], "completed")
    assert got["resultType"] == "complete"
    assert got["result"]["content"][0]["text"] == "done: x"
    assert got["result"]["structuredContent"]["task_id"] == created["taskId"]
    assert (await modern(raw, "tasks/cancel", taskId=created["taskId"]))["result"]["resultType"] == "complete"


async def test_a_short_call_is_its_result(raw: Raw, long: Long, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AFTER", 10)
    long.go.set()
    result = (await modern(raw, "tools/call", **arguments("x")))["result"]
    assert (result["resultType"], result["content"][0]["text"]) == ("complete", "done: x")


async def test_a_question_of_a_task_is_answered_by_update(raw: Raw, long: Long) -> None:
    created = (await modern(raw, "tools/call", **arguments("ask")))["result"]
    long.go.set()
    got = await until(raw, created["taskId"], "input_required")
    ((key, request),) = got["inputRequests"].items()
    assert request["method"] == "elicitation/create"
    assert (request["params"]["message"], request["params"]["requestedSchema"]) == ("Which year?", FORM)
    answer = {"action": "accept", "content": {"answer": "1969"}}
    await modern(raw, "tasks/update", taskId=created["taskId"], inputResponses={"another": answer})
    assert (await until(raw, created["taskId"], "input_required"))["inputRequests"].keys() == {key}
    updated = await modern(raw, "tasks/update", taskId=created["taskId"], inputResponses={key: answer})
    assert updated["result"]["resultType"] == "complete"
    got = await until(raw, created["taskId"], "completed")
    assert got["result"]["content"][0]["text"] == "Year 1969."


async def test_a_client_that_can_not_be_asked_gets_the_question_as_the_result(raw: Raw, long: Long) -> None:
    only = {"extensions": {EXTENSION: {}}}
    created = (await modern(raw, "tools/call", only, **arguments("ask")))["result"]
    long.go.set()
    async with asyncio.timeout(60):
        while (got := (await modern(raw, "tasks/get", only, taskId=created["taskId"]))["result"])[
            "status"
        ] == "working":
            pass
    assert got["status"] == "completed"
    assert got["result"]["structuredContent"]["state"] == "input_required"


async def test_failure_is_a_result_of_the_tool(raw: Raw, long: Long) -> None:
    created = (await modern(raw, "tools/call", **arguments("fail")))["result"]
    long.go.set()
    got = await until(raw, created["taskId"], "completed")
    assert (got["result"]["isError"], got["result"]["content"][0]["text"]) == (True, "no such city")


async def test_cancelling_stops_the_agent(raw: Raw, long: Long, gateway: Gateway) -> None:
    created = (await modern(raw, "tools/call", **arguments("x")))["result"]
    assert (await modern(raw, "tasks/cancel", taskId=created["taskId"]))["result"]["resultType"] == "complete"
    async with asyncio.timeout(60):
        await long.upstream.canceled.wait()
    task = await gateway.hub.task(created["taskId"], Principal())
    assert (await until(raw, created["taskId"], "cancelled")).keys().isdisjoint({"result", "error"})
    assert task.task.state is TaskState.CANCELED


async def test_only_for_clients_that_declare_the_extension(raw: Raw, long: Long) -> None:
    long.go.set()
    assert (await modern(raw, "tools/call", {}, **arguments("x")))["result"]["resultType"] == "complete"
    error = (await modern(raw, "tasks/get", {}, taskId="x"))["error"]
    assert error["code"] == -32021
    assert error["data"]["requiredCapabilities"] == {"extensions": {EXTENSION: {}}}
    assert (await modern(raw, "tasks/get", taskId="unknown"))["error"]["code"] == -32602
    for method in ("tasks/list", "tasks/result"):
        assert (await modern(raw, method, taskId="x"))["error"]["code"] == -32601


async def test_another_principals_task_is_unknown(raw: Raw) -> None:
    owner = {"Authorization": "Bearer owner"}
    meta = {**META, "io.modelcontextprotocol/clientCapabilities": ADVERTISED}
    created = (await raw.modern("tools/call", {**arguments("x"), "_meta": meta}, **owner)).json()["result"]
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        assert (await modern(raw, method, taskId=created["taskId"]))["error"]["code"] == -32602


# --- the handshake era ---------------------------------------------------------------------------


async def begin(raw: Raw, text: str, id: Any = 1, **meta: Any) -> Any:
    call = {**arguments(text), "task": {"ttl": 60_000}, **({"_meta": meta} if meta else {})}
    return (await raw.post(rpc("tools/call", call, id=id))).json()["result"]["task"]


async def ask(raw: Raw, method: str, **params: Any) -> Any:
    return (await raw.post(rpc(method, params, id=method))).json()


async def test_a_call_with_task_is_a_task_at_once(raw: Raw, long: Long) -> None:
    initialized = (await raw.initialize()).json()["result"]
    assert initialized["capabilities"]["tasks"] == tasks.CAPABILITY
    (tool,) = (await ask(raw, "tools/list"))["result"]["tools"]
    assert tool["execution"] == {"taskSupport": "optional"}
    task = await begin(raw, "x")
    t.Task.model_validate(task, by_name=False)
    assert (task["status"], task["ttl"]) == ("working", None)
    assert (await ask(raw, "tasks/get", taskId=task["taskId"]))["result"]["status"] == "working"
    long.go.set()
    result = (await ask(raw, "tasks/result", taskId=task["taskId"]))["result"]
    assert result["content"][0]["text"] == "done: x"
    assert result["_meta"] == {"io.modelcontextprotocol/related-task": {"taskId": task["taskId"]}}
    assert (await ask(raw, "tasks/get", taskId=task["taskId"]))["result"]["status"] == "completed"
    listed = (await ask(raw, "tasks/list"))["result"]["tasks"]
    assert [entry["taskId"] for entry in listed] == [task["taskId"]]
    assert (await ask(raw, "tasks/cancel", taskId=task["taskId"]))["error"]["code"] == -32602


async def test_waiting_for_the_result_asks_the_client_and_tells_progress(raw: Raw, long: Long) -> None:
    await raw.initialize(elicitation={})
    task = await begin(raw, "ask", progressToken="p")
    related = {"io.modelcontextprotocol/related-task": {"taskId": task["taskId"]}}
    async with raw.stream("POST", rpc("tasks/result", {"taskId": task["taskId"]}, id=2)) as events:
        progress = await events.next()
        assert progress["params"] == {"progressToken": "p", "progress": 1, "message": "packing"}
        long.go.set()
        asked = await events.next()
        assert (asked["method"], asked["params"]["_meta"]) == ("elicitation/create", related)
        got = (await ask(raw, "tasks/get", taskId=task["taskId"]))["result"]
        assert got["status"] == "input_required"
        answer = {"action": "accept", "content": {"answer": "1969"}}
        await raw.post({"jsonrpc": "2.0", "id": asked["id"], "result": answer})
        assert (await events.next())["result"]["content"][0]["text"] == "Year 1969."


async def test_the_session_is_told_of_the_status(raw: Raw, long: Long) -> None:
    await raw.initialize()
    async with raw.stream("GET") as events:
        task = await begin(raw, "fail")
        long.go.set()
        told = await events.next()
    assert told["method"] == "notifications/tasks/status"
    assert (told["params"]["taskId"], told["params"]["status"]) == (task["taskId"], "failed")


async def test_nobody_follows_a_task_for_a_session_that_ended(raw: Raw, long: Long, gateway: Gateway) -> None:
    await raw.initialize(elicitation={})
    task = await begin(raw, "ask")
    long.go.set()
    handle = await gateway.hub.task(task["taskId"], Principal())
    await handle.settled()
    assert handle.watchers == 1
    async with raw.stream("DELETE"):
        pass
    assert handle.watchers == 0


async def test_cancel_is_answered_once_it_is_done(raw: Raw, long: Long) -> None:
    await raw.initialize()
    task = await begin(raw, "x")

    canceled = (await ask(raw, "tasks/cancel", taskId=task["taskId"]))["result"]
    assert canceled["status"] == "cancelled"
    assert long.upstream.canceled.is_set()


async def test_older_clients_know_no_tasks(raw: Raw, long: Long) -> None:
    initialized = (await raw.initialize("2025-06-18")).json()["result"]
    assert "tasks" not in initialized["capabilities"]
    (tool,) = (await ask(raw, "tools/list"))["result"]["tools"]
    assert "execution" not in tool
    long.go.set()
    result = (await raw.post(rpc("tools/call", {**arguments("x"), "task": {}}))).json()["result"]
    assert result["content"][0]["text"] == "done: x"
    assert (await ask(raw, "tasks/list"))["error"]["code"] == -32601


async def test_many_tasks_are_listed_page_by_page(gateway: Gateway, long: Long, monkeypatch: Any) -> None:
    monkeypatch.setattr("agentgw.adapters.mcp.face.task_calls.PAGE", 2)
    async with by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        begun = [(await begin(raw, str(i)))["taskId"] for i in range(5)]
        pages, cursor = [], {}
        while True:
            page = (await ask(raw, "tasks/list", **cursor))["result"]
            pages.append([task["taskId"] for task in page["tasks"]])
            if "nextCursor" not in page:
                break
            cursor = {"cursor": page["nextCursor"]}
        assert [len(page) for page in pages] == [2, 2, 1]
        assert sorted(id for page in pages for id in page) == sorted(begun)
        assert (await ask(raw, "tasks/list", cursor="never"))["error"]["code"] == -32602


class Created(t.Result):
    """The extension's result as a client of the official SDK declares it."""

    result_type: Literal["task"] = Field(alias="resultType")
    task_id: str = Field(alias="taskId")
    status: str
    ttl_ms: int | None = Field(alias="ttlMs")
    poll_interval_ms: int = Field(alias="pollIntervalMs")


class TasksExtension(ClientExtension):
    """A client's half of the extension: a task is polled until it has its result."""

    identifier = EXTENSION

    def __init__(self, raw: Raw) -> None:
        self._raw = raw

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Created, resolve=self._resolve)]

    async def _resolve(self, created: Created, context: ClaimContext) -> t.CallToolResult:
        got = await until(self._raw, created.task_id, "completed")
        return t.CallToolResult.model_validate(got["result"], by_name=False)


async def test_the_official_client_with_the_extension(gateway: Gateway, long: Long) -> None:
    async def progress(done: float, total: float | None, message: str | None) -> None:
        asyncio.get_running_loop().call_later(0.05, long.go.set)  # after it has become a task

    async with by_hand(f"{gateway.url}/mcp") as raw:
        extensions = [TasksExtension(raw)]
        async with client(f"{gateway.url}/mcp", "modern", extensions=extensions) as mcp:
            result = await mcp.call_tool("long", {"message": "x"}, progress_callback=progress)
    assert result.content[0].text == "done: x"  # type: ignore[union-attr]
    assert result.structured_content is not None
    task = await gateway.hub.task(result.structured_content["task_id"], Principal())
    assert task.task.state is TaskState.COMPLETED
