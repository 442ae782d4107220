"""What nobody needs any more is gone at once: nothing that a call made waits for the collector of cycles."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from agentgw.adapters.mcp.face.exchange import Exchange
from agentgw.adapters.mcp.face.reply import Reply
from agentgw.gateway.http.connection import Connection
from agentgw.gateway.http.incoming import Incoming
from agentgw.gateway.http.request import Request
from agentgw.gateway.turn import Turn
from agentgw.gateway.waiting import Waiting

from ..support.flooding import Ask, ask_a2a, ask_acp, ask_mcp, flooded, request

OF_A_CALL = (Connection, Exchange, Incoming, Reply, Request, Turn, Waiting)


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> set[str]:
    """Kinds of things of a call that are still there."""
    return {type(o).__name__ for o in gc.get_objects() if isinstance(o, OF_A_CALL)}


@pytest.mark.parametrize(
    ("ask", "to"),
    [(ask_mcp, "mcp"), (ask_mcp, "a2a"), (ask_a2a, "a2a"), (ask_acp, "acp"), (ask_a2a, "acp")],
    ids=["mcp-mcp", "mcp-a2a", "a2a-a2a", "acp-acp", "a2a-acp"],
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
