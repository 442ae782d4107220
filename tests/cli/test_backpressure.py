"""A client that reads nothing slows its agent down, and loses nothing: relays and translations."""

from __future__ import annotations

import asyncio
import socket

import pytest

from ..support.flooding import PIECE, Ask, Flooding, ask_a2a, ask_acp, ask_mcp, flooded, request

PIECES = 480  # 30 MiB
MOST = 16 * 1024 * 1024  # what the kernel's buffers on two hops take, and a little


async def halted(agent: Flooding) -> int:
    """What the agent has sent once nothing moves any more."""
    still, last = 0, -1
    while still < 500:
        still, last = (still + 1 if agent.sent == last and last > 0 else 0), agent.sent
        await asyncio.sleep(0)
    return last


@pytest.mark.parametrize(
    ("ask", "to"),
    [(ask_mcp, "mcp"), (ask_a2a, "a2a"), (ask_acp, "acp"), (ask_a2a, "acp"), (ask_acp, "a2a")],
    ids=["mcp-mcp", "a2a-a2a", "acp-acp", "a2a-acp", "acp-a2a"],
)
async def test_a_client_that_reads_nothing_slows_its_agent_down(ask: Ask, to: str) -> None:
    async with flooded(PIECES) as (agent, port):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=client, limit=64 * 1024)
        writer.write(request(ask, to, connection="close"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert await halted(agent) < MOST
        read = 0
        while chunk := await reader.read(1 << 20):
            read += chunk.count(b"x")
        writer.close()
    assert read >= PIECES * len(PIECE)
