"""The command line: forms, exit statuses, with and without a running gateway."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import PATIENCE, wait_until
from ..support.forked import Forked
from .conftest import Cli

AGENT = {"name", "protocol", "target", "enabled", "health", "description", "skills"}
CALL = {
    "agent",
    "task_id",
    "context_id",
    "state",
    "text",
    "parts",
    "artifacts",
    "input_request",
    "error",
    "trace_id",
}
TRACE = {"trace_id", "agent", "client_protocol", "agent_protocol", "state", "started_at", "duration_ms"}
SPAN = {"name", "span_id", "parent_id", "kind", "start", "duration_ms", "attributes", "status"}
HEALTH = {"ok", "degraded", "down", "unknown", "needs-auth"}


def slow(*values: Any) -> Any:
    """What says again, from end to end, what others or tests/cli say."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture
def alone(agentgw: Path, forked: Forked, tmp_path: Path) -> Cli:
    """The command line with an empty data directory and no gateway."""
    return Cli(agentgw, tmp_path, forked)


@pytest.fixture(scope="module")
def own(launch_gateway: Any) -> Iterator[Any]:
    """A gateway that these tests may change."""
    gateway = launch_gateway()
    yield gateway
    gateway.process.stop()


def names(cli: Cli) -> set[str]:
    return {agent["name"] for agent in cli.json("agents", "list")}


def one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1


# --- forms -----------------------------------------------------------------------------------------------


def test_agents_list_and_show(gateway: Any) -> None:
    listed = {agent["name"]: agent for agent in gateway.cli.json("agents", "list")}
    assert all(agent.keys() >= AGENT for agent in listed.values())
    assert {agent["health"] for agent in listed.values()} <= HEALTH
    assert [listed[name]["protocol"] for name in ("mcp-http", "mcp-stdio", "a2a", "acp-echo")] == [
        "mcp",
        "mcp",
        "a2a",
        "acp",
    ]
    shown = gateway.cli.json("agents", "show", "mcp-http")
    assert shown.keys() >= AGENT and shown["name"] == "mcp-http"
    assert "stream_words" in json.dumps(shown["skills"])


def test_agents_check(gateway: Any) -> None:
    assert "ok" in json.dumps(gateway.cli.json("agents", "check", "a2a"))


@pytest.mark.parametrize(
    "words, text",
    [
        (["a2a", "echo hello there"], "hello there"),
        slow(["a2a", "message hello there"], "hello there"),
        slow(["a2a", "stream one two three"], "one two three"),
        slow(["a2a-old", "echo hello there"], "hello there"),
        (["acp-echo", "hello there"], "hello there"),
        slow(["mcp-single", "abc"], "cba"),
        (["mcp-stdio", "--data", '{"tool": "stream_words", "arguments": {"text": "one two"}}'], "one two"),
        slow(["mcp-http", "--skill", "echo", "hello"], ""),
    ],
)
def test_call(words: list[str], text: str, gateway: Any) -> None:
    called = gateway.cli.json("call", *words)
    assert called.keys() >= CALL
    assert (called["agent"], called["state"], called["error"]) == (words[0], "completed", None)
    assert called["text"] == text or '"hello"' in json.dumps(called["parts"] + called["artifacts"])


def test_call_for_people_prints_the_text(gateway: Any) -> None:
    assert "one two three" in gateway.cli("call", "a2a", "stream one two three").stdout


def test_call_with_data_and_files(gateway: Any, tmp_path: Path) -> None:
    called = gateway.cli.json("call", "a2a", "data", "--data", '{"deep": [1, {"x": null}]}')
    assert '{"deep": [1, {"x": null}]}' in json.dumps(called["artifacts"]).replace("1.0", "1")
    content = bytes(range(256))
    path = tmp_path / "gift.bin"
    path.write_bytes(content)
    called = gateway.cli.json("call", "acp-file", "file", "--file", path)
    assert base64.b64encode(content).decode() in json.dumps([called["parts"], called["artifacts"]])


