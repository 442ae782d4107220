"""Tasks that an MCP server keeps, over kill -9: the record learns of their end, or says why it does not."""

from __future__ import annotations

import asyncio
from typing import Any

from ..adapters.mcp.face.support import META, serving
from ..adapters.mcp.face.task_server import EXTENSION, TaskServer
from ..conftest import wait_until
from .conftest import Gateway

VERSION = "2026-07-28"


def begun(gateway: Gateway) -> str:
    """A call of the tool becomes a task; its id."""
    meta = {**META, "io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}}}
    call = {"name": "job", "arguments": {}, "_meta": meta}
    headers = {
        "accept": "application/json, text/event-stream", "MCP-Protocol-Version": VERSION,
        "Mcp-Method": "tools/call", "Mcp-Name": "job",
    }  # fmt: skip
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    return gateway.post("/mcp/peer", body, **headers).json()["result"]["taskId"]


async def test_what_waits_for_input_and_what_only_errs_come_to_an_end(gateway: Gateway) -> None:
    server = TaskServer("modern")

    async def recorded(task_id: str, state: str) -> None:
        def said() -> Any:
            return gateway.rows("SELECT state FROM tasks WHERE id = ?", task_id) == [(state,)]

        await asyncio.to_thread(wait_until, f"the task is {state}", said)

    async with serving(server, lifespan="off") as url:
        await asyncio.to_thread(gateway.start)
        spec = {"name": "peer", "url": f"{url}/mcp", "protocol": "mcp"}
        assert (await asyncio.to_thread(gateway.post, "/api/agents", spec)).status_code == 201
        waiting = await asyncio.to_thread(begun, gateway)
        broken = await asyncio.to_thread(begun, gateway)
        server.status[waiting] = "input_required"
        await recorded(waiting, "input_required")
        await recorded(broken, "working")
        await asyncio.to_thread(gateway.kill)

        server.status[waiting] = "cancelled"  # nobody asks for it
        await asyncio.to_thread(gateway.start, AGENTGW_LIMITS__TOTAL_TIMEOUT="1s")
        await recorded(waiting, "canceled")
        server.broken = -32603
        await recorded(broken, "failed")
        ((stored,),) = gateway.rows("SELECT value FROM tasks WHERE id = ?", broken)
        assert b"peer does not say any more how the task stands" in stored
        assert b"secret-word" not in stored
