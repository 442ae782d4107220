"""Commands that only look, while no gateway runs: they need no room on the disk, and wait for nobody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from agentgw.cli import owner
from agentgw.registry.lock import HomeLock

from ..conftest import PATIENCE
from ..registry.test_reading import crashed, state
from .conftest import Cli

LOOKING = [
    ["agents", "list", "--json"],
    ["agents", "show", "late", "--json"],
    ["keys", "list", "--json"],
    ["traces", "--json"],
]


@pytest.fixture
def home(cli: Cli) -> Path:
    """One whose gateway was killed, with a key."""
    made = cli.run("keys", "create", "ci")
    assert made.returncode == 0, made.stderr
    crashed(cli.home)
    return cli.home


def without_room(cli: Cli, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it where no file can be written, as on a full disk. What it prints goes into pipes."""
    command = ["bash", "-c", 'ulimit -f 0; exec "$@"', "bash", str(cli.script), *words]
    environment = cli.environment | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_a_full_disk_keeps_nobody_from_looking(cli: Cli, home: Path, words: list[str]) -> None:
    before = state(home)
    done = without_room(cli, *words)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    expected = {"agents list": ["late"], "keys list": ["ci"], "traces --json": []}
    if (what := " ".join(words[:2])) in expected:
        assert [entry["name"] for entry in found] == expected[what]
    else:
        assert found["name"] == "late"
    assert state(home) == before


def test_what_changes_something_says_that_it_can_not(cli: Cli, home: Path) -> None:
    """The other commands would not have noticed, if files could be written there."""
    done = without_room(cli, "agents", "disable", "late")
    assert done.returncode != 0
    assert str(home) in done.stderr and done.stderr.count("\n") == 1


def test_no_data_directory_is_no_reason_to_make_one(cli: Cli) -> None:
    assert cli.json("agents", "list") == []
    assert cli.json("keys", "list") == []
    assert not cli.home.exists()


async def test_a_gateway_that_does_not_answer_is_told_of(cli: Cli, home: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        owner.write(home, url=f"http://127.0.0.1:{held.getsockname()[1]}", token="t")
        lock = HomeLock(home, "agentgw serve")
        await lock.acquire(0)
        done = cli.run("agents", "list", "--json")
        assert [agent["name"] for agent in json.loads(done.stdout)] == ["late"]
        assert f"the gateway (process {os.getpid()}) does not answer" in done.stderr
        lock.release()
        assert cli.run("agents", "list", "--json").stderr == ""


async def test_who_looks_waits_for_nobody(cli: Cli, home: Path) -> None:
    lock = HomeLock(home, "agentgw agents add")
    await lock.acquire(0)
    assert [agent["name"] for agent in cli.json("agents", "list")] == ["late"]
    lock.release()
