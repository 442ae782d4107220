"""``agentgw doctor`` as a user runs it: what it says, with which status, and that it changes nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgw import __version__
from agentgw.cli import owner
from agentgw.registry.lock import HomeLock

from ..conftest import PATIENCE, wait_until
from ..registry.test_reading import crashed, state
from .conftest import Cli, Fake
from .test_looking import without_room

LINE = 400  # characters: a finding is a line, not a page


@pytest.fixture
def patient(cli: Cli, tmp_path: Path) -> Cli:
    """One whose port nobody can have taken, and of whose machine nothing shows."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        cli.environment.pop(name, None)
    cli.environment["AGENTGW_SERVER__PORT"] = "0"
    return cli


def found(document: dict[str, Any], check: str) -> list[dict[str, Any]]:
    return [finding for finding in document["findings"] if finding["check"] == check]


def test_nothing_is_wrong_where_nothing_is(patient: Cli) -> None:
    document = patient.json("doctor")
    assert document["ok"] is True
    assert [(f["check"], f["wrong"], f["fix"]) for f in document["findings"]] == [
        ("gateway", False, "agentgw serve")
    ]
    assert not patient.home.exists()
    done = patient.run("doctor")
    assert done.returncode == 0
    first, *lines, last = done.stdout.splitlines()
    assert (first, last) == (f"agentgw {__version__}", "nothing is wrong")
    assert [line.split()[1] for line in lines] == document["checks"]
    assert {line.split()[0] for line in lines} == {"ok", "note"}


