"""Calling ACP agents: real ones on the official SDK, and ones that misbehave."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import pytest
from msgspec import Raw

from agentgw.adapters.acp import adapter
from agentgw.adapters.acp.upstream.server import split_url
from agentgw.adapters.acp.upstream.upstream import ACPUpstream, session_id
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.errors import (
    AgentError,
    BadUpstream,
    ConfigError,
    GatewayError,
    NotActive,
    Unreachable,
    UpstreamFailed,
)
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
    MessageDelta,
    MessageDone,
    Part,
    Principal,
    Progress,
    Record,
    Started,
    TaskRef,
    TaskState,
    Text,
    Trace,
    text_of,
)
from agentgw.gateway.transport import HttpTransport

from ...gateway.agent_server import hangs, serving
from ...support.offering import Offered
from ...support.ports import find_port
from ...support.telling import Narrow, held_up, invoked, replied
from .conftest import TestHost, served
from .servers import RUN, SESSION, Asked, FakeServer, error, part_event, run, run_event, sse

CONTEXT = "6cf01b6d-b98c-4538-ad58-09da3f249910"
ANSWER = InputReply(message=Message(role="user", parts=(Text(text="yes"),)))
BLOB = bytes((i * 167 + (i >> 8) * 31) % 256 for i in range(1000))


@pytest.fixture
async def host() -> AsyncIterator[TestHost]:
    made = TestHost()
    yield made
    await made.transport.aclose()


def upstream(host: TestHost, url: str, remote: str | None = "inner", **fields: Any) -> ACPUpstream:
    return ACPUpstream(Record(name="outer", protocol="acp", url=url, remote=remote, **fields), host)


def call(*parts: Part | str, **fields: Any) -> Invocation:
    said = tuple(Text(text=p) if isinstance(p, str) else p for p in parts)
    fields = {"context_id": CONTEXT, **fields}
    return Invocation(agent="outer", message=Message(role="user", parts=said), **fields)


def only(events: list[Event], kind: type[Any]) -> list[Any]:
    return [e for e in events if isinstance(e, kind)]


async def collected(events: AsyncIterator[Event]) -> list[Event]:
    return [e async for e in events]


# --- the official SDK ------------------------------------------------------------------------


async def test_agents_of_a_real_server_are_found(host: TestHost, peer: str) -> None:
    names = {agent.name for agent in await upstream(host, peer, None).describe()}
    assert {"echo", "artist", "approver", "failing"} <= names
    (echo,) = await upstream(host, peer, "echo").describe()
    assert (echo.name, echo.description) == ("echo", "Says it again, word by word")
    assert echo.extra["acp"]["raw"]["metadata"]["natural_languages"] == ["en"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_words_come_as_they_are_said(host: TestHost, peer: str, streaming: bool) -> None:
    events = await collected(
        invoked(upstream(host, peer, "echo"), call("one two three", streaming=streaming))
    )
    assert isinstance(events[0], Started) and events[0].context_id == CONTEXT
    assert events[-1] == Finished(state=TaskState.COMPLETED)
    (done,) = only(events, MessageDone)
    assert text_of(done.message.parts) == "one two three"
    if streaming:  # else what is told whole in the same breath need not be told in pieces
        assert [text_of(e.parts) for e in only(events, MessageDelta)] == ["one ", "two ", "three"]


async def test_every_kind_of_part_arrives(host: TestHost, peer: str) -> None:
    events = await collected(invoked(upstream(host, peer, "artist"), call("draw")))
    generic, trajectory = only(events, Progress)
    assert generic.data["thought"] == "a generic event"
    assert trajectory.message == "plotting"
    plot, remote = only(events, ArtifactDelta)
    assert plot.artifact.artifact_id == "plot.png"
    assert plot.artifact.parts[0].content.startswith(b"\x89PNG")
    assert remote.artifact.parts[0].uri == "https://pictures.example/x.png"
    (done,) = only(events, MessageDone)
    data, cited = done.message.parts
    assert isinstance(data, Data) and data.data == {"a": 1}
    assert isinstance(cited, Text) and cited.metadata and cited.metadata["title"] == "Source"


async def test_bytes_and_data_pass_both_ways(host: TestHost, peer: str) -> None:
    sent = File(content=BLOB, name="data.bin", media_type="application/octet-stream")
    (artifact,) = only(await collected(invoked(upstream(host, peer, "file"), call(sent))), ArtifactDelta)
    assert artifact.artifact.parts[0].content == BLOB
    value = {"a": [1, None, "ü"]}
    (done,) = only(
        await collected(invoked(upstream(host, peer, "data"), call(Data(data=value)))), MessageDone
    )
    assert done.message.parts[0].data == {"got": value}


async def test_a_question_is_answered(host: TestHost, peer: str) -> None:
    agent = upstream(host, peer, "approver")
    asked = await collected(invoked(agent, call("paint")))
    assert isinstance(asked[-1], InputRequired) and asked[-1].request.prompt == "Which colour?"
    ref = TaskRef(task_id=asked[0].task_id)  # type: ignore[union-attr]
    reply = InputReply(message=Message(role="user", parts=(Text(text="red"),)))
    answered = await collected(replied(agent, ref, call("red"), reply))
    assert isinstance(answered[0], Started)
    assert text_of(only(answered, MessageDone)[0].message.parts) == "You said red"
    with pytest.raises(NotActive):  # the SDK itself would never answer
        await collected(replied(agent, ref, call("red"), reply))
    with pytest.raises(NotActive):
        await agent.cancel(ref)


async def test_a_conversation_goes_on(host: TestHost, peer: str) -> None:
    agent = upstream(host, peer, "memory")
    first = await collected(invoked(agent, call("one", context_id=str(uuid4()))))
    known = first[0].context_id  # type: ignore[union-attr]
    second = await collected(invoked(agent, call("two", upstream_context=known)))
    assert text_of(only(second, MessageDone)[0].message.parts) == "one"


async def test_a_crash_keeps_its_words_to_itself(host: TestHost, peer: str) -> None:
    for streaming in (True, False):
        events = await collected(invoked(upstream(host, peer, "failing"), call("x", streaming=streaming)))
        (end,) = only(events, Finished)
        assert end.fault.code == "upstream_failed" and end.fault.message == "outer failed"
        assert "secret" not in repr(events)


async def test_a_refusal_is_the_agents_own_words(host: TestHost, peer: str) -> None:
    (end,) = only(await collected(invoked(upstream(host, peer, "invalid"), call("no such city"))), Finished)
    assert (end.fault.code, end.fault.message) == ("agent_error", "no such city")


async def test_the_trace_goes_on(host: TestHost, peer: str) -> None:
    trace_id = "a" * 32
    trace = Trace(traceparent=f"00-{trace_id}-{'b' * 16}-01")
    (done,) = only(
        await collected(invoked(upstream(host, peer, "trace"), call("x", trace=trace))), MessageDone
    )
    (span,) = host.tracer.drain()
    assert text_of(done.message.parts) == f"00-{trace_id}-{span.span_id}-01"
    assert (span.kind, span.parent_id, span.status) == ("client", "b" * 16, "unset")
    assert span.attributes["acp.run.status"] == "completed"


async def test_an_agent_that_is_not_there(host: TestHost, peer: str) -> None:
    with pytest.raises(BadUpstream, match="no agent 'nobody'"):
        await upstream(host, peer, "nobody").describe()
    with pytest.raises(AgentError, match="nobody not found"):
        await collected(invoked(upstream(host, peer, "nobody"), call("x")))
    with pytest.raises(ConfigError, match="approver"):
        await collected(invoked(upstream(host, peer, None), call("x")))


async def test_a_real_server_is_recognised(host: TestHost, peer: str) -> None:
    assert adapter.probe is not None
    found = await adapter.probe(f"{peer}/", [], host)
    assert found is not None and found.url == peer and "echo" in {a.name for a in found.agents}
    one = await adapter.probe(f"{peer}/agents/echo", [], host)
    assert one is not None and [a.name for a in one.agents] == ["echo"]
    assert await adapter.probe(f"{peer}/nowhere", [], host) is None
    assert await adapter.probe(f"http://127.0.0.1:{find_port()}", [], host) is None


# --- servers that misbehave ------------------------------------------------------------------


def manifest(name: str) -> dict[str, Any]:
    return {"name": name, "description": None, "input_content_types": ["*/*"], "metadata": {}}


async def test_pages_are_read_until_a_short_one(host: TestHost) -> None:
    everyone = [manifest(f"a{i}") for i in range(1500)]
    server = FakeServer(
        {
            "GET /agents?limit=1000&offset=0": (200, {"agents": everyone[:1000]}),
            "GET /agents?limit=1000&offset=1000": (200, {"agents": everyone[1000:]}),
        }
    )
    async with served(server) as url:
        assert len(await upstream(host, url, None).describe()) == 1500


async def test_a_server_that_cannot_page_does_not_trap(host: TestHost) -> None:
    page = (200, {"agents": [manifest(f"a{i}") for i in range(1000)]})
    server = FakeServer({f"GET /agents?limit=1000&offset={n}": page for n in (0, 1000)})
    async with served(server) as url:
        assert len(await upstream(host, url, None).describe()) == 1000


async def test_odd_names_are_reached(host: TestHost) -> None:
    server = FakeServer({"GET /agents/My%20Agent%2F1": (200, manifest("My Agent/1"))})
    async with served(server) as url:
        assert split_url(f"{url}/agents/My%20Agent%2F1") == (url, "My Agent/1")
        (agent,) = await upstream(host, f"{url}/agents/My%20Agent%2F1", None).describe()
        assert agent.name == "My Agent/1"


async def test_json_is_always_announced(host: TestHost) -> None:
    """FastAPI refuses a body without a content type; credentials of the record go along."""
    server = FakeServer({"POST /runs": sse(run_event("completed"))})
    async with served(server) as url:
        await collected(invoked(upstream(host, url, headers={"authorization": "Bearer x"}), call("a")))
    (asked,) = server.asked
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["authorization"] == "Bearer x"
    assert asked.json["agent_name"] == "inner" and asked.json["session_id"] == CONTEXT


async def test_a_stream_that_broke_is_taken_up_from_the_log(host: TestHost) -> None:
    log = [run_event("in-progress"), part_event("a"), part_event("b"), run_event("completed")]
    server = FakeServer({"POST /runs": sse(*log[:2]), f"GET /runs/{RUN}/events": (200, {"events": log})})
    async with served(server) as url:
        events = await collected(invoked(upstream(host, url), call("x")))
    assert [text_of(e.parts) for e in only(events, MessageDelta)] == ["a", "b"]
    assert events[-1] == Finished(state=TaskState.COMPLETED)


async def test_a_resumed_stream_that_broke_goes_on_after_the_question(host: TestHost) -> None:
    turn = [run_event("in-progress"), part_event("b"), part_event("c"), run_event("completed")]
    log = [run_event("created"), part_event("a"), run_event("awaiting"), *turn]
    server = FakeServer(
        {
            f"GET /runs/{RUN}": (200, run("awaiting")),
            f"POST /runs/{RUN}": sse(*turn[:2]),
            f"GET /runs/{RUN}/events": (200, {"events": log}),
        }
    )
    async with served(server) as url:
        events = await collected(replied(upstream(host, url), TaskRef(task_id=RUN), call("yes"), ANSWER))
    assert [text_of(e.parts) for e in only(events, MessageDelta)] == ["b", "c"]
    assert server.asked[1].json["await_resume"]["type"] == "message"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at a run follow one another without a pause."""
    monkeypatch.setattr("agentgw.adapters.acp.upstream.server.POLL", (0.0, 0.0))


