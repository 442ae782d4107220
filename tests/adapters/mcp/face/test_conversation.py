"""Calls of conversational agents: turns, questions, progress, coming back, errors."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from agentgw.gateway.config import Config, Limits
from agentgw.gateway.model import (
    Data,
    Event,
    File,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    Principal,
    Started,
    StateChanged,
    TaskState,
    Text,
    text_of,
)

from ....support.memory import MemoryUpstream
from .support import META, VERSION, Events, Raw, by_hand, client, rpc, served

ERAS = ["handshake", "modern"]


def said(text: str) -> Message:
    return Message(role="agent", parts=(Text(text=text),))


async def asks(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="u", context_id=call.context_id)
    yield InputRequired(request=InputRequest(message=said("Which year?")))


async def answers(reply: InputReply) -> AsyncIterator[Event]:
    yield Finished(state=TaskState.COMPLETED, message=said(f"Year {text_of(reply.message.parts)}."))


async def waits(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="u")
    yield StateChanged(state=TaskState.WORKING, message=said("begun"))
    await asyncio.Event().wait()


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_sent_reaches_the_agent_byte_for_byte(era: str) -> None:
    agent = MemoryUpstream()
    content = bytes(range(256))
    async with served(echo=agent) as gateway, client(f"{gateway.url}/mcp", era) as mcp:
        files = [{"name": "x.bin", "data": base64.b64encode(content).decode()}]
        await mcp.call_tool("echo", {"message": "hi", "data": {"n": 1}, "files": files, "context_id": "mine"})
    (call,) = agent.calls
    assert call.message.parts == (
        Text(text="hi"),
        Data(data={"n": 1}),
        File(content=content, name="x.bin"),
    )
    assert (call.context_id, call.client_protocol) == ("mine", "mcp")


@pytest.mark.parametrize("era", ERAS)
async def test_text_is_told_as_it_comes(era: str) -> None:
    told: list[tuple[float, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, message))

    async with served(echo=MemoryUpstream()) as gateway, client(f"{gateway.url}/mcp", era) as mcp:
        result = await mcp.call_tool("echo", {"message": "one two"}, progress_callback=progress)
    assert told == [(1, "one"), (2, " two")]
    assert [block.text for block in result.content] == ["one two"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("by", ["task_id", "context_id"])
async def test_a_question_is_answered_in_the_same_task(era: str, by: str) -> None:
    agent = MemoryUpstream(asks, answers)
    async with served(sage=agent) as gateway, client(f"{gateway.url}/mcp/sage", era) as mcp:
        asked = await mcp.call_tool("sage", {"message": "when?"})
        assert not asked.is_error
        assert asked.structured_content["state"] == "input_required"
        assert "Which year?" in asked.content[0].text
        reply = {"message": "1969", by: asked.structured_content[by]}
        done = await mcp.call_tool("sage", reply)
    assert done.structured_content["state"] == "completed"
    assert done.structured_content["task_id"] == asked.structured_content["task_id"]
    assert done.content[0].text == "Year 1969."


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_takes_long_is_handed_over_and_can_be_come_back_to(era: str) -> None:
    go = asyncio.Event()

    async def slow(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await go.wait()
        yield Finished(state=TaskState.COMPLETED, message=said("done"))

    config = Config(limits=Limits(handover=0.05))
    async with served(config, slow=MemoryUpstream(slow)) as gateway, client(f"{gateway.url}/mcp", era) as mcp:
        first = await mcp.call_tool("slow", {"message": "x"})
        assert first.structured_content["state"] == "working"
        go.set()
        again = {"message": "", "task_id": first.structured_content["task_id"]}
        second = await mcp.call_tool("slow", again)
        assert [block.text for block in second.content] == ["done"]
        third = await mcp.call_tool("slow", {**again, "message": "more"})
        assert third.content[0].text == "done"
        assert "was not sent" in third.content[1].text


@pytest.mark.parametrize("path", ["/mcp", "/mcp/chatty"])
@pytest.mark.parametrize("era", ERAS)
async def test_progress_does_not_put_off_the_handover(era: str, path: str) -> None:
    async def chatty(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        while True:
            yield StateChanged(state=TaskState.WORKING, message=said("still at it"))
            await asyncio.sleep(0.01)

    async def progress(done: float, total: float | None, message: str | None) -> None:
        pass

    config = Config(limits=Limits(handover=0.1))
    async with (
        served(config, chatty=MemoryUpstream(chatty)) as gateway,
        client(gateway.url + path, era) as mcp,
        asyncio.timeout(60),
    ):
        result = await mcp.call_tool("chatty", {"message": "x"}, progress_callback=progress)
        assert result.structured_content["state"] == "working"
        assert result.structured_content["task_id"] in result.content[-1].text


@pytest.mark.parametrize("era", ERAS)
async def test_a_silent_agent_keeps_the_call_alive(era: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgw.adapters.mcp.face.conversation.KEEP_ALIVE", 0.01)
    told: list[float] = []
    enough = asyncio.Event()

    async def silent(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await enough.wait()
        yield Finished(state=TaskState.COMPLETED, message=said("done"))

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append(done)
        if len(told) == 3:
            enough.set()

    async with served(silent=MemoryUpstream(silent)) as gateway, client(f"{gateway.url}/mcp", era) as mcp:
        result = await mcp.call_tool("silent", {"message": "x"}, progress_callback=progress)
    assert result.content[0].text == "done"
    assert told[:3] == [1, 2, 3]


async def test_agents_failures_and_crashes() -> None:
    async def fails(call: Invocation) -> AsyncIterator[Event]:
        if text_of(call.message.parts) == "crash":
            raise RuntimeError("secret")
        yield Finished(state=TaskState.FAILED, message=said("no such city"))

    async with served(bad=MemoryUpstream(fails)) as gateway, client(f"{gateway.url}/mcp", "modern") as mcp:
        own = await mcp.call_tool("bad", {"message": "x"})
        assert (own.is_error, own.content[0].text) == (True, "no such city")
        crash = await mcp.call_tool("bad", {"message": "crash"})
        assert (crash.is_error, crash.content[0].text) == (True, "bad failed")
        assert "secret" not in str(crash)


BAD: list[dict[str, Any]] = [
    {},
    {"message": "x", "files": [{"name": "y"}]},
    {"message": "x", "task_id": "unknown"},
    {"message": "x", "nonsense": 1},
]


@pytest.mark.parametrize("arguments", BAD)
async def test_bad_arguments_by_revision(arguments: dict[str, Any]) -> None:
    call = rpc("tools/call", {"name": "echo", "arguments": arguments})
    async with served(echo=MemoryUpstream()) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        modern = (await raw.modern("tools/call", call["params"])).json()["result"]
        assert modern["isError"] is True
        assert modern["resultType"] == "complete"
        await raw.initialize("2025-11-25")
        assert (await raw.post(call)).json()["result"]["isError"] is True
        await raw.initialize("2025-06-18")
        assert (await raw.post(call)).json()["error"]["code"] == -32602


async def test_another_agents_task_is_unknown() -> None:
    async with (
        served(sage=MemoryUpstream(asks, answers), echo=MemoryUpstream()) as gateway,
        client(f"{gateway.url}/mcp", "modern") as mcp,
    ):
        asked = await mcp.call_tool("sage", {"message": "when?"})
        wrong = await mcp.call_tool("echo", {"message": "x", "task_id": asked.structured_content["task_id"]})
        assert wrong.is_error
        assert "unknown task" in wrong.content[0].text


async def test_closing_the_response_cancels_in_the_modern_era() -> None:
    agent = MemoryUpstream(waits)
    async with served(slow=agent) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        params = {"name": "slow", "arguments": {"message": "x"}}
        async with modern_stream(raw, params) as events:
            assert (await events.next())["params"]["message"] == "begun"
        async with asyncio.timeout(60):
            await agent.canceled.wait()


async def test_a_notification_cancels_in_the_handshake_era_and_leaving_does_not() -> None:
    agent = MemoryUpstream(waits)
    async with served(slow=agent) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        params = {"name": "slow", "arguments": {"message": "x"}, "_meta": {"progressToken": 9}}
        async with raw.stream("POST", rpc("tools/call", params, id="first")) as events:
            await events.next()
        async with raw.stream("POST", rpc("tools/call", params, id="second")) as events:
            await events.next()
            assert not agent.canceled.is_set()
            cancel = rpc("notifications/cancelled", {"requestId": "second"}, id=None)
            assert (await raw.post(cancel)).status_code == 202
            assert (await events.next())["error"]["code"] == -32800
        async with asyncio.timeout(60):
            await agent.canceled.wait()
        task = next(iter(await gateway.hub.tasks(Principal(), state=TaskState.WORKING)), None)
        assert task is not None, "the call whose client left goes on"


async def test_what_a_result_cannot_carry_is_told() -> None:
    async def remarks(call: Invocation) -> AsyncIterator[Event]:
        message = Message(role="agent", parts=(Text(text="a", metadata={"n": 1}),), author="me")
        yield Finished(state=TaskState.COMPLETED, message=message)

    async with (
        served(noted=MemoryUpstream(remarks)) as gateway,
        client(f"{gateway.url}/mcp", "modern") as mcp,
    ):
        await mcp.call_tool("noted", {"message": "hi"})
        (span,) = (s for s in gateway.spans() if s.name == "tools/call noted")
    assert span.attributes["agentgw.losses"] == "author of a message; part metadata"


async def test_one_span_per_call_with_the_callers_trace_as_parent() -> None:
    trace, inner = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    in_meta, in_header = f"00-{trace}-{inner}-01", f"00-{trace}-{'1' * 16}-01"
    agent = MemoryUpstream()
    async with served(echo=agent) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        for meta in ({"traceparent": in_meta}, {}):
            params = {"name": "echo", "arguments": {"message": "x"}, "_meta": meta}
            await raw.post(rpc("tools/call", params), traceparent=in_header)
        first, second = [s for s in gateway.spans() if s.name == "tools/call echo"]
    assert (first.trace_id, first.parent_id, second.parent_id) == (trace, inner, "1" * 16)
    assert first.kind == "server"
    expected = {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "echo",
        "agentgw.agent": "echo",
        "agentgw.client_protocol": "mcp",
        "agentgw.agent_protocol": "memory",
        "agentgw.state": "completed",
    }
    assert expected.items() <= first.attributes.items()
    assert agent.calls[0].trace.traceparent == f"00-{trace}-{first.span_id}-01"


def modern_stream(raw: Raw, params: dict[str, Any]) -> AbstractAsyncContextManager[Events]:
    message = rpc("tools/call", {**params, "_meta": {**META, "progressToken": 1}})
    return raw.stream(
        "POST", message, MCP_Protocol_Version=VERSION, Mcp_Method="tools/call", Mcp_Name=params["name"]
    )
