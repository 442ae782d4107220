"""A2A over gRPC: the official client at the gateway, the gateway at an agent on the official server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import msgspec
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import ClientCallContext
from a2a.client.errors import A2AClientError
from a2a.types import (
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
    a2a_pb2,
    a2a_pb2_grpc,
)
from a2a.utils.errors import (
    A2AError,
    InvalidParamsError,
    InvalidRequestError,
    TaskNotFoundError,
    UnsupportedOperationError,
    VersionNotSupportedError,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.a2a import adapter
from agentgw.adapters.a2a.card import Interface, grpc_interface
from agentgw.adapters.a2a.codec import Malformed
from agentgw.adapters.a2a.face.face import A2AFace
from agentgw.adapters.a2a.grpc import optional, proto, status
from agentgw.adapters.a2a.grpc.bridge import Bridge, Refused
from agentgw.adapters.a2a.grpc.channel import GrpcChannel
from agentgw.adapters.a2a.grpc.server import GrpcListener
from agentgw.adapters.a2a.upstream.address import beside, of_grpc
from agentgw.adapters.a2a.upstream.upstream import A2AUpstream
from agentgw.adapters.a2a.wire import Op
from agentgw.cli import process
from agentgw.gateway.access import Access, Key
from agentgw.gateway.audit import Audit
from agentgw.gateway.breaker import Breaker
from agentgw.gateway.config import Config, Limits, Server
from agentgw.gateway.engine import Hub
from agentgw.gateway.errors import (
    AgentError,
    BadUpstream,
    ConfigError,
    GatewayError,
    Unreachable,
    UpstreamFailed,
)
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.model import (
    ArtifactDelta,
    Data,
    Event,
    File,
    Finished,
    InputReply,
    InputRequired,
    Invocation,
    Message,
    Record,
    Started,
    TaskRef,
    TaskState,
    Text,
    text_of,
)
from agentgw.gateway.reach import Guard
from agentgw.gateway.telemetry import Tracer
from agentgw.registry.memory import MemoryStore

from ...support.examples import examples
from ...support.memory import MemoryDirectory, MemoryUpstream, echo
from ...support.ports import find_port
from ...support.telling import invoked, replied
from .grpcpeer import GrpcPeer
from .support import LocalHost, listening, served

BLOB = bytes(range(256))
HELLO = a2a_pb2.Message(message_id="m", role=a2a_pb2.ROLE_USER, parts=[a2a_pb2.Part(text="hello")])


# --- messages ----------------------------------------------------------------------------------


def test_messages_are_the_sdks() -> None:
    wire = {
        "message": {
            "messageId": "m",
            "role": "ROLE_USER",
            "parts": [
                {"text": ""},
                {"raw": base64.b64encode(BLOB).decode(), "mediaType": "x/y", "filename": "f"},
                {"data": None},
                {"data": [1, 2.5, None, {"a": True}]},
            ],
            "metadata": {"n": 3, "nothing": None},
        },
        "configuration": {"historyLength": 0},
    }
    data = proto.encode("SendMessageRequest", {**wire, "unknown": 1})
    assert SendMessageRequest.FromString(data) == ParseDict(wire, SendMessageRequest())
    assert proto.decode("SendMessageRequest", data) == wire
    with pytest.raises(Malformed):
        proto.decode("SendMessageRequest", b"\xff\xff")
    with pytest.raises(Malformed):
        proto.encode("SendMessageRequest", {"configuration": {"historyLength": "many"}})


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
@examples(60)
def test_data_comes_through_as_it_was(value: Any) -> None:
    wire = {"artifactId": "a", "parts": [{"data": value}]}
    again = proto.decode("Artifact", proto.encode("Artifact", wire))
    assert json.dumps(again, sort_keys=True) == json.dumps(wire, sort_keys=True)  # 1 is not 1.0


# --- the gateway's port ------------------------------------------------------------------------


async def worker(call: Invocation) -> AsyncIterator[Event]:
    """An agent in memory that does what the first word says."""
    word = text_of(call.message.parts).split(" ")[0]
    if word == "crash":
        yield Started()
        raise UpstreamFailed("worker", detail="secret")
    if word == "wait":
        yield Started()
        await asyncio.Event().wait()
    async for event in echo(call):
        yield event


class Gateway:
    """The gateway with a gRPC port, at ``target``."""

    def __init__(self, http: httpx.AsyncClient, url: str, target: str, hub: Hub) -> None:
        self.http, self.url, self.target, self.hub = http, url, target, hub
        self.channels: list[grpc.aio.Channel] = []

    def channel(self, target: str) -> grpc.aio.Channel:
        self.channels.append(grpc.aio.insecure_channel(target))
        return self.channels[-1]

    async def client(self, path: str, *, streaming: bool = True) -> Any:
        """The SDK's client for the card there, which is to take gRPC."""
        card = await A2ACardResolver(self.http, self.url + path).get_agent_card()
        config = ClientConfig(
            streaming=streaming,
            supported_protocol_bindings=["GRPC"],
            grpc_channel_factory=self.channel,
        )
        return ClientFactory(config).create(card)


