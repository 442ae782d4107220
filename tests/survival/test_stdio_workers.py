"""Agents that are processes and go wrong, before a gateway of several processes: each has one of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import pytest

from ..conftest import PATIENCE, wait_until
from ..faults import stdio_peer
from ..faults.gateway import DOORS, Running
from ..faults.test_matrix import amiss
from .conftest import Gateway

PEER = Path(stdio_peer.__file__)
TELLING = (("wedges", "handshake"),)


def command(*flags: str) -> list[str]:
    return [sys.executable, str(PEER), *flags]


def agent_processes(gateway: Gateway) -> list[psutil.Process]:
    found = gateway.family
    return [process for process in found if str(PEER) in _words(process)]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


async def calls(gateway: Gateway, agent: str, words: str) -> dict[str, Any]:
    """The same call from every door, twice, each on a connection of its own: at one worker or the other."""

    async def call(door: str) -> Any:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE, trust_env=False) as http:
            return await Running(cast("Any", None), http).call(door, agent, tools=True, words=words)

    doors = [f"{door} {number}" for door in DOORS for number in range(2)]
    said = await asyncio.gather(*(call(door.split()[0]) for door in doors), return_exceptions=True)
    return dict(zip(doors, said, strict=True))


@pytest.mark.parametrize(
    ("fault", "era"),
    [
        pytest.param(fault, era, marks=[] if (fault, era) in TELLING else [pytest.mark.slow])
        for fault in stdio_peer.FAULTS
        for era in ("modern", "handshake")
    ],
)
async def test_each_client_is_told_and_nothing_stays(gateway: Gateway, fault: str, era: str) -> None:
    flags = ["--handshake"] if era == "handshake" else []
    config = gateway.home / "config.toml"
    config.write_text(
        f"[limits]\nbody = '4MiB'\n[agents.bad]\ncommand = {json.dumps(command(*flags))}\n"
        "idle_timeout = '600ms'\ntotal_timeout = '1500ms'\n"
        f"[agents.good]\ncommand = {json.dumps(command(*flags))}\n"
    )
    await asyncio.to_thread(gateway.start, "--workers", 2, "--config", config)
    family = gateway.family
    ill, well = await asyncio.gather(calls(gateway, "bad", fault), calls(gateway, "good", "hi"))
    assert all(said.ok for said in well.values()), well
    wrong = {door: problem for door, said in ill.items() if (problem := amiss(said, "bad"))}
    assert not wrong, "\n".join(f"{door}: {problem}" for door, problem in wrong.items())

    def rest() -> bool:
        running = "agentgw_tasks_running 0" in gateway.get("/metrics").text
        return running and gateway.rows("SELECT 1 FROM tasks WHERE state = 'working'") == []

    await asyncio.to_thread(wait_until, "no task runs", rest)
    # Of two agents, at the owner and at each worker; before the modern era a client that can be asked is not
    # served by the process of those that can't. One that was started again may be about to end.
    most = 2 * 3 * (2 if flags else 1)
    few = lambda: len(agent_processes(gateway)) <= most  # noqa: E731
    await asyncio.to_thread(wait_until, "no process is too many", few)
    family += gateway.family
    gateway.signal()
    assert await asyncio.to_thread(gateway.ended) == 0
    await asyncio.to_thread(gateway.gone, family)
