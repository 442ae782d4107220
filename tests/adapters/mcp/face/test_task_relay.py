"""Tasks of MCP servers behind the gateway: in the client's own era as they are, across eras run by it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from agentgw.adapters.mcp.face import tasks
from agentgw.adapters.mcp.upstream import following
from agentgw.gateway import pickup
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.lifecycle import TERMINAL
from agentgw.gateway.model import Data, Invocation, Message, Principal, Task, TaskState
from agentgw.registry.memory import MemoryStore

from .support import META, Gateway, Raw, by_hand, rpc, served, serving
from .task_server import EXTENSION, FORM, RESULT, TaskServer

ADVERTISED = {"extensions": {EXTENSION: {}}, "elicitation": {}}
DOORS = [("/mcp", "peer__job"), ("/mcp/peer", "job")]
ERAS = ["handshake", "modern"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AFTER", 0.01)
    monkeypatch.setattr(following, "MIN_POLL", 0.001)


@contextlib.asynccontextmanager
async def through(
    server: TaskServer, path: str, store: MemoryStore | None = None
) -> AsyncGenerator[tuple[Gateway, Raw]]:
    async with serving(server) as url, served(store=store) as gateway:
        await gateway.add_server("peer", f"{url}/mcp")
        async with by_hand(gateway.url + path) as raw:
            yield gateway, raw


class Host:
    """A client of either era that knows tasks."""

    def __init__(self, raw: Raw, era: str, tool: str) -> None:
        self.raw, self.era, self.tool = raw, era, tool
        self._ids = iter(range(1, 1000))

    async def ask(self, method: str, **params: Any) -> Any:
        if self.era == "handshake":
            return (await self.raw.post(rpc(method, params, id=next(self._ids)))).json()
        meta = {**META, "io.modelcontextprotocol/clientCapabilities": ADVERTISED, **params.pop("_meta", {})}
        named = params.get("taskId", params.get("name"))
        return (await self.raw.modern(method, {**params, "_meta": meta}, Mcp_Name=named)).json()

    async def begin(self, **arguments: Any) -> dict[str, Any]:
        """The task that the tool's call becomes."""
        if self.era == "handshake":
            await self.raw.initialize(elicitation={})
            answer = await self.ask("tools/call", name=self.tool, arguments=arguments, task={"ttl": 1000})
            return answer["result"]["task"]
        answer = await self.ask("tools/call", name=self.tool, arguments=arguments)
        assert answer["result"]["resultType"] == "task"
        return answer["result"]

    async def get(self, task: dict[str, Any], *statuses: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while True:
                answer = await self.ask("tasks/get", taskId=task["taskId"])
                if answer["result"]["status"] in (statuses or (answer["result"]["status"],)):
                    return answer["result"]

    async def result(self, task: dict[str, Any]) -> dict[str, Any]:
        if self.era == "modern":
            return (await self.get(task, "completed"))["result"]
        return await self._streamed(task)

    async def _streamed(self, task: dict[str, Any]) -> dict[str, Any]:
        """tasks/result, answering what is asked on its stream."""
        message = rpc("tasks/result", {"taskId": task["taskId"]}, id=next(self._ids))
        async with self.raw.stream("POST", message) as events:
            if events.answer.headers["content-type"] == "application/json":
                return (await _json(events.answer))["result"]
            while True:
                got = await events.next()
                if "result" in got:
                    return got["result"]
                if got["method"] == "elicitation/create":
                    assert got["params"]["requestedSchema"] == FORM
                    answer = {"action": "accept", "content": {"city": "Rome"}}
                    await self.raw.post({"jsonrpc": "2.0", "id": got["id"], "result": answer})


async def _json(answer: Any) -> Any:
    await answer.aread()
    return answer.json()


@pytest.mark.parametrize(("path", "tool"), DOORS)
@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_a_task_and_its_result(era: str, client: str, path: str, tool: str) -> None:
    """Every field of the server's result arrives, whoever runs the task."""
    server = TaskServer(era)
    async with through(server, path) as (gateway, raw):
        host = Host(raw, client, tool)
        task = await host.begin()
        assert task["status"] == "working"
        server.go.set()
        result = await host.result(task)
        assert {key: result[key] for key in RESULT} == RESULT
        assert (await host.get(task))["status"] == "completed"
        record = (await gateway.hub.task(task["taskId"], Principal())).task
    assert (record.agent, record.state) == ("peer", TaskState.COMPLETED)
    assert (task["taskId"] in server.status) == (era == client)


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_a_question_inside_a_task(era: str, client: str) -> None:
    server = TaskServer(era)
    async with through(server, "/mcp/peer") as (_, raw):
        host = Host(raw, client, "job")
        task = await host.begin(ask=True)
        server.go.set()
        got = await host.get(task, "input_required")
        if client == "modern":
            ((key, request),) = got["inputRequests"].items()
            assert request["params"]["requestedSchema"] == FORM
            answer = {"action": "accept", "content": {"city": "Rome"}}
            await host.ask("tasks/update", taskId=task["taskId"], inputResponses={key: answer})
        if (era, client) == ("handshake", "handshake"):
            server.answers.clear()  # the played server finds the answer under the request's id
        result = await host.result(task)
    assert result["content"][0]["text"] == "packed for Rome"


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_cancelling_reaches_the_server(era: str, client: str) -> None:
    server = TaskServer(era)
    async with through(server, "/mcp/peer") as (gateway, raw):
        host = Host(raw, client, "job")
        task = await host.begin()
        if era != client:
            await server.asked.wait()  # the gateway follows it
        await host.ask("tasks/cancel", taskId=task["taskId"])
        assert (await host.get(task, "cancelled"))["status"] == "cancelled"
        record = await gateway.hub.task(task["taskId"], Principal())
        assert record.task.state is TaskState.CANCELED
    assert "tasks/cancel" in server.methods()


@pytest.mark.parametrize("era", ERAS)
async def test_another_principals_task_of_a_server_is_unknown(era: str) -> None:
    server = TaskServer(era)
    async with through(server, "/mcp/peer") as (gateway, raw):
        task = await Host(raw, era, "job").begin()
        other = gateway.hub.task(task["taskId"], Principal(id="other"))
        with pytest.raises(Exception, match="unknown task"):
            await other
        never = await Host(raw, era, "job").ask("tasks/get", taskId="never-seen")
        assert never["error"]["code"] == -32602
        assert "tasks/get" not in server.methods()


async def test_the_progress_of_a_servers_task_keeps_the_clients_token() -> None:
    server = TaskServer("handshake")
    async with through(server, "/mcp/peer") as (_, raw):
        await raw.initialize()
        call = {"name": "job", "arguments": {}, "task": {}, "_meta": {"progressToken": "mine"}}
        task = (await raw.post(rpc("tools/call", call))).json()["result"]["task"]
        async with raw.stream("POST", rpc("tasks/result", {"taskId": task["taskId"]}, id=2)) as events:
            assert (await events.next())["params"]["progressToken"] == "mine"
            server.go.set()
            assert (await events.next())["id"] == 2


@pytest.mark.parametrize("path", ["/mcp", "/mcp/peer"])
async def test_the_host_of_2025_sees_that_tools_of_a_modern_server_can_be_tasks(path: str) -> None:
    async with through(TaskServer("modern"), path) as (_, raw):
        initialized = (await raw.initialize()).json()["result"]
        assert initialized["capabilities"]["tasks"] == tasks.CAPABILITY
        (tool,) = (await raw.post(rpc("tools/list"))).json()["result"]["tools"]
        assert tool["execution"] == {"taskSupport": "optional"}


async def test_a_tool_that_must_be_a_task_works_for_a_modern_host_without_tasks() -> None:
    server = TaskServer("handshake", "required")
    server.go.set()
    async with through(server, "/mcp/peer") as (_, raw):
        result = (await raw.modern("tools/call", {"name": "job", "arguments": {}})).json()["result"]
    assert result["resultType"] == "complete"
    assert result["structuredContent"] == RESULT["structuredContent"]


@pytest.mark.parametrize("era", ERAS)
async def test_callers_of_other_protocols_get_the_result_of_the_task(era: str) -> None:
    server = TaskServer(era, "required")
    async with through(server, "/mcp") as (gateway, _):
        data = Data(data={"tool": "job", "arguments": {}})
        call = Invocation(agent="peer", message=Message(role="user", parts=(data,)), client_protocol="a2a")
        handle = await gateway.hub.invoke(call)
        await server.asked.wait()
        assert handle.task.state is TaskState.WORKING
        server.go.set()
        task = await handle.settled()
    assert task.state is TaskState.COMPLETED
    assert isinstance(task.artifacts[0].parts[0], Data)
    assert task.artifacts[0].parts[0].data == RESULT["structuredContent"]


async def test_a_subscription_tells_how_tasks_go() -> None:
    server = TaskServer("handshake")
    async with through(server, "/mcp") as (_, raw):
        host = Host(raw, "modern", "peer__job")
        task = await host.begin()
        meta = {**META, "io.modelcontextprotocol/clientCapabilities": ADVERTISED}
        wanted = {"notifications": {"taskIds": [task["taskId"], "another's"]}, "_meta": meta}
        headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "subscriptions/listen"}
        async with raw.stream("POST", rpc("subscriptions/listen", wanted), **headers) as events:
            assert (await events.next())["params"]["notifications"] == {"taskIds": [task["taskId"]]}
            assert (await events.next())["params"]["status"] == "working"
            server.go.set()
            told = await events.next()
    assert told["method"] == "notifications/tasks"
    assert (told["params"]["status"], told["params"]["result"]["x-own"]) == ("completed", RESULT["x-own"])


