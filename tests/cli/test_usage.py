"""What every command line gets: help, one-line errors, exit statuses."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentgw.cli.main import run

Cli = Any
Fake = Any
Capture = pytest.CaptureFixture[str]

COMMANDS = [
    ["serve"], ["call"], ["connect"], ["mcp"], ["doctor"], ["traces"], ["traces", "show"], ["agents"],
    *(["agents", verb] for verb in ("add", "list", "show", "check", "enable", "disable", "remove")),
]  # fmt: skip

WRONG = [
    ["frobnicate"],
    ["agents", "frobnicate"],
    ["agents", "list", "--nope"],
    ["agents", "show"],
    ["agents", "add"],
    ["agents", "add", "x"],
    ["agents", "add", "x", "not-a-url"],
    ["agents", "add", "http://127.0.0.1:1/"],
    ["agents", "add", "Bad_Name", "http://127.0.0.1:1/"],
    ["agents", "add", "x", "http://127.0.0.1:1/", "--", "python"],
    ["agents", "add", "x", "--"],
    ["agents", "add", "x", "http://127.0.0.1:1/", "--env", "A=b"],
    ["agents", "add", "x", "http://127.0.0.1:1/", "--header", "no colon"],
    ["agents", "add", "x", "http://127.0.0.1:1/", "--header", "X: a\r\nY: b"],
    ["agents", "add", "x", "http://127.0.0.1:1/", "--header", "Authorization: Bearer in-clear"],
    ["agents", "add", "x", "http://127.0.0.1:1/", "--protocol", "frobnicate"],
    ["agents", "add", "x", "http://127.0.0.1:1/", "--all"],
    ["agents", "add", "x", "--env", "novalue", "--", "python"],
    ["agents", "add", "x", "--cwd", "/no/such/directory", "--", "python"],
    ["agents", "add", "x", "--header", "A: b", "--", "python"],
    ["call"],
    ["call", "x"],
    ["call", "x", "hi", "--data", "{"],
    ["call", "x", "hi", "--file", "/no/such/file"],
    ["call", "x", "hi", "--task", "1"],
    ["call", "x", "hi", "--timeout", "soon"],
    ["call", "x", "hi", "--idle-timeout", "0"],
    ["connect", "frobnicate"],
    ["connect", "a2a", "--write"],
    ["connect", "cursor", "--agent", "Bad_Name"],
    ["serve", "--port", "ninety"],
    ["serve", "--workers", "0"],
    ["serve", "--host", "0.0.0.0"],
    ["serve", "--config", "/no/such/file"],
    ["serve", "--store", "nats://127.0.0.1"],
    ["traces", "show"],
    ["traces", "show", ""],
    ["doctor", "everything"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_on_stdout_and_explains(capsys: Capture, command: list[str]) -> None:
    assert run([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: agentgw {' '.join(command)}")
    assert len(out.splitlines()[2].strip()) > 10
    assert err == ""


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_use_is_one_line_and_status_2(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.setenv("AGENTGW_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert one_line(err)


def one_line(stderr: str) -> bool:
    return stderr.startswith("agentgw: ") and stderr.count("\n") == 1 and "Traceback" not in stderr


def test_the_console_script_ends_the_same_way(cli: Cli) -> None:
    with cli.start("frobnicate") as script:
        out, err = script.communicate()
    assert (script.returncode, out) == (2, b"")
    assert one_line(err.decode())


def test_no_arguments_show_the_commands(cli: Cli) -> None:
    done = cli.run()
    assert done.returncode == 0
    for command in ("serve", "agents", "call", "connect", "mcp", "traces"):
        assert f"\n  {command} " in done.stdout


def test_version(cli: Cli) -> None:
    assert cli.run("--version").stdout.startswith("agentgw 0.")


def test_an_unexpected_error_is_one_line_without_a_traceback(cli: Cli, fake: Fake) -> None:
    fake.routes["GET /api/agents"] = lambda exchange: exchange.answer(200, [{"name": 1}])
    done = cli.at(fake.url).run("agents", "list")
    assert done.returncode == 1
    assert one_line(done.stderr)


def test_debugging_shows_where(cli: Cli, fake: Fake) -> None:
    fake.routes["GET /api/agents"] = lambda exchange: exchange.answer(200, [{"name": 1}])
    debugged = cli.at(fake.url)
    debugged.environment["AGENTGW_DEBUG"] = "1"
    assert "Traceback" in debugged.run("agents", "list").stderr


def test_output_into_a_closed_pipe_is_silent(cli: Cli) -> None:
    process = cli.start("agents", "--help")
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""


def test_help_loads_nothing_heavy() -> None:
    """Not timed: what makes the command slow to answer is what it imports."""
    code = (
        "import sys; from agentgw.cli.main import run; run(['--help']); run(['agents', 'add', '--help']); "
        "print(' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    heavy = {
        "litestar",
        "opentelemetry",
        "httpx",
        "uvicorn",
        "rich",
        "msgspec",
        "sqlite3",
        "asyncio",
    }
    assert loaded & heavy == set()


def test_serving_needs_nothing_heavy() -> None:
    """Not timed either. Doors serve before the control plane's framework is loaded."""
    code = (
        "import sys; import agentgw.cli.process; from agentgw.cli.wiring import Gateway; "
        "from agentgw.gateway.config import Config; "
        "from agentgw.registry.memory import MemoryStore; "
        "Gateway(Config(), MemoryStore(), bind='127.0.0.1', token='t'); print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"litestar", "opentelemetry", "httpx", "rich", "jsonschema", "prometheus_client", "cryptography"}
    heavy |= {"uvicorn", "h11"}
    assert set(done.stdout.split()) & heavy == set()


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "http://[::", "http://127.0.0.1:99999", "http://a:b"])
@pytest.mark.parametrize("command", ["doctor", "agents list"])
def test_a_gateway_s_url_that_is_none_is_said_to_be(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, command: str
) -> None:
    monkeypatch.setenv("AGENTGW_HOME", str(tmp_path))
    monkeypatch.setenv("AGENTGW_URL", url)
    assert run(command.split()) == (1 if command == "doctor" else 2)
    said = capsys.readouterr()
    assert "AGENTGW_URL must be a URL such as http://" in (said.out if command == "doctor" else said.err)
