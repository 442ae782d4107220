"""What a client shows the gateway is for the gateway: no agent ever sees it."""

from __future__ import annotations

import asyncio

import pytest

from ..support.flooding import Ask, ask_a2a, ask_acp, ask_mcp, flooded, request

MINE = {
    "authorization": "Bearer owner",
    "proxy-authorization": "Basic c2VjcmV0",
    "cookie": "session=secret",
    "x-api-key": "secret",
    "connection": "close",
}
CALLED = {"mcp": "/mcp", "a2a": "/a2a", "acp": "/acp/runs"}


@pytest.mark.parametrize("agent", CALLED)
@pytest.mark.parametrize("ask", [ask_mcp, ask_a2a, ask_acp])
async def test_a_client_s_credentials_end_at_the_gateway(ask: Ask, agent: str) -> None:
    """On relays, which pass bodies as they are, and on translations."""
    async with flooded(1) as (flooding, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(ask, agent, **MINE))
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]
    assert CALLED[agent] in [path for path, _ in flooding.heard]
    for path, headers in flooding.heard:
        assert not MINE.keys() & headers.keys() - {"connection"}, path
        assert not any("secret" in value or "owner" in value for value in headers.values()), path
