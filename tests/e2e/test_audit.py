"""The audit log of a real gateway: who asked for what at every door, and what an operator changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import PATIENCE
from ..support.forked import Forked
from .conftest import Cli

SECRET = "the-words-of-the-message"
SAID = f"echo {SECRET}"
MCP = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def recorded(gateway: Any, event: str) -> list[dict[str, Any]]:
    """In the order in which it happened: workers write when each has time."""
    lines = map(json.loads, (gateway.cli.home / "audit.jsonl").read_text().splitlines())
    return sorted((line for line in lines if line["event"] == event), key=lambda line: line["time"])


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_what_happened_is_in_the_file_and_what_was_said_is_not(
    workers: int, start_gateway: Any, peers: Any
) -> None:
    gateway = start_gateway("--workers", workers, AGENTGW_TRACING__SAMPLING="0")
    home = gateway.cli.home
    gateway.cli("agents", "add", "a2a", peers.a2a, "--header", f"X-Key: {SECRET}")
    gateway.cli("agents", "add", "mcp", peers.mcp)
    gateway.cli("agents", "disable", "mcp")
    gateway.cli("agents", "enable", "mcp")
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": SAID}]}
    call = {"name": "a2a", "arguments": {"message": SAID}, "_meta": META}
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE) as http:
        headers = {**MCP, "mcp-method": "tools/call", "mcp-name": "a2a"}
        asked = http.post("/mcp", json=rpc("tools/call", call), headers=headers)
        assert asked.json()["result"]["structuredContent"]["state"] == "completed", asked.text
        sent = http.post(
            "/a2a/a2a/", json=rpc("SendMessage", {"message": message}), headers={"A2A-Version": "1.0"}
        )
        task = sent.json()["result"]["task"]["id"]
        http.post("/a2a/a2a/", json=rpc("CancelTask", {"id": task}), headers={"A2A-Version": "1.0"})
        parts = [{"content_type": "text/plain", "content": SAID}]
        run = {"agent_name": "a2a", "input": [{"role": "user", "parts": parts}]}
        assert http.post("/acp/runs", json=run).json()["status"] == "completed"
        assert http.get("/acp/agents", headers={"origin": f"https://{SECRET}.example"}).status_code == 403
        http.post("/api/agents", json={"name": "x", "command": ["true"]})
    gateway.cli("call", "a2a", SAID)
    gateway.cli("agents", "remove", "mcp")
    secret = gateway.cli.json("keys", "create", "mine", "--agents", "a2a")["secret"]
    bearer = {"authorization": f"Bearer {secret}"}
    assert (
        httpx.post(f"{gateway.url}/acp/runs", json=run, headers=bearer, timeout=PATIENCE).status_code == 200
    )
    assert httpx.get(f"{gateway.url}/acp/agents").status_code == 401
    gateway.cli("keys", "revoke", "mine")
    assert gateway.process.stop() == 0

    (with_key,) = [call for call in recorded(gateway, "call") if call["principal"].startswith("key:")]
    assert (with_key["key"], with_key["operation"]) == ("mine", "POST /runs")
    others = [call for call in recorded(gateway, "call") if call != with_key]
    calls = {(line["door"], line["operation"]): line for line in others}
    for key in (
        ("mcp", "tools/call"),
        ("a2a", "SendMessage"),
        ("acp", "POST /runs"),
        ("cli", "invoke_agent"),
    ):
        line = calls[key]
        assert (line["agent"], line["outcome"]) == ("a2a", "completed"), line
        assert line["task"] and line["trace"] and line["ms"] > 0, line
        assert line["principal"] == ("owner" if key[0] == "cli" else "anonymous")
    assert calls["a2a", "SendMessage"]["task"] == task
    assert (calls["a2a", "CancelTask"]["task"], calls["a2a", "CancelTask"]["error"]) == (task, "agent_error")
    changes = [(c["operation"], c.get("subject", ""), c["principal"]) for c in recorded(gateway, "change")]
    assert changes == [
        ("POST /api/agents", "a2a", "owner"),
        ("POST /api/agents", "mcp", "owner"),
        ("POST /api/agents/mcp/disable", "", "owner"),
        ("POST /api/agents/mcp/enable", "", "owner"),
        ("DELETE /api/agents/mcp", "", "owner"),
        ("POST /api/keys", "mine", "owner"),
        ("POST /api/keys/mine/revoke", "", "owner"),
    ]
    refused = recorded(gateway, "refused")
    assert (refused[0]["operation"], refused[0]["principal"]) == ("GET /acp/agents", "anonymous")
    assert {(r["status"], r["peer"]) for r in refused} == {(403, "127.0.0.1"), (401, "127.0.0.1")}
    assert sum(r["count"] for r in refused) == 3
    whole = (home / "audit.jsonl").read_text()
    assert SECRET not in whole
    assert secret not in whole
    assert not any(word in whole for word in ("Bearer", "X-Key"))
    assert (home / "audit.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_no_file_where_none_is_wanted(start_gateway: Any) -> None:
    gateway = start_gateway(AGENTGW_AUDIT__ENABLED="false")
    assert httpx.get(f"{gateway.url}/acp/agents").status_code == 200
    assert gateway.process.stop() == 0
    assert not (gateway.cli.home / "audit.jsonl").exists()


def test_a_file_that_can_not_be_written_stops_no_call(start_gateway: Any) -> None:
    gateway = start_gateway(AGENTGW_AUDIT__FILE="/missing/place/audit.jsonl")
    assert httpx.get(f"{gateway.url}/acp/agents").status_code == 200
    assert gateway.process.stop() == 0


@pytest.mark.slow
def test_what_is_changed_without_a_gateway_is_recorded_too(
    agentgw: Path, forked: Forked, tmp_path: Path
) -> None:
    cli = Cli(agentgw, tmp_path, forked)
    cli("agents", "add", "x", "http://127.0.0.1:9", "--protocol", "acp")
    cli("agents", "disable", "x")
    cli("agents", "list")
    secret = cli.json("keys", "create", "mine")["secret"]
    cli("keys", "revoke", "mine")
    cli("agents", "remove", "x")
    cli("agents", "remove", "x", expect=1)
    text = (cli.home / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["operation"], line["subject"], line.get("error", "")) for line in lines] == [
        ("add_agent", "x", ""),
        ("disable_agent", "x", ""),
        ("create_key", "mine", ""),
        ("revoke_key", "mine", ""),
        ("remove_agent", "x", ""),
        ("remove_agent", "x", "unknown_agent"),
    ]
    assert {(line["event"], line["principal"]) for line in lines} == {("change", "owner")}
    assert secret not in text
