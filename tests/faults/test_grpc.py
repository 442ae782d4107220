"""A gRPC agent that is away, that answers that it is, and that wants tokens, behind a whole gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import msgspec
import psutil
import pytest

from agentgw.adapters.a2a.grpc import channel
from agentgw.gateway.breaker import State
from agentgw.gateway.config import Limits
from agentgw.gateway.model import OAuth, Record

from ..adapters.a2a.grpcpeer import GrpcPeer
from ..adapters.a2a.support import peer
from ..support.oauth import AuthServer
from .gateway import Running, running
from .test_matrix import settled

LIMITS = Limits(
    connect_timeout=5, shutdown_grace=0.5, retries=0, circuit_failures=3, circuit_pause=60, circuit_longest=60
)
OWNER = {"authorization": "Bearer owner"}
DOORS = ("a2a", "a2a-stream", "mcp", "acp")


async def added(gateway: Running, base: str, **more: Any) -> str:
    """Register it as ``far``; its health then."""
    record = Record(name="far", protocol="a2a", url=base, **more)
    trial = await gateway.directory.trial(record)
    await gateway.directory.put(record, trial)
    return trial.outcome.health.status


async def called(gateway: Running, door: str) -> Any:
    return await gateway.call(door, "far", tools=False, words="echo hello")


class Counting(grpc.aio.ServerInterceptor):
    """``calls``: how many have come."""

    calls = 0

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.calls += 1
        return await continuation(details)


async def test_it_is_left_alone_though_its_card_is_there_and_back_at_the_first_look() -> None:
    count = Counting()
    async with running(LIMITS) as gateway, GrpcPeer(interceptors=[count]).running() as one:
        assert await added(gateway, one.base) == "ok"
        breaker = gateway.directory.breaker("far")
        assert breaker is not None
        for door in DOORS:
            assert (await called(gateway, door)).ok
        await one.stop()
        for _ in range(3):
            assert "far can't be reached" in (await called(gateway, "a2a")).message
        assert breaker.state is not State.CLOSED
        for door in DOORS:
            said = await called(gateway, door)
            assert not said.ok
            assert "the next try is in" in said.message, said

        await settled("listings say so", lambda: _health(gateway) == "down")
        shown = (await gateway.http.get("/api/agents/far", headers=OWNER)).json()
        assert (shown["health"], shown["circuit"]) == ("down", "open")
        # Whoever asks how it is learns it of gRPC, not of the card, and has the circuit as it was.
        checked = (await gateway.http.post("/api/agents/far/check", headers=OWNER)).json()
        assert (checked["health"], checked["circuit"]) == ("down", "open")
        assert "the next try is in" in (await called(gateway, "a2a")).message

        await one.start()
        before = count.calls
        for door in DOORS:
            assert "the next try is in" in (await called(gateway, door)).message
        assert count.calls == before
        checked = (await gateway.http.post("/api/agents/far/check", headers=OWNER)).json()
        assert (checked["health"], checked["circuit"]) == ("ok", "closed"), checked["detail"]
        for door in DOORS:
            assert (await called(gateway, door)).ok


async def test_a_call_finds_it_once_the_pause_is_over() -> None:
    quick = Limits(connect_timeout=5, retries=0, circuit_failures=1, circuit_pause=0.05, circuit_longest=0.05)
    async with running(quick) as gateway, GrpcPeer().running() as one:
        await added(gateway, one.base)
        await one.stop()
        assert not (await called(gateway, "a2a")).ok
        await settled("listings say so", lambda: _health(gateway) == "down")
        await one.start()
        await settled("it is well again", lambda: _health(gateway) == "ok")
        assert (await called(gateway, "a2a")).ok


def _connections(one: GrpcPeer) -> int:
    """How many the agent has."""
    found = psutil.Process().net_connections("tcp")
    return sum(c.laddr.port == one.port and c.status == psutil.CONN_ESTABLISHED for c in found)


async def _removed(gateway: Running) -> None:
    assert (await gateway.http.delete("/api/agents/far", headers=OWNER)).status_code == 204


async def _has_other_limits(gateway: Running) -> None:
    config = gateway.made.config
    limits = msgspec.structs.replace(config.limits, body=config.limits.body + 1)
    await gateway.made.reconfigure(msgspec.structs.replace(config, limits=limits))


@pytest.mark.parametrize("happens", [_removed, _has_other_limits])
@pytest.mark.parametrize("door", DOORS)
async def test_calls_under_way_go_on_and_then_their_connection_ends(
    door: str, happens: Callable[[Running], Awaitable[None]]
) -> None:
    count, gate = Counting(), f"{door} {happens.__name__}"
    async with running(LIMITS) as gateway, GrpcPeer(interceptors=[count]).running() as one:
        assert await added(gateway, one.base) == "ok"
        waits = asyncio.create_task(gateway.call(door, "far", tools=False, words=f"wait {gate}"))
        await settled("it is under way", lambda: count.calls > 0)
        await happens(gateway)
        peer.gates[gate].set()
        assert (await waits).ok
        await settled("its connection is closed", lambda: _connections(one) == 0)


class Pauses:
    """The gateway's pauses before it connects again, which take no time. ``tries``: before which they were;
    ``then(number)`` is waited for instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries: list[int] = []
        self.then: Callable[[int], Awaitable[None]] | None = None
        monkeypatch.setattr(channel, "pause_before", self._before)
        monkeypatch.setattr(channel, "sleep", self._pass)

    def _before(self, attempt: int) -> float:
        self.tries.append(attempt)
        return 0.0

    async def _pass(self, seconds: float) -> None:
        if self.then is not None:
            await self.then(len(self.tries))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    return Pauses(monkeypatch)