@pytest.mark.slow
def test_call_goes_on_in_a_context(gateway: Any) -> None:
    first = gateway.cli.json("call", "a2a", "remember plum")
    second = gateway.cli.json("call", "a2a", "recall", "--context", first["context_id"])
    assert (second["text"], second["context_id"]) == ("plum", first["context_id"])


def test_traces(gateway: Any) -> None:
    trace_id = gateway.cli.json("call", "acp-echo", "hello")["trace_id"]

    def listed() -> list[Any]:
        found = gateway.cli.json("traces")
        assert all(trace.keys() >= TRACE for trace in found)
        return [trace for trace in found if trace["trace_id"] == trace_id]

    (mine,) = wait_until("the trace is written", listed)
    assert (mine["agent"], mine["agent_protocol"], mine["state"]) == ("acp-echo", "acp", "completed")
    shown = gateway.cli.json("traces", "show", trace_id)
    assert shown.keys() >= TRACE and shown["spans"]
    assert all(span.keys() >= SPAN for span in shown["spans"])


# --- exit statuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["a2a", "fail no luck"], slow(["acp-invalid", "no luck"])])
def test_failed_call_is_1(words: list[str], gateway: Any) -> None:
    called = gateway.cli.json("call", *words, expect=1)
    assert called["state"] in ("failed", "rejected")
    assert "no luck" in json.dumps(called)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["a2a", "crash"], ["acp-failing", "hello"]])
def test_crash_text_stays_inside(words: list[str], gateway: Any) -> None:
    done = gateway.cli("call", *words, "--json", expect=1)
    assert "secret-crash-text" not in done.stdout + done.stderr


def test_input_required_is_3_and_can_be_answered(gateway: Any) -> None:
    asked = gateway.cli.json("call", "a2a", "ask", expect=3)
    assert asked["state"] == "input_required"
    assert "Which colour?" in json.dumps(asked["input_request"])
    answered = gateway.cli.json("call", "a2a", "teal", "--task", asked["task_id"])
    assert (answered["state"], answered["text"]) == ("completed", "You said teal")
    assert answered["task_id"] == asked["task_id"]


def test_input_required_asks_at_the_terminal(gateway: Any) -> None:
    near, far = pty.openpty()
    os.write(near, b"teal\n")
    command = [gateway.cli.script, "call", "acp-approver", "please"]
    done = subprocess.run(
        command, env=gateway.cli.environment, stdin=far, capture_output=True, text=True, timeout=PATIENCE
    )
    os.close(near)
    os.close(far)
    assert done.returncode == 0, done
    assert "Which colour?" in done.stdout + done.stderr
    assert "You said teal" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        slow(["frobnicate"]),
        slow(["agents", "add"]),
        ["agents", "add", "Bad_Name", "http://127.0.0.1:1/"],
        slow(["call", "a2a", "data", "--data", "{not json"]),
        ["call", "a2a", "file", "--file", "/nowhere/at/all"],
    ],
)
def test_wrong_use_is_2(words: list[str], gateway: Any) -> None:
    assert gateway.cli(*words, expect=2).stderr.strip()


@pytest.mark.parametrize(
    "words", [slow("agents show nobody"), slow("agents remove nobody"), "call nobody hello"]
)
def test_unknown_agent_is_an_error_of_one_line(words: str, gateway: Any) -> None:
    done = gateway.cli.run(*words.split())
    assert done.returncode in (1, 2) and not done.stdout
    assert one_line(done.stderr) and "nobody" in done.stderr


# --- changes ---------------------------------------------------------------------------------------------


def at_the_door(url: str, name: str) -> bool:
    """Whether a client finds the agent."""
    return httpx.get(f"{url}/acp/agents/{name}").status_code == 200


def test_changes_are_visible_at_once(own: Any, peers: Any) -> None:
    own.cli("agents", "add", "changing", peers.a2a, "--protocol", "a2a")
    assert at_the_door(own.url, "changing")
    own.cli("agents", "disable", "changing")
    assert not at_the_door(own.url, "changing")
    assert own.cli.json("agents", "show", "changing")["enabled"] is False
    own.cli("agents", "enable", "changing")
    assert at_the_door(own.url, "changing")
    own.cli("agents", "remove", "changing")
    assert not at_the_door(own.url, "changing")
    assert "changing" not in names(own.cli)


