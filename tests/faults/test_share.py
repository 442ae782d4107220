"""An agent that hangs has callers without end, and takes no more than its share of the gateway."""

from __future__ import annotations

import asyncio
import sys

import pytest

from agentgw.gateway.config import Limits
from agentgw.gateway.model import Record

from . import peer
from .gateway import running
from .test_matrix import settled
from .test_stdio import PEER

LIMITS = Limits(shutdown_grace=0.1, concurrency=8, per_agent=4)


@pytest.mark.parametrize("protocol", peer.PROTOCOLS)
async def test_callers_past_its_share_are_told_at_once_and_the_others_are_served(protocol: str) -> None:
    tools = protocol.startswith("mcp")
    serve, hangs = peer.serving, peer.FAULTS["hangs"]
    async with running(LIMITS) as gateway, serve(protocol, hangs) as bad, serve(protocol) as good:
        await gateway.add("bad", bad)
        await gateway.add("good", good)
        held = [asyncio.create_task(gateway.call("a2a", "bad", tools=tools)) for _ in range(4)]
        await settled("four hang", lambda: bad.busy == 4)
        for door in ("mcp", "a2a", "acp"):
            refused = await gateway.call(door, "bad", tools=tools)
            assert refused.message == "bad has too many requests under way; try again in a moment"
            assert (await gateway.call(door, "good", tools=tools)).ok
        for call in held:
            call.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_a_process_has_a_share_too() -> None:
    limits = Limits(shutdown_grace=0.1, per_agent=2)
    async with running(limits) as gateway:
        record = Record(name="bad", protocol="mcp", command=(sys.executable, str(PEER)))
        await gateway.directory.put(record, await gateway.directory.trial(record))
        calls = [gateway.call("mcp", "bad", tools=True, words="hangs") for _ in range(3)]
        done, held = await asyncio.wait(map(asyncio.create_task, calls), return_when=asyncio.FIRST_COMPLETED)
        assert [call.result().message for call in done] == [
            "bad has too many requests under way; try again in a moment"
        ]
        assert len(held) == 2
        for call in held:
            call.cancel()
        await asyncio.gather(*held, return_exceptions=True)
