"""Agents that are processes: what they do wrong, seen from every door; their deaths, their silence, what they
leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentgw.adapters.mcp.upstream import describing
from agentgw.gateway import children, reach
from agentgw.gateway.agentlog import AgentLog
from agentgw.gateway.model import Principal, Record, TaskState

from . import stdio_peer
from .gateway import DOORS, IDLE, TOTAL, Running, running
from .test_matrix import amiss, settled

PEER = Path(__file__).parent / "stdio_peer.py"
OWNER = {"authorization": "Bearer owner"}


def record(name: str, *flags: str, **fields: Any) -> Record:
    return Record(name=name, protocol="mcp", command=(sys.executable, str(PEER), *flags), **fields)


async def add(gateway: Running, made: Record) -> None:
    trial = await gateway.directory.trial(made)
    assert trial.outcome.health.status == "ok", trial.outcome.health
    await gateway.directory.put(made, trial)


async def do(gateway: Running, name: str, what: str, door: str = "a2a") -> Any:
    """Have the tool do something."""
    return await gateway.call(door, name, tools=True, words=what)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def cells() -> Iterator[Any]:
    """Slow are those in which the eras don't differ, in one of them."""
    for fault in stdio_peer.FAULTS:
        yield fault, "modern"
        telling = fault in ("dies", "wedges", "answers_with_another_id")
        yield pytest.param(fault, "handshake", marks=[] if telling else [pytest.mark.slow])


@pytest.mark.parametrize(("fault", "era"), list(cells()))
async def test_each_client_is_told_and_nobody_else_notices(
    fault: str, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "RESTARTS", 0)
    monkeypatch.setattr(children, "GRACE", 0.1)
    flags = ["--handshake"] if era == "handshake" else []
    async with running() as gateway:
        for door in DOORS:  # a process of its own for each, so that none sees another's fault
            await add(gateway, record(f"bad-{door}", *flags, idle_timeout=IDLE, total_timeout=TOTAL))
        await add(gateway, record("good", *flags))
        calls = [asyncio.create_task(do(gateway, f"bad-{door}", fault, door)) for door in DOORS]
        await asyncio.sleep(0)  # they have said what they want
        beside = await asyncio.gather(*(do(gateway, "good", "hi", door) for door in DOORS))
        assert all(said.ok for said in beside), beside
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        wrong = {
            door: problem
            for door, said in zip(DOORS, outcomes, strict=True)
            if (problem := amiss(said, f"bad-{door}"))
        }
        assert not wrong, "\n".join(f"{door}: {problem}" for door, problem in wrong.items())
        await settled("no task runs", lambda: gateway.made.hub.running == 0)
        for task in await gateway.made.hub.tasks(Principal()):
            if task.agent.startswith("bad"):
                assert task.state is TaskState.FAILED, task


@pytest.mark.parametrize("flags", [[], ["--handshake"]])
async def test_a_process_that_ends_is_started_again_by_itself(flags: list[str]) -> None:
    async with running() as gateway:
        await add(gateway, record("scribe", *flags))
        before = (await do(gateway, "scribe", "pid")).message
        assert not (await do(gateway, "scribe", "dies")).ok
        await settled("another runs", lambda: _pid(gateway) not in (None, int(before)))
        after = await do(gateway, "scribe", "pid")
        assert after.ok
        assert after.message != before


@pytest.mark.slow
async def test_one_that_keeps_ending_is_started_again_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach, "RESTART_PAUSE", 60.0)
    async with running() as gateway:
        await add(gateway, record("scribe"))
        said = await do(gateway, "scribe", "dies")
        async with asyncio.timeout(60):  # calls may come while one is dying; those count for nothing
            while not said.ok and "is started again in" not in said.message:
                said = await do(gateway, "scribe", "dies")
        assert said.message.startswith("scribe keeps ending; it is started again in "), said
        shown = (await gateway.http.get("/api/agents/scribe", headers=OWNER)).json()
        assert (shown["health"], shown["circuit"]) == ("down", "open")
        checked = (await gateway.http.post("/api/agents/scribe/check", headers=OWNER)).json()
        assert checked["health"] == "ok" or checked["circuit"] == "half-open", checked
        assert (await do(gateway, "scribe", "hi")).ok


