"""The test peer as an agent that offers gRPC: on the official server, its card over HTTP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.request_handlers.grpc_handler import GrpcHandler
from a2a.server.routes import create_agent_card_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentInterface, a2a_pb2_grpc
from starlette.applications import Starlette

from ...support.ports import hold
from .support import listening, peer, served


class GrpcPeer:
    """``url``, ``tenant``: as its card says; ``others``: bindings that it says it has, too, and where.
    ``interceptors``: the server's. ``base``: of its card, which is there also while gRPC is not;
    ``port``: where gRPC is."""

    def __init__(
        self,
        *,
        url: str = "127.0.0.1:{}",
        tenant: str = "",
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        **others: str,
    ) -> None:
        self._interceptors = interceptors
        self._sock = listening()
        self._card = peer.card(self._sock.getsockname()[1], ["1.0"])
        self._said = url, tenant, others
        self._server: Any = None
        self._handler: Any = None
        self.port = 0
        self._held: socket.socket | None = None  # its port, while it does not serve
        self.base = ""

    async def start(self) -> None:
        """Serve gRPC, at the port as before."""
        self._server = grpc.aio.server(interceptors=self._interceptors)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(self._handler), self._server)
        await self._server.start()
        self._let_go()

    async def stop(self) -> None:
        """Serve it no more."""
        await self._server.stop(0)
        self._let_go()
        self._held = hold(self.port, shared=True)

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[GrpcPeer]:
        url, tenant, others = self._said
        store = InMemoryTaskStore()
        self._handler = DefaultRequestHandler(
            agent_executor=peer.Executor(),
            task_store=store,
            request_context_builder=peer.ContextOfTask(store),
            agent_card=self._card,
            validate_input_modes=False,
        )
        await self.start()
        del self._card.supported_interfaces[:]
        self._card.supported_interfaces.append(
            AgentInterface(
                url=url.format(self.port), protocol_binding="GRPC", protocol_version="1.0", tenant=tenant
            )
        )
        for binding, other in others.items():
            self._card.supported_interfaces.add(url=other, protocol_binding=binding, protocol_version="1.0")
        async with served(Starlette(routes=create_agent_card_routes(self._card)), self._sock) as self.base:
            try:
                yield self
            finally:
                await self.stop()
                self._let_go()