SAID = {"role": "agent/inner", "parts": [{"content": "a"}], "completed_at": "2026-01-01T00:00:00Z"}


async def test_a_run_that_still_works_is_no_answer(host: TestHost, at_once: None) -> None:
    """A server that can't stream, and keeps no events, is asked again until the run has ended."""
    states = iter([run("created"), run("in-progress"), run("completed", output=[SAID])])
    server = FakeServer(
        {"POST /runs": (200, run("in-progress")), f"GET /runs/{RUN}": lambda asked: (200, next(states))}
    )
    async with served(server) as url:
        events = await collected(invoked(upstream(host, url), call("x")))
    assert [type(e) for e in events] == [Started, MessageDone, Finished]
    assert text_of(events[1].message.parts) == "a"  # type: ignore[union-attr]


async def test_what_the_stream_left_out_is_read_from_the_run(host: TestHost, at_once: None) -> None:
    said = {**SAID, "parts": [{"content": "a"}, {"content": "b"}, {"name": "c", "content": "c"}]}
    server = FakeServer(
        {
            "POST /runs": sse(run_event("in-progress"), part_event("a")),
            f"GET /runs/{RUN}": (200, run("completed", output=[said, SAID])),
        }
    )
    async with served(server) as url:
        events = await collected(invoked(upstream(host, url), call("x")))
    assert [text_of(e.parts) for e in only(events, MessageDelta)] == ["a", "b"]
    assert [e.artifact.name for e in only(events, ArtifactDelta)] == ["c"]
    assert [text_of(e.message.parts) for e in only(events, MessageDone)] == ["ab", "a"]


