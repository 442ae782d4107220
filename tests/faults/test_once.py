"""What an agent may have done is never asked of it twice, however the answer goes wrong: with retries
allowed, on a connection that was used before, from every door, at agents of every protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agentgw.gateway.config import Limits

from . import peer
from .gateway import DOORS, running

LIMITS = Limits(connect_timeout=5, shutdown_grace=0.5, retries=3, circuit_failures=0)


async def is_a_bad_gateway(c: peer.Call) -> None:
    await c.answer(b"<html>502</html>", "502 Bad Gateway", kind="text/html")


async def resets_in_the_answer(c: peer.Call) -> None:
    await c.begin()
    c.reset()


FAULTS = [
    peer.FAULTS["resets"], peer.FAULTS["closes"], is_a_bad_gateway, peer.FAULTS["is_busy"],
    peer.FAULTS["refuses_credentials"], peer.FAULTS["redirects"], resets_in_the_answer,
    peer.FAULTS["closes_in_the_body"], peer.FAULTS["ends_the_stream_early"], peer.FAULTS["answers_no_json"],
]  # fmt: skip


TELLING = ("resets", "is_busy", "resets_in_the_answer", "closes_in_the_body")


def cases() -> Iterator[Any]:
    for fault in FAULTS:
        marks = [] if fault.__name__ in TELLING else [pytest.mark.slow]
        yield pytest.param(fault, marks=marks, id=fault.__name__)


@pytest.mark.parametrize("fault", list(cases()))
async def test_work_is_asked_for_once(fault: peer.Fault) -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(running(LIMITS))
        cells = [(door, protocol) for door in DOORS for protocol in peer.PROTOCOLS]
        peers: list[peer.Peer] = []
        for number, (_, protocol) in enumerate(cells):
            peers.append(await stack.enter_async_context(peer.serving(protocol)))
            await gateway.add(f"agent-{number}", peers[-1], ill=8)  # well at first, however slow

        async def call(number: int) -> bool:
            door, protocol = cells[number]
            said = await gateway.call(door, f"agent-{number}", tools=protocol.startswith("mcp"))
            return said.ok

        numbers = range(len(cells))
        assert all(await asyncio.gather(*map(call, numbers)))  # a connection is kept from now on
        for one in peers:
            one.fault = fault
        assert not any(await asyncio.gather(*map(call, numbers)))
        twice = {cell: one.begun for cell, one in zip(cells, peers, strict=True) if one.begun != 2}
        assert not twice
