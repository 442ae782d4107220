"""``agentgw connect``: what is printed, and what ``--write`` leaves as it was."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from agentgw.cli import owner
from agentgw.cli.connect import CLIENTS
from agentgw.cli.hosts import HOSTS, PRINTED, Place, document

Cli = Any
Fake = Any

HERE = Place(url="http://127.0.0.1:8080")
KEYED = Place(url="https://gw.example", agent="research", keyed=True)


def test_the_help_names_every_client() -> None:
    assert CLIENTS.split(", ") == [*HOSTS, *PRINTED]


@pytest.mark.parametrize(
    "client, place, wanted",
    [
        ("cursor", HERE, {"mcpServers": {"agentgw": {"url": "http://127.0.0.1:8080/mcp"}}}),
        ("cursor", KEYED, {"mcpServers": {"agentgw-research": {
            "url": "https://gw.example/mcp/research",
            "headers": {"Authorization": "Bearer ${env:AGENTGW_TOKEN}"},
        }}}),
        ("vscode", HERE, {"servers": {"agentgw": {"type": "http", "url": "http://127.0.0.1:8080/mcp"}}}),
        ("vscode", KEYED, {
            "inputs": [{
                "type": "promptString", "id": "agentgw-token", "description": "agentgw key", "password": True,
            }],
            "servers": {"agentgw-research": {
                "type": "http",
                "url": "https://gw.example/mcp/research",
                "headers": {"Authorization": "Bearer ${input:agentgw-token}"},
            }},
        }),
        ("claude-code", HERE, {"mcpServers": {"agentgw": {"type": "http", "url": "http://127.0.0.1:8080/mcp"}}}),
        ("windsurf", HERE, {"mcpServers": {"agentgw": {"serverUrl": "http://127.0.0.1:8080/mcp"}}}),
        ("zed", HERE, {"context_servers": {"agentgw": {"url": "http://127.0.0.1:8080/mcp"}}}),
    ],
)  # fmt: skip
def test_each_host_s_own_form(client: str, place: Place, wanted: Any) -> None:
    assert document(HOSTS[client], place) == wanted


def test_claude_desktop_launches_a_command(cli: Cli) -> None:
    printed = json.loads(cli.run("connect", "claude-desktop", "--agent", "research").stdout)
    server = printed["mcpServers"]["agentgw-research"]
    assert server["command"] == str(cli.script)  # a desktop's path is not a shell's
    assert server["args"] == ["mcp", "--agent", "research"]
    assert server["env"] == {"AGENTGW_HOME": str(cli.home)}  # a host starts it without our environment


def test_claude_code_has_a_command(cli: Cli) -> None:
    assert cli.run("connect", "claude-code").stdout == (
        "claude mcp add --transport http agentgw http://127.0.0.1:8080/mcp\n"
    )


def test_the_running_gateway_s_address_is_used(cli: Cli, fake: Fake) -> None:
    owner.write(cli.home, url=fake.url, token="owner-token")
    printed = cli.run("connect", "cursor")
    assert json.loads(printed.stdout)["mcpServers"]["agentgw"] == {"url": f"{fake.url}/mcp"}
    assert "owner-token" not in printed.stdout + printed.stderr


def test_an_agent_that_the_gateway_does_not_have_is_warned_of(cli: Cli, fake: Fake) -> None:
    agent = {
        "name": "echo",
        "protocol": "acp",
        "target": "",
        "enabled": True,
        "health": "ok",
        "description": "",
    }
    fake.routes["GET /api/agents"] = lambda exchange: exchange.answer(200, [agent])
    owner.write(cli.home, url=fake.url, token="t")
    assert "no agent named other" in cli.run("connect", "cursor", "--agent", "other").stderr
    assert "no agent" not in cli.run("connect", "cursor", "--agent", "echo").stderr


def test_a_remote_gateway_s_key_is_a_reference(cli: Cli) -> None:
    printed = cli.at("https://gw.example", "secret-key").run("connect", "cursor").stdout
    assert "${env:AGENTGW_TOKEN}" in printed
    assert "secret-key" not in printed


@pytest.mark.parametrize("client", ["a2a", "acp", "inspector"])
def test_other_clients_are_told_where_to_point(cli: Cli, client: str) -> None:
    path = {"a2a": "/a2a/research/ ", "acp": "/acp", "inspector": "/mcp/research"}[client]
    assert f"http://127.0.0.1:8080{path}" in cli.run("connect", client, "--agent", "research").stdout


def cursor_file(cli: Cli) -> Path:
    return Path(cli.environment["HOME"]) / ".cursor" / "mcp.json"


def test_write_makes_the_file(cli: Cli) -> None:
    done = cli.run("connect", "cursor", "--write")
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(cursor_file(cli).read_text()) == document(HOSTS["cursor"], HERE)


def test_write_keeps_everything_else(cli: Cli) -> None:
    file = cursor_file(cli)
    file.parent.mkdir(parents=True)
    before = {
        "unknown": [1, {"x": None}],
        "mcpServers": {"other": {"command": "x", "strange": 1.5}, "agentgw": {"url": "http://old"}},
        "last": "ünï",
    }
    file.write_text(json.dumps(before))
    file.chmod(0o600)
    assert cli.run("connect", "cursor", "--write").returncode == 0
    after = json.loads(file.read_text())
    before["mcpServers"]["agentgw"] = {"url": "http://127.0.0.1:8080/mcp"}  # type: ignore[index]
    assert after == before
    assert list(after) == list(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in file.parent.iterdir()] == ["mcp.json"]


def test_write_twice_asks_for_the_key_once(cli: Cli, tmp_path: Path) -> None:
    remote = cli.at("https://gw.example", "key")
    for agent in ("one", "two", "one"):
        assert remote.run("connect", "vscode", "--agent", agent, "--write", cwd=tmp_path).returncode == 0
    written = json.loads((tmp_path / ".vscode" / "mcp.json").read_text())
    assert list(written["servers"]) == ["agentgw-one", "agentgw-two"]
    assert len(written["inputs"]) == 1


@pytest.mark.parametrize("content", ['{\n  // mine\n  "mcpServers": {}\n}', "[1]", '{"mcpServers": 1}', "{"])
def test_write_refuses_what_it_would_spoil(cli: Cli, content: str) -> None:
    file = cursor_file(cli)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    done = cli.run("connect", "cursor", "--write")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert '{"mcpServers":{"agentgw":{"url":"http://127.0.0.1:8080/mcp"}}}' in done.stderr  # to paste
    assert file.read_text() == content


def test_write_follows_a_link(cli: Cli, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text("{}")
    file = cursor_file(cli)
    file.parent.mkdir(parents=True)
    file.symlink_to(real)
    assert cli.run("connect", "cursor", "--write").returncode == 0
    assert file.is_symlink()
    assert "agentgw" in real.read_text()