async def test_an_answer_read_at_once_does_not_repeat_earlier_turns(host: TestHost) -> None:
    open_message = {**SAID, "parts": [{"content": "b"}], "completed_at": None}
    ended = run("completed", output=[SAID, {**SAID, "parts": [{"content": "b"}, {"content": "c"}]}])
    server = FakeServer(
        {
            f"GET /runs/{RUN}": (200, run("awaiting", output=[SAID, open_message])),
            f"POST /runs/{RUN}": (200, ended),
        }
    )
    async with served(server) as url:
        events = await collected(replied(upstream(host, url), TaskRef(task_id=RUN), call("yes"), ANSWER))
    assert [text_of(e.parts) for e in only(events, MessageDelta)] == ["c"]
    assert [text_of(e.message.parts) for e in only(events, MessageDone)] == ["bc"]


@pytest.mark.parametrize("status", [404, 410])
async def test_a_session_that_expired_is_opened_again(host: TestHost, status: int) -> None:
    def answer(asked: Asked) -> Any:
        if "session_id" in asked.json:
            return status, error("not_found", "Session not found")
        return sse(run_event("completed"))(asked)

    server = FakeServer({"POST /runs": answer})
    async with served(server) as url:
        events = await collected(invoked(upstream(host, url), call("x", upstream_context=str(uuid4()))))
    assert events == [Started(task_id=RUN, context_id=SESSION), Finished(state=TaskState.COMPLETED)]
    assert len(server.asked) == 2


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_refusal_to_answer_is_a_part(host: TestHost, action: Any) -> None:
    server = FakeServer(
        {
            f"GET /runs/{RUN}": (200, run("awaiting")),
            f"POST /runs/{RUN}": sse(run_event("in-progress"), run_event("completed")),
        }
    )
    refusal = InputReply(message=Message(role="user", parts=(Text(text="no"),)), action=action)
    async with served(server) as url:
        await collected(replied(upstream(host, url), TaskRef(task_id=RUN), call("no"), refusal))
    (part,) = server.asked[1].json["await_resume"]["message"]["parts"]
    assert part == {"content_type": "application/json", "content": f'{{"action":"{action}"}}'}


