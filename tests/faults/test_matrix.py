"""Every way to go wrong, at every agent's protocol, seen from every client's door: a clear error of the
client's own protocol, in time, while the agent beside it answers, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import httpx
import pytest

from agentgw.gateway.model import Principal, Task, TaskState

from . import peer
from .gateway import DOORS, Outcome, running

FAULTS = [*peer.FAULTS, "is_gone"]
# One of each kind; the others are slow.
TELLING = {
    "resets", "hangs", "drips_head", "is_no_http", "crashes", "is_busy", "redirects", "refuses_credentials",
    "answers_no_json", "answers_with_another_id", "nests", "is_no_utf8", "answers_8_mb", "closes_in_the_body",
    "ends_the_stream_early", "says_only_comments", "streams_garbage", "is_gone",
}  # fmt: skip
# Large results pass as they come where both ends speak one era: whole, or the connection is cut.
PASSING = {("mcp", "mcp-modern"), ("mcp-handshake", "mcp-handshake"), ("a2a", "a2a"), ("acp", "acp")}
LARGE = {"answers_8_mb", "answers_without_end"}


async def settled(what: str, check: Callable[[], bool]) -> None:
    """Give what is on its way to its end the time that it takes on a slow machine."""
    for _ in range(3000):
        if check():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"not in a minute: {what}")


def passed(said: Outcome | BaseException, fault: str) -> bool:
    """Whether a large result came whole, or was cut (at the end of the time that the agent has, at what comes
    after it), which no client takes for whole."""
    if fault == "answers_8_mb" and isinstance(said, Outcome):
        return said.ok and len(said.raw) > peer.BIG
    return fault in LARGE and isinstance(said, httpx.RemoteProtocolError)


def amiss(said: Outcome | BaseException, agent: str) -> str:
    """What is wrong with what the client got; "" for nothing."""
    if isinstance(said, BaseException):
        return f"no answer: {said!r}"
    if said.ok:
        return f"it is no error: {said.raw[:300]}"
    if agent not in said.message:
        return f"the error does not name the agent: {said.message!r} {said.raw[:300]}"
    shown = said.raw + said.message
    leaks = [word for word in ("Traceback", "/srv/", "hunter2", "secret", "127.0.0.1") if word in shown]
    if leaks:
        return f"the error shows {leaks}: {said.message!r} {shown[:500]}"
    return ""


def _is_relayed(task: Task) -> bool:
    return any(marks.get("relayed") for marks in task.extra.values())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in TELLING else [pytest.mark.slow]) for name in FAULTS]
)
async def test_each_client_is_told_and_nobody_else_notices(name: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(running())
        peers: dict[str, peer.Peer] = {}
        for protocol in peer.PROTOCOLS:
            bad = await stack.enter_async_context(peer.serving(protocol, peer.FAULTS.get(name)))
            good = await stack.enter_async_context(peer.serving(protocol))
            peers |= {f"bad-{protocol}": bad, f"good-{protocol}": good}
        for agent, one in peers.items():
            await gateway.add(agent, one, ill=agent.startswith("bad"))
        if name == "is_gone":
            for agent, one in peers.items():
                if agent.startswith("bad"):
                    await one.stop_listening()

        cells = [(door, protocol) for door in DOORS for protocol in peer.PROTOCOLS]
        calls = [
            asyncio.create_task(gateway.call(door, f"bad-{p}", tools=p.startswith("mcp")))
            for door, p in cells
        ]
        beside = [gateway.call(door, f"good-{p}", tools=p.startswith("mcp")) for door, p in cells]
        for said, cell in zip(await asyncio.gather(*beside), cells, strict=True):
            assert said.ok, f"{cell}: {said.raw}"
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        wrong = {
            f"{door} → {p}": problem
            for (door, p), said in zip(cells, outcomes, strict=True)
            if not ((door, p) in PASSING and passed(said, name)) and (problem := amiss(said, f"bad-{p}"))
        }
        assert not wrong, "\n".join(f"{cell}: {problem}" for cell, problem in wrong.items())

        await settled("no task runs", lambda: gateway.made.hub.running == 0)
        for one in peers.values():
            await settled(f"no call is open at {one.protocol}", lambda one=one: one.busy == 0)
        for task in await gateway.made.hub.tasks(Principal()):
            if task.agent.startswith("bad") and not _is_relayed(task):  # of those the agent knows the end
                assert task.state is TaskState.FAILED, task
                assert task.fault is not None, task
