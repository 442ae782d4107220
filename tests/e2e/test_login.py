"""``agentgw agents login`` for a hosted MCP server: the official SDK's, with a real authorization server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import PATIENCE
from ..support.oauth import AuthServer
from .conftest import PEERS


@dataclass
class Scene:
    gateway: Any
    server: AuthServer
    url: str

    def call(self, expect: int = 0) -> Any:
        return self.gateway.cli.json(
            "call", "hosted", "--skill", "note", "--data", '{"text": "milk"}', expect=expect
        )

    def health(self) -> str:
        return self.gateway.cli.json("agents", "show", "hosted")["health"]

    def login(self, *options: str, visit: Callable[[str], Any] | None = None) -> tuple[int, str]:
        """The command, with a browser that goes where it is sent; its exit status and output."""
        cli = self.gateway.cli
        words = [cli.script, "agents", "login", "hosted", "--no-browser", *options]
        with subprocess.Popen(
            words, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as command:
            assert command.stdout is not None
            lines = []
            for line in command.stdout:
                lines.append(line)
                if line.startswith("http"):
                    (visit or (lambda url: httpx.get(url, follow_redirects=True)))(line.strip())
            return command.wait(PATIENCE), "".join(lines)


@pytest.fixture(params=["1", pytest.param("2", marks=pytest.mark.slow)], ids=["one process", "two workers"])
def scene(
    request: pytest.FixtureRequest,
    start_gateway: Callable[..., Any],
    spawn: Any,
    free_port: Callable[[], int],
    until: Callable[..., Any],
) -> Iterator[Scene]:
    with AuthServer().running() as server:
        port = free_port()
        words = [sys.executable, PEERS / "mcp_hosted.py", "--port", port, "--issuer", server.url]
        hosted = spawn("hosted", words, port=port)
        gateway = start_gateway(AGENTGW_SERVER__WORKERS=request.param)
        until("the gateway is ready", gateway.cli.home.joinpath("owner.json").exists)
        yield Scene(gateway, server, f"http://127.0.0.1:{port}/mcp")
        hosted.stop()


def test_from_the_first_login_to_the_logout(
    scene: Scene, start_gateway: Callable[..., Any], until: Callable[..., Any]
) -> None:
    cli, server = scene.gateway.cli, scene.server
    added = cli.json("agents", "add", "hosted", scene.url, "--protocol", "mcp")
    assert (added["health"], added["login"]) == ("needs-auth", False)
    assert "agentgw agents login hosted" in added["detail"]
    refused = scene.call(expect=1)
    assert refused["error"]["code"] == "upstream_unauthorized"
    assert "agentgw agents login hosted" in refused["error"]["message"]

    status, said = scene.login()
    assert status == 0, said
    assert "health ok" in said and "1 skill" in said
    assert scene.call()["text"] == "noted: milk"
    shown = cli.json("agents", "show", "hosted")
    assert (shown["health"], shown["login"], len(shown["skills"])) == ("ok", True, 1)
    (asked,) = server.authorizations
    assert asked["resource"] == scene.url and asked["scope"] == "notes"
    assert {form["resource"] for form in server.forms} == {scene.url}
    (registered,) = server.registrations
    assert registered["redirect_uris"][0].startswith("http://127.0.0.1:")

    # The access token ends: it is refreshed, each refresh token is used once, and calls are none the wiser.
    for _ in range(3):
        server.expire()
        assert scene.call()["text"] == "noted: milk"
    refreshed = [form for form in server.forms if form["grant_type"] == "refresh_token"]
    assert len(refreshed) == 3 and not server.reused

    # Everything is revoked: a clear error, needs-auth, and the next login makes it good again.
    server.revoke()
    assert "agentgw agents login hosted" in scene.call(expect=1)["error"]["message"]
    until("needs-auth", lambda: scene.health() == "needs-auth")
    status, said = scene.login()
    assert status == 0, said
    server.reused = False  # the revoked one was tried
    assert scene.call()["text"] == "noted: milk"

    # Nobody but the owner logs in or out.
    for path in ("login", "logout"):
        body = {"redirect_uri": "http://127.0.0.1:1/callback"}
        answer = httpx.post(f"{scene.gateway.url}/api/agents/hosted/{path}", json=body)
        assert answer.status_code in (401, 403)

    # A gateway that is started again goes on with the tokens, which lie in no file in clear.
    scene.gateway.process.stop()
    files = [path for path in cli.home.rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files) + scene.gateway.process.output.encode()
    assert server.issued and not any(token.encode() in content for token in server.issued)
    # Without one, a command does what the gateway did, and what it refreshes is good for the next.
    assert scene.call()["text"] == "noted: milk"
    server.expire()
    assert scene.call()["text"] == "noted: milk"
    scene.gateway = start_gateway(home=cli.home)
    cli = scene.gateway.cli
    until("the gateway is ready", cli.home.joinpath("owner.json").exists)
    assert scene.call()["text"] == "noted: milk"
    server.expire()
    assert scene.call()["text"] == "noted: milk" and not server.reused

    assert cli.json("agents", "logout", "hosted")["health"] == "needs-auth"
    assert not server.refresh
    assert "agentgw agents login hosted" in scene.call(expect=1)["error"]["message"]
    assert "nobody is logged in" in cli("agents", "logout", "hosted", expect=1).stderr


@pytest.mark.slow
def test_a_login_that_goes_wrong_changes_nothing(scene: Scene, tmp_path: Path) -> None:
    scene.gateway.cli.json("agents", "add", "hosted", scene.url, "--protocol", "mcp")

    def denied(url: str) -> None:
        asked = httpx.URL(url).params
        back = asked["redirect_uri"]
        # What does not belong to this login is passed over, and the wait goes on.
        assert httpx.get(back, params={"code": "x", "state": "another"}).status_code == 404
        httpx.get(back, params={"error": "access_denied", "state": asked["state"], "iss": scene.server.url})

    status, said = scene.login(visit=denied)
    assert status == 1 and "access_denied" in said
    assert scene.health() == "needs-auth"

    scene.server.iss = "https://evil.example"
    status, said = scene.login()
    assert status == 1 and "another authorization server" in said
    assert scene.health() == "needs-auth" and not scene.server.access
