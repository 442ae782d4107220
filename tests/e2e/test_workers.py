"""One gateway of several processes. A request on a new connection lands on any of them: what one began, all
go on with. Each step here goes over a connection of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ..conftest import PATIENCE
from .conftest import register, workers_of

A2A = {"A2A-Version": "1.0"}
MCP = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
TRIES = 8  # connections; all of them land on the worker that is looked for once in 2 ** 8 runs


async def fresh(method: str, url: str, **more: Any) -> httpx.Response:
    """One request on a connection of its own."""
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        return await http.request(method, url, **more)


@asynccontextmanager
async def stream(url: str, **more: Any) -> AsyncGenerator[Any]:
    """The events of a stream on a connection of its own."""
    async with (
        httpx.AsyncClient(timeout=PATIENCE) as http,
        http.stream("POST", url, **more) as answer,
    ):
        yield (
            json.loads(line.removeprefix("data:"))
            async for line in answer.aiter_lines()
            if line.startswith("data:") and line.removeprefix("data:").strip()
        )


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def message(text: str, *, wait: bool = True, **fields: str) -> dict[str, Any]:
    content = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **fields}
    return {"message": content, "configuration": {} if wait else {"returnImmediately": True}}


async def a2a(url: str, method: str, params: dict[str, Any]) -> Any:
    answer = (await fresh("POST", url, json=rpc(method, params), headers=A2A)).json()
    assert "result" in answer, answer
    return answer["result"]


@pytest.fixture(scope="module")
def gateway(launch_gateway: Callable[..., Any], peers: Any) -> Any:
    """Two workers before an A2A agent and an MCP server."""
    started = launch_gateway("--workers", 2)
    started.journal = peers.journal
    for name, url, protocol in (("a2a", peers.a2a, "a2a"), ("mcp", peers.mcp, "mcp")):
        register(started, name, url=url, protocol=protocol)
    return started


async def test_what_is_registered_is_visible_in_every_worker_at_once(gateway: Any, peers: Any) -> None:
    assert len(workers_of(gateway)) == 2
    for number in range(3):
        name = f"new-{number}"
        added = await fresh("POST", f"{gateway.url}/api/agents", json={"name": name, "url": peers.a2a})
        assert added.status_code == 201, added.text
        card = f"{gateway.url}/a2a/{name}/.well-known/agent-card.json"
        found = await asyncio.gather(*(fresh("GET", card) for _ in range(TRIES)))
        assert [answer.status_code for answer in found] == [200] * TRIES
        await fresh("DELETE", f"{gateway.url}/api/agents/{name}")
        gone = await asyncio.gather(*(fresh("GET", card) for _ in range(TRIES)))
        assert [answer.status_code for answer in gone] == [404] * TRIES


async def test_cards_are_signed_by_one_key(gateway: Any) -> None:
    keys = [await fresh("GET", f"{gateway.url}/.well-known/jwks.json") for _ in range(TRIES)]
    assert len({answer.text for answer in keys}) == 1, keys[0].text


async def test_a_task_of_one_worker_is_read_answered_listed_and_cancelled_by_any(gateway: Any) -> None:
    """An A2A client's task at an MCP server: the gateway runs it."""
    url = f"{gateway.url}/a2a/mcp/"
    tool = {"parts": [{"data": {"tool": "work", "arguments": {"token": "w-task", "count": 10_000}}}]}
    params = message("", wait=False)
    params["message"] |= tool
    task = (await a2a(url, "SendMessage", params))["task"]
    await gateway.journal.holds("w-task started")
    seen = await asyncio.gather(*(a2a(url, "GetTask", {"id": task["id"]}) for _ in range(TRIES)))
    assert {t["status"]["state"] for t in seen} <= {"TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}
    listed = await asyncio.gather(*(a2a(url, "ListTasks", {}) for _ in range(TRIES)))
    assert all(task["id"] in [t["id"] for t in page["tasks"]] for page in listed)
    async with stream(url, json=rpc("SubscribeToTask", {"id": task["id"]}), headers=A2A) as events:
        assert (await anext(events))["result"]["task"]["id"] == task["id"]
        ended = await a2a(url, "CancelTask", {"id": task["id"]})
        assert ended["status"]["state"] == "TASK_STATE_CANCELED", ended
        *_, last = [event["result"] async for event in events]
    assert last["statusUpdate"]["status"]["state"] == "TASK_STATE_CANCELED", last
    await gateway.journal.holds("w-task stopped")


@pytest.mark.slow
async def test_an_agent_s_own_task_is_found_by_any_worker(gateway: Any) -> None:
    """Relayed: its id is the agent's."""
    url = f"{gateway.url}/a2a/a2a/"
    for number in range(4):
        task = (await a2a(url, "SendMessage", message(f"work w-relay-{number} 10000", wait=False)))["task"]
        seen = await asyncio.gather(*(a2a(url, "GetTask", {"id": task["id"]}) for _ in range(TRIES)))
        assert {t["id"] for t in seen} == {task["id"]}
        ended = await a2a(url, "CancelTask", {"id": task["id"]})
        assert ended["status"]["state"] == "TASK_STATE_CANCELED", ended


async def test_an_agent_s_task_that_has_ended_is_found_by_any_worker(gateway: Any) -> None:
    """No worker keeps it: whoever is asked finds what was written."""
    url = f"{gateway.url}/a2a/a2a/"
    task = (await a2a(url, "SendMessage", message("echo w-ended")))["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED", task
    seen = await asyncio.gather(*(a2a(url, "GetTask", {"id": task["id"]}) for _ in range(TRIES)))
    assert [(t["id"], t["status"]["state"]) for t in seen] == [(task["id"], "TASK_STATE_COMPLETED")] * TRIES
    late = await fresh("POST", url, json=rpc("CancelTask", {"id": task["id"]}), headers=A2A)
    assert late.json()["error"]["code"] == -32002, late.text


@pytest.mark.parametrize("context", [pytest.param(None, marks=pytest.mark.slow), "chosen-by-the-client"])
async def test_a_conversation_goes_on_wherever_it_lands(gateway: Any, context: str | None) -> None:
    url, said = f"{gateway.url}/a2a/a2a/", f"{context}"
    named = {"contextId": context} if context else {}
    first = await a2a(url, "SendMessage", message(f"remember {said}", **named))
    found = first["task"]["contextId"]
    assert context in (None, found)
    for _ in range(TRIES):
        again = await a2a(url, "SendMessage", message("recall", contextId=found))
        assert said in json.dumps(again), again


async def test_a_session_is_everybody_s(gateway: Any) -> None:
    url = f"{gateway.url}/mcp"
    client = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    for _ in range(3):
        begun = await fresh("POST", url, json=rpc("initialize", client), headers=MCP)
        session = MCP | {"mcp-session-id": begun.headers["mcp-session-id"]}
        answers = await asyncio.gather(
            *(
                fresh("POST", url, json=rpc("tools/list", {}) | {"id": number}, headers=session)
                for number in range(TRIES)
            )
        )
        assert [answer.status_code for answer in answers] == [200] * TRIES
        assert len({json.dumps(answer.json()["result"]) for answer in answers}) == 1
        assert (await fresh("DELETE", url, headers=session)).status_code == 204
        late = [await fresh("POST", url, json=rpc("ping", {}), headers=session) for _ in range(TRIES)]
        assert [answer.status_code for answer in late] == [404] * TRIES


@pytest.mark.slow
async def test_a_session_goes_on_with_what_another_began(gateway: Any) -> None:
    """Its home may be another worker than that of the task, or of the conversation."""
    url = f"{gateway.url}/mcp"
    info = {"name": "t", "version": "1"}
    client = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": info}

    async def call(**arguments: str) -> dict[str, Any]:
        begun = await fresh("POST", url, json=rpc("initialize", client), headers=MCP)
        session = MCP | {"mcp-session-id": begun.headers["mcp-session-id"]}
        params = {"name": "a2a", "arguments": arguments}
        answer = await fresh("POST", url, json=rpc("tools/call", params), headers=session)
        body = answer.text if answer.text.startswith("{") else answer.text.split("data: ")[-1]
        assert answer.headers["mcp-session-id"] == session["mcp-session-id"]
        assert "result" in json.loads(body), answer.text
        return json.loads(body)["result"]

    first = (await call(message="remember swordfish"))["structuredContent"]
    for _ in range(TRIES):
        again = await call(message="recall", context_id=first["context_id"])
        assert "swordfish" in json.dumps(again), again
        back = await call(task_id=first["task_id"], message="")
        assert back["structuredContent"]["state"] == "completed", back


async def test_a_call_of_the_modern_era_goes_on_with_what_another_began(gateway: Any) -> None:
    """A question that is answered, a conversation and a task, each over another connection."""
    about = "io.modelcontextprotocol/"
    meta = {
        f"{about}protocolVersion": "2026-07-28",
        f"{about}clientCapabilities": {"elicitation": {"form": {}}},
        f"{about}clientInfo": {"name": "t", "version": "1"},
    }
    headers = {"accept": MCP["accept"], "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}

    async def call(arguments: dict[str, str], **more: Any) -> dict[str, Any]:
        params = {"name": "a2a", "arguments": arguments, "_meta": meta, **more}
        answer = await fresh(
            "POST",
            f"{gateway.url}/mcp",
            json=rpc("tools/call", params),
            headers=headers | {"mcp-name": "a2a"},
        )
        body = answer.text if answer.text.startswith("{") else answer.text.split("data: ")[-1]
        assert "result" in json.loads(body), answer.text
        return json.loads(body)["result"]

    first = (await call({"message": "remember marlin"}))["structuredContent"]
    for _ in range(TRIES):
        again = await call({"message": "recall", "context_id": first["context_id"]})
        assert "marlin" in json.dumps(again), again
        back = await call({"task_id": first["task_id"], "message": ""})
        assert back["structuredContent"]["state"] == "completed", back
        asked = await call({"message": "ask"})
        (name,) = asked["inputRequests"]
        given = {name: {"action": "accept", "content": {"answer": "teal"}}}
        done = await call({"message": "ask"}, requestState=asked["requestState"], inputResponses=given)
        assert "teal" in json.dumps(done["content"]), done


@pytest.mark.slow
async def test_a_call_of_the_command_line_is_gone_on_with(gateway: Any) -> None:
    for _ in range(3):
        asked = gateway.cli.json("call", "a2a", "ask", expect=3)
        answered = gateway.cli.json("call", "a2a", "teal", "--task", asked["task_id"])
        assert answered["state"] == "completed" and "teal" in answered["text"], answered


async def test_calls_are_counted_and_traced_wherever_they_were_made(gateway: Any) -> None:
    url, trace = f"{gateway.url}/a2a/a2a/", "0af7651916cd43dd8448eb211c80319c"

    async def counted() -> float:
        text = (await fresh("GET", f"{gateway.url}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("agentgw_call_duration_seconds_count")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'agent="a2a"' in line)

    before = await counted()
    headers = A2A | {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    for _ in range(TRIES):
        answer = await fresh("POST", url, json=rpc("SendMessage", message("echo hi")), headers=headers)
        assert "result" in answer.json(), answer.text

    async def traced() -> int:
        spans = (await fresh("GET", f"{gateway.url}/api/traces/{trace}")).json().get("spans", [])
        return sum(span["kind"] == "server" for span in spans)

    async with asyncio.timeout(PATIENCE):  # a call is counted when its answer is on its way
        while await counted() < before + TRIES or await traced() < TRIES:
            pass
    assert await counted() == before + TRIES
    assert await traced() == TRIES


async def states_of(url: str, tasks: list[str]) -> list[str]:
    """As soon as the workers that have them serve again."""
    states: list[str] = []
    async with asyncio.timeout(PATIENCE):
        for id in tasks:
            body = rpc("GetTask", {"id": id})
            while "result" not in (got := (await fresh("POST", url, json=body, headers=A2A)).json()):
                assert "error" in got, got
            states.append(got["result"]["status"]["state"])
    return states


async def test_a_worker_that_dies_is_started_again_and_its_tasks_have_failed(
    start_gateway: Any, peers: Any, until: Any
) -> None:
    gateway = start_gateway("--workers", 2)
    register(gateway, "mcp", url=peers.mcp, protocol="mcp")
    url = f"{gateway.url}/a2a/mcp/"
    tool = {"parts": [{"data": {"tool": "work", "arguments": {"token": "w-killed", "count": 10_000}}}]}
    params = message("", wait=False)
    params["message"] |= tool
    tasks = [(await a2a(url, "SendMessage", params))["task"]["id"] for _ in range(TRIES)]
    before = workers_of(gateway)
    # Written, and so known to the store, before the worker that has them dies.
    assert len((await a2a(url, "ListTasks", {}))["tasks"]) == TRIES
    os.kill(before[0].pid, signal.SIGKILL)
    before[0].wait()
    until("there are two again", lambda: len(workers_of(gateway)) == 2)
    states = await states_of(url, tasks)
    assert set(states) <= {"TASK_STATE_FAILED", "TASK_STATE_WORKING", "TASK_STATE_SUBMITTED"}, states
    lost = states.count("TASK_STATE_FAILED")
    listed = (await a2a(url, "ListTasks", {}))["tasks"]
    assert [t["status"]["state"] for t in listed].count("TASK_STATE_FAILED") == lost
    os.kill(before[1].pid, signal.SIGKILL)
    before[1].wait()
    until("there are two again", lambda: len(workers_of(gateway)) == 2)
    states = await states_of(url, tasks)
    assert states == ["TASK_STATE_FAILED"] * TRIES


async def test_all_drain_and_none_is_left(start_gateway: Any, peers: Any, until: Any) -> None:
    gateway = start_gateway("--workers", 2)
    register(gateway, "a2a", url=peers.a2a, protocol="a2a")
    url, workers = f"{gateway.url}/a2a/a2a/", workers_of(gateway)
    async with stream(url, json=rpc("SendStreamingMessage", message("slow 2")), headers=A2A) as events:
        seen = [await anext(events)]
        os.killpg(gateway.process.popen.pid, signal.SIGTERM)  # as a terminal or a service manager does
        seen += [event async for event in events]
    assert seen[-1]["result"]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED", seen
    assert gateway.process.popen.wait(PATIENCE) == 0, gateway.process.output
    assert not any(worker.is_running() for worker in workers)
    assert not (gateway.cli.home / "owner.json").exists()


def test_workers_end_with_their_owner(start_gateway: Any, until: Any) -> None:
    gateway = start_gateway("--workers", 2)
    workers = until("both are there", lambda: len(found := workers_of(gateway)) == 2 and found)
    os.kill(gateway.process.popen.pid, signal.SIGKILL)
    gateway.process.popen.wait(PATIENCE)
    until("the workers are gone", lambda: not any(worker.is_running() for worker in workers))


async def test_a_key_has_one_rate_whichever_worker_it_reaches(launch_gateway: Callable[..., Any]) -> None:
    limits = {"AGENTGW_LIMITS__RATE": "1/h", "AGENTGW_LIMITS__BURST": "6"}
    gateway = launch_gateway("--workers", 2, **limits)
    answers = [await fresh("GET", f"{gateway.url}/acp/ping") for _ in range(4 * TRIES)]
    assert [answer.status_code for answer in answers].count(200) == 6
    secret = gateway.cli.json("keys", "create", "free", "--rate", "0")["secret"]
    headers = {"Authorization": f"Bearer {secret}"}
    answers = [await fresh("GET", f"{gateway.url}/acp/ping", headers=headers) for _ in range(TRIES)]
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.slow
async def test_so_it_is_with_a_rate_of_its_own(
    launch_gateway: Callable[..., Any],
) -> None:
    gateway = launch_gateway("--workers", 2)
    secret = gateway.cli.json("keys", "create", "slow", "--rate", "1/h")["secret"]
    headers = {"Authorization": f"Bearer {secret}"}
    answers = [await fresh("GET", f"{gateway.url}/acp/ping", headers=headers) for _ in range(4 * TRIES)]
    assert [answer.status_code for answer in answers].count(200) == 10
