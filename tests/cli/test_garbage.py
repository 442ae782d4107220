"""What nobody needs any more is gone at once: nothing that a call made waits for the collector of cycles."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from agentgw.adapters.a2a.face.call import Call
from agentgw.adapters.mcp.face.exchange import Exchange
from agentgw.adapters.mcp.face.reply import Reply
from agentgw.cli import garbage as cli_garbage
from agentgw.cli.garbage import ALL, EVERY, OLDER, REST, WORK, Garbage, giving_back, trim
from agentgw.gateway.errors import ConfigError
from agentgw.gateway.http.connection import Connection
from agentgw.gateway.http.incoming import Incoming
from agentgw.gateway.http.request import Request
from agentgw.gateway.turn import Turn
from agentgw.gateway.waiting import Waiting

from ..support.flooding import Ask, ask_a2a, ask_acp, ask_mcp, flooded, request

OF_A_CALL = (Call, Connection, Exchange, Incoming, Reply, Request, Turn, Waiting)


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> set[str]:
    """Kinds of things of a call that are still there."""
    return {type(o).__name__ for o in gc.get_objects() if isinstance(o, OF_A_CALL)}


def ask_a2a_once(agent: str) -> tuple[str, dict[str, str], Any]:
    path, headers, body = ask_a2a(agent)
    return path, headers, {**body, "method": "SendMessage"}


@pytest.mark.parametrize(
    ("ask", "to"),
    [
        pytest.param(ask_mcp, "mcp", id="mcp-mcp"),
        pytest.param(ask_mcp, "a2a", id="mcp-a2a"),
        pytest.param(ask_a2a, "a2a", id="a2a-a2a"),
        pytest.param(ask_acp, "acp", id="acp-acp"),
        pytest.param(ask_a2a, "acp", id="a2a-acp"),
        pytest.param(ask_a2a_once, "acp", id="a2a-acp in one document"),
    ],
)
async def test_a_call_leaves_nothing(ask: Ask, to: str) -> None:
    async with flooded(2) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(ask, to, connection="close"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        for _ in range(1000):
            if not left():
                return
            await asyncio.sleep(0)
        assert not left()


@pytest.mark.parametrize(
    ("ask", "to"),
    [
        pytest.param(ask_mcp, "mcp", id="mcp-mcp"),
        pytest.param(ask_a2a, "a2a", id="a2a-a2a"),
        pytest.param(ask_acp, "acp", id="acp-acp"),
        pytest.param(ask_a2a, "acp", id="a2a-acp"),
        pytest.param(ask_acp, "a2a", id="acp-a2a"),
    ],
)
async def test_a_stream_that_its_client_breaks_off_leaves_nothing(ask: Ask, to: str) -> None:
    async with flooded(100) as (_, port):  # more than goes out before the client is heard to have left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(ask, to))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
        loop = asyncio.get_running_loop()
        end = loop.time() + 60
        while left() and loop.time() < end:  # a translated task goes on to its end
            for _ in range(500):
                await asyncio.sleep(0)
        assert not left()


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.self = self


def tied() -> weakref.ref[Knot]:
    return weakref.ref(Knot())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def garbage(clock: Clock) -> Iterator[Garbage]:
    before = gc.get_threshold()
    yield Garbage(clock, lambda: 0.0)
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_holds_itself_goes_by_the_clock(garbage: Garbage, clock: Clock) -> None:
    knot = tied()
    for _ in range(3):
        garbage.round()
    assert knot() is not None
    clock.now += EVERY
    garbage.round()
    assert knot() is None


def test_what_was_in_use_for_long_goes_too(garbage: Garbage, clock: Clock) -> None:
    """Collections that it lived through have made it old."""

    def collected(times: int) -> None:
        for _ in range(times):
            clock.now += EVERY
            garbage.round()

    knot = Knot()
    ref = weakref.ref(knot)
    collected(OLDER)
    gc.collect(1)
    del knot
    collected(ALL - OLDER - 1)
    assert ref() is not None
    collected(1)
    assert ref() is None


def test_very_many_objects_are_not_waited_for(garbage: Garbage) -> None:
    gc.enable()
    knot = tied()
    kept: list[list[object]] = []
    while knot() is not None:
        kept.append([])
        assert len(kept) < 1_000_000


def test_memory_is_given_back_once_after_much_work(garbage: Garbage, clock: Clock) -> None:
    used, given = Clock(), list[float]()
    garbage = Garbage(clock, used, lambda: given.append(clock.now))

    def pass_second(work: float) -> None:
        clock.now += EVERY
        used.now += work
        garbage.round()

    for _ in range(10):
        pass_second(REST / 2)
    assert not given, "nothing was done"
    for _ in range(10):
        pass_second(WORK / 5)
    assert not given, "it does not rest"
    pass_second(REST / 2)
    assert given == [clock.now]
    for _ in range(10):
        pass_second(REST / 2)
    assert len(given) == 1
    knot = tied()
    pass_second(WORK * 2)
    pass_second(0)
    assert len(given) == 2
    assert knot() is None


def test_giving_back_does_no_harm() -> None:
    trim()
    trim()


@pytest.mark.parametrize("fails", [False, True])
async def test_the_store_rests_before_memory_is_given_back(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    done: list[str] = []
    given = asyncio.Event()

    async def rest() -> None:
        done.append("rested")
        if fails:
            raise ConfigError("the disk is gone")

    def trimmed() -> None:
        done.append("trimmed")
        given.set()

    monkeypatch.setattr(cli_garbage, "trim", trimmed)
    giving_back(rest)()
    await given.wait()
    assert done == ["rested", "trimmed"]
