"""OAuth towards agents: the gateway's token is fetched once, renewed, replaced, and never anybody else's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..support.oauth import AuthServer, Guard

SECRET = "s3cret/with+signs:and%more"
AGENTS = ["mcp", "a2a", "acp"]


@dataclass
class Scene:
    gateway: Any
    server: AuthServer
    guards: dict[str, Guard]
    config: Path

    def text(self, agent: str) -> str:
        """What an agent answers to "hello", at A2A's door."""
        data = {"tool": "echo", "arguments": {"text": "hello"}}
        part = {"data": data} if agent == "mcp" else {"text": "echo hello"}
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [part]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
        headers = {"A2A-Version": "1.0"}
        answer = httpx.post(f"{self.gateway.url}/a2a/{agent}/", json=body, headers=headers).json()
        task = answer.get("result", {}).get("task", {})
        state = task.get("status", {}).get("state")
        return (
            json.dumps(task) if state == "TASK_STATE_COMPLETED" else f"failed: {answer.get('error', state)}"
        )

    def fails(self, agent: str) -> Any:
        return self.gateway.cli.json("call", agent, *said(agent), expect=1)


def said(agent: str) -> list[str]:
    return ["--skill", "echo", "--data", '{"text": "hello"}'] if agent == "mcp" else ["echo hello"]


@pytest.fixture(params=[pytest.param("1", marks=pytest.mark.slow), "2"], ids=["one process", "two workers"])
def scene(
    request: pytest.FixtureRequest,
    peers: Any,
    start_gateway: Callable[..., Any],
    tmp_path: Path,
    until: Callable[..., Any],
) -> Iterator[Scene]:
    """A gateway whose three agents want a token that it gets with client credentials."""
    with ExitStack() as stack:
        server = stack.enter_context(AuthServer(clients={"agent gw": SECRET}).running())
        places = {"mcp": (peers.mcp, "/mcp"), "a2a": (peers.a2a, "/"), "acp": (peers.acp, "")}
        guards, lines = {}, []
        (tmp_path / "secret").write_text(SECRET + "\n")
        for name, (url, path) in places.items():
            guard = Guard(url.removesuffix(path).rstrip("/"), server)
            guards[name] = stack.enter_context(guard.running())
            remote = 'remote = "echo"\n' if name == "acp" else ""
            lines.append(
                f'[agents.{name}]\nurl = "{guard.url}{path}"\nprotocol = "{name}"\n{remote}'
                f'[agents.{name}.oauth]\ntoken_url = "{server.url}/token"\nclient_id = "agent gw"\n'
                f'client_secret = "${{file:{tmp_path}/secret}}"\nscope = "use:{name}"\n'
            )
        config = tmp_path / "config.toml"
        config.write_text("".join(lines))
        gateway = start_gateway(AGENTGW_CONFIG=str(config), AGENTGW_SERVER__WORKERS=request.param)
        until("the gateway is ready", gateway.cli.home.joinpath("owner.json").exists)
        yield Scene(gateway, server, guards, config)