@contextlib.asynccontextmanager
async def gateway(**agents: MemoryUpstream | str) -> AsyncIterator[Gateway]:
    """A gateway in front of these: in memory, or A2A agents by URL."""
    in_memory = {n: a if isinstance(a, MemoryUpstream) else MemoryUpstream() for n, a in agents.items()}
    directory = MemoryDirectory(in_memory)
    views: Any = directory.views()
    for name, url in agents.items():
        if isinstance(url, str):
            record = Record(name=name, protocol="a2a", url=url)
            upstream = A2AUpstream(record, LocalHost())
            (agent,) = await upstream.describe()
            views[name] = msgspec.structs.replace(views[name], record=record, agent=agent, upstream=upstream)
    port = find_port()
    config = Config(server=Server(grpc_port=port))
    hub = Hub(directory, MemoryStore(), Tracer(), config)
    face = A2AFace(hub)

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope["path"])

    app = App([face], nothing, Doors("127.0.0.1", ""), access=Access("t"), body_limit=1 << 20)
    async with served(app) as url, httpx.AsyncClient(timeout=60) as http:
        assert adapter.listener is not None
        listener = adapter.listener(app, config, url.removeprefix("http://"))
        assert listener is not None
        await listener.start()
        gw = Gateway(http, url, f"127.0.0.1:{port}", hub)
        try:
            yield gw
        finally:
            for channel in gw.channels:
                await channel.close()
            await listener.aclose()
            await face.aclose()
            await hub.aclose()
            for view in views.values():
                await view.upstream.aclose()


def say(text: str, **fields: Any) -> SendMessageRequest:
    message = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": text}]} | fields
    return ParseDict({"message": message}, SendMessageRequest())


async def items_of(client: Any, request: SendMessageRequest) -> list[dict[str, Any]]:
    return [MessageToDict(item) async for item in client.send_message(request)]


def texts(items: list[dict[str, Any]]) -> str:
    found = ""
    for item in items:
        update = item.get("artifactUpdate", {}).get("artifact", {})
        for artifact in [update, *item.get("task", {}).get("artifacts", [])]:
            found += "".join(part.get("text", "") for part in artifact.get("parts", []))
    return found


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
async def test_the_card_leads_the_official_client_to_the_agent(streaming: bool) -> None:
    async with gateway(one=MemoryUpstream(worker), two=MemoryUpstream()) as gw:
        client = await gw.client("/a2a/one", streaming=streaming)
        items = await items_of(client, say("hello wide world"))
        assert texts(items) == "hello wide world"
        last = items[-1].get("statusUpdate") or items[-1]["task"]
        assert last["status"]["state"] == "TASK_STATE_COMPLETED"
        task_id = items[0]["task"]["id"]
        assert (
            await client.get_task(GetTaskRequest(id=task_id))
        ).status.state == a2a_pb2.TASK_STATE_COMPLETED
        assert [t.id for t in (await client.list_tasks(ListTasksRequest())).tasks] == [task_id]
        assert not (await (await gw.client("/a2a/two")).list_tasks(ListTasksRequest())).tasks


