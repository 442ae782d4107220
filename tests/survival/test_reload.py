"""The configuration is read again while the gateway runs: all of it, or nothing and why."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import wait_until
from ..e2e.conftest import Peers, workers_of
from .conftest import Gateway


def slow(value: Any) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


class Configured:
    """A gateway with a file."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.path = gateway.home / "config.toml"

    def write(self, *lines: str) -> None:
        self.path.write_text("\n".join(lines) + "\n")

    def start(self, *options: object, **env: str) -> None:
        self.gateway.start("--config", self.path, *options, **env)
        self.gateway.as_owner()

    def reload(self) -> dict[str, Any]:
        answer = self.gateway.post("/api/reload", {})
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def agents(self) -> dict[str, str]:
        return {a["name"]: a["target"] for a in self.gateway.get("/api/agents").json()}

    def at_acp(self) -> set[str]:
        return {agent["name"] for agent in self.gateway.get("/acp/agents?limit=100").json()["agents"]}


@pytest.fixture
def configured(gateway: Gateway) -> Configured:
    return Configured(gateway)


def agent(name: str, url: str, *more: str) -> str:
    return "\n".join([f"[agents.{name}]", f'url = "{url}"', 'protocol = "a2a"', *more])


@pytest.mark.parametrize("workers", [slow(1), 2])
def test_agents_and_limits(configured: Configured, peers: Peers, workers: int) -> None:
    gateway = configured.gateway
    configured.write(agent("one", peers.a2a), agent("two", peers.a2a))
    configured.start("--workers", workers)
    spec = {"name": "stored", "url": peers.a2a, "protocol": "a2a"}
    assert gateway.post("/api/agents", spec).status_code == 201
    running = gateway.run("one", "slow 3")
    removed = gateway.run("two", "slow 2")
    configured.write(
        "[limits]",
        "nesting = 5",
        "[auth]",
        "leeway = '1s'",
        "[server]",
        'hosts = ["gateway.example"]',
        "port = 1",
        agent("one", peers.a2a, 'description = "another"'),
        agent("three", peers.a2a),
        agent("stored", peers.a2a_old),
    )
    assert configured.gateway.http.get("/acp/ping", headers={"host": "gateway.example"}).status_code == 421
    said = configured.reload()
    assert sorted(said["changed"]) == [
        "agents.one", "agents.stored", "agents.three", "agents.two", "limits.nesting", "server.hosts",
    ]  # fmt: skip
    assert sorted(said["restart"]) == ["auth.leeway"]  # --port wins over server.port
    for _ in range(4):  # at whichever worker
        assert configured.at_acp() == {"one", "three", "stored"}
        assert gateway.http.get("/acp/ping", headers={"host": "gateway.example"}).status_code == 200
        deep = gateway.http.post("/acp/runs", content=b'{"a":' + b"[" * 10 + b"]" * 10 + b"}")
        assert deep.status_code == 400
    assert configured.agents["stored"] == peers.a2a_old
    assert gateway.settled_run(running)["status"] == "completed"
    assert gateway.settled_run(removed)["status"] == "completed"
    assert gateway.settled_run(gateway.run("three", "echo x"))["status"] == "completed"
    configured.write(agent("one", peers.a2a))
    configured.reload()
    assert configured.agents == {"one": peers.a2a, "stored": peers.a2a}
    assert configured.reload() == {"changed": [], "restart": [], "warnings": []}


@pytest.mark.parametrize("workers", [slow(1), 2])
def test_limits_that_were_built_in(configured: Configured, peers: Peers, workers: int) -> None:
    """Each of them bounds what comes after the reload, at whichever worker."""
    gateway = configured.gateway
    agents = [agent("one", peers.a2a), agent("away", "http://127.0.0.1:9/")]
    slow = ["[agents.slow]", f'url = "{peers.acp}"', 'protocol = "acp"', 'remote = "slow"']
    public = ["[server]", "allow_anonymous = true"]
    configured.write(*agents, *slow, *public, 'public_url = "https://first.example"')
    configured.start("--workers", workers)
    assert gateway.settled_run(gateway.run("one", "echo x"))["status"] == "completed"
    configured.write(
        "[limits]", "body = 2000", "header = 1000", "circuit_failures = 1", "retries = 0",
        "total_timeout = '500ms'", *public,
        'public_url = "https://gateway.example"', *agents, *slow,
    )  # fmt: skip
    said = configured.reload()
    assert said["restart"] == []
    token = gateway.http.headers["authorization"]

    def fresh(method: str, path: str, **more: Any) -> httpx.Response:
        """On a connection of its own, which any worker may take."""
        headers = {"authorization": token, **more.pop("headers", {})}
        return httpx.request(method, f"{gateway.url}{path}", headers=headers, timeout=30, **more)

    for _ in range(6):
        assert fresh("POST", "/acp/runs", content=b" " * 3000).status_code == 413
        assert fresh("GET", "/acp/ping", headers={"x": "y" * 2000}).status_code == 431
        card = fresh("GET", "/a2a/one/.well-known/agent-card.json").json()
        assert card["supportedInterfaces"][0]["url"] == "https://gateway.example/a2a/one/"

    def left_alone() -> bool:
        """After one failure, at a worker that had one before."""
        said = fresh("POST", "/acp/runs", json=acp_run("away")).text
        return "next try" in said or "is tried again in" in said

    wait_until("the agent is left alone", left_alone)
    late = fresh("POST", "/acp/runs", json=acp_run("slow", "5"))
    assert "did not answer in time" in late.text, late.text