@pytest.mark.parametrize("flags", [[], ["--handshake"]])
async def test_the_health_check_finds_a_wedged_one_and_starts_it_again(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describing, "WEDGED", 0.3)
    monkeypatch.setattr(children, "GRACE", 0.1)
    async with running() as gateway:
        await add(gateway, record("scribe", *flags, idle_timeout=6, total_timeout=6))
        before = (await do(gateway, "scribe", "pid")).message
        call = asyncio.create_task(do(gateway, "scribe", "wedges"))
        await settled("it is called", lambda: gateway.made.hub.running == 1)
        busy = (await gateway.http.post("/api/agents/scribe/check", headers=OWNER)).json()
        assert (busy["health"], busy["detail"]) == ("degraded", "scribe does not answer while a call runs")
        assert "did not answer in time" in (await call).message
        checked = (await gateway.http.post("/api/agents/scribe/check", headers=OWNER)).json()
        assert checked["health"] == "ok", checked
        assert checked["detail"] == "it had stopped answering and was started again"
        after = await do(gateway, "scribe", "pid")
        assert after.message != before


async def test_removing_ends_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GRACE", 0.1)
    async with running() as gateway:
        await add(gateway, record("scribe", "--deaf"))
        pids = json.loads((await do(gateway, "scribe", "has_children")).message)
        assert not any(gone(pid) for pid in pids)
        assert (await gateway.http.delete("/api/agents/scribe", headers=OWNER)).status_code < 300
        await settled("all are gone", lambda: all(gone(pid) for pid in pids))


async def test_the_end_of_the_gateway_ends_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GRACE", 0.1)
    async with running() as gateway:
        await add(gateway, record("scribe", "--deaf"))
        pids = json.loads((await do(gateway, "scribe", "has_children")).message)
    await settled("all are gone", lambda: all(gone(pid) for pid in pids))


async def test_what_it_writes_can_be_read_without_its_secrets(tmp_path: Path) -> None:
    os.environ["FAULTS_KEY"] = "s3cr3t-word"
    async with running(logs=tmp_path) as gateway:
        await add(gateway, record("scribe", env={"KEY": "Bearer ${FAULTS_KEY}", "MODE": "not for all"}))
        assert (await do(gateway, "scribe", "leaks")).ok

        async def lines(**query: Any) -> Any:
            answer = await gateway.http.get("/api/agents/scribe/logs", params=query, headers=OWNER)
            assert answer.status_code == 200, answer.text
            return answer.json()

        async def said() -> bool:
            return any("the key is" in line for line in (await lines())["lines"])

        while not await said():  # each question is a call that takes its time
            pass
        shown = await lines()
        assert shown["lines"][0].endswith("[started]")
        assert shown["lines"][-1].endswith("the key is *** \ufffd[31mred")
        assert "s3cr3t" not in json.dumps(shown)
        assert (await lines(lines=1))["lines"] == shown["lines"][-1:]
        assert (await lines(after=shown["next"]))["lines"] == []
        await do(gateway, "scribe", "dies")
        while not (fresh := (await lines(after=shown["next"]))["lines"]):
            pass
        assert "hunter2" in fresh[0]
        refused = await gateway.http.get("/api/agents/scribe/logs")
        assert refused.status_code in (401, 403)
        file = tmp_path / "logs" / "scribe.log"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        await gateway.http.delete("/api/agents/scribe", headers=OWNER)
        assert not file.exists() or "s3cr3t" not in file.read_text()


async def test_noise_is_kept_within_bounds(tmp_path: Path) -> None:
    async with running(logs=tmp_path) as gateway:
        await add(gateway, record("scribe", idle_timeout=1, total_timeout=1))
        await do(gateway, "scribe", "floods_stderr")
    sizes = [file.stat().st_size for file in (tmp_path / "logs").iterdir()]
    assert sum(sizes) < 3 * 1024 * 1024


def test_a_log_goes_on_where_it_was_read_across_a_new_file(tmp_path: Path) -> None:
    log = AgentLog(tmp_path / "a.log", size=100)
    log.write(1, ["one"])
    seen = log.tail(10)
    for word in ("two", "three", "four", "five", "six"):
        log.write(1, [word])
    words = [line.split()[-1] for line in log.after(seen.next).lines]
    assert words == ["two", "three", "four", "five", "six"]
    assert [line.split()[-1] for line in log.tail(2).lines] == ["five", "six"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1"]


def _pid(gateway: Running) -> int | None:
    """The process that serves now."""
    view = gateway.directory.get("scribe")
    assert view is not None
    links: Any = view.upstream
    found = [link._child.pid for link in links._pool.links]
    return found[0] if found else None