async def test_skill_and_metadata_go_along_and_are_told_as_lost(host: TestHost) -> None:
    server = FakeServer({"POST /runs": sse(run_event("completed"))})
    said = Message(role="user", parts=(Text(text="a"),), message_id="m1", metadata={"of": "message"})
    sent = Invocation(agent="outer", message=said, context_id=CONTEXT, skill="plot", metadata={"n": 1})
    async with served(server) as url:
        await collected(invoked(upstream(host, url), sent))
    assert server.asked[0].json["metadata"] == {"n": 1, "skill": "plot"}
    (span,) = host.tracer.drain()
    assert span.attributes["agentgw.losses"] == "message id; message metadata; request metadata; skill"


async def test_a_cancelled_call_reaches_an_agent_that_says_nothing(host: TestHost) -> None:
    """Also when the client waits for the whole answer: the run's id is known from the start."""
    server = FakeServer({"POST /runs": sse(run_event("created"))})
    async with served(server) as url:
        events = invoked(upstream(host, url), call("x", streaming=False))
        assert await anext(events) == Started(task_id=RUN, context_id=SESSION)
        await events.aclose()  # type: ignore[attr-defined]


async def test_what_is_waited_for_no_longer_is_told(host: TestHost) -> None:
    """An agent that goes on after its first event: the run has an id, though nobody follows its answer."""
    event = b"data: %b\n\n" % json.dumps(run_event("created")).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    async with serving(hangs(head, b"%x\r\n%b\r\n" % (len(event), event))) as server:
        events = invoked(upstream(host, server.url), call("x", streaming=False))
        assert await anext(events) == Started(task_id=RUN, context_id=SESSION)
        await events.aclose()  # type: ignore[attr-defined]


