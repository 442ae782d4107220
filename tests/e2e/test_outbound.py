"""What goes out: to each agent the gateway's own credentials, never a client's; and only to where it may."""

from __future__ import annotations

import base64
import json
import shlex
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.types import SendMessageRequest, a2a_pb2, a2a_pb2_grpc
from google.protobuf.json_format import ParseDict

from ..conftest import PATIENCE, wait_until
from ..support.oauth import Tap, Trap, listening
from .clients import A2aPython, McpHost, a2a_request
from .conftest import PEERS, new_key, register
from .reply import Request

OWN = "the-gateways-own-credential"
CLIENT = {
    "Cookie": "session=client-cookie",
    "X-Api-Key": "client-api-key",
    "Proxy-Authorization": "Basic client-proxy",
    "X-Forwarded-Authorization": "Bearer client-forwarded",
}
TEXTS = {"mcp": "", "a2a": "echo hi", "acp": "hi", "far": "hi", "stdio": ""}


class Far(a2a_pb2_grpc.A2AServiceServicer):
    """An agent that offers gRPC alone; notes the metadata of each call."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def SendMessage(self, request: Any, context: Any) -> Any:
        self.seen.append(repr(context.invocation_metadata()))
        return a2a_pb2.SendMessageResponse(message=self._message())

    def SendStreamingMessage(self, request: Any, context: Any) -> Any:
        self.seen.append(repr(context.invocation_metadata()))
        yield a2a_pb2.StreamResponse(message=self._message())

    def _message(self) -> Any:
        return a2a_pb2.Message(message_id="m", role=a2a_pb2.ROLE_AGENT, parts=[a2a_pb2.Part(text="hi")])


@dataclass
class Scene:
    url: str
    grpc: str
    key: str
    taps: dict[str, Any]  # by agent; ``seen``: what reached it
    stdio: Path
    cli: Any
    headers: dict[str, str] = field(default_factory=dict)

    def reached(self, agent: str) -> str:
        return self.stdio.read_text() if agent == "stdio" else "\n".join(self.taps[agent].seen)


@pytest.fixture(scope="module")
def scene(
    launch_gateway: Callable[..., Any],
    peers: Any,
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """A gateway with a key and an agent of every kind, each with a tap on its line."""
    with ExitStack() as stack:
        taps: dict[str, Any] = {}
        for name, (url, path) in {
            "mcp": (peers.mcp, "/mcp"), "a2a": (peers.a2a, "/"), "acp": (peers.acp, ""),
        }.items():  # fmt: skip
            taps[name] = stack.enter_context(Tap(url.removesuffix(path)).running())
        taps["far"] = far = Far()
        server = grpc.server(ThreadPoolExecutor(2))
        a2a_pb2_grpc.add_A2AServiceServicer_to_server(far, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        stack.callback(server.stop, 0)
        card = {
            "name": "far", "version": "1", "skills": [], "capabilities": {"streaming": True},
            "supportedInterfaces": [
                {"url": f"127.0.0.1:{port}", "protocolBinding": "GRPC", "protocolVersion": "1.0"}
            ],
        }  # fmt: skip
        cards = stack.enter_context(listening(lambda http: http.answer(200, card)))

        lines, doors = tmp_path_factory.mktemp("stdio") / "lines", free_port()
        gateway = launch_gateway("--grpc-port", doors, OWN=OWN)
        cli = gateway.cli
        own = {"headers": {"Authorization": "Bearer ${OWN}"}}
        register(gateway, "mcp", url=f"{taps['mcp'].url}/mcp", protocol="mcp", **own)
        register(gateway, "a2a", url=f"{taps['a2a'].url}/", protocol="a2a", **own)
        register(gateway, "acp", url=taps["acp"].url, protocol="acp", remote="echo", **own)
        register(gateway, "far", url=cards, protocol="a2a", **own)
        peer = shlex.join([sys.executable, str(PEERS / "mcp_server.py"), "--transport", "stdio"])
        command = ["sh", "-c", f"tee {shlex.quote(str(lines))} | {peer}"]
        register(gateway, "stdio", command=command, env={"OWN": "${OWN}"})
        key = cli.json("keys", "create", "client")["secret"]
        yield Scene(gateway.url, f"127.0.0.1:{doors}", key, taps, lines, cli, {
            "Authorization": f"Bearer {key}", **CLIENT,
        })  # fmt: skip
        gateway.process.stop()


def arguments(agent: str, at_all: bool) -> tuple[str, dict[str, Any]]:
    """A tool call at the MCP doors."""
    if agent in ("mcp", "stdio"):
        return (f"{agent}__echo" if at_all else "echo"), {"text": "hi"}
    return agent, {"message": TEXTS[agent]}


def mcp(mode: str, *, at_all: bool) -> Any:
    async def call(scene: Scene, agent: str) -> None:
        host = McpHost(scene.url, mode, path="/mcp" if at_all else f"/mcp/{agent}")
        async with host.connect(headers=scene.headers) as client:
            tool, given = arguments(agent, at_all)
            result = await client.call_tool(tool, given)
            assert not result.is_error, result

    return call


def structured(agent: str) -> Any:
    return {"tool": "echo", "arguments": {"text": "hi"}}


def a2a(binding: str, version: str) -> Any:
    async def call(scene: Scene, agent: str) -> None:
        client = A2aPython(scene.url, binding, version)
        async with httpx.AsyncClient(headers=scene.headers, timeout=PATIENCE) as http:
            card = await client.card(agent, http)
            config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding])
            message = ParseDict(a2a_request(request_of(agent)), SendMessageRequest())
            assert [event async for event in ClientFactory(config).create(card).send_message(message)]

    return call


def request_of(agent: str) -> Request:
    if agent in ("mcp", "stdio"):
        return Request(agent, data=structured(agent))
    return Request(agent, TEXTS[agent])


async def over_grpc(scene: Scene, agent: str) -> None:
    message = ParseDict(a2a_request(request_of(agent)), SendMessageRequest())
    message.tenant = agent
    metadata = [(name.lower(), value) for name, value in scene.headers.items()]
    async with grpc.aio.insecure_channel(scene.grpc) as channel:
        stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)
        await stub.SendMessage(message, metadata=metadata, timeout=PATIENCE)


def acp(mode: str) -> Any:
    async def call(scene: Scene, agent: str) -> None:
        if agent in ("mcp", "stdio"):
            part = {"content": json.dumps(structured(agent)), "content_type": "application/json"}
        else:
            part = {"content": TEXTS[agent], "content_type": "text/plain"}
        body = {"agent_name": agent, "input": [{"role": "user", "parts": [part]}], "mode": mode}
        async with httpx.AsyncClient(base_url=scene.url, headers=scene.headers, timeout=PATIENCE) as http:
            answer = await http.post("/acp/runs", json=body)
        assert answer.status_code == 200 and "failed" not in answer.text, answer.text

    return call


DOORS: dict[str, Any] = {
    "/mcp handshake": mcp("legacy", at_all=True),
    "/mcp 2026-07-28": mcp("2026-07-28", at_all=True),
    "/mcp/{agent} handshake": mcp("legacy", at_all=False),
    "/mcp/{agent} 2026-07-28": mcp("2026-07-28", at_all=False),
    "A2A JSON-RPC 1.0": a2a("JSONRPC", "1.0"),
    "A2A JSON-RPC 0.3": a2a("JSONRPC", "0.3"),
    "A2A REST 1.0": a2a("HTTP+JSON", "1.0"),
    "A2A gRPC": over_grpc,
    "ACP sync": acp("sync"),
    "ACP stream": acp("stream"),
}


def pairs() -> Iterator[Any]:
    """Slow: a door and an agent of which each stands in another pair."""
    for door in DOORS:
        for agent in TEXTS:
            telling = agent == "a2a" or door in ("/mcp 2026-07-28", "A2A JSON-RPC 1.0", "ACP stream")
            yield pytest.param(door, agent, marks=[] if telling else [pytest.mark.slow])


@pytest.mark.parametrize(("door", "agent"), list(pairs()))
async def test_an_agent_gets_its_own_credentials_and_no_client_s(door: str, agent: str, scene: Scene) -> None:
    before = len(scene.reached(agent))
    await DOORS[door](scene, agent)
    fresh = wait_until("the call has passed by the tap", lambda: scene.reached(agent)[before:])
    assert (OWN in fresh) == (agent != "stdio")
    sent = scene.reached(agent)
    for secret in (scene.key, scene.key.split("_", 2)[2], *(x.rpartition(" ")[2] for x in CLIENT.values())):
        assert secret not in sent


# --- where it may not lead -----------------------------------------------------------------------


@pytest.fixture
def trap() -> Iterator[Trap]:
    with Trap(answer={"keys": []}).running() as made:
        yield made


def rpc(scene: Scene, agent: str, method: str, params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {**scene.headers, "A2A-Version": "1.0"}
    return httpx.post(f"{scene.url}/a2a/{agent}/", json=body, headers=headers, timeout=PATIENCE).json()


def test_a_card_leads_nowhere_into_the_operator_s_network(scene: Scene, trap: Trap) -> None:
    """Another port of this machine is another's."""
    card = {
        "name": "x", "version": "1", "skills": [], "capabilities": {},
        "supportedInterfaces": [
            {"url": f"{trap.url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": trap.url.replace("127.0.0.1", "localhost"), "protocolBinding": "HTTP+JSON",
             "protocolVersion": "1.0"},
            {"url": trap.url.replace("127.0.0.1", "[::ffff:127.0.0.1]"), "protocolBinding": "HTTP+JSON",
             "protocolVersion": "1.0"},
        ],
        "signatures": [{"protected": _signed_by(f"{trap.url}/keys"), "signature": "AAAA"}],
    }  # fmt: skip
    with listening(lambda http: http.answer(200, card)) as url:
        added = scene.cli.json("agents", "add", "leads-on", url, "--protocol", "a2a")
        assert added["health"] != "ok" and "outbound.allow" in added["detail"]
        assert scene.cli.json("call", "leads-on", "hi", expect=1)["error"]
    assert not trap.seen