def acp_run(name: str, text: str = "hi") -> dict[str, Any]:
    parts = [{"content_type": "text/plain", "content": text}]
    return {"agent_name": name, "input": [{"role": "user", "parts": parts}]}


@pytest.mark.parametrize("workers", [slow(1), slow(2)])
def test_the_audit_log_moves_ends_and_begins_again(
    configured: Configured, peers: Peers, workers: int, tmp_path: Path
) -> None:
    gateway = configured.gateway
    other = tmp_path / "other.jsonl"

    def asks(path: Path, trace: str) -> bool:
        """Make a call; whether the log tells of it."""
        said = acp_run("one", "echo x")
        gateway.post("/acp/runs", said, traceparent=f"00-{trace}-b7ad6b7169203331-01")
        return path.exists() and trace in path.read_text()

    def told(path: Path, trace: str) -> None:
        wait_until(f"{path.name} tells of it", lambda: asks(path, trace))

    configured.write(agent("one", peers.a2a))
    configured.start("--workers", workers)
    told(gateway.home / "audit.jsonl", "1" * 32)
    configured.write(agent("one", peers.a2a), "[audit]", f'file = "{other}"')
    assert configured.reload()["changed"] == ["audit.file"]
    told(other, "2" * 32)
    assert "2" * 32 not in (gateway.home / "audit.jsonl").read_text()
    configured.write(agent("one", peers.a2a), "[audit]", f'file = "{other}"', "enabled = false")
    assert configured.reload()["changed"] == ["audit.enabled"]
    wait_until("its end is told", lambda: "audit.enabled = false" in other.read_text())
    assert not asks(other, "3" * 32)
    wait_until("its spans are written", lambda: gateway.get(f"/api/traces/{'3' * 32}").status_code == 200)
    configured.write(agent("one", peers.a2a), "[audit]", f'file = "{other}"')
    configured.reload()
    told(other, "4" * 32)
    assert "3" * 32 not in other.read_text()


@pytest.mark.parametrize(
    "line",
    [
        "nesting = 'deep'",
        *map(slow, ["nestin = 5", "[agents.x]", "not TOML", "[agents.Bad_Name]\nurl = 'http://a'"]),
    ],
)
def test_a_bad_file_changes_nothing_and_says_why(configured: Configured, peers: Peers, line: str) -> None:
    gateway = configured.gateway
    configured.write(agent("one", peers.a2a))
    configured.start()
    configured.write(agent("two", peers.a2a), "[limits]", "concurrency = 1", line)
    answer = gateway.post("/api/reload", {})
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message.startswith("nothing was changed: ")
    assert str(configured.path) in message
    assert configured.at_acp() == {"one"}
    done = gateway.cli("reload", expect=1)
    assert done.stderr == f"agentgw: {message}\n"
    gateway.signal(signal.SIGHUP)
    wait_until("the log says why", lambda: message in gateway.process.output)
    assert configured.at_acp() == {"one"}


def test_sighup_and_the_command(configured: Configured, peers: Peers) -> None:
    gateway = configured.gateway
    configured.write(agent("one", peers.a2a))
    configured.start()
    configured.write(agent("two", peers.a2a))
    gateway.signal(signal.SIGHUP)
    wait_until("the other agent is there", lambda: configured.at_acp() == {"two"})
    assert "the configuration was read again: agents.one, agents.two changed" in gateway.process.output
    configured.write(agent("two", peers.a2a), "[server]", "workers = 2")
    done = gateway.cli("reload")
    line = "the configuration was read again: nothing changed; only a restart changes server.workers\n"
    assert done.stdout == line
    gateway.signal()
    assert gateway.ended() == 0
    assert gateway.cli("reload", expect=1).stderr.startswith("agentgw: no gateway is running")


@pytest.mark.slow
def test_who_may(configured: Configured) -> None:
    gateway = configured.gateway
    configured.write("[limits]")
    configured.start()
    key = gateway.post("/api/keys", {"name": "client"}).json()["secret"]
    gateway.http.headers["authorization"] = f"Bearer {key}"
    assert gateway.post("/api/reload", {}).status_code == 403


def test_a_worker_that_is_started_later_has_it_too(configured: Configured, peers: Peers) -> None:
    from .test_kill_loop import serves

    gateway = configured.gateway
    configured.write(agent("one", peers.a2a))
    configured.start("--workers", 2)
    configured.write(agent("two", peers.a2a))
    configured.reload()
    before = workers_of(gateway)
    for worker in before:
        os.kill(worker.pid, signal.SIGKILL)
    gateway.gone(before)
    wait_until("others serve", lambda: len(workers_of(gateway)) == 2 and serves(gateway))
    assert configured.at_acp() == {"two"}