async def test_a_stream_may_be_larger_than_any_of_its_events(host: TestHost) -> None:
    """Though it is there as a whole, and is read so."""
    host.config = Config(limits=Limits(body=2000))
    host.transport = HttpTransport(limit=2000)
    pieces = [part_event("x" * 100) for _ in range(100)]
    server = FakeServer({"POST /runs": sse(run_event("created"), *pieces, run_event("completed", output=[]))})
    async with served(server) as url:
        events = await collected(invoked(upstream(host, url), call("x", streaming=False)))
    assert len(only(events, MessageDelta)) == 100
    assert isinstance(events[-1], Finished)


async def test_a_stream_that_broke_for_good_is_a_clear_error(host: TestHost) -> None:
    server = FakeServer({"POST /runs": sse(run_event("in-progress"))})
    async with served(server) as url:
        with pytest.raises(AgentError, match="no such path"):
            await collected(invoked(upstream(host, url), call("x")))
    server = FakeServer({"POST /runs": sse()})
    async with served(server) as url:
        with pytest.raises(BadUpstream, match="without a run"):
            await collected(invoked(upstream(host, url), call("x")))


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (500, error("server_error", "secret"), UpstreamFailed, "outer failed"),
        (500, b"<html>secret</html>", UpstreamFailed, "outer failed"),
        (422, error("invalid_input", "which city?"), AgentError, "which city?"),
        (422, error("invalid_input", 'bad\n\n  File "/secret/app.py", line 1'), AgentError, "bad"),
        (429, error("rate_limited", "slow down"), AgentError, "slow down"),
        (400, error("server_error", "secret"), UpstreamFailed, "outer failed"),
        (401, b"secret", BadUpstream, "outer refuses access (HTTP 401)"),
        (302, b"", BadUpstream, "outer answered with HTTP 302"),
        (200, b"no json", BadUpstream, "outer's answer is not JSON"),
    ],
)
async def test_http_errors(
    host: TestHost, status: int, body: Any, expected: type[GatewayError], words: str
) -> None:
    async with served(FakeServer({"POST /runs": (status, body)})) as url:
        with pytest.raises(expected) as caught:
            await collected(invoked(upstream(host, url), call("x")))
    assert caught.value.message == words
    (span,) = host.tracer.drain()
    assert span.attributes["error.type"] == caught.value.code


async def test_a_stream_that_is_not_acp(host: TestHost) -> None:
    for events in ([{"type": "message.part", "part": 7}], ["text"]):
        async with served(FakeServer({"POST /runs": sse(*events)})) as url:
            with pytest.raises(BadUpstream):
                await collected(invoked(upstream(host, url), call("x")))


async def test_an_agent_is_read_no_further_than_there_is_room(host: TestHost) -> None:
    large = "x" * 100_000
    events = [run_event("created"), *(part_event(large) for _ in range(50)), run_event("completed")]
    body = b"".join([b"data: " + json.dumps(event).encode() + b"\n\n" for event in events])

    async def at_once() -> AsyncIterator[bytes]:
        yield body

    async with served(FakeServer({"POST /runs": lambda asked: at_once()})) as url:
        agent = upstream(host, url)
        before, all_told = await held_up(lambda tell: agent.invoke(call("x"), tell), 1)
    assert before < 10  # what had been read by then
    assert all_told > 50