def _signed_by(jku: str) -> str:
    head = json.dumps({"alg": "ES256", "typ": "JOSE", "kid": "k", "jku": jku})
    return base64.urlsafe_b64encode(head.encode()).decode().rstrip("=")


@pytest.mark.parametrize("protocol", ["mcp", "a2a", "acp"])
def test_redirects_are_not_followed(protocol: str, scene: Scene, trap: Trap) -> None:
    asked: list[str] = []

    def away(http: Any) -> None:
        asked.append(http.headers.get("authorization"))
        http.answer(307, None, location=f"{trap.url}{http.path}")

    with listening(away) as url:
        name = f"moved-{protocol}"
        more = ["--protocol", protocol, "--header", "Authorization: Bearer ${OWN}"]
        added = scene.cli.json("agents", "add", name, url, *more)
        assert added["health"] != "ok"
        assert scene.cli.json("call", name, "hi", expect=1)["error"]
    assert f"Bearer {OWN}" in asked and not trap.seen


def test_webhooks_are_not_called_in_the_operator_s_network(scene: Scene, trap: Trap) -> None:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
    for url in (trap.url, trap.url.replace("127.0.0.1", "localhost"), "http://169.254.169.254/latest"):
        for agent in ("a2a", "mcp", "acp"):
            hook = {"url": f"{url}/hook"}
            params = {"message": message, "configuration": {"taskPushNotificationConfig": hook}}
            answer = rpc(scene, agent, "SendMessage", params)
            assert "webhook" in answer["error"]["message"], answer
    assert not trap.seen


