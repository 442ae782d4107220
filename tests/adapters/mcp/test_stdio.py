"""Servers as child processes: their death, their noise, their children."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from agentgw.adapters.mcp.upstream import opening
from agentgw.adapters.mcp.wire import Caller
from agentgw.gateway.errors import ConfigError, Unreachable, UpstreamFailed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]


async def call(upstream: Any, tool: str, caller: Caller | None = None, **arguments: Any) -> Any:
    params = {"name": tool, "arguments": arguments}
    return msgspec.json.decode(await upstream.request("tools/call", params, caller=caller or Caller()))


async def pid(upstream: Any, caller: Caller | None = None) -> int:
    return json.loads((await call(upstream, "whoami", caller))["content"][0]["text"])["pid"]


@pytest.mark.parametrize("kind", ["stdio-modern", "stdio-handshake"])
async def test_calls_in_flight_fail_at_once_and_the_next_one_finds_a_new_process(
    connect: Any, odd: Any, kind: str
) -> None:
    upstream = connect(odd(kind))
    first = await pid(upstream)
    slow = asyncio.create_task(call(upstream, "wait"))
    async with asyncio.timeout(60):
        for outcome in await asyncio.gather(slow, call(upstream, "die"), return_exceptions=True):
            assert isinstance(outcome, UpstreamFailed)
            assert outcome.message == "peer failed"
    assert await pid(upstream) != first


async def test_what_it_wrote_on_stderr_is_only_for_the_log(connect: Any, odd: Any) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        await call(connect(odd("stdio-modern")), "die")
    assert "secret" not in f"{caught.value.message} {caught.value.data}"
    assert "secret on the way out" in caught.value.detail


async def test_a_long_request_gets_through(connect: Any, odd: Any) -> None:
    text = "y" * 3_000_000
    assert (await call(connect(odd("stdio-modern")), "say", text=text))["content"][0]["text"] == text


async def test_a_silent_old_server_is_greeted_the_old_way(
    connect: Any, odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "DISCOVER_PATIENCE", 0.05)
    upstream = connect([*odd("stdio-handshake"), "--silent"])
    assert (await upstream.catalog()).era == "handshake"
    assert (await call(upstream, "say", text="hi"))["content"][0]["text"] == "hi"


async def test_a_modern_server_that_starts_slowly_may_refuse_the_old_greeting(
    connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers both at once, as it finds both when it has started."""
    monkeypatch.setattr(opening, "DISCOVER_PATIENCE", 0.05)
    script = tmp_path / "slow.py"
    script.write_text(
        "import json, sys\n"
        "def line(id, **answer): return json.dumps({'jsonrpc': '2.0', 'id': id, **answer}) + '\\n'\n"
        "def read(): return json.loads(sys.stdin.readline())\n"
        "discover, greeting = read(), read()\n"
        "about = {'supportedVersions': ['2026-07-28'], 'capabilities': {'tools': {}}}\n"
        "refusal = {'code': -32600, 'message': 'the handshake is not accepted'}\n"
        "sys.stdout.write(line(discover['id'], result=about) + line(greeting['id'], error=refusal))\n"
        "sys.stdout.flush()\n"
        "while True:\n"
        "    m = read()\n"
        "    if 'id' in m:\n"
        "        sys.stdout.write(line(m['id'], result={'tools': [{'name': 't', 'inputSchema': {}}]}))\n"
        "        sys.stdout.flush()\n"
    )
    catalog = await connect([sys.executable, str(script)]).catalog()
    assert (catalog.era, [tool["name"] for tool in catalog.tools]) == ("modern", ["t"])
    gc.collect()  # a task whose exception nobody took says so when it goes
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_a_server_that_ends_at_an_unknown_request_is_started_again(
    connect: Any, odd: Any, tmp_path: Path
) -> None:
    script = tmp_path / "fragile.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    m = json.loads(line)\n"
        "    if m['method'] == 'server/discover': sys.exit(1)\n"
        "    if 'id' not in m: continue\n"
        "    r = {'protocolVersion': '2024-11-05', 'capabilities': {'tools': {}}}\n"
        "    if m['method'] == 'tools/list': r = {'tools': [{'name': 't', 'inputSchema': {}, 'x': 1}]}\n"
        "    print(json.dumps({'jsonrpc': '2.0', 'id': m['id'], 'result': r}), flush=True)\n"
    )
    catalog = await connect([sys.executable, str(script)]).catalog()
    assert (catalog.era, catalog.protocol_version) == ("handshake", "2024-11-05")
    assert catalog.tools == ({"name": "t", "inputSchema": {}, "x": 1},)


