"""How soon what calls leave is written."""

from __future__ import annotations

import asyncio

import pytest

from agentgw.cli import process
from agentgw.cli.flushing import EVERY, EVERY_AT_MOST, MANY, SOONEST, next_pause
from agentgw.gateway.config import Config
from agentgw.gateway.model import Principal
from agentgw.registry.memory import MemoryStore


@pytest.mark.parametrize(
    ("before", "many", "pause"),
    [
        (EVERY, 0, EVERY),
        (EVERY, 1, EVERY),
        (EVERY, MANY, EVERY),
        (EVERY, 2 * MANY, EVERY / 2),
        (EVERY / 2, MANY, EVERY / 2),
        (EVERY / 2, MANY // 2, EVERY),
        (EVERY, 1000 * MANY, SOONEST),
        (EVERY_AT_MOST, 1, EVERY),
    ],
)
def test_much_is_written_sooner_and_never_later_than_promised(before: float, many: int, pause: float) -> None:
    assert next_pause(before, many, failing=False) == pytest.approx(pause)


def test_what_fails_is_tried_less_often() -> None:
    pause, pauses = SOONEST, list[float]()
    for _ in range(7):
        pause = next_pause(pause, 1000 * MANY, failing=True)
        pauses.append(pause)
    assert pauses == pytest.approx([0.4, 0.8, 1.6, 3.2, 5, 5, 5])


async def test_what_is_being_written_when_the_gateway_stops_is_not_lost() -> None:
    kept: list[bytes] = []
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def keep(lines: bytes) -> int:
        begun.set()
        await goes_on.wait()
        kept.append(lines)
        return 0

    gateway = process.Gateway(Config(), MemoryStore(), bind="127.0.0.1", token="t", audit=keep)
    await gateway.start(refresh=False)
    assert gateway.app.audit is not None
    gateway.app.audit.change(Principal(id="somebody"), "POST /api/agents", 201)
    await begun.wait()
    stopping = asyncio.create_task(gateway.aclose())
    for _ in range(20):
        await asyncio.sleep(0)
    goes_on.set()
    await stopping
    assert b"".join(kept).count(b"somebody") == 1
