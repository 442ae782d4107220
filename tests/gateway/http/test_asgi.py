"""ASGI applications behind the front."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from agentgw.cli.process import listen
from agentgw.gateway.access import Access
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.http.server import Server


async def test_who_waits_for_the_client_to_leave_is_told_that_it_has_its_answer() -> None:
    """As frameworks do beside a stream; else the connection's next request would never be answered."""
    ended = 0

    async def control(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ended
        assert (await receive())["type"] == "http.request"
        waiting = asyncio.create_task(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})
        assert (await waiting)["type"] == "http.disconnect"
        ended += 1

    app = App([], control, Doors("127.0.0.1", ""), access=Access("t"), body_limit=1000)
    listener, server = listen("127.0.0.1", 0), Server(app, 1000)
    await server.start(listener)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as http:
        for _ in range(3):
            assert (await http.get("/api/agents")).text == "ab"
    await app.idle()
    assert ended == 3
    await server.aclose()