# --- tasks of servers that nobody asks after again -----------------------------------------------


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway asks at once."""
    monkeypatch.setattr(pickup, "LOOK_FIRST", 0.01)
    monkeypatch.setattr(pickup, "LOOK_MOST", 0.05)


async def ended(gateway: Gateway, task_id: str) -> Task:
    """The task in the record, once it has ended. Nobody asks the server for it."""
    handle = await gateway.hub.task(task_id, Principal())
    async with asyncio.timeout(60):
        while handle.task.state not in TERMINAL:
            await handle.changed()
    return handle.task


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("path", "tool"), DOORS)
@pytest.mark.parametrize("era", ERAS)
async def test_the_record_learns_how_a_task_of_a_server_ends(
    era: str, path: str, tool: str, apart: bool, looks: None
) -> None:
    server = TaskServer(era, apart=apart)
    async with through(server, path) as (gateway, raw):
        task = await Host(raw, era, tool).begin(ask=era == "handshake")
        await server.asked.wait()  # by the gateway
        assert (await gateway.hub.task(task["taskId"], Principal())).task.state is TaskState.WORKING
        server.go.set()
        server.answers[task["taskId"]] = {"action": "decline"}
        assert (await ended(gateway, task["taskId"])).state is TaskState.COMPLETED


@pytest.mark.parametrize("era", ERAS)
async def test_a_task_that_its_server_forgets_has_failed(era: str, looks: None) -> None:
    server = TaskServer(era)
    async with through(server, "/mcp/peer") as (gateway, raw):
        task = await Host(raw, era, "job").begin()
        server.status.clear()
        record = await ended(gateway, task["taskId"])
    assert record.state is TaskState.FAILED and record.fault is not None
    assert record.fault.message == "peer no longer knows the task"


IMPATIENT = Config(limits=Limits(total_timeout=0.001))


@pytest.mark.parametrize("code", [0, -32603, -32000])
async def test_a_server_that_answers_with_errors_alone_is_not_asked_for_ever(code: int, looks: None) -> None:
    server = TaskServer("modern")
    async with through(server, "/mcp/peer") as (gateway, raw):
        task = await Host(raw, "modern", "job").begin()
        gateway.hub.reconfigure(IMPATIENT)
        server.broken = code
        record = await ended(gateway, task["taskId"])
    assert record.state is TaskState.FAILED and record.fault is not None
    assert record.fault.message == "peer does not say any more how the task stands"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("why", ["it promised to keep the task", "its time is not over"])
async def test_errors_that_pass_lose_no_task(why: str, era: str, looks: None) -> None:
    server = TaskServer(era)
    if why == "it promised to keep the task":
        server.ttl = 3_600_000
    async with through(server, "/mcp/peer") as (gateway, raw):
        task = await Host(raw, era, "job").begin()
        if server.ttl:
            gateway.hub.reconfigure(IMPATIENT)
        server.broken = -32603
        for _ in range(5):
            await server.looks.acquire()
        assert (await gateway.hub.task(task["taskId"], Principal())).task.state is TaskState.WORKING
        server.broken = None
        server.go.set()
        assert (await ended(gateway, task["taskId"])).state is TaskState.COMPLETED


async def waits(gateway: Gateway, task_id: str) -> None:
    """The record says that the task waits for input."""
    handle = await gateway.hub.task(task_id, Principal())
    async with asyncio.timeout(60):
        while handle.task.state is not TaskState.INPUT_REQUIRED:
            await handle.changed()


@pytest.mark.parametrize("end", ["completed", "cancelled", "forgotten"])
@pytest.mark.parametrize("era", ERAS)
async def test_the_next_process_asks_after_tasks_that_wait_for_input(era: str, end: str, looks: None) -> None:
    server, store = TaskServer(era), MemoryStore()
    server.go.set()
    async with through(server, "/mcp/peer", store) as (gateway, raw):
        task = await Host(raw, era, "job").begin(ask=True)
        await waits(gateway, task["taskId"])
    async with through(server, "/mcp/peer", store) as (gateway, _):
        await gateway.hub.start()
        await waits(gateway, task["taskId"])
        match end:
            case "completed":
                server.answers[task["taskId"]] = {"action": "decline"}
            case "cancelled":
                server.status[task["taskId"]] = "cancelled"
            case _:
                server.status.clear()
        record = await ended(gateway, task["taskId"])
    states = {"completed": TaskState.COMPLETED, "cancelled": TaskState.CANCELED}
    assert record.state is states.get(end, TaskState.FAILED)


@pytest.mark.parametrize("end", ["completed", "cancelled", "forgotten"])
@pytest.mark.parametrize("era", ERAS)
async def test_the_next_process_asks_after_tasks_of_servers(era: str, end: str, looks: None) -> None:
    """The client's session went with the process: what was begun in it and is known nowhere else failed."""
    server, store = TaskServer(era, apart=end == "forgotten"), MemoryStore()
    async with through(server, "/mcp/peer", store) as (_, raw):
        task = await Host(raw, era, "job").begin()
    if end == "cancelled":
        server.status[task["taskId"]] = "cancelled"
    if end == "forgotten" and era == "modern":
        server.status.clear()
    async with through(server, "/mcp/peer", store) as (gateway, _):
        await gateway.hub.start()
        if end == "completed":
            server.asked.clear()
            await server.asked.wait()
            server.go.set()
        record = await ended(gateway, task["taskId"])
    states = {"completed": TaskState.COMPLETED, "cancelled": TaskState.CANCELED}
    assert record.state is states.get(end, TaskState.FAILED)
    if end == "forgotten":
        assert record.fault is not None
        assert record.fault.message == "the gateway was restarted, and peer no longer knows the task"
