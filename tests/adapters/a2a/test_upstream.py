"""Calling agents on the official SDK, every revision and binding, streaming and not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentgw.adapters.a2a.upstream.upstream import A2AUpstream, probe
from agentgw.adapters.a2a.wire import Op
from agentgw.gateway.config import Config
from agentgw.gateway.errors import BadUpstream, UpstreamError
from agentgw.gateway.lifecycle import fold
from agentgw.gateway.model import (
    Data,
    Event,
    File,
    Finished,
    InputReply,
    InputRequired,
    Invocation,
    Message,
    Part,
    Record,
    Started,
    Task,
    TaskRef,
    TaskState,
    Text,
    Trace,
    text_of,
)

from ...support.telling import invoked, replied
from .support import LocalHost, Way, peer, peer_agent, served

pytestmark = pytest.mark.slow

WAYS: list[Way] = [("1.0", "JSONRPC"), ("1.0", "HTTP+JSON"), ("0.3", "JSONRPC"), ("0.3", "HTTP+JSON")]
IDS = ["-".join(w) for w in WAYS]


def say(*parts: Part | str, **fields: Any) -> Invocation:
    made = tuple(Text(text=p) if isinstance(p, str) else p for p in parts)
    return Invocation(agent="peer", message=Message(role="user", parts=made), **fields)


async def events_of(source: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in source]


def folded(events: list[Event]) -> Task:
    task = Task(id="t", context_id="c", agent="peer")
    for event in events:
        task = fold(task, event)
    return task


@contextlib.asynccontextmanager
async def upstream(*ways: Way, streaming: bool = True, **record: Any) -> AsyncIterator[A2AUpstream]:
    async with peer_agent(ways, streaming=streaming) as url:
        yield A2AUpstream(Record(name="peer", protocol="a2a", url=url, **record), LocalHost())


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_a_turn(way: Way, streaming: bool) -> None:
    async with upstream(way) as agent:
        interface = await agent.interface()
        assert (interface.version, interface.binding) == way

        events = await events_of(invoked(agent, say("stream one two three", streaming=streaming)))
        task = folded(events)
        assert isinstance(events[0], Started)
        assert events[0].task_id
        assert events[0].context_id
        assert task.state is TaskState.COMPLETED
        assert text_of(task.artifacts[0].parts) == "one two three"

        blob = bytes(range(256))
        task = folded(
            await events_of(
                invoked(agent, say("file", File(content=blob, name="a.bin"), streaming=streaming))
            )
        )
        assert task.artifacts[0].parts[0].content == blob
        assert task.artifacts[0].parts[0].name == "a.bin"

        task = folded(
            await events_of(invoked(agent, say("data", Data(data={"n": [1]}), streaming=streaming)))
        )
        assert task.artifacts[0].parts[0] == Data(data={"got": {"n": [1]}})


@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_a_question_and_its_answer(way: Way) -> None:
    async with upstream(way) as agent:
        first = await events_of(invoked(agent, say("ask")))
        assert isinstance(first[0], Started)
        assert isinstance(first[-1], InputRequired)
        assert first[-1].request.prompt == "Which colour?"
        ref = TaskRef(task_id=first[0].task_id or "", context_id=first[0].context_id)
        call = say("red")
        second = await events_of(replied(agent, ref, call, InputReply(message=call.message)))
        assert isinstance(second[-1], Finished)
        assert second[-1].message is not None
        assert text_of(second[-1].message.parts) == "You said red"


@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_ends_of_every_kind(way: Way) -> None:
    async with upstream(way) as agent:
        failed = folded(await events_of(invoked(agent, say("fail no luck"))))
        assert failed.state is TaskState.FAILED
        assert failed.fault is not None
        assert (failed.fault.code, failed.fault.message) == ("agent_error", "no luck")
        direct = folded(await events_of(invoked(agent, say("message hello"))))
        assert direct.state is TaskState.COMPLETED
        assert text_of(direct.messages[0].parts) == "hello"
        rejected = folded(await events_of(invoked(agent, say("reject no"))))
        assert rejected.state is TaskState.REJECTED


@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_crash_text_is_withheld(way: Way) -> None:
    async with upstream(way) as agent:
        try:
            task = folded(await events_of(invoked(agent, say("crash"))))
        except UpstreamError as e:  # over the 0.3 REST binding the connection just breaks
            assert peer.SECRET not in str(e)
        else:
            assert task.state is TaskState.FAILED
            assert task.fault is not None
            assert peer.SECRET not in repr(task)


async def test_conversations_keep_the_agents_own_context_id() -> None:
    async with upstream(WAYS[0]) as agent:
        first = (await events_of(invoked(agent, say("remember blue", context_id="ours"))))[0]
        assert isinstance(first, Started)
        again = say("recall", context_id="ours", upstream_context=first.context_id)
        assert text_of((folded(await events_of(invoked(agent, again)))).status_message.parts) == "blue"


async def test_the_trace_goes_on() -> None:
    async with upstream(WAYS[0]) as agent:
        trace = Trace(traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
        task = folded(await events_of(invoked(agent, say("trace", trace=trace))))
        assert task.status_message is not None
        assert text_of(task.status_message.parts).split("-")[1] == "a" * 32


async def test_cancel_stops_the_task() -> None:
    async with upstream(WAYS[0]) as agent:
        seen: list[Event] = []
        async for event in invoked(agent, say("slow 20")):
            seen.append(event)
            if isinstance(event, Started):
                assert event.task_id
                await agent.cancel(TaskRef(task_id=event.task_id))
        assert folded(seen).state is TaskState.CANCELED


async def test_a_task_that_still_works_is_followed_to_its_end() -> None:
    """An agent that answers at once with a working task, and speaks no streaming."""
    looks = 0

    async def rpc(request: Any) -> JSONResponse:
        nonlocal looks
        body = await request.json()
        done = body["method"] == "GetTask" and looks > 1
        looks += body["method"] == "GetTask"
        task = {
            "id": "t1",
            "contextId": "c1",
            "status": {"state": "TASK_STATE_COMPLETED" if done else "TASK_STATE_WORKING"},
            "artifacts": [{"artifactId": "a", "parts": [{"text": "x" * looks or "-"}]}],
        }
        result = {"task": task} if body["method"] == "SendMessage" else task
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result})

    async def card(request: Any) -> JSONResponse:
        url = str(request.base_url)
        interface = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        return JSONResponse({"name": "slow", "skills": [], "supportedInterfaces": [interface]})

    app = Starlette(routes=[Route("/", rpc, methods=["POST"]), Route("/.well-known/agent-card.json", card)])
    async with served(app) as url:
        agent = A2AUpstream(Record(name="slow", protocol="a2a", url=url), LocalHost())
        events = await events_of(invoked(agent, say("go")))
    assert isinstance(events[-1], Finished)
    assert folded(events).state is TaskState.COMPLETED
    assert text_of(folded(events).artifacts[0].parts) == "xxx"


async def test_an_old_card_is_read() -> None:
    old = {
        "name": "old",
        "description": "before 1.0",
        "version": "1",
        "protocolVersion": "0.3.0",
        "preferredTransport": "HTTP+JSON",
        "additionalInterfaces": [{"url": "http://0.0.0.0:1/rpc", "transport": "JSONRPC"}],
        "capabilities": {},
        "skills": [{"id": "s", "name": "S", "description": "d", "tags": []}],
    }

    async def card(request: Any) -> JSONResponse:
        return JSONResponse({**old, "url": f"http://localhost:{request.url.port}/rest"})

    app = Starlette(routes=[Route("/agent/.well-known/agent.json", card)])
    async with served(app) as url:
        for registered in (f"{url}/agent", f"{url}/agent/", f"{url}/agent/.well-known/agent.json"):
            agent = A2AUpstream(Record(name="old", protocol="a2a", url=registered), LocalHost())
            (described,) = await agent.describe()
            assert [s.id for s in described.skills] == ["s"]
            interface = await agent.interface()
            assert (interface.version, interface.binding) == ("0.3", "HTTP+JSON")
            assert interface.url == f"{url}/rest"  # localhost counts as the registered 127.0.0.1


async def test_a_card_is_read_again_when_it_has_changed() -> None:
    said: dict[str, Any] = {"name": "x", "skills": [], "capabilities": {}}

    async def card(request: Any) -> JSONResponse:
        url = str(request.base_url)
        interface = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        return JSONResponse({**said, "supportedInterfaces": [interface]})

    async with served(Starlette(routes=[Route("/.well-known/agent-card.json", card)])) as url:
        agent = A2AUpstream(Record(name="x", protocol="a2a", url=url), LocalHost())
        (first,) = await agent.describe()
        (second,) = await agent.describe()
        assert second is first
        assert not agent.streams
        agent.outdated()  # another worker has found something new
        assert (await agent.interface()).url == f"{url}/"
        agent.outdated()
        assert await agent.describe() == [first]
        said["capabilities"] = {"streaming": True}
        said["description"] = "another"
        (third,) = await agent.describe()
        assert third.description == "another"
        assert agent.streams
        said["capabilities"] = {"extensions": "none"}
        for _ in range(2):  # what is wrong with it is said each time
            with pytest.raises(BadUpstream, match="is not A2A's"):
                await agent.describe()
        said["capabilities"] = {"streaming": True}
        assert await agent.describe() == [third]
        assert agent.streams


async def test_an_interface_elsewhere_needs_permission_and_gets_no_credentials() -> None:
    seen: list[str | None] = []

    async def rpc(request: Any) -> JSONResponse:
        seen.append(request.headers.get("authorization"))
        message = {"role": "ROLE_AGENT", "messageId": "m", "parts": [{"text": "hi"}]}
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": {"message": message}})

    async with served(Starlette(routes=[Route("/", rpc, methods=["POST"])])) as other:

        async def card(request: Any) -> JSONResponse:
            seen.append(request.headers.get("authorization"))
            interface = {"url": other, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            return JSONResponse({"name": "x", "skills": [], "supportedInterfaces": [interface]})

        async with served(Starlette(routes=[Route("/.well-known/agent-card.json", card)])) as url:
            record = Record(name="x", protocol="a2a", url=url, headers={"authorization": "Bearer s"})
            with pytest.raises(BadUpstream, match=r"outbound\.allow"):
                await A2AUpstream(record, LocalHost()).describe()
            seen.clear()
            agent = A2AUpstream(record, LocalHost(allow=("127.0.0.0/8",)))
            assert folded(await events_of(invoked(agent, say("go")))).state is TaskState.COMPLETED
    assert seen == ["Bearer s", None]


async def test_what_is_allowed_no_more_is_called_no_more() -> None:
    async def rpc(request: Any) -> JSONResponse:
        message = {"role": "ROLE_AGENT", "messageId": "m", "parts": [{"text": "hi"}]}
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": {"message": message}})

    async with served(Starlette(routes=[Route("/", rpc, methods=["POST"])])) as other:

        async def card(request: Any) -> JSONResponse:
            interface = {"url": other, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            return JSONResponse({"name": "x", "skills": [], "supportedInterfaces": [interface]})

        async with served(Starlette(routes=[Route("/.well-known/agent-card.json", card)])) as url:
            host = LocalHost(allow=("127.0.0.0/8",))
            agent = A2AUpstream(Record(name="x", protocol="a2a", url=url), host)
            assert folded(await events_of(invoked(agent, say("go")))).state is TaskState.COMPLETED
            host.config = Config()
            with pytest.raises(BadUpstream, match=r"outbound\.allow"):  # though the card is the same
                await agent.describe()
            agent.rebound()
            with pytest.raises(BadUpstream, match=r"outbound\.allow|not a public address"):
                await events_of(invoked(agent, say("go")))


async def test_a_name_elsewhere_is_checked_at_every_use(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts: list[str | None] = []

    async def rpc(request: Any) -> JSONResponse:
        hosts.append(request.headers.get("host"))
        message = {"role": "ROLE_AGENT", "messageId": "m", "parts": [{"text": "hi"}]}
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": {"message": message}})

    now = "127.0.0.1"

    async def getaddrinfo(self: Any, host: str, port: int, **_: Any) -> Any:
        assert host == "other.example"
        return [(2, 1, 6, "", (now, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    async with served(Starlette(routes=[Route("/", rpc, methods=["POST"])])) as other:
        named = other.replace("127.0.0.1", "other.example")

        async def card(request: Any) -> JSONResponse:
            interface = {"url": named, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            return JSONResponse({"name": "x", "skills": [], "supportedInterfaces": [interface]})

        async with served(Starlette(routes=[Route("/.well-known/agent-card.json", card)])) as url:
            record = Record(name="x", protocol="a2a", url=url)
            agent = A2AUpstream(record, LocalHost(allow=("127.0.0.1/32",)))
            assert folded(await events_of(invoked(agent, say("go")))).state is TaskState.COMPLETED
            now = "127.0.0.2"
            with pytest.raises(BadUpstream, match=r"other\.example is not a public address"):
                await events_of(invoked(agent, say("go")))
    assert hosts == [named.removeprefix("http://")]


async def test_probe() -> None:
    async with peer_agent([WAYS[0]]) as url:
        found = await probe(url, [], LocalHost())
        assert found is not None
        assert found.agents[0].name == "Peer"
    async with served(Starlette()) as nothing:
        assert await probe(nothing, [], LocalHost()) is None


async def test_leaving_early_does_not_cancel_the_agents_task() -> None:
    async with upstream(WAYS[0]) as agent:
        source = invoked(agent, say("slow 0.5"))
        first = await anext(source)
        assert isinstance(first, Started)
        await source.aclose()  # pyright: ignore[reportAttributeAccessIssue]
        ref = TaskRef(task_id=first.task_id or "")
        await asyncio.wait_for(_completed(agent, ref), 60)


async def _completed(agent: A2AUpstream, ref: TaskRef) -> None:
    """The agent's own stream of the task says how it ends."""
    async for result in agent.stream(Op.SUBSCRIBE, {"id": ref.task_id}):
        if b"TASK_STATE_COMPLETED" in bytes(result):
            return
    pytest.fail("the task did not complete")