def test_calls_work_expire_and_fail_clearly(scene: Scene, until: Callable[..., Any]) -> None:
    for name in AGENTS:
        assert "hello" in scene.gateway.cli.json("call", name, *said(name))["text"], name
        assert "hello" in scene.text(name), name
    assert {form["scope"] for form in scene.server.forms} == {f"use:{name}" for name in AGENTS}
    assert len(scene.server.forms) == len(AGENTS), "one token for each agent, however many calls and workers"

    with ThreadPoolExecutor(3) as pool:
        assert all("hello" in text for text in pool.map(scene.text, AGENTS * 2))
    assert len(scene.server.forms) == len(AGENTS)

    # The server forgets its tokens: each is replaced once, and the calls are none the wiser.
    scene.server.expire()
    with ThreadPoolExecutor(3) as pool:
        assert all("hello" in text for text in pool.map(scene.text, AGENTS * 2))
    assert len(scene.server.forms) == 2 * len(AGENTS)

    # It takes the secret no more: a clear error in the client's form, and the health says what is wrong.
    scene.server.clients["agent gw"] = "another"
    scene.server.expire()
    for name in AGENTS:
        failed = scene.fails(name)
        assert failed["error"]["code"] == "upstream_unauthorized", failed
        assert "the agent wants a token" in failed["error"]["message"]
    for name in AGENTS:
        shown = until("needs-auth", lambda name=name: _needs_auth(scene, name))
        assert "invalid_client" in shown["detail"]
    everything = scene.gateway.process.output + json.dumps(scene.gateway.cli.json("agents", "list"))
    assert SECRET not in everything and not any(token in everything for token in scene.server.issued)

    # The operator puts the new secret into the file: no restart is needed.
    (scene.config.parent / "secret").write_text("another\n")
    for name in AGENTS:
        assert until("it works again", lambda name=name: _works(scene, name))
        assert scene.gateway.cli.json("agents", "check", name)["health"] == "ok"


def _needs_auth(scene: Scene, name: str) -> Any:
    shown = scene.gateway.cli.json("agents", "show", name)
    return shown if shown["health"] == "needs-auth" else None


def _works(scene: Scene, name: str) -> bool:
    return "TASK_STATE_COMPLETED" in scene.text(name)


def test_agents_are_added_with_client_credentials(
    peers: Any, start_gateway: Callable[..., Any], until: Callable[..., Any]
) -> None:
    with AuthServer(clients={"me": SECRET}).running() as server, ExitStack() as stack:
        guard = stack.enter_context(Guard(peers.mcp.removesuffix("/mcp"), server).running())
        gateway = start_gateway(CLIENT_SECRET=SECRET)
        until("the gateway is ready", gateway.cli.home.joinpath("owner.json").exists)
        words = ["agents", "add", "tools", f"{guard.url}/mcp", "--oauth-token-url", f"{server.url}/token"]
        words += ["--oauth-client-id", "me", "--oauth-client-secret"]
        clear = gateway.cli.run(*words, "x")
        assert clear.returncode == 2 and "must be a reference" in clear.stderr
        unset = gateway.cli.run(*words, "${NOT_SET}")
        assert unset.returncode == 1 and "NOT_SET" in unset.stderr
        added = gateway.cli.json(*words, "${CLIENT_SECRET}")
        assert (added["protocol"], added["health"]) == ("mcp", "ok")
        assert added["oauth"]["client_secret"] == "${CLIENT_SECRET}"
        called = gateway.cli.json("call", "tools", "--skill", "echo", "--data", '{"text": "hello"}')
        assert "hello" in called["text"]
        assert len(server.forms) == 1


def test_whoever_shares_a_token_needs_nobody_else(
    peers: Any, start_gateway: Callable[..., Any], until: Callable[..., Any]
) -> None:
    with AuthServer(clients={"me": SECRET}).running() as server, ExitStack() as stack:
        guard = stack.enter_context(Guard(peers.a2a.rstrip("/"), server).running())
        gateway = start_gateway(CLIENT_SECRET=SECRET, AGENTGW_SERVER__WORKERS="2")
        until("the gateway is ready", gateway.cli.home.joinpath("owner.json").exists)
        words = [f"{guard.url}/", "--oauth-token-url", f"{server.url}/token", "--oauth-client-id", "me"]
        for name in ("first", "second"):
            gateway.cli.json("agents", "add", name, *words, "--oauth-client-secret", "${CLIENT_SECRET}")
        assert "hello" in gateway.cli.json("call", "second", "echo hello")["text"]
        assert len(server.forms) == 1
        assert gateway.cli.run("agents", "remove", "first").returncode == 0
        server.expire()
        assert "hello" in gateway.cli.json("call", "second", "echo hello")["text"]