@pytest.mark.parametrize("door", DOORS)
async def test_a_connect_that_fails_is_tried_again_and_nothing_twice(door: str, pauses: Pauses) -> None:
    count = Counting()
    limits = Limits(connect_timeout=5, shutdown_grace=0.5, retries=3)
    async with running(limits) as gateway, GrpcPeer(interceptors=[count]).running() as one:
        await one.stop()
        assert await added(gateway, one.base) == "down"
        assert pauses.tries == [0, 1, 2]
        pauses.tries.clear()

        async def comes_back(number: int) -> None:
            if number == 2:
                await one.start()

        pauses.then = comes_back
        assert (await called(gateway, door)).ok
        assert pauses.tries == [0, 1]
        needed = count.calls
        assert (await called(gateway, door)).ok
        assert count.calls == 2 * needed


async def test_an_agent_whose_circuit_was_open_is_tried_once(pauses: Pauses) -> None:
    limits = Limits(connect_timeout=5, shutdown_grace=0.5, retries=2, circuit_failures=1, circuit_pause=60)
    async with running(limits) as gateway, GrpcPeer().running() as one:
        await one.stop()
        assert await added(gateway, one.base) == "down"
        assert pauses.tries == [0, 1]
        checked = (await gateway.http.post("/api/agents/far/check", headers=OWNER)).json()
        assert (checked["health"], checked["circuit"]) == ("down", "open")
        assert pauses.tries == [0, 1]


class Unavailable(grpc.aio.ServerInterceptor):
    """Every call is answered with UNAVAILABLE."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        async def refuse(request: Any, context: Any) -> Any:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "later")

        handler = await continuation(details)
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            refuse, handler.request_deserializer, handler.response_serializer
        )


async def test_what_an_agent_answers_does_not_open_its_circuit() -> None:
    once = Limits(connect_timeout=5, retries=0, circuit_failures=1)
    async with running(once) as gateway, GrpcPeer(interceptors=[Unavailable()]).running() as one:
        assert await added(gateway, one.base) == "ok"
        breaker = gateway.directory.breaker("far")
        assert breaker is not None
        for door in ("a2a", "acp"):
            assert not (await called(gateway, door)).ok
            assert breaker.state is State.CLOSED


class Guarded(grpc.aio.ServerInterceptor):
    """Lets only the tokens of ``server`` in. ``seen``: the Authorization of each call."""

    def __init__(self, server: AuthServer) -> None:
        self._server = server
        self.seen: list[str] = []

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        given = [value for key, value in details.invocation_metadata if key == "authorization"]
        self.seen += given
        handler = await continuation(details)
        if len(given) == 1 and self._server.good(given[0].removeprefix("Bearer ")):
            return handler

        async def refuse(request: Any, context: Any) -> Any:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no good token")

        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            refuse, handler.request_deserializer, handler.response_serializer
        )


@pytest.fixture
def server() -> Any:
    with AuthServer(clients={"gw": "s3cret"}).running() as running:
        yield running


def credentials(server: AuthServer) -> OAuth:
    return OAuth(token_url=f"{server.url}/token", client_id="gw", client_secret="${FAR_SECRET}", scope="far")


@pytest.mark.parametrize("door", DOORS)
async def test_tokens_are_fetched_sent_and_replaced(
    door: str, server: AuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_SECRET", "s3cret")
    guard = Guarded(server)
    async with running(LIMITS) as gateway, GrpcPeer(interceptors=[guard]).running() as one:
        await added(gateway, one.base, oauth=credentials(server))
        for _ in range(5):  # each token is good for a while
            assert (await called(gateway, door)).ok
            server.expire()
        assert (server.forms[-1]["grant_type"], server.forms[-1]["scope"]) == ("client_credentials", "far")
        assert {token.removeprefix("Bearer ") for token in guard.seen} <= server.issued
        assert len(server.forms) == 5


@pytest.mark.parametrize("door", ["a2a", "acp-stream"])
async def test_without_a_token_the_reason_is_said_and_nothing_is_sent(
    door: str, server: AuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_SECRET", "wrong")
    guard = Guarded(server)
    async with running(LIMITS) as gateway, GrpcPeer(interceptors=[guard]).running() as one:
        await added(gateway, one.base, oauth=credentials(server))
        said = await called(gateway, door)
        assert "wants a token that the gateway can't get now" in said.message
        assert "wrong" not in said.raw
        assert guard.seen == []


async def test_an_agent_that_takes_no_token_is_not_asked_for_ever(
    server: AuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_SECRET", "s3cret")
    with AuthServer().running() as another:
        guard = Guarded(another)
        async with running(LIMITS) as gateway, GrpcPeer(interceptors=[guard]).running() as one:
            await added(gateway, one.base, oauth=credentials(server))
            said = await called(gateway, "a2a")
            assert "far refuses the gateway's credentials" in said.message
            assert len(guard.seen) == 3
            breaker = gateway.directory.breaker("far")
            assert breaker is not None
            assert breaker.state is State.CLOSED


def _health(gateway: Running) -> str:
    view = gateway.directory.get("far")
    assert view is not None
    return view.health.status
