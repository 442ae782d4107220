"""After kill -9, what ran at an A2A or ACP agent goes on where it was; the rest has failed, and says why."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import wait_until
from ..e2e.conftest import Journal, Peers, register
from .conftest import Gateway, a2a_message
from .test_term import Doors

COUNT = 60  # pieces of work


def whole(count: int = COUNT) -> str:
    return " ".join(f"p{at}" for at in range(count))


def noted(journal: Journal, line: str) -> None:
    asyncio.run(journal.holds(line))


def started(gateway: Gateway, peers: Peers) -> None:
    gateway.start()
    register(gateway, "a2a", url=peers.a2a, protocol="a2a")
    register(gateway, "acp", url=peers.acp, protocol="acp", remote="worker")


def output(run: dict[str, Any]) -> str:
    return "".join(p["content"] for message in run["output"] for p in message["parts"])


def begun(gateway: Gateway, run_id: str) -> None:
    """The run has said something, and it is written."""
    wait_until("it has begun", lambda: output(gateway.get(f"/acp/runs/{run_id}").json()))
    written(gateway, run_id)


def written(gateway: Gateway, task_id: str) -> None:
    """Events of it are: with the task, or after it."""
    query = """
    SELECT log IS NOT NULL OR EXISTS (SELECT 1 FROM chunks WHERE chunks.n = tasks.n) FROM tasks WHERE id = ?
    """
    wait_until("it is written", lambda: any(row[0] for row in gateway.rows(query, task_id)))


def test_a_run_at_an_a2a_agent_goes_on(gateway: Gateway, peers: Peers) -> None:
    started(gateway, peers)
    peers.journal.hold(f"{gateway.port}-a")
    run_id = gateway.run("a2a", f"work {gateway.port}-a {COUNT}")
    begun(gateway, run_id)
    gateway.kill()
    peers.journal.go(f"{gateway.port}-a")
    gateway.start()
    run = gateway.settled_run(run_id)
    assert run["status"] == "completed", run
    assert output(run) == whole()
    events = gateway.get(f"/acp/runs/{run_id}/events").json()["events"]
    pieces = "".join(e["part"]["content"] for e in events if e["type"] == "message.part")
    assert pieces == whole()
    assert [e["type"] for e in events].count("run.completed") == 1


def test_a_task_at_an_acp_agent_goes_on_for_who_subscribes_again(gateway: Gateway, peers: Peers) -> None:
    started(gateway, peers)
    peers.journal.hold(f"{gateway.port}-b")
    params = a2a_message(f"{gateway.port}-b {COUNT}")
    params["configuration"] = {"returnImmediately": True}
    task = gateway.a2a("acp", "SendMessage", params)["result"]["task"]
    noted(peers.journal, f"{gateway.port}-b started")
    written(gateway, task["id"])
    gateway.kill()
    gateway.start()
    events = gateway.a2a_stream("acp", "SubscribeToTask", {"id": task["id"]})
    results = [next(events)["result"]]
    peers.journal.go(f"{gateway.port}-b")
    results += [event["result"] for event in events]
    assert results[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED", results[-1]
    said = gateway.a2a("acp", "GetTask", {"id": task["id"]})["result"]
    texts = [p["text"] for a in said.get("artifacts", []) for p in a["parts"]]
    assert "".join(texts) == whole(), said


@pytest.mark.slow
def test_what_relays_saw_is_followed_to_its_end(gateway: Gateway, peers: Peers) -> None:
    """Nobody asks after these tasks: the record learns of their end all the same."""
    started(gateway, peers)
    for token in "cd":
        peers.journal.hold(f"{gateway.port}-{token}")
    params = a2a_message(f"work {gateway.port}-c {COUNT}")
    params["configuration"] = {"returnImmediately": True}
    task_id = gateway.a2a("a2a", "SendMessage", params)["result"]["task"]["id"]
    run_id = gateway.run("acp", f"{gateway.port}-d {COUNT}")

    def states() -> set[str]:
        query = "SELECT state FROM tasks WHERE id IN (?, ?)"
        return {state for (state,) in gateway.rows(query, task_id, run_id)}

    wait_until("both are written", lambda: states() and states() <= {"submitted", "working"})
    gateway.kill()
    assert states() <= {"submitted", "working"}
    for token in "cd":
        peers.journal.go(f"{gateway.port}-{token}")
    gateway.start()
    wait_until("both have ended", lambda: states() == {"completed"})


@pytest.mark.slow
def test_what_the_agent_forgot_has_failed(gateway: Gateway, own_a2a: Any, spawn: Any) -> None:
    url, _, agent = own_a2a
    gateway.start()
    register(gateway, "mine", url=url, protocol="a2a")
    run_id = gateway.run("mine", "work e 10000")
    begun(gateway, run_id)
    gateway.kill()
    os.kill(agent.popen.pid, signal.SIGKILL)
    agent.popen.wait()
    gateway.start()
    assert gateway.get(f"/acp/runs/{run_id}").json()["status"] == "in-progress"  # it may come back
    again = spawn("own-a2a-again", agent.popen.args, port=int(url.rsplit(":", 1)[1].strip("/")))
    try:
        run = gateway.settled_run(run_id)
    finally:
        again.stop()
    assert run["status"] == "failed"
    assert run["error"]["message"] == "the gateway was restarted, and mine no longer knows the task"


@pytest.mark.slow
def test_an_agent_that_stays_away_is_waited_for_as_long_as_its_limit(gateway: Gateway, own_a2a: Any) -> None:
    url, _, agent = own_a2a
    gateway.start()
    register(gateway, "mine", url=url, protocol="a2a")
    run_id = gateway.run("mine", "work f 10000")
    begun(gateway, run_id)
    gateway.kill()
    agent.stop(signal.SIGKILL)
    gateway.start(AGENTGW_LIMITS__IDLE_TIMEOUT="1s")
    run = gateway.settled_run(run_id)
    assert run["status"] == "failed"
    assert run["error"]["message"] == "mine did not answer in time"


def test_a_call_of_a_tool_has_failed(gateway: Gateway, peers: Peers) -> None:
    """An MCP server can't be asked what became of a call."""
    gateway.start()
    register(gateway, "tools", command=peers.mcp_stdio)
    run_id = gateway.run("tools", '{"tool": "slow", "arguments": {"seconds": 60}}', "application/json")
    query = "SELECT state FROM tasks WHERE id = ?"
    wait_until("it is written", lambda: gateway.rows(query, run_id))
    gateway.kill()
    gateway.start()
    run = gateway.settled_run(run_id)
    assert run["status"] == "failed", run
    assert run["error"]["message"].startswith("the gateway was restarted, and ")


