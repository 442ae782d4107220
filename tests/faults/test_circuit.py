"""An agent that can't be reached, as clients, listings and metrics see it, and its coming back."""

from __future__ import annotations

import pytest

from agentgw.gateway.breaker import State
from agentgw.gateway.config import Limits

from . import peer
from .gateway import DOORS, running
from .test_matrix import amiss, settled

LIMITS = Limits(
    connect_timeout=5, shutdown_grace=0.5, retries=0, circuit_failures=3, circuit_pause=60, circuit_longest=60
)


@pytest.mark.parametrize("protocol", peer.PROTOCOLS)
async def test_it_is_left_alone_said_so_everywhere_and_back_at_the_first_look(protocol: str) -> None:
    tools = protocol.startswith("mcp")
    async with running(LIMITS) as gateway, peer.serving(protocol) as one, peer.serving(protocol) as other:
        await gateway.add("scribe", one)
        await gateway.add("beside", other)
        await one.stop_listening()
        for _ in range(3):
            said = await gateway.call("a2a", "scribe", tools=tools)
            assert "connection refused" in said.message

        for door in DOORS:
            said = await gateway.call(door, "scribe", tools=tools)
            assert not amiss(said, "scribe")
            assert "the next try is in" in said.message, said
            assert "retry_after" in said.raw or door.startswith("a2a"), said
            assert (await gateway.call(door, "beside", tools=tools)).ok
        if protocol == "acp":
            refused = await gateway.call("acp", "scribe", tools=tools)
            assert refused.status == 503
            assert int(refused.headers["retry-after"]) > 40

        owner = {"authorization": "Bearer owner"}
        shown = (await gateway.http.get("/api/agents/scribe", headers=owner)).json()
        assert shown["health"] == "down"
        assert shown["circuit"] == "open"
        assert shown["detail"].startswith("circuit open, next try in ")
        metrics = (await gateway.http.get("/metrics", headers=owner)).text
        assert 'agentgw_circuit_open{agent="scribe"} 1.0' in metrics
        assert 'agentgw_circuit_open{agent="beside"} 0.0' in metrics

        await one.start()
        checked = (await gateway.http.post("/api/agents/scribe/check", headers=owner)).json()
        assert (checked["health"], checked["circuit"]) == ("ok", "closed"), checked
        assert (await gateway.call("a2a", "scribe", tools=tools)).ok


async def test_it_is_tried_again_by_itself_when_the_pause_is_over() -> None:
    quick = Limits(connect_timeout=5, retries=0, circuit_failures=1, circuit_pause=0.05, circuit_longest=0.05)
    async with running(quick) as gateway, peer.serving("a2a") as one:
        await gateway.add("scribe", one)
        await one.stop_listening()
        await gateway.call("a2a", "scribe", tools=False)
        breaker = gateway.directory.breaker("scribe")
        assert breaker is not None
        await settled("listings say so", lambda: _health(gateway) == "down")
        await one.start()
        await settled("it is well again", lambda: _health(gateway) == "ok")
        assert breaker.state is State.CLOSED


def _health(gateway: object) -> str:
    view = gateway.directory.get("scribe")  # type: ignore[attr-defined]
    return view.health.status
