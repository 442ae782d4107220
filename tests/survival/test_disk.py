"""A full disk, data that can't be read or written, a second gateway: one clear line, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..conftest import PATIENCE, wait_until
from ..e2e.conftest import Peers, register
from .conftest import Gateway

SMALL = 16 * 1024  # bytes: less than the database has by then, and more than the gateway logs
ROOT = os.geteuid() == 0  # whom no mode keeps out


def slow(value: Any) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


def refused(gateway: Gateway, **env: str) -> str:
    """The one line with which a start ends, with exit status 2."""
    script, home = gateway.cli.script, gateway.home
    done = subprocess.run(
        [script, "serve", "--port", "0"],
        env={**gateway.cli.environment, **env},
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def registered(gateway: Gateway) -> None:
    """Something is in the books, and the gateway has ended as it should."""
    gateway.start()
    spec = {"name": "kept", "url": "http://127.0.0.1:9/", "protocol": "a2a"}
    assert gateway.post("/api/agents", spec).status_code == 201
    gateway.signal()
    assert gateway.ended() == 0


# --- while it runs ---------------------------------------------------------------------------


def limited(gateway: Gateway, size: int) -> None:
    """No file of the gateway's grows past this: as when the disk is full."""
    _, hard = resource.prlimit(gateway.process.popen.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.popen.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_calls_go_on_while_the_disk_is_full(gateway: Gateway, peers: Peers) -> None:
    gateway.start()
    register(gateway, "a2a", url=peers.a2a, protocol="a2a")
    limited(gateway, SMALL)
    ids = [gateway.run("a2a", f"echo {number}") for number in range(3)]
    wait_until("it says so", lambda: gateway.get("/readyz").json() == {"status": "ready", "store": "failing"})
    assert "\nagentgw_store_failing 1" in gateway.get("/metrics").text
    ids.append(gateway.run("a2a", "echo 3"))
    for run_id in ids:
        assert gateway.settled_run(run_id)["status"] == "completed"
    listed = gateway.a2a("a2a", "ListTasks", {})["result"]["tasks"]
    assert {task["id"] for task in listed} == set(ids)

    spec = {"name": "late", "url": "http://127.0.0.1:9/", "protocol": "a2a"}
    refusal = gateway.post("/api/agents", spec)
    assert refusal.status_code == 500
    said = refusal.json()["error"]["message"]
    assert said.startswith(f"the data in {gateway.home / 'agentgw.db'} can't be used: ")
    assert [a["name"] for a in gateway.get("/api/agents").json()] == ["a2a"]
    done = gateway.cli("agents", "add", "late", spec["url"], "--protocol", "a2a", expect=1)
    assert done.stderr.startswith("agentgw: the data in ")

    limited(gateway, resource.RLIM_INFINITY)
    wait_until("it is written", lambda: gateway.get("/readyz").json() == {"status": "ready"})
    assert gateway.post("/api/agents", spec).status_code == 201
    lines = gateway.process.output.splitlines()
    assert len([line for line in lines if "can't be used" in line]) == 1, lines
    assert len([line for line in lines if "written again" in line]) == 1
    gateway.kill()
    gateway.start()
    for run_id in ids:
        assert gateway.settled_run(run_id)["status"] == "completed"
    assert len(gateway.get("/api/traces").json()) >= len(ids)
    assert {a["name"] for a in gateway.get("/api/agents").json()} == {"a2a", "late"}


@pytest.mark.slow
def test_it_stops_while_the_disk_is_full(gateway: Gateway, peers: Peers) -> None:
    gateway.start()
    register(gateway, "a2a", url=peers.a2a, protocol="a2a")
    limited(gateway, SMALL)
    gateway.run("a2a", "echo x")
    gateway.signal()
    assert gateway.ended() == 0
    assert "Traceback" not in gateway.process.output
    gateway.start()
    assert [a["name"] for a in gateway.get("/api/agents").json()] == ["a2a"]


# --- at the start ----------------------------------------------------------------------------


def test_no_room_for_a_new_registry(gateway: Gateway) -> None:
    script, env = gateway.cli.script, gateway.cli.environment
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 0; exec {script} serve --port 0 2> >(cat >&2)"],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert str(gateway.home) in line


@pytest.mark.skipif(ROOT, reason="modes keep root out of nothing")
def test_a_directory_that_can_only_be_read(gateway: Gateway) -> None:
    registered(gateway)
    gateway.home.chmod(0o500)
    try:
        assert str(gateway.home) in refused(gateway)
    finally:
        gateway.home.chmod(0o700)
    gateway.start()
    assert [a["name"] for a in gateway.get("/api/agents").json()] == ["kept"]


@pytest.mark.slow
def test_a_directory_that_is_a_file(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    line = refused(gateway, AGENTGW_HOME=str(tmp_path / "file"))
    assert str(tmp_path / "file") in line
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("damage", [slow("header"), "page", slow("cut")])
def test_a_damaged_database(gateway: Gateway, damage: str) -> None:
    """It is left as it is, and the line says what to do about it."""
    registered(gateway)
    path = gateway.home / "agentgw.db"
    whole = path.read_bytes()
    match damage:
        case "header":
            path.write_bytes(b"\0" * 100 + whole[100:])
        case "page":
            path.write_bytes(whole[:100] + b"\xff" * 4000 + whole[4100:])
        case _:
            path.write_bytes(whole[: len(whole) // 2])
    damaged = path.read_bytes()
    line = refused(gateway)
    assert str(path) in line
    assert "put back a copy, or move it away" in line
    assert path.read_bytes() == damaged
    done = gateway.cli.run("agents", "list")
    assert done.returncode in (1, 2)
    assert str(path) in done.stderr
    path.write_bytes(whole)
    gateway.start()
    assert [a["name"] for a in gateway.get("/api/agents").json()] == ["kept"]


@pytest.mark.slow
def test_a_database_of_a_newer_version(gateway: Gateway) -> None:
    registered(gateway)
    db = sqlite3.connect(gateway.home / "agentgw.db")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute("PRAGMA user_version = 999")
    db.close()
    assert "newer agentgw" in refused(gateway)
    db = sqlite3.connect(gateway.home / "agentgw.db")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    gateway.start()
    assert [a["name"] for a in gateway.get("/api/agents").json()] == ["kept"]


@pytest.mark.slow
@pytest.mark.parametrize("junk", [b"", b"junk", b"\xff\xfe", b'{"pid": "x"}'])
@pytest.mark.parametrize("file", ["owner.json", "lock"])
def test_files_that_say_who_runs_may_hold_anything(gateway: Gateway, file: str, junk: bytes) -> None:
    registered(gateway)
    (gateway.home / file).write_bytes(junk)
    assert [a["name"] for a in gateway.cli.json("agents", "list")] == ["kept"]
    (gateway.home / file).write_bytes(junk)
    gateway.start()
    assert [a["name"] for a in gateway.get("/api/agents").json()] == ["kept"]


@pytest.mark.slow
@pytest.mark.parametrize("junk", [b"", b"not a key\n", b"\xff\xfe"])
def test_a_damaged_key(gateway: Gateway, junk: bytes) -> None:
    registered(gateway)
    path = gateway.home / "seal.keys"
    whole = path.read_bytes()
    path.write_bytes(junk)
    assert str(path) in refused(gateway)
    assert path.read_bytes() == junk
    path.write_bytes(whole)
    gateway.start()


# --- two of them -----------------------------------------------------------------------------


def test_a_second_gateway_is_refused_and_told_of_the_first(gateway: Gateway) -> None:
    process = gateway.start()
    line = refused(gateway)
    assert f"(process {process.popen.pid})" in line
    assert gateway.url in line
    assert gateway.get("/readyz").status_code == 200
    spec = {"name": "kept", "url": "http://127.0.0.1:9/", "protocol": "a2a"}
    assert gateway.post("/api/agents", spec).status_code == 201


def test_commands_wait_for_one_another(gateway: Gateway) -> None:
    """Without a gateway each takes the directory for its own time."""
    words = [str(gateway.cli.script), "agents", "add"]
    options = ["http://127.0.0.1:9/", "--protocol", "a2a"]
    started = [
        subprocess.Popen([*words, f"a{n}", *options], env=gateway.cli.environment, stderr=subprocess.PIPE)
        for n in range(4)
    ]
    for process in started:
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
    assert [a["name"] for a in gateway.cli.json("agents", "list")] == ["a0", "a1", "a2", "a3"]


@pytest.mark.slow
def test_a_copy_of_the_directory_is_whole(gateway: Gateway, peers: Peers, tmp_path: Path) -> None:
    """Copied as it lies there after a crash, with the write-ahead log."""
    gateway.start()
    register(gateway, "a2a", url=peers.a2a, protocol="a2a")
    run_id = gateway.run("a2a", "echo x")
    gateway.settled_run(run_id)
    query = "SELECT state FROM tasks WHERE id = ?"
    wait_until("it is written", lambda: gateway.rows(query, run_id) == [("completed",)])
    gateway.kill()
    copy = tmp_path / "copy"
    shutil.copytree(gateway.home, copy)
    listed: list[dict[str, Any]] = json.loads(
        gateway.cli("agents", "list", "--json", AGENTGW_HOME=str(copy)).stdout
    )
    assert [a["name"] for a in listed] == ["a2a"]
