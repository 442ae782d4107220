"""SIGTERM: what runs may finish, what is new is refused in its protocol's form, who still waits is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..conftest import PATIENCE, wait_until
from ..e2e.conftest import Journal, Peers
from .conftest import Gateway, a2a_message

VERSION = "2026-07-28"
WORDS = "the gateway is stopping; try again in a moment"


def acp_run(agent: str, text: str) -> dict[str, Any]:
    parts = [{"content_type": "text/plain", "content": text}]
    return {"agent_name": agent, "mode": "stream", "input": [{"role": "user", "parts": parts}]}


def rpc(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def mcp_call(tool: str, arguments: dict[str, Any], *, streams: bool = True) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    }
    if streams:
        meta["progressToken"] = 1  # so that the agent is asked to stream, and names its task at once
    return rpc("tools/call", {"name": tool, "arguments": arguments, "_meta": meta})


class Doors:
    """A call at each door, as requests and as what they were answered with."""

    def __init__(self, gateway: Gateway) -> None:
        self._url = gateway.url

    def acp(self, agent: str, text: str) -> tuple[httpx.Response, list[Any]]:
        return self._post("/acp/runs", acp_run(agent, text))

    def a2a(self, agent: str, text: str) -> tuple[httpx.Response, list[Any]]:
        body = rpc("SendStreamingMessage", a2a_message(text))
        return self._post(f"/a2a/{agent}/", body, {"A2A-Version": "1.0"})

    def mcp(self, agent: str, text: str) -> tuple[httpx.Response, list[Any]]:
        return self._mcp(mcp_call(agent, {"message": text}))

    def tool(self, name: str, **arguments: Any) -> tuple[httpx.Response, list[Any]]:
        """Of an MCP server's; nothing comes before the result."""
        return self._mcp(mcp_call(name, arguments, streams=False))

    def _mcp(self, call: dict[str, Any]) -> tuple[httpx.Response, list[Any]]:
        headers = {
            "accept": "application/json, text/event-stream", "MCP-Protocol-Version": VERSION,
            "Mcp-Method": "tools/call", "Mcp-Name": call["params"]["name"],
        }  # fmt: skip
        return self._post("/mcp", call, headers)

    def _post(
        self, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> tuple[httpx.Response, list[Any]]:
        answer = httpx.post(f"{self._url}{path}", json=body, headers=headers, timeout=2 * PATIENCE)
        if answer.headers["content-type"].startswith("text/event-stream"):
            lines = [line for line in answer.text.splitlines() if line.startswith("data:")]
            return answer, [json.loads(line.removeprefix("data:")) for line in lines]
        return answer, [answer.json()]


Call = Callable[[], tuple[httpx.Response, list[Any]]]


class Work:
    """What the agents begin, and end when they may."""

    def __init__(self, journal: Journal, mark: object) -> None:
        self._journal = journal
        self._tokens = [f"{mark}-{number}" for number in range(5)]
        for token in self._tokens:
            journal.hold(token)

    def calls(self, doors: Doors) -> dict[str, Call]:
        """One at each door, and the relays."""
        one, two, three, four, five = self._tokens
        return {
            "acp": lambda: doors.acp("a2a", f"work {one} 2"),
            "a2a": lambda: doors.a2a("acp", f"{two} 2"),
            "mcp": lambda: doors.mcp("a2a", f"work {three} 2"),
            "a2a relay": lambda: doors.a2a("a2a", f"work {four} 2"),
            "acp relay": lambda: doors.acp("acp", f"{five} 2"),
        }

    def goes_on(self) -> None:
        for token in self._tokens:
            self._journal.go(token)


@pytest.fixture
def work(peers: Peers, gateway: Gateway) -> Iterator[Work]:
    made = Work(peers.journal, f"term-{gateway.port}")
    yield made
    made.goes_on()


def under_way(gateway: Gateway, pool: ThreadPoolExecutor, calls: dict[str, Call]) -> dict[str, Future[Any]]:
    """All of them run at the gateway."""
    jobs = {name: pool.submit(call) for name, call in calls.items()}

    def running() -> bool:
        early = {name: job.result()[1] for name, job in jobs.items() if job.done()}
        assert not early
        return gateway.rows("SELECT state FROM tasks") == [("working",)] * len(calls)

    wait_until("all have begun", running)
    return jobs


@pytest.fixture
def doors(gateway: Gateway, peers: Peers) -> Doors:
    gateway.start(AGENTGW_LIMITS__SHUTDOWN_GRACE="1h")
    register(gateway, peers)
    return Doors(gateway)


def register(gateway: Gateway, peers: Peers) -> None:
    for spec in (
        {"name": "a2a", "url": peers.a2a, "protocol": "a2a"},
        {"name": "acp", "url": peers.acp, "protocol": "acp", "remote": "worker"},
    ):
        assert gateway.post("/api/agents", spec).status_code == 201


def draining(gateway: Gateway) -> None:
    gateway.signal()
    wait_until("it drains", lambda: gateway.get("/readyz").status_code == 503)


def test_what_runs_finishes_and_what_is_new_is_refused(gateway: Gateway, doors: Doors, work: Work) -> None:
    with ThreadPoolExecutor() as pool:
        jobs = under_way(gateway, pool, work.calls(doors))
        draining(gateway)
        for call in (doors.acp, doors.a2a, doors.mcp):
            refused, (body,) = call("a2a", "echo x")
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["connection"] == "close"
            said = body.get("error", body)
            assert said["message"] == WORDS, body
        work.goes_on()
        answers = {name: job.result()[1][-1] for name, job in jobs.items()}
    assert gateway.ended() == 0
    assert answers["acp"]["type"] == answers["acp relay"]["type"] == "run.completed"
    for name in ("a2a", "a2a relay"):
        assert answers[name]["result"]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert answers["mcp"]["result"]["structuredContent"]["state"] == "completed"


def test_who_still_waits_is_told(gateway: Gateway, peers: Peers, work: Work) -> None:
    gateway.start(AGENTGW_LIMITS__SHUTDOWN_GRACE="500ms")
    register(gateway, peers)
    doors = Doors(gateway)
    with ThreadPoolExecutor() as pool:
        jobs = under_way(gateway, pool, work.calls(doors))
        gateway.signal()
        answers = {name: job.result()[1][-1] for name, job in jobs.items()}
    assert gateway.ended() == 0
    assert answers["acp"]["type"] == answers["acp relay"]["type"] == "error"
    assert [answer["error"]["message"] for answer in answers.values()] == [WORDS] * 5
    # The agents go on, and the next process picks the tasks up.
    work.goes_on()
    gateway.start()
    query = "SELECT count(*) FROM tasks WHERE state = 'completed'"
    wait_until("all have come to their end", lambda: gateway.rows(query)[0][0] == 5)


def test_an_answer_that_has_not_begun_has_a_status_of_its_own(gateway: Gateway, peers: Peers) -> None:
    gateway.start(AGENTGW_LIMITS__SHUTDOWN_GRACE="300ms")
    assert gateway.post("/api/agents", {"name": "mcp", "url": peers.mcp, "protocol": "mcp"}).is_success
    doors, token = Doors(gateway), f"{gateway.port}-unary"
    with ThreadPoolExecutor() as pool:
        job = pool.submit(doors.tool, "mcp__work", token=token, count=100_000)
        asyncio.run(peers.journal.holds(f"{token} started"))
        gateway.signal()
        answer, (body,) = job.result()
    assert gateway.ended() == 0
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert body["error"]["message"] == WORDS
    asyncio.run(peers.journal.holds(f"{token} stopped"))
