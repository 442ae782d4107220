"""The upstream against the official SDK's server, in both eras and over every transport."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from agentgw.adapters.mcp.upstream.upstream import McpUpstream
from agentgw.adapters.mcp.wire import Caller, RpcError
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.errors import AgentError, UpstreamFailed
from agentgw.gateway.model import (
    ArtifactDelta,
    Data,
    Event,
    Finished,
    InputReply,
    InputRequired,
    Invocation,
    Message,
    Progress,
    Started,
    TaskRef,
    Text,
    Trace,
    text_of,
)

from ...support.telling import invoked, replied

pytestmark = pytest.mark.slow

Connect = Callable[..., McpUpstream]
_ids = itertools.count()


def user(*parts: Any) -> Message:
    return Message(
        role="user", parts=tuple(Text(text=p) if isinstance(p, str) else Data(data=p) for p in parts)
    )


def invocation(tool: str, **arguments: Any) -> Invocation:
    message = user({"tool": tool, "arguments": arguments})
    return Invocation(agent="peer", task_id=f"task-{next(_ids)}", context_id="c", message=message)


async def collect(events: Any) -> list[Event]:
    async with asyncio.timeout(60):
        return [event async for event in events]


def answer(events: list[Event]) -> str:
    return "".join(text_of(e.artifact.parts) for e in events if isinstance(e, ArtifactDelta))


async def run(upstream: McpUpstream, tool: str, **arguments: Any) -> str:
    return answer(await collect(invoked(upstream, invocation(tool, **arguments))))


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_describes_all_pages_of_tools(connect: Connect, target: Any) -> None:
    (agent,) = await connect(target).describe()
    assert (agent.name, agent.version, agent.description) == ("odd", "3.1", "Does odd things")
    assert not agent.conversational
    assert {"say", "whoami", "region"} <= {skill.id for skill in agent.skills}
    assert len(agent.skills) >= 16


async def test_a_tool_answers_as_an_artifact(connect: Connect, target: Any) -> None:
    call = invocation("say", text="hé\u2028llo")
    events = await collect(invoked(connect(target), call))
    assert kinds(events) == ["Started", "ArtifactDelta", "Finished"]
    assert events[0] == Started(task_id=call.task_id, context_id="c")
    assert answer(events) == "hé\u2028llo"


async def test_progress_comes_while_the_tool_runs(connect: Connect, target: Any) -> None:
    upstream = connect(target)
    async with asyncio.timeout(60), aclosing(invoked(upstream, invocation("steps"))) as events:
        assert isinstance(await anext(events), Started)
        progress = await anext(events)
        assert isinstance(progress, Progress)
        assert (progress.message, progress.progress, progress.total) == ("half", 1, 2)
        await run(upstream, "go")  # only now may the first call end
        assert answer(await collect(events)) == "whole"


async def test_twenty_calls_at_once_each_get_their_own_answer(connect: Connect, target: Any) -> None:
    upstream = connect(target)
    answers = await asyncio.gather(*(run(upstream, "say", text=f"answer {i}") for i in range(20)))
    assert answers == [f"answer {i}" for i in range(20)]


async def test_a_result_of_two_megabytes(connect: Connect, target: Any) -> None:
    assert await run(connect(target), "big", size=2_000_000) == "x" * 2_000_000


async def test_a_tool_that_fails_speaks_for_itself(connect: Connect, target: Any) -> None:
    events = await collect(invoked(connect(target), invocation("fail")))
    end = events[-1]
    assert isinstance(end, Finished) and end.message is not None and end.fault is not None
    assert (end.state, end.fault.code, text_of(end.message.parts)) == (
        "failed",
        "agent_error",
        "no such city",
    )


async def test_an_error_of_the_server_speaks_for_itself(connect: Connect, target: Any) -> None:
    with pytest.raises(AgentError, match="too far away") as caught:
        await run(connect(target), "refuse")
    assert caught.value.data == {"km": 900}
    assert caught.value.native == {"protocol": "mcp", "code": -32602}


async def test_crash_text_stays_inside(connect: Connect, target: Any) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        await run(connect(target), "crash")
    assert "secret" not in json.dumps([caught.value.message, caught.value.data])
    assert caught.value.native == {"protocol": "mcp", "code": -32603}
    assert "secret" in caught.value.detail


async def test_a_question_of_the_server_goes_to_the_client(connect: Connect, target: Any) -> None:
    upstream = connect(target)
    call = invocation("ask")
    asked = (await collect(invoked(upstream, call)))[-1]
    assert isinstance(asked, InputRequired)
    assert (asked.request.kind, asked.request.prompt) == ("form", "Which city?")
    assert asked.request.schema is not None and "city" in asked.request.schema["properties"]
    ref = TaskRef(task_id=str(call.task_id))
    events = await collect(replied(upstream, ref, call, InputReply(message=user("Oslo"))))
    assert answer(events) == "accept: Oslo"


async def test_a_refusal_to_answer_reaches_the_server(connect: Connect, target: Any) -> None:
    upstream = connect(target)
    call = invocation("ask")
    await collect(invoked(upstream, call))
    reply = InputReply(message=user("no"), action="decline")
    events = await collect(replied(upstream, TaskRef(task_id=str(call.task_id)), call, reply))
    assert answer(events) == "decline: None"


@pytest.mark.parametrize("kind", ["http-handshake", "stdio-handshake", "old-sse"])
async def test_a_question_that_names_no_call_goes_to_the_only_one(
    connect: Connect, odd: Any, kind: str
) -> None:
    upstream = connect(odd(kind))
    call = invocation("ask_aside")
    assert isinstance((await collect(invoked(upstream, call)))[-1], InputRequired)
    reply = InputReply(message=user({"city": "Oslo"}))
    events = await collect(replied(upstream, TaskRef(task_id=str(call.task_id)), call, reply))
    assert answer(events) == "accept: Oslo"


async def test_a_question_nobody_answers_is_taken_back(connect: Connect, odd: Any, host: Any) -> None:
    host.config = Config(limits=Limits(question=0.01))
    upstream = connect(odd("http-handshake"))
    call = invocation("ask")
    assert isinstance((await collect(invoked(upstream, call)))[-1], InputRequired)
    await asyncio.sleep(0.05)  # too late
    events = await collect(
        replied(upstream, TaskRef(task_id=str(call.task_id)), call, InputReply(message=user("Oslo")))
    )
    assert answer(events) == "cancel: None"


@pytest.mark.parametrize("streaming", [True, False], ids=["with progress", "silent"])
async def test_cancel_reaches_the_tool(
    connect: Connect, target: Any, streaming: bool, until_async: Any
) -> None:
    upstream = connect(target)
    before = [int(await run(upstream, name)) for name in ("count_begun", "count_cancelled")]
    call = msgspec.structs.replace(invocation("wait"), streaming=streaming)
    events = asyncio.create_task(collect(invoked(upstream, call)))
    await until_async(lambda: _more_than(upstream, "count_begun", before[0]))
    await upstream.cancel(TaskRef(task_id=str(call.task_id)))
    assert [e.state for e in await events if isinstance(e, Finished)] == ["canceled"]
    await until_async(lambda: _more_than(upstream, "count_cancelled", before[1]))


async def _more_than(upstream: McpUpstream, counter: str, before: int) -> bool:
    return int(await run(upstream, counter)) > before


async def test_the_trace_goes_along(connect: Connect, target: Any, host: Any) -> None:
    trace = Trace(traceparent="00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
    call = msgspec.structs.replace(invocation("whoami"), trace=trace)
    seen = json.loads(answer(await collect(invoked(connect(target, headers={"x-key": "k"}), call))))
    (span,) = [s for s in host.tracer.drain() if s.name == "tools/call whoami"]
    assert seen["meta"] == span.trace.traceparent
    assert (span.kind, span.parent_id) == ("client", "0123456789abcdef")
    assert span.attributes["gen_ai.tool.name"] == "whoami"
    if isinstance(target, str) and target.endswith("/mcp"):
        assert seen["headers"] == {"traceparent": span.trace.traceparent, "x-key": "k"}


async def test_changed_lists_are_noticed(connect: Connect, target: Any, host: Any, until_async: Any) -> None:
    upstream = connect(target)
    await upstream.describe()

    async def noticed() -> bool:
        await run(upstream, "change")
        return "peer" in host.changes

    await until_async(noticed)


# --- the relay's way in ----------------------------------------------------------------------


async def test_relayed_results_and_errors_are_the_servers_own(connect: Connect, target: Any) -> None:
    upstream = connect(target)
    params = {"name": "say", "arguments": {"text": "as it is"}}
    result = msgspec.json.decode(await upstream.request("tools/call", params, caller=Caller()))
    assert result["content"] == [{"type": "text", "text": "as it is"}]
    with pytest.raises(RpcError) as caught:
        await upstream.request("tools/call", {"name": "refuse"}, caller=Caller())
    assert (caught.value.code, caught.value.message, caught.value.data) == (
        -32602,
        "the city is too far away",
        {"km": 900},
    )


async def test_callers_with_the_same_token_get_their_own_progress(connect: Connect, target: Any) -> None:
    upstream = connect(target)
    seen: list[list[Any]] = [[], []]

    async def call(i: int) -> None:
        async def on_notification(method: str, params: dict[str, Any]) -> None:
            seen[i].append((method, params["progressToken"], params["message"]))
            await upstream.request("tools/call", {"name": "go"}, caller=Caller())

        params = {"name": "steps", "_meta": {"progressToken": "same"}}
        await upstream.request("tools/call", params, caller=Caller(on_notification=on_notification))

    await call(0)
    await call(1)
    assert seen == [[("notifications/progress", "same", "half")]] * 2


async def test_the_clients_own_capabilities_go_upstream(connect: Connect, target: Any) -> None:
    upstream = connect(target)
    for session, capabilities in (("a", {"sampling": {}}), ("b", {"roots": {}, "elicitation": {}})):
        caller = Caller(session=session, client_capabilities=capabilities)
        raw = await upstream.request("tools/call", {"name": "whoami"}, caller=caller)
        seen = json.loads(msgspec.json.decode(raw)["content"][0]["text"])
        assert seen["can"] == sorted(capabilities)


@pytest.mark.parametrize("kind", ["http-handshake", "stdio-handshake", "old-sse"])
async def test_questions_reach_the_caller_whose_call_raised_them(
    connect: Connect, odd: Any, kind: str
) -> None:
    upstream = connect(odd(kind))

    async def ask(name: str) -> str:
        async def on_request(method: str, params: dict[str, Any]) -> dict[str, Any]:
            assert method == "sampling/createMessage"
            content = {"type": "text", "text": f"I am {name}"}
            return {"role": "assistant", "content": content, "model": "m"}

        caller = Caller(session=name, client_capabilities={"sampling": {}}, on_request=on_request)
        return bytes(await upstream.request("tools/call", {"name": "ask_model"}, caller=caller)).decode()

    for name, text in zip("abc", await asyncio.gather(*map(ask, "abc")), strict=True):
        assert f"I am {name}" in text


async def test_nobody_to_ask_is_said_so(connect: Connect, odd: Any) -> None:
    with pytest.raises(RpcError, match="not supported"):
        await connect(odd("http-handshake")).request("tools/call", {"name": "ask_model"}, caller=Caller())


# --- Streamable HTTP -------------------------------------------------------------------------


async def test_annotated_arguments_are_mirrored_and_broken_tools_left_out(connect: Connect, odd: Any) -> None:
    upstream = connect(odd("http-modern"))
    assert await run(upstream, "region", region="Zürich") == "Zürich =?base64?WsO8cmljaA==?="
    assert (await upstream.catalog()).tool("broken_header") is None


async def test_a_stream_that_ends_early_is_taken_up_again(connect: Connect, odd: Any) -> None:
    events = await collect(invoked(connect(odd("http-handshake")), invocation("hang_up")))
    assert [e.message for e in events if isinstance(e, Progress)] == ["after hanging up"]
    assert answer(events) == "here all the same"
