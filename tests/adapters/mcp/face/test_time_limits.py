"""How long a call may take: as the agent is allowed, or less where the client says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from agentgw.adapters.mcp.face.signs import Signs
from agentgw.adapters.mcp.wire import Caller
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.errors import UpstreamTimeout
from agentgw.gateway.limits import CallLimits, allowed
from agentgw.gateway.model import Record
from agentgw.gateway.waiting import Timers

from ....support.memory import MemoryUpstream
from .support import META, by_hand, rpc, served, serving
from .test_cancel import Hanging

ERAS = ["handshake", "modern"]
IDLE, TOTAL = "agentgw/idle_timeout", "agentgw/total_timeout"


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_may_lower_its_limits(era: str) -> None:
    agent = MemoryUpstream()
    async with served(echo=agent) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()

        async def call(meta: dict[str, Any], **headers: str) -> Any:
            params = {"name": "echo", "arguments": {"message": "x"}}
            if era == "modern":
                return (
                    await raw.modern("tools/call", {**params, "_meta": {**META, **meta}}, **headers)
                ).json()
            return (await raw.post(rpc("tools/call", {**params, "_meta": meta}), **headers)).json()

        await call({IDLE: "30s", TOTAL: "2m"})
        await call({}, Agentgw_Idle_Timeout="5s")
        await call({IDLE: "1s"}, Agentgw_Idle_Timeout="5s")
        for bad in ("soon", 3, "0s"):
            assert (await call({IDLE: bad}))["error"]["code"] == -32602
    assert [(c.idle_timeout, c.total_timeout) for c in agent.calls] == [(30, 120), (5, None), (1, None)]


@pytest.mark.parametrize("client", ERAS)
async def test_a_relayed_call_ends_when_the_server_is_silent(client: str) -> None:
    server = Hanging("handshake")
    async with serving(server) as url, served() as gateway:
        await gateway.add_server("peer", f"{url}/mcp")
        async with by_hand(f"{gateway.url}/mcp/peer") as raw:
            await raw.initialize()
            params = {"name": "hang", "arguments": {}, "_meta": {**META, IDLE: "400ms"}}
            if client == "modern":
                error = (await raw.modern("tools/call", params)).json()["error"]
            else:
                error = (await raw.post(rpc("tools/call", params))).json()["error"]
            async with asyncio.timeout(60):
                await server.cancelled.wait()
    assert (error["code"], error["data"]["limit"]) == (-32603, "idle_timeout")
    assert error["message"] == "peer did not answer in time"


def test_the_agents_own_limits_count_and_a_call_can_not_raise_them() -> None:
    record = Record(name="a", protocol="mcp", url="http://a", idle_timeout=7)
    configured = Limits(idle_timeout=50, total_timeout=100)
    assert allowed(record, configured, (None, None)) == (7, 100)
    assert allowed(record, configured, (9, 200)) == (7, 100)
    assert allowed(record, configured, (3, 30)) == (3, 30)


async def test_a_question_to_the_client_stops_the_clock_and_progress_renews_it() -> None:
    async def slow(method: str, params: Any) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"action": "accept"}

    async def heard(method: str, params: Any) -> None:
        told.append(method)

    async def send(caller: Caller) -> str:
        assert caller.on_request is not None and caller.on_notification is not None
        await caller.on_notification("notifications/progress", {})
        return (await caller.on_request("elicitation/create", {}))["action"]

    told: list[str] = []
    caller = Caller(on_request=slow, on_notification=heard)
    with CallLimits(Timers(), "a", 0.02, 10) as limits:
        assert await send(Signs(limits, caller).watched) == "accept"
    assert told == ["notifications/progress"]
    with pytest.raises(UpstreamTimeout) as caught, CallLimits(Timers(), "a", 10, 0.02) as limits:
        await send(Signs(limits, caller).watched)
    assert caught.value.data == {"limit": "total_timeout"}


async def test_progress_that_passes_at_once_renews_it_but_for_the_time_of_a_question() -> None:
    told: list[Sequence[bytes]] = []
    renewed: list[int] = []
    open_, answer = True, asyncio.Event()

    def at_once(messages: Sequence[bytes]) -> bool:
        told.append(messages)
        return open_

    async def ask(method: str, params: Any) -> dict[str, Any]:
        await answer.wait()
        return {}

    limits: Any = SimpleNamespace(renew=lambda: renewed.append(len(told)), hold=lambda: None)
    caller = Signs(limits, Caller(on_request=ask, at_once=at_once)).watched
    assert caller.at_once is not None and caller.on_request is not None
    assert caller.at_once([b"1"]) and renewed == [1]
    question = asyncio.ensure_future(caller.on_request("elicitation/create", {}))
    await asyncio.sleep(0)
    assert not caller.at_once([b"2"]) and (told, renewed) == ([[b"1"]], [1])
    answer.set()
    await question
    assert renewed == [1, 1]
    open_ = False
    assert not caller.at_once([b"3"]) and renewed == [1, 1]


async def test_a_servers_own_time_out_is_its_own() -> None:
    with pytest.raises(TimeoutError, match="the server's"), CallLimits(Timers(), "a", 10, 10):
        raise TimeoutError("the server's")
    assert msgspec.structs.asdict(Caller())["on_request"] is None
    assert Config().limits.idle_timeout == 300