async def test_without_a_tenant_it_is_the_gateways_own_agent() -> None:
    async with gateway(one=MemoryUpstream(worker), two=MemoryUpstream()) as gw:
        client = await gw.client("")
        (asked,) = await items_of(client, say("hello"))
        assert asked["task"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        task = asked["task"]
        answer = await items_of(client, say("one", taskId=task["id"], contextId=task["contextId"]))
        assert texts(answer) == "hello"


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (GetTaskRequest(id="none"), TaskNotFoundError, "unknown task: none"),
        (CancelTaskRequest(id="none"), TaskNotFoundError, "unknown task: none"),
        (SubscribeToTaskRequest(id="none"), TaskNotFoundError, "unknown task: none"),
        (SendMessageRequest(), InvalidParamsError, "message is required"),
        (SendMessageRequest(tenant="nobody", message=HELLO), InvalidParamsError, "unknown agent: nobody"),
        (SendMessageRequest(tenant="one/tasks", message=HELLO), InvalidParamsError, "agent: one/tasks"),
        (GetExtendedAgentCardRequest(), UnsupportedOperationError, "no extended agent card"),
    ],
)
async def test_errors_are_the_clients_own_exceptions(request_: Any, error: Any, words: str) -> None:
    calls = {
        GetTaskRequest: "get_task", CancelTaskRequest: "cancel_task", SendMessageRequest: "send_message",
        GetExtendedAgentCardRequest: "get_extended_agent_card",
    }  # fmt: skip
    async with gateway(one=MemoryUpstream(worker)) as gw:
        transport = (await gw.client("/a2a/one", streaming=False))._transport
        with pytest.raises(error, match=words) as raised:
            if isinstance(request_, SubscribeToTaskRequest):
                [_ async for _ in transport.subscribe(request_)]
            elif isinstance(request_, GetExtendedAgentCardRequest):
                stub = a2a_pb2_grpc.A2AServiceStub(gw.channel(gw.target))
                try:
                    await stub.GetExtendedAgentCard(request_)
                except grpc.aio.AioRpcError as e:
                    raise_as_the_sdk(e)
            else:
                await getattr(transport, calls[type(request_)])(request_)
        assert isinstance(raised.value, A2AError)


def raise_as_the_sdk(error: Any) -> None:
    from a2a.client.transports.grpc import _map_grpc_error

    _map_grpc_error(error)


