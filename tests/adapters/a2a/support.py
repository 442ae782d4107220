"""Real servers on free ports, in the test's own loop: the peer on the official SDK, the gateway's front."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")

import uvicorn
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore
from starlette.applications import Starlette

from agentgw.gateway.config import Config, Outbound
from agentgw.gateway.model import Record
from agentgw.gateway.telemetry import Tracer
from agentgw.gateway.transport import PyreqwestTransport

_spec = importlib.util.spec_from_file_location(
    "a2a_agent", Path(__file__).parents[2] / "peers" / "a2a_agent.py"
)
assert _spec is not None
assert _spec.loader is not None
peer: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(peer)

Way = tuple[str, str]  # revision, binding


@contextlib.asynccontextmanager
async def served(app: Any, sock: socket.socket | None = None) -> AsyncIterator[str]:
    """``app`` behind uvicorn; yields its URL without a final slash."""
    sock = sock or listening()
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    server.install_signal_handlers = lambda: None
    running = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await running


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


@contextlib.asynccontextmanager
async def peer_agent(
    ways: Sequence[Way], *, streaming: bool = True, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """The test peer, its card listing only these ways to it (on ``host``)."""
    sock = listening()
    port = sock.getsockname()[1]
    card = peer.card(port, ["1.0"])
    del card.supported_interfaces[:]
    for version, binding in ways:
        path = "/" if binding == "JSONRPC" else "/rest"
        card.supported_interfaces.add(
            url=f"http://{host}:{port}{path}", protocol_binding=binding, protocol_version=version
        )
    card.capabilities.streaming = streaming
    store = InMemoryTaskStore()
    handler = DefaultRequestHandler(
        agent_executor=peer.Executor(),
        task_store=store,
        request_context_builder=peer.ContextOfTask(store),
        agent_card=card,
        validate_input_modes=False,
    )
    app = Starlette(
        routes=[
            *create_agent_card_routes(card),
            *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True),
            *create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=True),
        ]
    )
    async with served(app, sock) as url:
        yield url


class LocalHost:
    """A ``ports.Host`` with the real transport."""

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        self.config = Config(outbound=Outbound(allow=allow))
        self.tracer = Tracer()
        self.transport = PyreqwestTransport()

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return list(record.headers.items())

    def environment(self, record: Record) -> dict[str, str]:
        return {}

    def changed(self, agent: str) -> None:
        pass
