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

import httpx
import msgspec
import uvicorn
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentInterface, SendMessageRequest
from google.protobuf.json_format import MessageToDict, ParseDict
from starlette.applications import Starlette

from agentgw.adapters.a2a.face.face import A2AFace
from agentgw.adapters.a2a.upstream.upstream import A2AUpstream
from agentgw.gateway.access import Access, Grant
from agentgw.gateway.breaker import Breaker
from agentgw.gateway.children import Children
from agentgw.gateway.config import Config, Outbound
from agentgw.gateway.engine import Hub
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.http.server import Server
from agentgw.gateway.model import Principal, Record
from agentgw.gateway.telemetry import Tracer
from agentgw.gateway.transport import HttpTransport
from agentgw.registry.memory import MemoryStore

from ...support.memory import MemoryDirectory, MemoryUpstream

_spec = importlib.util.spec_from_file_location(
    "a2a_agent", Path(__file__).parents[2] / "peers" / "a2a_agent.py"
)
assert _spec is not None
assert _spec.loader is not None
peer: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(peer)

Way = tuple[str, str]  # revision, binding


class Uvicorn(uvicorn.Server):
    """Ends at once, not at the next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.end = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def served(app: Any, sock: socket.socket | None = None) -> AsyncIterator[str]:
    """``app`` behind uvicorn; yields its URL without a final slash."""
    sock = sock or listening()
    server = Uvicorn(uvicorn.Config(app, log_level="error", lifespan="off"))
    server.install_signal_handlers = lambda: None
    running = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        server.end.set()
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
        self.breaker = Breaker(0)
        self.children = Children()
        self.transport = HttpTransport()

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return list(record.headers.items())

    def hidden(self, record: Record) -> list[str]:
        return []

    def environment(self, record: Record) -> dict[str, str]:
        return {}

    def changed(self, agent: str) -> None:
        pass


class Gateway:
    """The hub and its A2A face behind the front."""

    def __init__(self, url: str, hub: Hub, http: httpx.AsyncClient) -> None:
        self.url, self.hub, self.http = url, hub, http

    async def client(self, base: str, way: Way = ("1.0", "JSONRPC"), *, streaming: bool = True) -> Any:
        """The SDK's client for the card at ``base``, made to use one revision and binding."""
        card = await A2ACardResolver(self.http, base).get_agent_card()
        chosen = [i for i in card.supported_interfaces if (i.protocol_version, i.protocol_binding) == way]
        assert chosen, f"{way} is not in the card"
        kept = AgentInterface()
        kept.CopyFrom(chosen[0])
        del card.supported_interfaces[:]
        card.supported_interfaces.append(kept)
        config = ClientConfig(
            httpx_client=self.http, streaming=streaming, supported_protocol_bindings=[way[1]]
        )
        return ClientFactory(config).create(card)

    async def rpc(self, path: str, method: str, params: Any, **headers: str) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        answer = await self.http.post(self.url + path, json=body, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["id"] == 7
        return answer.json()


class Callers(Access):
    """Everybody says who they are. The caller ``owner`` is the gateway's."""

    def __init__(self) -> None:
        super().__init__("")

    def grant(self, authorization: bytes | None) -> Grant:
        name = (authorization or b"").decode().removeprefix("Caller ")
        return Grant(Principal(id=name, owner=name == "owner") if name else Principal())


def caller(name: str) -> dict[str, str]:
    """Headers that say who calls."""
    return {"authorization": f"Caller {name}"}


@contextlib.asynccontextmanager
async def gateway(*, store: MemoryStore | None = None, **agents: Any) -> AsyncIterator[Gateway]:
    """A gateway in front of these: memory upstreams, or A2A agents by URL or record. The caller is who
    the headers of ``caller`` say. ``store``: of a gateway that was here before."""
    directory = MemoryDirectory({n: a for n, a in agents.items() if isinstance(a, MemoryUpstream)})
    views: dict[str, Any] = dict(directory.views())
    for name, known in agents.items():
        if not isinstance(known, MemoryUpstream):
            record = known if isinstance(known, Record) else Record(name=name, protocol="a2a", url=known)
            upstream = A2AUpstream(record, LocalHost())
            (agent,) = await upstream.describe()
            template = next(iter(MemoryDirectory({name: MemoryUpstream()}).views().values()))
            views[name] = msgspec.structs.replace(template, record=record, agent=agent, upstream=upstream)
    directory._views = views  # pyright: ignore[reportPrivateUsage]
    hub = Hub(directory, store or MemoryStore(), Tracer(), LocalHost().config)
    await hub.start()
    face = A2AFace(hub)

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = App([face], nothing, Doors("127.0.0.1", ""), access=Callers(), body_limit=1 << 20)
    server, sock = Server(app, 1 << 16), listening()
    await server.start(sock)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(timeout=60, verify=False) as http:
            yield Gateway(url, hub, http)
            await face.aclose()
    finally:
        await server.aclose()
        await hub.aclose()


def say(text: str, **fields: Any) -> SendMessageRequest:
    message = {"messageId": fields.pop("message_id", "m1"), "role": "ROLE_USER", "parts": [{"text": text}]}
    return ParseDict({"message": message | fields}, SendMessageRequest())


async def items_of(client: Any, request: SendMessageRequest) -> list[dict[str, Any]]:
    return [MessageToDict(item) async for item in client.send_message(request)]


def texts(items: list[dict[str, Any]]) -> str:
    """All text that an agent streamed as artifacts, joined."""
    found = ""
    for item in items:
        update = item.get("artifactUpdate", {}).get("artifact", {})
        for artifact in [update, *item.get("task", {}).get("artifacts", [])]:
            found += "".join(p.get("text", "") for p in artifact.get("parts", []))
    return found


def last_state(items: list[dict[str, Any]]) -> str:
    return (items[-1].get("statusUpdate") or items[-1]["task"])["status"]["state"]
