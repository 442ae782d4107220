"""The owner file, and which gateway a command finds."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agentgw.cli import owner
from agentgw.gateway.errors import ConfigError
from agentgw.registry.lock import HomeLock

Cli = Any
Fake = Any


def test_written_private_whole_and_removed(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    owner.write(home, url="http://127.0.0.1:8080", token="secret")
    file = home / "owner.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_bytes()) == {
        "pid": os.getpid(), "url": "http://127.0.0.1:8080", "token": "secret",
    }  # fmt: skip
    assert [p.name for p in home.iterdir()] == ["owner.json"]
    owner.remove(home)
    assert list(home.iterdir()) == []


def test_a_wider_file_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    (tmp_path / "owner.json").write_text("{}")
    (tmp_path / "owner.json").chmod(0o644)
    owner.write(tmp_path, url="http://127.0.0.1:8080", token="secret")
    assert stat.S_IMODE((tmp_path / "owner.json").stat().st_mode) == 0o600


def test_another_process_s_file_is_left(tmp_path: Path) -> None:
    file = tmp_path / "owner.json"
    file.write_text(json.dumps({"pid": os.getpid() + 1, "url": "http://127.0.0.1:1", "token": "t"}))
    owner.remove(tmp_path)
    assert file.exists()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"pid": 1}'])
def test_what_is_no_owner_file_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "owner.json").write_text(content)
    assert owner.read(tmp_path) is None


def test_the_home_is_configurable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTGW_HOME", str(tmp_path))
    assert owner.home() == tmp_path
    monkeypatch.delenv("AGENTGW_HOME")
    assert owner.home().name == "agentgw"


AGENT = {
    "name": "echo", "protocol": "acp", "target": "http://127.0.0.1:1", "enabled": True, "health": "ok",
    "description": "says it back", "skills": [],
}  # fmt: skip


def serve_agents(fake: Fake) -> None:
    fake.routes["GET /api/agents"] = lambda exchange: exchange.answer(200, [AGENT])


def test_the_owner_s_gateway_is_used_with_its_token(cli: Cli, fake: Fake) -> None:
    serve_agents(fake)
    owner.write(cli.home, url=fake.url, token="owner-token")
    listed = cli.json("agents", "list")
    assert [agent["name"] for agent in listed] == ["echo"]
    assert fake.asked("GET /api/agents")[0].headers["authorization"] == "Bearer owner-token"


def test_the_environment_names_another_gateway_and_its_key(cli: Cli, fake: Fake) -> None:
    serve_agents(fake)
    owner.write(cli.home, url="http://127.0.0.1:9", token="owner-token")
    assert cli.at(fake.url + "/", "my-key").json("agents", "list")[0]["name"] == "echo"
    assert fake.asked("GET /api/agents")[0].headers["authorization"] == "Bearer my-key"


def test_the_owner_token_never_goes_to_another_gateway(cli: Cli, fake: Fake) -> None:
    serve_agents(fake)
    owner.write(cli.home, url="http://127.0.0.1:9", token="owner-token")
    cli.at(fake.url).json("agents", "list")
    assert all(exchange.headers["authorization"] is None for exchange in fake.seen)


def test_a_remote_gateway_that_does_not_answer_is_an_error(cli: Cli) -> None:
    # Not a loopback address by its name, and yet no packet leaves this machine.
    done = cli.at("http://0.0.0.0:9").run("agents", "list")
    assert done.returncode == 1
    assert "http://0.0.0.0:9 does not answer" in done.stderr
    assert not cli.home.exists()


def test_a_silent_loopback_address_means_this_process(cli: Cli) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        assert cli.at(url).json("agents", "list") == []


def test_a_dead_owner_s_file_means_this_process(cli: Cli) -> None:
    owner.write(cli.home, url="http://127.0.0.1:9", token="stale")
    assert cli.json("agents", "list") == []


async def test_a_gateway_that_is_just_starting_is_waited_for(cli: Cli, fake: Fake) -> None:
    """It has the lock and does not answer yet."""
    fake.routes["POST /api/agents/echo/enable"] = lambda exchange: exchange.answer(200, AGENT)
    healthy = fake.routes["GET /healthz"]

    def starting(exchange: Any) -> None:
        fake.routes["GET /healthz"] = healthy
        exchange.answer(503)

    fake.routes["GET /healthz"] = starting
    owner.write(cli.home, url=fake.url, token="owner-token")
    lock = HomeLock(cli.home, "agentgw serve")
    await lock.acquire(0)
    assert cli.json("agents", "enable", "echo")["name"] == "echo"
    lock.release()


async def test_who_waits_is_told_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agentgw.registry.lock.NOTICE", 0)
    held = HomeLock(tmp_path, "agentgw serve")
    await held.acquire(0)
    with pytest.raises(ConfigError, match="is in use by agentgw serve"):
        await HomeLock(tmp_path, "agentgw agents add").acquire(0.2)
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting up to 0.2 s for agentgw serve (process {os.getpid()}), which uses {tmp_path}"
    ]
    held.release()


async def test_serve_can_be_stopped_while_it_waits(cli: Cli) -> None:
    cli.home.mkdir(parents=True)
    lock = HomeLock(cli.home, "agentgw serve")
    await lock.acquire(0)
    with cli.start("serve", "--port", "0", stderr=subprocess.PIPE) as process:
        assert process.stderr.readline().startswith(b"waiting up to")
        process.terminate()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""
    lock.release()


async def test_another_command_is_waited_for(cli: Cli) -> None:
    cli.home.mkdir(parents=True)
    lock = HomeLock(cli.home, "agentgw agents add")
    await lock.acquire(0)
    with cli.start("keys", "create", "ci", "--json") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        lock.release()
        assert json.loads(process.stdout.read())["name"] == "ci"
    assert process.returncode == 0
