"""What a web page, a wrong name or hostile text can do: nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

DOORS = ["/", "/mcp", "/mcp/mcp-http", "/a2a/a2a/", "/acp/runs", "/runs"]
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}
HOSTILE = '<script>alert("x")</script>'


@pytest.mark.parametrize("path", DOORS)
def test_foreign_origin_is_refused(path: str, gateway: Any) -> None:
    headers = {**ACCEPT, "Origin": "https://evil.example"}
    assert httpx.post(gateway.url + path, json=CALL, headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/", "/api/agents", "/acp/agents", "/.well-known/agent-card.json"])
def test_foreign_origin_cannot_read(path: str, gateway: Any) -> None:
    assert httpx.get(gateway.url + path, headers={"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://localhost:{port}"])
def test_own_origin_is_served(origin: str, gateway: Any) -> None:
    headers = {"Origin": origin.format(port=gateway.port)}
    assert httpx.get(f"{gateway.url}/acp/agents", headers=headers).status_code == 200


@pytest.mark.parametrize("path", [*DOORS, "/api/agents", "/.well-known/agent-card.json"])
def test_wrong_host_is_refused(path: str, gateway: Any) -> None:
    headers = {**ACCEPT, "Host": "evil.example"}
    assert httpx.get(gateway.url + path, headers=headers).status_code in (400, 403, 421)
    assert httpx.post(gateway.url + path, json=CALL, headers=headers).status_code in (400, 403, 421)


def test_forwarded_host_is_not_believed(gateway: Any) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    assert (
        "evil.example"
        not in httpx.get(f"{gateway.url}/a2a/a2a/.well-known/agent-card.json", headers=headers).text
    )


def test_page_is_guarded_and_escaped(start_gateway: Any, peers: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f"[agents.hostile]\nurl = {json.dumps(peers.a2a)}\nprotocol = 'a2a'\ndescription = '{HOSTILE}'\n"
    )
    gateway = start_gateway("--config", config)
    page = httpx.get(f"{gateway.url}/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert HOSTILE not in page.text
    assert page.headers["x-content-type-options"] == "nosniff"
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy and "unsafe-eval" not in policy


@pytest.mark.parametrize("path", ["/api/agents", "/acp/agents", "/healthz"])
def test_answers_are_not_sniffed(path: str, gateway: Any) -> None:
    assert httpx.get(gateway.url + path).headers["x-content-type-options"] == "nosniff"


def test_a_stdio_command_needs_the_owner(gateway: Any, tmp_path: Path) -> None:
    """Whoever can reach the port but not the data directory starts no process."""
    mark = tmp_path / "mark"
    body = {"name": "evil", "command": ["touch", str(mark)], "protocol": "mcp"}
    answer = httpx.post(f"{gateway.url}/api/agents", json=body)
    assert answer.status_code in (401, 403), answer.text
    assert not mark.exists()


def test_owner_file_is_private(gateway: Any) -> None:
    assert (gateway.cli.home / "owner.json").stat().st_mode & 0o777 == 0o600