@pytest.mark.slow
def test_existing_name_needs_replace(own: Any, peers: Any) -> None:
    own.cli("agents", "add", "taken", peers.a2a, "--protocol", "a2a")
    done = own.cli.run("agents", "add", "taken", peers.mcp, "--protocol", "mcp")
    assert done.returncode in (1, 2) and one_line(done.stderr)
    assert own.cli.json("agents", "show", "taken")["protocol"] == "a2a"
    own.cli("agents", "add", "taken", peers.mcp, "--protocol", "mcp", "--replace")
    assert own.cli.json("agents", "show", "taken")["protocol"] == "mcp"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["mcp", "a2a", "acp"])
def test_protocol_is_found_by_probing(protocol: str, own: Any, peers: Any) -> None:
    url = {"mcp": peers.mcp, "a2a": peers.a2a, "acp": f"{peers.acp}/agents/echo"}[protocol]
    own.cli("agents", "add", f"probed-{protocol}", url)
    shown = own.cli.json("agents", "show", f"probed-{protocol}")
    assert (shown["protocol"], shown["health"]) == (protocol, "ok")


@pytest.mark.slow
def test_several_agents_behind_one_url(own: Any, peers: Any) -> None:
    done = own.cli.run("agents", "add", "which", peers.acp)
    assert done.returncode in (1, 2)
    assert "approver" in done.stderr and "memory" in done.stderr
    own.cli("agents", "add", peers.acp, "--all")
    assert {"echo", "artist", "approver", "memory"} <= names(own.cli)
    assert own.cli.json("call", "echo", "hello")["text"] == "hello"


def test_what_answers_as_nothing_is_not_registered(own: Any, free_port: Callable[[], int]) -> None:
    done = own.cli("agents", "add", "nothing", f"http://127.0.0.1:{free_port()}/", expect=1)
    assert one_line(done.stderr)
    assert "nothing" not in names(own.cli)


def test_header_values_keep_their_reference(own: Any, peers: Any) -> None:
    header = "Authorization: Bearer ${NOT_SET_ANYWHERE}"
    own.cli("agents", "add", "with-header", peers.a2a, "--protocol", "a2a", "--header", header)
    stored = b"".join(path.read_bytes() for path in own.cli.home.rglob("*") if path.is_file())
    assert b"${NOT_SET_ANYWHERE}" in stored


@pytest.mark.slow
def test_agents_survive_a_restart(start_gateway: Any, peers: Any) -> None:
    first = start_gateway()
    first.cli("agents", "add", "kept", peers.a2a, "--protocol", "a2a")
    first.cli("agents", "add", "gone", peers.a2a, "--protocol", "a2a")
    first.cli("agents", "remove", "gone")
    assert first.process.stop() == 0
    second = start_gateway(home=first.cli.home)
    assert at_the_door(second.url, "kept") and not at_the_door(second.url, "gone")
    assert second.cli.json("call", "kept", "echo hello")["text"] == "hello"


# --- no gateway running ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_gateway(alone: Cli, peers: Any, start_gateway: Any) -> None:
    assert alone.json("agents", "list") == []
    alone("agents", "add", "local", peers.a2a, "--protocol", "a2a")
    alone("agents", "add", "stdio", "--", *peers.mcp_stdio)
    assert names(alone) == {"local", "stdio"}
    assert alone.json("call", "local", "echo hello")["text"] == "hello"
    tool = '{"tool": "stream_words", "arguments": {"text": "one two"}}'
    assert alone.json("call", "stdio", "--data", tool)["text"] == "one two"
    gateway = start_gateway(home=alone.home)
    assert at_the_door(gateway.url, "local") and at_the_door(gateway.url, "stdio")


def test_remote_gateway_that_is_away_is_an_error(alone: Cli, peers: Any) -> None:
    away = "http://gateway.invalid:8080"
    done = alone("agents", "add", "local", peers.a2a, "--protocol", "a2a", expect=1, AGENTGW_URL=away)
    assert one_line(done.stderr)
    assert alone.json("agents", "list") == []