async def test_clients_that_can_be_asked_have_a_process_of_their_own(connect: Any, odd: Any) -> None:
    upstream = connect(odd("stdio-handshake"))
    a = Caller(session="a", client_capabilities={"elicitation": {}})
    b = Caller(session="b", client_capabilities={"elicitation": {}})
    quiet = [Caller(session=s) for s in "cd"]
    own_a, own_b = await pid(upstream, a), await pid(upstream, b)
    shared = {await pid(upstream, caller) for caller in quiet}
    assert len({own_a, own_b, *shared}) == 3
    assert await pid(upstream, a) == own_a
    await upstream.end_session("a")
    assert await pid(upstream, a) != own_a


async def test_one_process_serves_all_in_the_modern_era(connect: Any, odd: Any) -> None:
    upstream = connect(odd("stdio-modern"))
    can_be_asked = {"elicitation": {}}
    callers = [Caller(), Caller(client_capabilities=can_be_asked), Caller(session="quiet")]
    assert len({await pid(upstream, caller) for caller in callers}) == 1


async def test_a_server_of_both_eras_meets_a_client_that_waits_for_questions_in_its_own(
    connect: Any, odd: Any
) -> None:
    """Tools that ask in the old way can't in the new one."""
    upstream = connect(odd("stdio-modern"))
    caller = Caller(session="a", client_capabilities={"elicitation": {}})
    await upstream.catalog()
    assert (await upstream.hello(caller)).era == "handshake"
    assert (await upstream.hello(Caller())).era == "modern"


async def test_closing_ends_the_process_and_what_it_started(connect: Any, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "for line in sys.stdin: pass\n"
    )
    upstream = connect([sys.executable, str(script)])
    opening_ = asyncio.create_task(upstream.describe())
    async with asyncio.timeout(60):
        while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await upstream.aclose()
    await asyncio.gather(opening_, return_exceptions=True)
    for pid_ in map(int, (tmp_path / "pids").read_text().split()):
        await asyncio.to_thread(_gone, pid_)


def _gone(pid_: int) -> None:
    """Wait until the process has ended; somebody else may have to collect it."""
    try:
        process = psutil.Process(pid_)
        if process.status() != psutil.STATUS_ZOMBIE:
            process.wait(60)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        assert psutil.Process(pid_).status() == psutil.STATUS_ZOMBIE


async def test_it_gets_its_own_environment_and_directory(connect: Any, tmp_path: Path) -> None:
    script = tmp_path / "env.py"
    script.write_text(
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    m = json.loads(line)\n"
        "    i = {'name': os.environ['WHO'], 'title': os.getcwd(), 'version': str('SECRET' in os.environ)}\n"
        "    r = {'supportedVersions': ['2026-07-28'], 'capabilities': {}, 'serverInfo': i, 'tools': []}\n"
        "    if 'id' in m: print(json.dumps({'jsonrpc': '2.0', 'id': m['id'], 'result': r}), flush=True)\n"
    )
    os.environ["SECRET"] = "of the gateway"
    upstream = connect([sys.executable, str(script)], env={"WHO": "me"}, cwd=str(tmp_path))
    info = (await upstream.catalog()).server_info
    assert (info["name"], info["version"]) == ("me", "False")
    assert str(info["title"]).endswith(tmp_path.name)


@pytest.mark.parametrize("command", ["no-such-command", "/opt/private/no-such-command"])
async def test_a_missing_command_is_named_without_its_path(connect: Any, command: str) -> None:
    with pytest.raises(Unreachable) as caught:
        await connect([command]).describe()
    assert caught.value.message == "peer: command not found: no-such-command"


async def test_a_missing_directory_is_not_taken_for_a_missing_command(connect: Any) -> None:
    with pytest.raises(ConfigError, match="working directory"):
        await connect([sys.executable], cwd="/no/such/directory").describe()


async def test_a_program_that_is_no_server_is_said_to_fail(connect: Any) -> None:
    with pytest.raises(UpstreamFailed):
        await connect([sys.executable, "-c", "print('hello')"]).describe()