PIECES = [part_event(text) for text in ("a", "ü\u2028", "")]
OTHERS = [
    part_event("b") | {"new": 1},
    {"type": "message.part", "part": {"content_type": "text/plain", "content": "c", "name": "n"}},
    {"type": "message.created", "message": {"role": "agent/me"}},
    {"type": "generic", "generic": {"message": "d"}},
    run_event("in-progress"),
]


@pytest.mark.parametrize("breaks", [False, True], ids=["whole", "broken"])
async def test_what_is_told_at_once_is_what_is_told_anyway(
    host: TestHost, monkeypatch: pytest.MonkeyPatch, breaks: bool
) -> None:
    """One event after the other, none while there is no room; and where the stream breaks, the log that the
    agent keeps says what is missing, and no more."""
    took = 0

    async def outcome(events: list[dict[str, Any]], after: list[dict[str, Any]], *, offering: bool) -> Any:
        nonlocal took
        said = [
            b"data: %b\n\n" % json.dumps(event).encode() for event in (events if breaks else events + after)
        ]
        tell, stream = Narrow(), Offered(said, offering=offering)

        async def followed(*_: object) -> AsyncIterator[list[Raw]]:
            yield [Raw(json.dumps(event).encode()) for event in events + after]

        monkeypatch.setattr(ACPUpstream, "stream", lambda *_: nullcontext(stream))
        monkeypatch.setattr(ACPUpstream, "followed", followed)
        await upstream(host, "http://127.0.0.1:9").invoke(call("x"), tell)
        took += stream.took
        assert breaks or not tell.pressed
        return tell.told

    for seed in range(12):
        chance = random.Random(seed)
        begun = [run_event("created"), {"type": "message.created", "message": {"role": "agent/inner"}}]
        events = begun + chance.choices(PIECES if seed % 2 else PIECES + OTHERS, k=8)
        text = "".join(event["part"]["content"] for event in events if event["type"] == "message.part")
        rest = [{"content": "more"}]
        parts = [event["part"] for event in events if event["type"] == "message.part"]
        open_ = {"role": "agent/inner", "parts": [*parts, *rest], "completed_at": None}
        after = [part_event("after"), run_event("completed", output=[open_] if text else [])]
        quick = await outcome(events, after, offering=True)
        assert quick == await outcome(events, after, offering=False), seed
        assert isinstance(quick[-1], Finished)
    assert took


async def test_nobody_is_there(host: TestHost) -> None:
    with pytest.raises(Unreachable):
        await collected(invoked(upstream(host, f"http://127.0.0.1:{find_port()}"), call("x")))


async def test_listening_can_stop_early(host: TestHost) -> None:
    server = FakeServer({"POST /runs": sse(run_event("in-progress"), part_event("a"), part_event("b"))})
    async with served(server) as url:
        events = invoked(upstream(host, url), call("x"))
        await anext(events)
        await events.aclose()  # type: ignore[attr-defined]
    (span,) = host.tracer.drain()
    assert span.attributes["error.type"] == "canceled"


async def test_a_probe_that_is_refused_says_so(host: TestHost) -> None:
    assert adapter.probe is not None
    refusing = (401, error("server_error", "who are you?"))
    path = "GET /agents?limit=1000&offset=0"
    async with served(FakeServer({path: refusing, "GET /ping": (200, {})})) as url:
        with pytest.raises(BadUpstream) as caught:
            await adapter.probe(url, [], host)
    assert caught.value.native is not None and caught.value.native["status"] == 401
    async with served(FakeServer({path: refusing})) as url:
        assert await adapter.probe(url, [], host) is None
    other = (200, {"agents": [{"name": "x", "id": 1}]})
    async with served(FakeServer({path: other, "GET /ping": (200, {})})) as url:
        assert await adapter.probe(url, [], host) is None


def test_nobody_enters_anothers_session() -> None:
    assert session_id("anonymous", CONTEXT) == CONTEXT
    alice, bob = session_id("alice", CONTEXT), session_id("bob", CONTEXT)
    assert len({alice, bob, CONTEXT}) == 3 and session_id("alice", CONTEXT) == alice
    assert Principal().id == "anonymous"  # the name that session_id knows