async def test_another_version_is_refused() -> None:
    async with gateway(one=MemoryUpstream()) as gw:
        transport = (await gw.client("/a2a/one"))._transport._base
        stub = transport.stub
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetTask(GetTaskRequest(id="x"), metadata=(("a2a-version", "9.9"),))
        with pytest.raises(VersionNotSupportedError, match=r"'9\.9'"):
            raise_as_the_sdk(raised.value)
        with pytest.raises(grpc.aio.AioRpcError) as raised:  # none is this service's
            await stub.GetTask(GetTaskRequest(id="x"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_crash_texts_stay_inside() -> None:
    async with gateway(one=MemoryUpstream(worker)) as gw:
        items = await items_of(await gw.client("/a2a/one"), say("crash"))
        assert items[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_FAILED"
        assert "secret" not in str(items)


async def test_principals_and_limits_are_the_fronts() -> None:
    async with gateway(one=MemoryUpstream(worker)) as gw:
        client = await gw.client("/a2a/one")
        owner = ClientCallContext(service_parameters={"authorization": "Bearer t"})
        first = await anext(client.send_message(say("hello"), context=owner))
        ask = GetTaskRequest(id=first.task.id)
        assert (await client.get_task(ask, context=owner)).id == first.task.id
        with pytest.raises(TaskNotFoundError):  # an anonymous caller is somebody else
            await client.get_task(ask)
        with pytest.raises(InvalidRequestError, match="larger than"):
            await items_of(client, say("x" * (1 << 20)))


async def test_a_client_that_leaves_does_not_stop_the_task() -> None:
    async def patient(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await upstream.canceled.wait()
        yield Finished(state=TaskState.CANCELED)

    upstream = MemoryUpstream(patient)
    async with gateway(one=upstream) as gw:
        client = await gw.client("/a2a/one")
        stream = client.send_message(say("wait"))
        task_id = (await anext(stream)).task.id
        await stream.aclose()
        assert (await client.get_task(GetTaskRequest(id=task_id))).status.state in (
            a2a_pb2.TASK_STATE_SUBMITTED,
            a2a_pb2.TASK_STATE_WORKING,
        )
        watching = client.subscribe(SubscribeToTaskRequest(id=task_id))
        assert (await anext(watching)).task.id == task_id
        assert not upstream.canceled.is_set()
        await client.cancel_task(CancelTaskRequest(id=task_id))
        assert upstream.canceled.is_set()
        assert [MessageToDict(x) async for x in watching][-1]["statusUpdate"]["status"]["state"] == (
            "TASK_STATE_CANCELED"
        )


EVENTS = (b"content-type", b"text/event-stream")


@contextlib.asynccontextmanager
async def front(app: Any, host: str = "gateway:1") -> AsyncIterator[Any]:
    """The SDK's stub for a gRPC port in front of ``app``; its address is ``target``."""
    port = find_port()
    listener = GrpcListener(app, Config(server=Server(grpc_port=port)), host)
    await listener.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)
            stub.target = f"127.0.0.1:{port}"
            yield stub
    finally:
        await listener.aclose()


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
async def test_what_goes_to_the_front_and_what_comes_back(streaming: bool) -> None:
    """Metadata are headers, but for those that are the gateway's to say; used extensions are metadata."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update({k.decode(): v.decode() for k, v in reversed(scope["headers"])})
        seen["path"] = scope["raw_path"].decode()
        seen["body"] = json.loads((await receive())["body"])
        head = [EVENTS] if streaming else []
        head.append((b"a2a-extensions", b"urn:a"))
        await send({"type": "http.response.start", "status": 200, "headers": head})
        body = b'{"result":{"task":{"id":"t","status":{"state":"TASK_STATE_WORKING"}}}}'
        await send({"type": "http.response.body", "body": b"data: " + body + b"\n\n" if streaming else body})

    async with front(app) as stub:
        metadata = (("traceparent", "00-1-2-01"), ("host", "evil"), ("a2a-extensions", "urn:a,urn:b"))
        metadata += (("mcp-session-id", "x"), ("mcp-protocol-version", "2025-11-25"))
        send = stub.SendStreamingMessage if streaming else stub.SendMessage
        answered = send(SendMessageRequest(tenant="a b", message=HELLO), metadata=metadata)
        (item,) = [x async for x in answered] if streaming else [await answered]
        assert item.task.id == "t"
        assert ("a2a-extensions", "urn:a") in list(await answered.initial_metadata())
    assert (seen["traceparent"], seen["host"], seen["a2a-extensions"]) == (
        "00-1-2-01",
        "gateway:1",
        "urn:a,urn:b",
    )
    assert not [name for name in seen if name.startswith("mcp-")], "they lead to another protocol's door"
    assert seen["path"] == "/a2a/a%20b"
    assert seen["body"]["method"] == ("SendStreamingMessage" if streaming else "SendMessage")
    assert "tenant" not in seen["body"]["params"]


@pytest.mark.parametrize("body", [b"", b'{"result":{"task":{"id":"t","status":{"message":{"parts":17}}}}}'])
async def test_an_answer_that_is_none_is_not_the_clients_mistake(body: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async with front(app) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.SendMessage(SendMessageRequest(message=HELLO))
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert failed.value.details() == ("the agent's answer is not A2A" if body else "internal error")


async def test_the_front_learns_that_a_client_has_left() -> None:
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [EVENTS]})
        await send({"type": "http.response.body", "body": b'data: {"result":{"task":{"id":"t"}}}\n\n'})
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    async with front(app) as stub:
        stream = stub.SendStreamingMessage(SendMessageRequest(message=HELLO))
        assert (await stream.read()).task.id == "t"
        stream.cancel()
        await asyncio.wait_for(left.wait(), 60)


async def test_the_tenant_of_the_agents_interface_is_sent() -> None:
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"result":{"id":"t"}}'})

    async with front(app) as stub:
        interface = Interface(f"http://{stub.target}", "GRPC", "1.0", "us")
        channel = GrpcChannel("far", interface, list, Limits(), Guard("far", Breaker(0), 1))
        got = await channel.call(Op.GET, {"id": "t", "tenant": "not the agent's"})
        assert bytes(got) == b'{"id":"t"}'
        channel.close()
    assert paths == ["/a2a/us"]


async def test_the_whole_gateway_listens_and_stops() -> None:
    port = find_port()
    config = Config(server=Server(port=0, grpc_port=port))
    with contextlib.closing(listening()) as sock:
        running = process.running(process.Gateway(config, MemoryStore(), bind="127.0.0.1", token="t"), sock)
        async with running, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = a2a_pb2_grpc.A2AServiceStub(channel)
            assert (await stub.ListTasks(ListTasksRequest())).total_size == 0
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await a2a_pb2_grpc.A2AServiceStub(channel).ListTasks(ListTasksRequest())
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_port_that_is_taken() -> None:
    config = Config(server=Server(grpc_port=find_port()))
    first = GrpcListener(None, config, "localhost")  # type: ignore[arg-type]
    await first.start()
    try:
        listener = GrpcListener(None, config, "localhost")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"can't listen for gRPC on 127\.0\.0\.1:.*--grpc-port"):
            await listener.start()
        await listener.aclose()
    finally:
        await first.aclose()


async def test_no_port_unless_it_is_wanted() -> None:
    assert adapter.listener is not None
    assert adapter.listener(None, Config(), "localhost") is None  # type: ignore[arg-type]


async def test_who_is_refused_is_in_the_audit_log_with_its_address() -> None:
    audit = Audit()
    key = Key(name="k", id="1", hash="ab" * 32)
    access = Access("owner")
    access.take([key])
    directory = MemoryDirectory({"one": MemoryUpstream()})
    hub = Hub(directory, MemoryStore(), Tracer(), Config())
    face = A2AFace(hub)
    app = App([face], None, Doors("127.0.0.1", ""), access=access, body_limit=1 << 20, audit=audit)  # type: ignore[arg-type]
    async with front(app, "127.0.0.1") as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SendMessage(SendMessageRequest(tenant="one", message=HELLO))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    (line,) = map(json.loads, audit.drain().splitlines())
    assert (line["event"], line["status"], line["operation"]) == ("refused", 401, "POST /a2a/one")
    assert line["peer"] == "127.0.0.1"
    await face.aclose()
    await hub.aclose()


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:50000", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("unix:/run/x", ""),
        ("", ""),
    ],
)
async def test_a_peer_is_known_by_its_address(peer: str, address: str) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    async def tell(extensions: str) -> None: ...

    with contextlib.suppress(Refused):
        async for _ in Bridge(app, "gateway").call("GetTask", {}, (), peer, tell):
            pass
    assert seen == [address]


# --- agents that offer only gRPC ---------------------------------------------------------------


@contextlib.asynccontextmanager
async def grpc_agent(**how: Any) -> AsyncIterator[str]:
    """A ``GrpcPeer``; the base of its card."""
    async with GrpcPeer(**how).running() as one:
        yield one.base


@contextlib.asynccontextmanager
async def upstream_at(url: str) -> AsyncIterator[A2AUpstream]:
    host = LocalHost()
    upstream = A2AUpstream(Record(name="far", protocol="a2a", url=url), host)
    try:
        yield upstream
    finally:
        await upstream.aclose()
        await host.transport.aclose()


def call(text: str, *parts: Any, streaming: bool = True, **fields: Any) -> Invocation:
    message = Message(role="user", parts=(Text(text=text), *parts))
    return Invocation(agent="far", message=message, streaming=streaming, **fields)


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
async def test_a_turn_over_grpc(streaming: bool) -> None:
    async with grpc_agent() as url, upstream_at(url) as upstream:
        (agent,) = await upstream.describe()
        assert agent.name == "Peer"
        assert (await upstream.interface()).binding == "GRPC"
        events = [e async for e in invoked(upstream, call("stream a b c", streaming=streaming))]
        pieces = [e for e in events if isinstance(e, ArtifactDelta)]
        assert "".join(text_of(e.artifact.parts) for e in pieces) == "a b c"
        assert isinstance(events[-1], Finished)
        assert events[-1].state is TaskState.COMPLETED


async def test_files_and_data_are_the_same_bytes_and_values() -> None:
    async with grpc_agent() as url, upstream_at(url) as upstream:
        sent = File(content=BLOB, name="b.bin", media_type="application/octet-stream")
        events = [e async for e in invoked(upstream, call("file", sent))]
        (artifact,) = [e.artifact for e in events if isinstance(e, ArtifactDelta)]
        assert artifact.parts == (sent,)
        value = {"n": 1, "f": 0.5, "nothing": None, "list": [{}]}
        events = [e async for e in invoked(upstream, call("data", Data(data=value)))]
        (artifact,) = [e.artifact for e in events if isinstance(e, ArtifactDelta)]
        (part,) = artifact.parts
        assert isinstance(part, Data)
        assert part.data == {"got": value}


async def test_a_question_its_answer_and_a_task_that_is_no_more() -> None:
    async with grpc_agent() as url, upstream_at(url) as upstream:
        events = [e async for e in invoked(upstream, call("ask"))]
        assert isinstance(events[-1], InputRequired)
        (started,) = [e for e in events if isinstance(e, Started)]
        assert started.task_id
        task = TaskRef(task_id=started.task_id, context_id=started.context_id or "")
        reply = InputReply(message=Message(role="user", parts=(Text(text="red"),)))
        last = [e async for e in replied(upstream, task, call("red"), reply)][-1]
        assert isinstance(last, Finished)
        assert last.message is not None
        assert text_of(last.message.parts) == "You said red"
        with pytest.raises(GatewayError) as raised:
            await upstream.cancel(TaskRef(task_id="none", context_id=""))
        assert raised.value.message == "Task not found"


async def test_an_agent_that_crashes_or_is_away() -> None:
    async with grpc_agent() as url, upstream_at(url) as upstream:
        with pytest.raises(GatewayError) as raised:
            [_ async for _ in invoked(upstream, call("crash"))]
        assert raised.value.message == "far failed"
    async with upstream_at(url) as gone:
        gone._card, gone._channel = upstream._card, upstream._channel
        with pytest.raises(Unreachable):
            await gone.cancel(TaskRef(task_id="t", context_id=""))


async def test_the_agents_interface_is_chosen_and_called_as_its_card_says() -> None:
    async with grpc_agent(url="http://localhost:{}", tenant="us") as url, upstream_at(url) as upstream:
        interface = await upstream.interface()
        assert (interface.tenant, interface.url.rpartition(":")[0]) == ("us", "http://127.0.0.1")
        events = [e async for e in invoked(upstream, call("echo hello"))]
        assert isinstance(events[-1], Finished)


async def test_other_limits_hold_for_calls_that_come() -> None:
    async with grpc_agent() as url, upstream_at(url) as upstream:
        said = "stream " + "x" * 2000
        assert isinstance([e async for e in invoked(upstream, call(said))][-1], Finished)
        kept = upstream._channel
        upstream.rebound()
        assert upstream._channel is kept  # nothing has changed
        upstream._host.config = Config(limits=Limits(body=1000))  # type: ignore[misc]
        upstream.rebound()
        with pytest.raises(GatewayError):
            _ = [e async for e in invoked(upstream, call(said))]


async def test_a_private_address_elsewhere_is_not_reached() -> None:
    async with grpc_agent(url="10.0.0.1:{}") as url, upstream_at(url) as upstream:
        with pytest.raises(BadUpstream, match="not a public address"):
            await upstream.describe()


async def test_grpc_client_grpc_agent() -> None:
    async with grpc_agent() as url, gateway(far=url) as gw:
        client = await gw.client("/a2a/far")
        items = await items_of(client, say("stream a b"))
        assert texts(items) == "a b"
        with pytest.raises(A2AClientError, match="INTERNAL: far failed"):
            await items_of(client, say("crash"))
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id="none"))


# --- without the extra -------------------------------------------------------------------------


@pytest.fixture
def without_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, package: str | None = None) -> Any:
        if name.partition(".")[0] == "grpc":
            raise ModuleNotFoundError(name)
        return importlib.__import__(name, fromlist=["x"])

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    monkeypatch.setattr(optional, "installed", lambda: False)


@pytest.mark.usefixtures("without_grpc")
async def test_what_to_install_is_said() -> None:
    assert adapter.listener is not None
    with pytest.raises(ConfigError, match=r"pip install 'agentgw\[grpc\]'"):
        adapter.listener(None, Config(server=Server(grpc_port=1)), "localhost")  # type: ignore[arg-type]
    async with grpc_agent() as url, upstream_at(url) as upstream:
        with pytest.raises(ConfigError, match=r"pip install 'agentgw\[grpc\]'"):
            await upstream.describe()


@pytest.mark.usefixtures("without_grpc")
async def test_another_binding_is_taken_where_there_is_one() -> None:
    async with grpc_agent(JSONRPC="http://8.8.8.8/") as url, upstream_at(url) as upstream:
        assert (await upstream.interface()).binding == "JSONRPC"


# --- pure --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "registered", "reached", "here"),
    [
        ("h:50051", "http://h:80/x", "http://h:50051", "http://h:50051"),
        ("h:50051", "https://h/x", "https://h:50051", "https://h:50051"),
        ("h:443", "http://h", "https://h:443", "https://h:443"),
        ("grpc://h:1", "https://h", "http://h:1", None),
        ("grpcs://h", "http://h", "https://h:443", "https://h:443"),
        ("dns:///h:1", "http://h", "http://h:1", "http://h:1"),
        ("0.0.0.0:1", "http://localhost:2", "http://0.0.0.0:1", "http://localhost:1"),
        ("[::1]:1", "http://127.0.0.1", "http://[::1]:1", "http://127.0.0.1:1"),
        ("other:1", "http://h", "http://other:1", None),
    ],
)
def test_where_a_grpc_interface_is(url: str, registered: str, reached: str, here: str | None) -> None:
    assert of_grpc(url, registered) == reached
    assert beside(reached, registered) == here


@pytest.mark.parametrize(
    ("server", "base", "url"),
    [
        (Server(grpc_port=1), "https://gw.example/x", "gw.example:1"),
        (Server(grpc_port=1), "http://[::1]:8080", "[::1]:1"),
        (Server(grpc_port=1, grpc_url="grpc.example:443"), "http://h", "grpc.example:443"),
    ],
)
def test_what_the_cards_say(server: Server, base: str, url: str) -> None:
    found = {"url": url, "protocolBinding": "GRPC", "protocolVersion": "1.0"}
    assert grpc_interface(server, base) == found
    assert grpc_interface(server, base, "a") == {**found, "tenant": "a"}
    assert grpc_interface(Server(), base, "a") is None


@pytest.mark.parametrize("url", ["", ":80", "unix:/x", "ftp://h", "h:99999", "h:1/path"])
def test_what_is_no_grpc_interface(url: str) -> None:
    with pytest.raises(ValueError):
        of_grpc(url, "http://h")


class Failed:
    """An error as grpc raises it."""

    def __init__(self, code: grpc.StatusCode, words: str = "words", details: bytes | None = None) -> None:
        self._code, self._words, self._details = code, words, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._words

    def trailing_metadata(self) -> Any:
        return ((status.DETAILS, self._details),) if self._details else None


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("UNAVAILABLE", Unreachable, "far can't be reached"),
        ("UNKNOWN", UpstreamFailed, "far failed"),
        ("INTERNAL", UpstreamFailed, "far failed"),
        ("UNAUTHENTICATED", AgentError, "far refuses the gateway's credentials"),
        ("INVALID_ARGUMENT", AgentError, "words"),
        ("NOT_FOUND", AgentError, "words"),
        ("UNIMPLEMENTED", AgentError, "words"),
    ],
)
def test_an_agents_bare_status(code: str, kind: type[GatewayError], message: str) -> None:
    error = status.agent_failure("far", Failed(grpc.StatusCode[code]))
    assert type(error) is kind
    assert error.message == message


def test_an_agents_own_error_keeps_its_details() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "TASK_NOT_CANCELABLE",
            "domain": "a2a-protocol.org", "metadata": {"k": "v"}}  # fmt: skip
    made = status.failure(200, {"code": -32002, "message": "words", "data": [info, {"@type": "x/unknown"}]})
    assert made.code == "FAILED_PRECONDITION"
    error = status.agent_failure("far", Failed(grpc.StatusCode.FAILED_PRECONDITION, "words", made.status))
    assert isinstance(error, AgentError)
    assert (error.native or {})["code"] == -32002
    assert error.data == [info]


@pytest.mark.parametrize(
    ("http", "error", "code"),
    [
        (503, {"message": "stopping"}, "UNAVAILABLE"),
        (401, None, "UNAUTHENTICATED"),
        (200, {"code": -32603, "data": [{"metadata": {"code": "upstream_unreachable"}}]}, "UNAVAILABLE"),
        (500, {"code": "internal", "message": "m"}, "INTERNAL"),
    ],
)  # fmt: skip
def test_the_fronts_refusals(http: int, error: Any, code: str) -> None:
    assert status.failure(http, error).code == code


async def test_an_answer_that_is_cut_is_an_error_not_an_end() -> None:
    async def cut(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def told(_: str) -> None: ...

    results = Bridge(cut, "127.0.0.1").call("SendStreamingMessage", {}, [], "peer", told)
    assert await anext(results) == {}
    with pytest.raises(Refused) as refused:
        await anext(results)
    assert refused.value.http == 503
