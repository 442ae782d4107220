"""kill -9 at random moments, again and again: what was acknowledged is there, nothing works for ever."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from ..conftest import PATIENCE, wait_until
from ..e2e.conftest import Peers, workers_of
from .conftest import Gateway
from .load import LOST, Load, Told

SLOW_TOOL = '{"tool": "slow", "arguments": {"seconds": 1}}|application/json'


def prepared(gateway: Gateway, peers: Peers) -> dict[str, str]:
    """The agents that are called, and what is said to them."""
    gateway.start()
    gateway.as_owner()
    added = [
        {"name": "a2a", "url": peers.a2a, "protocol": "a2a"},
        {"name": "acp", "url": peers.acp, "protocol": "acp", "remote": "slow"},
        {"name": "mcp", "command": peers.mcp_stdio},
    ]
    for spec in added:
        assert gateway.post("/api/agents", spec).status_code == 201
    return {"a2a": "slow 1", "acp": "1", "mcp": SLOW_TOOL}


def sound(home: Path, scratch: Path) -> None:
    """What was left on disk is a whole database. It is looked at as a copy: reading writes, too."""
    scratch.mkdir()
    for file in home.glob("agentgw.db*"):
        shutil.copy(file, scratch)
    db = sqlite3.connect(scratch / "agentgw.db")
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    shutil.rmtree(scratch)


def checked(gateway: Gateway, told: Told, died: float, agents: dict[str, str]) -> None:
    """The books after a start: registrations and keys as they were acknowledged, and every task that was
    written."""
    gateway.as_owner()
    listed = {a["name"] for a in gateway.get("/api/agents").json()}
    assert told.there <= listed
    assert not told.gone & listed
    told.there = listed - agents.keys()
    told.gone -= told.there
    told.maybe.clear()
    for secret in told.keys.values():
        assert gateway.get("/acp/agents", authorization=f"Bearer {secret}").status_code == 200
    for secret in told.revoked.values():
        assert gateway.get("/acp/agents", authorization=f"Bearer {secret}").status_code == 401
    for run_id, at in list(told.runs.items()):
        status = gateway.get(f"/acp/runs/{run_id}").status_code
        if status != 200:
            assert status == 404
            assert run_id not in told.written
            assert abs(died - at) < LOST, f"{run_id} was acknowledged {died - at} s before"
            del told.runs[run_id]


def written(gateway: Gateway) -> set[str]:
    return {id for (id,) in gateway.rows("SELECT id FROM tasks")}


def ended(gateway: Gateway, told: Told) -> None:
    """Nothing works for ever; what did not come to an end of its own says why."""
    for run_id in told.runs:
        run = gateway.settled_run(run_id, 60)
        if run["status"] == "failed":
            assert run["error"]["message"].startswith(("the gateway was restarted, and ", "mcp failed")), run
        else:
            assert run["status"] == "completed", run

    def working() -> list[str]:
        query = "SELECT id FROM tasks WHERE state NOT IN ('completed', 'failed', 'canceled')"
        return [id for (id,) in gateway.rows(query)]

    wait_until("the records say so, too", lambda: not working(), 60)


MANY = pytest.param(40, marks=pytest.mark.slow)


@pytest.mark.parametrize("rounds", [MANY])
def test_the_gateway(gateway: Gateway, peers: Peers, rounds: int, tmp_path: Path) -> None:
    agents = prepared(gateway, peers)
    told = Told()
    for number in range(rounds):
        chance = random.Random(number)
        with Load(gateway, told, agents, f"{number}"):
            time.sleep(chance.uniform(0.02, 1.5))
            told.written = written(gateway)
            died = time.monotonic()
            gateway.kill()
        sound(gateway.home, tmp_path / "copy")
        if chance.random() < 0.5:  # again, while it starts
            gateway.start(ready=False)
            time.sleep(chance.uniform(0.1, 0.8))
            gateway.kill()
        gateway.start()
        checked(gateway, told, died, agents)
    ended(gateway, told)


@pytest.mark.parametrize("rounds", [2, MANY])
def test_with_workers(gateway: Gateway, peers: Peers, rounds: int, tmp_path: Path) -> None:
    """The owner dies, and the workers with it; or a worker, and the owner starts another."""
    gateway.options = ["--workers", 2]
    agents = prepared(gateway, peers)
    told = Told()
    for number in range(rounds):
        chance = random.Random(number)
        owner = number % 2 == 0
        with Load(gateway, told, agents, f"{number}"):
            time.sleep(chance.uniform(0.02, 1.5))
            told.written = written(gateway)
            died = time.monotonic()
            if owner:
                gateway.kill()
            else:
                killed(gateway, chance)
        if owner:
            sound(gateway.home, tmp_path / "copy")
            gateway.start()
        checked(gateway, told, died, agents)
    ended(gateway, told)


def killed(gateway: Gateway, chance: random.Random) -> None:
    """A worker dies; two serve again."""
    victim = chance.choice(workers_of(gateway))
    family = [victim, *victim.children(recursive=True)]
    os.kill(victim.pid, signal.SIGKILL)
    gateway.gone(family)

    def again() -> bool:
        found = workers_of(gateway)
        return len(found) == 2 and victim not in found and all(serves(gateway) for _ in range(8))

    wait_until("another worker serves", again)


def serves(gateway: Gateway) -> bool:
    """On a connection of its own, which any worker may take."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