def test_each_thing_that_is_wrong_is_a_line_with_its_fix(patient: Cli, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[agents.a]\ncommand = ["no-such-program"]\n[agents.b]\nurl = "http://127.0.0.1:9/"\n')
    patient.environment["AGENTGW_LIMITS__NO"] = "1"
    done = patient.run("doctor", "--config", str(file))
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
    assert [line.split()[1] for line in wrong] == ["configuration", "agents"]
    assert "AGENTGW_LIMITS__NO" in wrong[0] and "no-such-program" in wrong[1]
    assert all(" → " in line and len(line) < LINE for line in wrong)
    assert done.stdout.endswith("2 things are wrong\n")
    assert done.stderr == ""


def test_a_configuration_that_can_not_be_read_is_a_finding(patient: Cli, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for content, said in (("[limits]\nnestin = 5", "did you mean limits.nesting?"), ("[", "not valid TOML")):
        file.write_text(content)
        document = patient.json("doctor", "--config", str(file), status=1)
        (finding,) = found(document, "configuration")
        assert said in finding["problem"] and finding["wrong"]
    document = patient.json("doctor", "--config", str(tmp_path / "none"), status=1)
    assert "none" in found(document, "configuration")[0]["problem"]


def test_wrong_use(cli: Cli) -> None:
    done = cli.run("doctor", "everything")
    assert (done.returncode, done.stdout) == (2, "")


def test_it_changes_nothing_and_needs_no_room(patient: Cli) -> None:
    assert patient.run("keys", "create", "ci").returncode == 0
    crashed(patient.home)
    before = state(patient.home)
    done = without_room(patient, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert state(patient.home) == before
    done = without_room(patient, "doctor")
    assert "needs a key" in done.stdout
    assert state(patient.home) == before


def test_it_prints_no_secret(patient: Cli, tmp_path: Path) -> None:
    key = patient.run("keys", "create", "ci").stdout.strip()
    secret, literal = "s3cret-of-the-environment", "s3cret-in-clear"
    file = tmp_path / "config.toml"
    file.write_text(
        '[agents.a]\nurl = "http://127.0.0.1:9/"\n'
        f'headers = {{ Authorization = "Bearer {literal}", X-Key = "${{GOOD}}", X-Other = "${{BAD}}" }}\n'
    )
    patient.environment |= {"AGENTGW_CONFIG": str(file), "GOOD": secret, "AGENTGW_TOKEN": "t0ken"}
    for words in (["doctor"], ["doctor", "--json"]):
        done = patient.run(*words)
        assert done.returncode == 1
        assert "BAD" in done.stdout
        for hidden in (key, secret, literal, "t0ken"):
            assert hidden not in done.stdout + done.stderr


def test_a_store_that_can_not_be_read(patient: Cli) -> None:
    assert patient.run("keys", "create", "ci").returncode == 0
    path = patient.home / "agentgw.db"
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    before = state(patient.home)
    (finding,) = found(patient.json("doctor", status=1), "data")
    assert str(path) in finding["problem"] and "put back a copy" in finding["fix"]
    assert state(patient.home) == before


def test_a_port_that_somebody_else_has(patient: Cli, fake: Fake) -> None:
    patient.environment["AGENTGW_SERVER__PORT"] = fake.url.rpartition(":")[2]
    fake.routes["GET /healthz"] = lambda exchange: exchange.answer(404)
    (finding,) = found(patient.json("doctor", status=1), "gateway")
    assert "taken by another program" in finding["problem"] and "--port" in finding["fix"]


async def test_a_gateway_that_has_the_directory_and_does_not_answer(patient: Cli) -> None:
    patient.home.mkdir(mode=0o700, parents=True)
    lock = HomeLock(patient.home, "agentgw serve")
    await lock.acquire(0)
    (finding,) = found(patient.json("doctor", status=1), "gateway")
    assert f"process {os.getpid()}" in finding["problem"] and "does not answer" in finding["problem"]
    lock.release()
    assert found(patient.json("doctor"), "gateway")[0]["fix"] == "agentgw serve"


def test_one_that_was_killed(patient: Cli) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        owner.write(patient.home, url=f"http://127.0.0.1:{held.getsockname()[1]}", token="stale")
        (finding,) = found(patient.json("doctor"), "gateway")
    assert "did not end by itself" in finding["problem"]


def test_what_a_running_gateway_of_another_version_says(patient: Cli, fake: Fake) -> None:
    agent = {
        "name": "echo", "protocol": "mcp", "target": "http://127.0.0.1:1/", "enabled": True,
        "health": "needs-auth", "description": "", "detail": "echo wants a login",
    }  # fmt: skip
    fake.routes |= {
        "GET /readyz": lambda exchange: exchange.answer(503, {"status": "not ready", "store": "failing"}),
        "GET /api/gateway": lambda exchange: exchange.answer(200, {"version": "0.0.9", "host": "127.0.0.1"}),
        "GET /api/agents": lambda exchange: exchange.answer(200, [agent]),
        "GET /api/keys": lambda exchange: exchange.answer(200, []),
    }
    owner.write(patient.home, url=fake.url, token="owner-token")
    document = patient.json("doctor", status=1)
    assert document["gateway"] == fake.url
    said = " ".join(finding["problem"] for finding in found(document, "gateway"))
    assert "version 0.0.9" in said and "takes no calls" in said and "can't write" in said
    (finding,) = found(document, "agents")
    assert finding["problem"] == "echo is needs-auth: echo wants a login"
    assert "agentgw agents login echo" in finding["fix"]
    assert all(exchange.command == "GET" for exchange in fake.seen)


def test_a_gateway_elsewhere_that_refuses_the_key(patient: Cli, fake: Fake) -> None:
    refusal = {"error": {"code": "unauthenticated", "message": "the key is not valid"}}
    fake.routes["GET /api/gateway"] = lambda exchange: exchange.answer(401, refusal)
    finding = found(patient.at(fake.url, "mine").json("doctor", status=1), "gateway")[0]
    assert "the key is not valid" in finding["problem"] and "AGENTGW_TOKEN" in finding["fix"]


def test_a_gateway_elsewhere_that_does_not_answer(patient: Cli) -> None:
    # Not a loopback address by its name, and yet no packet leaves this machine.
    (finding,) = found(patient.at("http://0.0.0.0:9").json("doctor", status=1), "gateway")
    assert "http://0.0.0.0:9 does not answer" in finding["problem"]


@pytest.fixture
def served(patient: Cli) -> Iterator[Cli]:
    """A gateway runs."""
    with patient.start("serve") as process:
        wait_until("it is ready", lambda: owner.read(patient.home) is not None)
        yield patient
        process.terminate()
        process.wait(PATIENCE)


def test_beside_a_gateway_that_is_well(served: Cli) -> None:
    document = served.json("doctor")
    here = owner.read(served.home)
    assert here is not None
    assert (document["findings"], document["gateway"]) == ([], here.url)
    done = served.run("doctor")
    assert f"{here.url}, process {here.pid}, version {__version__}" in done.stdout
    assert here.token not in done.stdout
    added = served.run("agents", "add", "gone", "http://127.0.0.1:9/", "--protocol", "a2a")
    assert added.returncode == 0, added.stderr
    (finding,) = found(json.loads(served.run("doctor", "--json").stdout), "agents")
    assert finding["problem"].startswith("gone is down")
    assert "agentgw agents remove gone" in finding["fix"]
