"""The way to one agent: what is tried again and what never, and when it is left alone."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentgw.gateway import reach
from agentgw.gateway.breaker import Breaker, State
from agentgw.gateway.errors import BadUpstream, CircuitOpen, Unconnected, Unreachable
from agentgw.gateway.reach import AgentTransport
from agentgw.gateway.transport import HttpTransport

from .agent_server import Script, Server, ends, resets, says, serving

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "AGAIN", 0.0)


@asynccontextmanager
async def towards(breaker: Breaker | None = None, retries: int = 2) -> AsyncIterator[AgentTransport]:
    shared = HttpTransport(connect_timeout=5)
    try:
        yield AgentTransport(shared, "scribe", breaker or Breaker(0), retries)
    finally:
        await shared.aclose()


def counted(server: Server, method: str) -> int:
    return sum(request.startswith(method.encode()) for request in server.requests)


@pytest.mark.parametrize("script", [ends(), resets(), ends(b"HTTP/1.1 200"), ends(GOOD[:-2])])
async def test_what_was_sent_is_never_sent_again(script: Script) -> None:
    async with serving(script) as server, towards() as transport:
        with pytest.raises(Unreachable, match="scribe"):
            await transport.request("POST", server.url, body=b"{}")
    assert counted(server, "POST") == 1


async def test_what_only_reads_is_asked_again() -> None:
    async with serving(ends()) as server, towards() as transport:
        with pytest.raises(Unreachable, match="scribe"):
            await transport.request("GET", server.url)
    assert counted(server, "GET") == 3


async def test_an_answer_to_the_second_asking_is_the_answer() -> None:
    scripts = [ends(), says(GOOD)]

    async def script(reader: object, writer: object) -> None:
        await scripts.pop(0)(reader, writer)  # type: ignore[arg-type]

    async with serving(script) as server, towards() as transport:
        assert (await transport.request("GET", server.url)).body == b"good"
    assert counted(server, "GET") == 2


async def test_an_agents_own_error_is_an_answer() -> None:
    async with (
        serving(says(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")) as server,
        towards() as transport,
    ):
        assert (await transport.request("GET", server.url)).status == 503
    assert counted(server, "GET") == 1


async def test_what_is_no_answer_is_not_asked_for_again() -> None:
    async with serving(ends(b"nonsense\r\n\r\n")) as server, towards() as transport:
        with pytest.raises(BadUpstream, match="scribe's answer is not valid HTTP"):
            await transport.request("GET", server.url)
    assert counted(server, "GET") == 1


class Door:
    """A port where nothing listens, until it is opened."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"


async def test_a_post_that_found_nobody_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent: the agent comes up between the first try and the second."""
    door = Door()
    tries = 0
    async with serving(says(GOOD)) as server, towards() as transport:
        dial = transport._pool._dialer.dial

        async def counting(route: reach.Connection, peer: str = "") -> object:
            nonlocal tries
            tries += 1
            there = route if tries == 1 else route._replace(port=server.port)  # type: ignore[attr-defined]
            return await dial(there, peer)  # type: ignore[arg-type]

        monkeypatch.setattr(transport._pool._dialer, "dial", counting)
        assert (await transport.request("POST", door.url, body=b"{}")).body == b"good"
    door.socket.close()
    assert tries == 2
    assert counted(server, "POST") == 1


async def test_after_failures_in_a_row_nobody_is_asked_until_it_is_time() -> None:
    door, now = Door(), 0.0
    breaker = Breaker(3, 5.0, 60.0, clock=lambda: now, chance=lambda: 0.5)
    async with towards(breaker, retries=0) as transport:
        for _ in range(3):
            with pytest.raises(Unconnected, match="scribe can't be reached: connection refused"):
                await transport.request("POST", door.url, body=b"{}")
        with pytest.raises(CircuitOpen) as caught:
            await transport.request("POST", door.url, body=b"{}")
        assert caught.value.message == "scribe can't be reached; the next try is in 5 s"
        assert caught.value.data == {"agent": "scribe", "retry_after": 5}
        door.socket.listen()
        with pytest.raises(CircuitOpen):
            await transport.request("GET", door.url)
        now = 5.0
        async with serving(says(GOOD)) as server:
            assert (await transport.request("POST", server.url, body=b"{}")).body == b"good"
            assert breaker.state is State.CLOSED
    door.socket.close()


async def test_an_agent_that_answers_with_errors_is_there() -> None:
    breaker = Breaker(1)
    script = says(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
    async with serving(script) as server, towards(breaker) as transport:
        for _ in range(3):
            assert (await transport.request("POST", server.url, body=b"{}")).status == 500
    assert breaker.state is State.CLOSED


async def test_the_gateways_own_want_of_room_is_not_held_against_the_agent() -> None:
    breaker = Breaker(1)
    shared = HttpTransport(connect_timeout=1, per_route=1)
    transport = AgentTransport(shared, "scribe", breaker, 0)
    script = says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    async with serving(script) as server, transport.stream("GET", server.url):
        with pytest.raises(Unconnected, match="too many requests"):
            await transport.request("GET", server.url)
    await shared.aclose()
    assert breaker.state is State.CLOSED
