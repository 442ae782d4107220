"""The tenant at an agent (1.0, section 4.4.6) is its operator's matter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from .support import gateway, served


@pytest.mark.parametrize("tenant", ["", "acme"])
@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_a_client_chooses_no_tenant_at_the_agent(binding: str, method: str, tenant: str) -> None:
    """However it writes the name: only what the agent's interface says is sent (1.0, section 4.4.6)."""
    seen: list[tuple[str, Any]] = []
    task = {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}}

    async def asked(request: Any) -> JSONResponse:
        if request.method == "POST" and (body := await request.body()):
            said = json.loads(body)
            seen.append((request.url.path, said.get("params", said).get("tenant")))
        else:
            seen.append((request.url.path, request.query_params.get("tenant")))
        rpc = {"jsonrpc": "2.0", "id": 1, "result": {"task": task}}
        return JSONResponse(rpc if binding == "JSONRPC" else {"task": task})

    async def card(request: Any) -> JSONResponse:
        interface = {"url": str(request.base_url), "protocolBinding": binding, "protocolVersion": "1.0"}
        interfaces = [{**interface, **({"tenant": tenant} if tenant else {})}]
        capabilities = {"streaming": True}
        return JSONResponse({
            "name": "x", "skills": [], "capabilities": capabilities, "supportedInterfaces": interfaces
        })  # fmt: skip

    app = Starlette(
        routes=[
            Route("/.well-known/agent-card.json", card),
            Route("/{path:path}", asked, methods=["GET", "POST"]),
        ]
    )
    async with served(app) as url, gateway(x=url) as gw:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "a"}]}
        for name in ("tenant", "\\u0074enant"):
            call = f'{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": %s}}'
            params = json.dumps({"message": message})[:-1] + f', "{name}": "another\'s"}}'
            await gw.http.post(f"{gw.url}/a2a/x", content=call % params, headers={"A2A-Version": "1.0"})
    send = "message:send" if method == "SendMessage" else "message:stream"
    path = "/" if binding == "JSONRPC" else f"/{tenant}/{send}" if tenant else f"/{send}"
    assert seen and set(seen) == {(path, tenant or None)}