def test_a_call_for_one_whole_answer_does_not_work_for_ever(gateway: Gateway, peers: Peers) -> None:
    """The agent has not said what it calls the task. Translated, the call has failed; relayed, there is
    nothing in the record: its client knows that it was cut off. The agent goes on."""
    started(gateway, peers)
    doors, relayed, translated = Doors(gateway), f"{gateway.port}-k", f"{gateway.port}-l"
    for token in (relayed, translated):
        peers.journal.hold(token)
    with ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(gateway.a2a, "a2a", "SendMessage", a2a_message(f"work {relayed} 2")),
            pool.submit(doors.tool, "a2a", message=f"work {translated} 2"),
        ]
        for token in (relayed, translated):
            noted(peers.journal, f"{token} started")
        wait_until("one is written", lambda: gateway.rows("SELECT state FROM tasks") == [("submitted",)])
        gateway.kill()
        for call in calls:
            assert isinstance(call.exception(), httpx.TransportError)
    for token in (relayed, translated):
        peers.journal.go(token)
    gateway.start()
    wait_until("it has failed", lambda: gateway.rows("SELECT state FROM tasks") == [("failed",)])
    ((stored,),) = gateway.rows("SELECT value FROM tasks")
    assert b"the gateway was restarted, and a2a had not said yet how to find the task again" in stored
    (listed,) = gateway.a2a("a2a", "ListTasks", {})["result"]["tasks"]
    assert listed["status"]["state"] == "TASK_STATE_FAILED"
    for token in (relayed, translated):
        noted(peers.journal, f"{token} finished")


# --- what can't be read ------------------------------------------------------------------------

UNREADABLE = b'{"task": {"secret-word": 1'


def damaged(home: Path, statement: str, task_id: str) -> None:
    """What is kept of one task there is cut off, as on a bad disk, and says what nobody else may hear."""
    db = sqlite3.connect(home / "agentgw.db")
    with db:
        (number,) = db.execute("SELECT n FROM tasks WHERE id = ?", (task_id,)).fetchone()
        db.execute(statement, {"n": number, "value": UNREADABLE})
    db.close()


def test_what_cannot_be_read_takes_no_other_task_along(gateway: Gateway, peers: Peers) -> None:
    """Nobody asks for any of them: the readable ones are picked up all the same."""
    started(gateway, peers)
    tokens = [f"{gateway.port}-{name}" for name in ("g", "h", "i", "j")]
    for token in tokens:
        peers.journal.hold(token)
    runs = [gateway.run("a2a", f"work {token} {COUNT}") for token in tokens]
    for run_id in runs:
        begun(gateway, run_id)
    first, eventless, unreadable, last = runs
    gateway.kill()
    damaged(gateway.home, "UPDATE tasks SET value = :value WHERE n = :n", unreadable)
    damaged(gateway.home, "INSERT INTO chunks VALUES (:n, 1000000, :value)", eventless)
    for token in tokens:
        peers.journal.go(token)
    gateway.start()

    def states() -> dict[str, str]:
        return dict(gateway.rows("SELECT id, state FROM tasks"))

    wait_until("the others have ended", lambda: states()[first] == states()[last] == "completed")
    wait_until("what lost its events has, too", lambda: states()[eventless] == "failed")
    assert gateway.rows("SELECT value FROM tasks WHERE id = ?", unreadable) == [(UNREADABLE,)]

    why = "the gateway was restarted, and what was kept of the call can't be read"
    assert gateway.get(f"/acp/runs/{eventless}").json()["error"]["message"] == why
    for _ in range(2):
        answer = gateway.get(f"/acp/runs/{unreadable}")
        assert answer.status_code == 500
        assert "secret-word" not in answer.text
    listed = gateway.a2a("a2a", "ListTasks", {})["result"]["tasks"]
    assert {task["id"] for task in listed} == {first, eventless, last}
    lines = [line for line in gateway.process.output.splitlines() if "can't be read" in line]
    assert len([line for line in lines if unreadable in line]) == 1, lines
    assert len([line for line in lines if eventless in line]) == 1, lines
    assert "secret-word" not in gateway.process.output