def test_what_a_message_points_to_is_not_fetched(scene: Scene, trap: Trap) -> None:
    for agent in ("a2a", "acp", "mcp"):
        parts = [{"text": "echo hi"}, {"url": f"{trap.url}/a2a", "mediaType": "text/plain"}]
        message = {"messageId": f"files-{agent}", "role": "ROLE_USER", "parts": parts}
        rpc(scene, agent, "SendMessage", {"message": message})
        run = {
            "agent_name": agent,
            "session": {"id": str(uuid.uuid4()), "history": [f"{trap.url}/h"], "state": f"{trap.url}/s"},
            "input": [{"role": "user", "parts": [
                {"content": "echo hi", "content_type": "text/plain"},
                {"content_url": f"{trap.url}/acp", "content_type": "text/plain"},
            ]}],
        }  # fmt: skip
        httpx.post(f"{scene.url}/acp/runs", json=run, headers=scene.headers, timeout=PATIENCE)
    tool = {"name": "a2a", "arguments": {"message": "echo hi", "files": [{"uri": f"{trap.url}/mcp"}]}}
    headers = {**scene.headers, "Accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": tool}
    httpx.post(f"{scene.url}/mcp", json=body, headers=headers, timeout=PATIENCE)
    assert not trap.seen


# --- programs --------------------------------------------------------------------------------------


def test_commands_are_registered_by_the_owner_alone_unless_admin_keys_may(
    start_gateway: Callable[..., Any], tmp_path: Path
) -> None:
    for allowed in ("false", "true"):
        gateway = start_gateway(AGENTGW_SERVER__REMOTE_COMMANDS=allowed)
        admin = new_key(gateway, "admin", admin=True)
        plain = new_key(gateway, "plain")
        some = new_key(gateway, "some", admin=True, agents=["evil"])
        for name, secret in {"admin": admin, "plain": plain, "some": some}.items():
            mark = tmp_path / f"{name}-{allowed}"
            body = {"name": "evil", "command": ["touch", str(mark)], "protocol": "mcp"}
            headers = {"Authorization": f"Bearer {secret}"}
            answer = httpx.post(f"{gateway.url}/api/agents", json=body, headers=headers, timeout=PATIENCE)
            may = name == "admin" and allowed == "true"
            assert (answer.status_code == 201) == may, answer.text
            assert mark.exists() == may
            if may:
                # A secret of the gateway's is still not theirs to send anywhere.
                body |= {"name": "reads", "env": {"X": "${OWN}"}}
                answer = httpx.post(f"{gateway.url}/api/agents", json=body, headers=headers, timeout=PATIENCE)
                assert answer.status_code == 403
