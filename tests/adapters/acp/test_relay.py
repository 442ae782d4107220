"""ACP client, ACP agent: bytes pass; names, sessions and crash texts are changed, nothing else."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import pytest
from msgspec import Raw

from agentgw.adapters.acp import rewrite
from agentgw.adapters.acp.face.passage import is_relayed
from agentgw.adapters.acp.upstream.upstream import ACPUpstream, session_id
from agentgw.gateway import pool
from agentgw.gateway.limits import CallLimits
from agentgw.gateway.model import Principal, TaskState

from ...gateway.agent_server import serving
from ...support.memory import say
from ...support.offering import Offered, cut
from .conftest import Gateway, events_of, served
from .servers import RUN, SESSION, Asked, FakeServer, error, part_event, run, run_event, sse

RESUME = {"type": "message", "message": {"role": "user", "parts": [{"content": "red"}]}}
ODD = {"x-new": [1.50, None], "é": "ü\u2028"}
KEY = {"authorization": "Bearer alice's"}


async def post(gateway: Gateway, path: str, body: Any, key: bool = False) -> Any:
    return await gateway.http.post(path, json=body, headers=KEY if key else {})


def request(**fields: Any) -> dict[str, Any]:
    return {"agent_name": "outer", "mode": "sync", "input": [{"role": "user", "parts": []}], **fields}


def test_only_what_must_change_changes() -> None:
    body = b'{ "agent_name" :"outer","input":[ {"parts":[{"content":"1.50", "n": 1.50}]}],"new":1e2}'
    changed = rewrite.create(body, "inner", None)
    assert changed == b'{"agent_name":"inner","input":[ {"parts":[{"content":"1.50", "n": 1.50}]}],"new":1e2}'


def test_a_mode_that_is_not_said_is_the_default() -> None:
    """null is no mode for the SDK's server, and an answer must have one."""
    assert rewrite.create(b'{"mode":null}', "inner", None) == b'{"mode":"sync","agent_name":"inner"}'
    assert rewrite.resume(b'{"await_resume":{},"mode": null}') == b'{"await_resume":{},"mode":"sync"}'
    assert rewrite.resume(b'{"await_resume":{}}') == b'{"await_resume":{},"mode":"sync"}'
    assert rewrite.resume(b'{ "mode": "async" }') == b'{ "mode": "async" }'


async def test_unknown_fields_pass_both_ways(gateway: Gateway) -> None:
    events = [run_event("in-progress"), {**part_event("a"), **ODD}, run_event("completed", **ODD)]
    server = FakeServer({"POST /runs": sse(*events)})
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        got = events_of(await post(gateway, "/runs", request(mode="stream", **ODD)))
    (asked,) = server.asked
    assert asked.json == request(mode="stream", **ODD) | {"agent_name": "inner"}
    assert asked.headers["content-type"] == "application/json" and "traceparent" in asked.headers
    assert got[1] == events[1]
    assert got[2]["run"] == events[2]["run"] | {"agent_name": "outer"}


async def test_what_is_right_passes_byte_for_byte(gateway: Gateway) -> None:
    body = json.dumps(run("completed", agent_name="same", **ODD), indent=1).encode()
    event = json.dumps(run_event("completed", agent_name="same", n=1.50), separators=(" ,", " :")).encode()
    async with served(FakeServer({"POST /runs": (200, body)})) as url:
        gateway.relay("same", url, "same")
        assert (await post(gateway, "/runs", request(agent_name="same"))).content == body
        assert (await gateway.hub.task(RUN, Principal())).task.state is TaskState.COMPLETED
    async with served(FakeServer({"POST /runs": lambda asked: one(b"data: " + event + b"\n\n")})) as url:
        gateway.relay("same", url, "same")
        answer = await post(gateway, "/runs", request(agent_name="same", mode="stream"))
        assert answer.content == b"data: " + event + b"\n\n"


ODD_EVENTS = [
    *(
        b'data: {"type":"message.part","part":{"content":"%b"}}\n\n' % text.encode()
        for text in ("a", "ü\u2028", "")
    ),
    b'data: {"type":"message.part","part":{"content":"c"}}\r\n\r\n',
    b'event: message\ndata: {"type": "generic", "generic": {"run": 1}}\n\n',
    b'id: 1\ndata: {"type":"message.created","message":{}}\n\n',
    b'data: {"type":"message.part",\ndata: "part":{}}\n\n',
    b'data: {"type":"new"}\n\n: comment\n\n',
    b"data: %b\n\n" % json.dumps(run_event("in-progress")).encode(),
]
LAST_EVENTS = [
    b'data: {"type":"error","error":{"code":"server_error","message":"x"}}\n\n',
    b'data: {"type":"message.part","part":{"content":"\xff"}}\n\n',
    b'data: {"type":"message.part","part":{]}\n\n',
    b'data: {"type":"new","run":null}\n\n',
    b"data: 1\n\n",
    b"data: {}\n\n",
]


@pytest.mark.parametrize("seed", range(8))
async def test_what_passes_at_once_is_what_passes_anyway(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    end = b"data: %b\n\n" % json.dumps(run_event("completed")).encode()
    gateway.relay("outer", "http://127.0.0.1:9", "inner")
    took = renewed = 0

    def renew(limits: CallLimits) -> None:
        nonlocal renewed
        renewed += 1

    monkeypatch.setattr(CallLimits, "renew", renew)
    for _ in range(10):
        pieces = [*chance.choices(ODD_EVENTS, k=6), *chance.sample([b"", *LAST_EVENTS], 1), end]
        if chance.random() < 0.3:
            said = b"".join(pieces)
            pieces = cut(said, [chance.randrange(len(said)) for _ in range(3)])
        answers: list[bytes] = []
        for offering in (True, False):
            stream = Offered(pieces, offering=offering)
            monkeypatch.setattr(ACPUpstream, "stream", lambda *_, stream=stream: nullcontext(stream))
            answers.append((await post(gateway, "/runs", request(mode="stream"))).content)
            took += stream.took
        assert re.sub(rb"[0-9a-f]{32}", b"", answers[0]) == re.sub(rb"[0-9a-f]{32}", b"", answers[1])
    assert took == renewed > 0  # each of them is a sign of life


@pytest.mark.parametrize("offering", [True, False], ids=["at once", "anyway"])
async def test_a_stream_that_breaks_goes_on_after_what_has_passed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, offering: bool
) -> None:
    said = [run_event("created"), *(part_event(text) for text in "abcd"), run_event("completed")]
    before = [b"data: %b\n\n" % json.dumps(event).encode() for event in said[:3]]
    stream = Offered(before, offering=offering)

    async def followed(*_: object) -> AsyncIterator[list[Raw]]:
        yield [Raw(json.dumps(event).encode()) for event in said]

    monkeypatch.setattr(ACPUpstream, "stream", lambda *_: nullcontext(stream))
    monkeypatch.setattr(ACPUpstream, "followed", followed)
    gateway.relay("outer", "http://127.0.0.1:9", "inner")
    got = events_of(await post(gateway, "/runs", request(mode="stream")))
    assert [event["type"] for event in got] == [event["type"] for event in said]
    assert "".join(event["part"]["content"] for event in got[1:-1]) == "abcd"
    assert stream.took == 2 * offering


async def one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


async def test_what_came_before_an_event_that_is_none_is_told(gateway: Gateway) -> None:
    piece = f"data: {json.dumps(part_event('a'))}\n\ndata: {{]\n\n".encode()
    async with served(FakeServer({"POST /runs": lambda asked: one(piece)})) as url:
        gateway.relay("outer", url, "inner")
        first, last = events_of(await post(gateway, "/runs", request(mode="stream")))
    assert first == part_event("a") and last["error"]["message"] == "outer sent an event that is not ACP"


async def test_events_pass_as_they_come(gateway: Gateway) -> None:
    gate = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield f"data: {json.dumps(run_event('in-progress'))}\r\n\r\n".encode()
        await gate.wait()
        yield f"data: {json.dumps(run_event('completed'))}\n\n".encode()

    async with served(FakeServer({"POST /runs": lambda asked: chunks()})) as url:
        gateway.relay("outer", url, "inner")
        async with gateway.http.stream("POST", "/runs", json=request(mode="stream")) as answer:
            assert answer.headers["run-id"] == RUN
            lines = answer.aiter_lines()
            assert '"run.in-progress"' in await anext(lines)
            gate.set()
            assert [line async for line in lines][1].startswith('data: {"type":"run.completed"')


async def test_a_stream_whose_end_comes_by_itself_keeps_the_connection(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("SETTLE", "FRESH", "IDLE"):
        monkeypatch.setattr(pool, patience, 60)
    told = asyncio.Queue[None]()
    said = [
        b"data: %b\n\n" % json.dumps(event).encode() for event in (part_event("a"), run_event("completed"))
    ]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}]}")  # the request's body
        writer.write(head + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in said))
        await told.get()
        writer.write(b"0\r\n\r\n")

    async with serving(script) as server:
        gateway.relay("outer", server.origin, "inner")
        for _ in range(3):
            body = request(mode="stream", input=[{"role": "user", "parts": [{}]}])
            assert len(events_of(await post(gateway, "/runs", body))) == 2
            told.put_nowait(None)
            lanes = gateway.host.transport._pool._lanes
            async with asyncio.timeout(60):
                while not any(lane.kept for lane in lanes.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0)
        assert server.connections == 1


@pytest.mark.parametrize("id", ["a\r\nx-more: b", "a\nb", "a\0", "é", "\u2028", ""])
@pytest.mark.parametrize("mode", ["sync", "stream"])
async def test_an_agent_s_own_id_that_fits_no_header_comes_in_the_body(
    gateway: Gateway, id: str, mode: str
) -> None:
    done = run("completed", run_id=id)
    answer = sse({"type": "run.completed", "run": done}) if mode == "stream" else (200, done)
    server = FakeServer({"POST /runs": answer})
    server.run_id = ""
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        got = await post(gateway, "/runs", request(mode=mode))
        told = events_of(got)[0]["run"] if mode == "stream" else got.json()
        assert (got.status_code, told["run_id"], told["status"]) == (200, id, "completed")
        assert not got.headers.get("run-id") and "x-more" not in got.headers


@pytest.mark.parametrize("mode", ["sync", "stream"])
async def test_a_crash_keeps_its_words_to_itself(gateway: Gateway, mode: str) -> None:
    crash = run("failed", error=error("server_error", "secret crash"))
    answer = sse({"type": "run.failed", "run": crash}) if mode == "stream" else (200, crash)
    async with served(FakeServer({"POST /runs": answer})) as url:
        gateway.relay("outer", url, "inner")
        got = await post(gateway, "/runs", request(mode=mode))
    failed = events_of(got)[0]["run"] if mode == "stream" else got.json()
    assert failed["error"]["code"] == "server_error" and failed["error"]["message"] == "outer failed"
    (span,) = (s for s in gateway.spans() if s.kind == "server")
    assert failed["error"]["data"]["trace_id"] == span.trace_id and "secret" not in got.text
    assert span.attributes["agentgw.state"] == "failed"
    assert (span.attributes["agentgw.client_protocol"], span.attributes["agentgw.agent_protocol"]) == (
        "acp",
        "acp",
    )


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (500, error("server_error", "secret"), 500, "outer failed"),
        (502, b"<html>secret", 500, "outer failed"),
        (422, error("invalid_input", "which city?"), 422, "which city?"),
        (404, error("not_found", "Agent inner not found"), 404, "Agent inner not found"),
        (429, error("rate_limited", "slow down"), 429, "slow down"),
        (401, b"secret", 502, "outer refuses access (HTTP 401)"),
        (200, b"{}", 502, "outer answered with what is no run"),
    ],
)
@pytest.mark.parametrize("mode", ["sync", "stream"])
async def test_http_errors(
    gateway: Gateway, mode: str, status: int, body: Any, expected: int, words: str
) -> None:
    async with served(FakeServer({"POST /runs": (status, body)})) as url:
        gateway.relay("outer", url, "inner")
        got = await post(gateway, "/runs", request(mode=mode))
    assert (got.status_code, got.json()["message"]) == (expected, words)
    if isinstance(body, dict) and status < 500:
        assert got.json()["code"] == body["code"]


async def test_refusals_in_a_run_pass_untouched(gateway: Gateway) -> None:
    for code in ("invalid_input", "not_found", "rate_limited"):
        refused = run("failed", error=error(code, "which city?", {"field": "city"}))
        async with served(FakeServer({"POST /runs": (200, refused)})) as url:
            gateway.relay("outer", url, "inner")
            got = (await post(gateway, "/runs", request())).json()
        assert got["error"] == refused["error"]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at a run follow one another without a pause."""
    monkeypatch.setattr("agentgw.adapters.acp.upstream.server.POLL", (0.0, 0.0))


async def test_a_stream_that_breaks_goes_on_from_the_agents_log(gateway: Gateway, at_once: None) -> None:
    log = [run_event("in-progress"), part_event("a"), {**part_event("b"), **ODD}, run_event("completed")]
    grown = iter([log[:2], log[:3], log])
    server = FakeServer(
        {
            "POST /runs": sse(*log[:2]),
            f"GET /runs/{RUN}/events": lambda asked: (200, {"events": next(grown)}),
        }
    )
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        got = events_of(await post(gateway, "/runs", request(mode="stream")))
    assert [e["type"] for e in got] == ["run.in-progress", "message.part", "message.part", "run.completed"]
    assert got[2] == log[2]


async def test_a_connection_that_breaks_goes_on_from_the_agents_log(gateway: Gateway, at_once: None) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield f"data: {json.dumps(run_event('in-progress'))}\n\n".encode()
        raise ConnectionError

    log = [run_event("in-progress"), run_event("completed")]
    routes = {"POST /runs": lambda asked: breaks(), f"GET /runs/{RUN}/events": (200, {"events": log})}
    async with served(FakeServer(routes)) as url:
        gateway.relay("outer", url, "inner")
        got = events_of(await post(gateway, "/runs", request(mode="stream")))
    assert [e["type"] for e in got] == ["run.in-progress", "run.completed"]


async def test_a_stream_that_breaks_for_good_ends_with_an_error(gateway: Gateway) -> None:
    events = [run_event("in-progress"), part_event("a")]
    async with served(FakeServer({"POST /runs": sse(*events)})) as url:
        gateway.relay("outer", url, "inner")
        got = events_of(await post(gateway, "/runs", request(mode="stream")))
        assert got[-1]["type"] == "error" and got[-1]["error"]["code"] == "not_found"
        silent = FakeServer({"POST /runs": sse()})
    async with served(silent) as url:
        gateway.relay("outer", url, "inner")
        silent.run_id = ""
        (got,) = events_of(await post(gateway, "/runs", request(mode="stream")))
        assert got["type"] == "error" and "broke" in got["error"]["message"]


async def test_a_run_that_still_works_is_no_answer(gateway: Gateway, at_once: None) -> None:
    """Of a server that does not wait, and of one that can't stream either."""
    states = iter([run("in-progress"), run("completed"), run("in-progress"), run("awaiting")])
    server = FakeServer(
        {"POST /runs": (200, run("in-progress")), f"GET /runs/{RUN}": lambda asked: (200, next(states))}
    )
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        assert (await post(gateway, "/runs", request())).json()["status"] == "completed"
        (last,) = events_of(await post(gateway, "/runs", request(mode="stream")))
        assert last["type"] == "run.awaiting" and last["run"]["agent_name"] == "outer"


async def silence() -> AsyncIterator[bytes]:
    yield f"data: {json.dumps(run_event('in-progress'))}\n\n".encode()
    await asyncio.Event().wait()


@pytest.mark.parametrize("limit", ["idle", "total"])
async def test_a_silent_agent_is_waited_for_as_long_as_was_said(gateway: Gateway, limit: str) -> None:
    """By its record, and by the caller, who may grant less."""
    async with served(FakeServer({"POST /runs": lambda asked: silence()})) as url:
        gateway.relay("outer", url, "inner", **{f"{limit}_timeout": 0.4})
        last = events_of(await post(gateway, "/runs", request(mode="stream")))[-1]
        assert last["error"]["data"] == {"code": "upstream_timeout", "limit": f"{limit}_timeout"} | {
            "trace_id": last["error"]["data"]["trace_id"]
        }
        gateway.relay("outer", url, "inner")
        headers = {f"agentgw-{limit}-timeout": "0.4"}
        answer = await gateway.http.post("/runs", json=request(mode="stream"), headers=headers)
        assert events_of(answer)[-1]["error"]["data"]["limit"] == f"{limit}_timeout"


async def test_an_agent_that_never_begins_is_given_up(gateway: Gateway) -> None:
    async def never(asked: Asked) -> Any:
        await asyncio.Event().wait()

    async with served(FakeServer({"POST /runs": never})) as url:
        gateway.relay("outer", url, "inner", idle_timeout=0.05, total_timeout=0.1)
        for mode in ("stream", "sync"):
            answer = await post(gateway, "/runs", request(mode=mode))
            assert (answer.status_code, answer.json()["message"]) == (504, "outer did not answer in time")


async def test_a_silent_stream_is_kept_open(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgw.adapters.acp.face.exchange.HEARTBEAT", 0.01)
    async with served(FakeServer({"POST /runs": lambda asked: silence()})) as url:
        gateway.relay("outer", url, "inner")
        async with gateway.http.stream("POST", "/runs", json=request(mode="stream")) as answer:
            lines = answer.aiter_lines()
            while not (await anext(lines)).startswith(":"):
                pass


async def test_an_error_event_keeps_its_words_to_itself(gateway: Gateway) -> None:
    async with served(
        FakeServer({"POST /runs": sse({"type": "error", "error": error("server_error", "secret")})})
    ) as url:
        gateway.relay("outer", url, "inner")
        (got,) = events_of(await post(gateway, "/runs", request(mode="stream")))
    assert got["error"]["message"] == "outer failed"


async def test_a_run_is_known_again(gateway: Gateway) -> None:
    """Its id is the agent's; looking, events, answering and cancelling go to the agent."""
    asking = run("awaiting", await_request=RESUME)
    server = FakeServer(
        {
            "POST /runs": (200, asking),
            f"GET /runs/{RUN}": (200, asking),
            f"GET /runs/{RUN}/events": (200, {"events": [run_event("created"), part_event("a")], "new": 1}),
            f"POST /runs/{RUN}": sse(run_event("in-progress"), run_event("completed")),
            f"POST /runs/{RUN}/cancel": (202, run("cancelling")),
        }
    )
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        await post(gateway, "/runs", request())
        handle = await gateway.hub.task(RUN, Principal())
        assert is_relayed(handle.task) and handle.task.state is TaskState.INPUT_REQUIRED
        assert gateway.hub.open_question("outer", SESSION, Principal()) == RUN
        assert (await gateway.http.get(f"/runs/{RUN}")).json() == asking | {"agent_name": "outer"}
        listed = (await gateway.http.get(f"/runs/{RUN}/events")).json()
        assert listed["events"][0]["run"]["agent_name"] == "outer" and listed["new"] == 1
        canceled = await gateway.http.post(f"/runs/{RUN}/cancel")
        assert (canceled.status_code, canceled.json()["status"]) == (202, "cancelling")
        answered = events_of(await post(gateway, f"/runs/{RUN}", {"await_resume": RESUME, "mode": "stream"}))
        assert [e["type"] for e in answered] == ["run.in-progress", "run.completed"]
        assert (await gateway.hub.task(RUN, Principal())).task.state is TaskState.COMPLETED
    assert server.asked[-1].json == {"await_resume": RESUME, "mode": "stream"}


async def test_a_finished_run_is_not_resumed(gateway: Gateway) -> None:
    """The SDK's server would never answer."""
    server = FakeServer({"POST /runs": (200, run("completed")), f"GET /runs/{RUN}": (200, run("completed"))})
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        await post(gateway, "/runs", request())
        answer = await post(gateway, f"/runs/{RUN}", {"await_resume": RESUME})
        assert answer.status_code == 403 and "does not wait" in answer.json()["message"]
        server.routes[f"POST /runs/{RUN}/cancel"] = (403, error("server_error", "Run in terminal status"))
        answer = await gateway.http.post(f"/runs/{RUN}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (403, "invalid_input")
    assert not [a for a in server.asked if a.method == "POST" and a.path == f"/runs/{RUN}"]


async def test_a_run_that_its_agent_forgot_has_failed(gateway: Gateway) -> None:
    async with served(FakeServer({"POST /runs": (202, run("in-progress"))})) as url:
        gateway.relay("outer", url, "inner")
        await post(gateway, "/runs", request(mode="async"))
        forgotten = (await gateway.http.get(f"/runs/{RUN}")).json()
    assert forgotten["status"] == "failed" and "does not know" in forgotten["error"]["message"]


async def test_a_run_that_nobody_reads_is_recorded(gateway: Gateway, at_once: None) -> None:
    """Whoever watches it through another door learns how it ends."""
    states = iter([run("in-progress"), run("awaiting"), run("cancelling"), run("cancelled")])
    server = FakeServer(
        {
            "POST /runs": (202, run("created")),
            f"GET /runs/{RUN}": lambda asked: (200, next(states)),
            f"POST /runs/{RUN}/cancel": (202, run("cancelling")),
        }
    )
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        await post(gateway, "/runs", request(mode="async"))
        handle = await gateway.hub.task(RUN, Principal())
        assert (await handle.settled()).state is TaskState.INPUT_REQUIRED
        await gateway.http.post(f"/runs/{RUN}/cancel")
        assert (await handle.settled()).state is TaskState.CANCELED


@pytest.mark.parametrize("mode", ["async", "sync", "stream"])
async def test_a_run_is_followed_though_its_agent_fails_meanwhile(
    gateway: Gateway, at_once: None, mode: str
) -> None:
    looks = iter([(500, b"crash"), (200, b"no JSON"), (500, b"crash"), (200, run("in-progress"))])
    server = FakeServer(
        {
            "POST /runs": sse(run_event("in-progress")) if mode == "stream" else (202, run("in-progress")),
            f"GET /runs/{RUN}/events": (500, b"crash"),
            f"GET /runs/{RUN}": lambda asked: next(looks, (200, run("completed"))),
        }
    )
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        await post(gateway, "/runs", request(mode=mode))
        handle = await gateway.hub.task(RUN, Principal())
        async with asyncio.timeout(60):
            assert (await handle.settled()).state is TaskState.COMPLETED


async def test_what_an_agent_has_forgotten_is_not_invented(gateway: Gateway) -> None:
    async with served(FakeServer({"POST /runs": (200, run("completed"))})) as url:
        gateway.relay("outer", url, "inner")
        await post(gateway, "/runs", request())
        assert (await gateway.http.get(f"/runs/{RUN}")).status_code == 404


async def test_a_run_that_goes_on_after_its_client_left_is_recorded(
    gateway: Gateway, left: asyncio.Event
) -> None:
    gate = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield f"data: {json.dumps(run_event('in-progress'))}\n\n".encode()
        await gate.wait()
        yield f"data: {json.dumps(part_event('unheard'))}\n\n".encode()
        yield f"data: {json.dumps(run_event('completed'))}\n\n".encode()

    async with served(FakeServer({"POST /runs": lambda asked: chunks()})) as url:
        gateway.relay("outer", url, "inner")
        async with gateway.http.stream("POST", "/runs", json=request(mode="stream")) as answer:
            await anext(answer.aiter_lines())
        await left.wait()
        gate.set()
        handle = await gateway.hub.task(RUN, Principal())
        assert (await handle.settled()).state is TaskState.COMPLETED


async def test_a_client_that_leaves_before_the_first_byte_stops_nothing(gateway: Gateway) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def late(asked: Asked) -> Any:
        begun.set()
        await gate.wait()
        return sse(run_event("in-progress"), run_event("completed"))(asked)

    async with served(FakeServer({"POST /runs": late})) as url:
        gateway.relay("outer", url, "inner")
        asking = asyncio.create_task(gateway.http.post("/runs", json=request(mode="stream")))
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])
        gate.set()
        await gateway.quiet()
    assert (await gateway.hub.task(RUN, Principal())).task.state is TaskState.COMPLETED


# --- sessions --------------------------------------------------------------------------------


async def test_callers_with_keys_have_sessions_of_their_own(gateway: Gateway, as_alice: None) -> None:
    def answer(asked: Asked) -> tuple[int, Any]:
        return 200, run("completed", session_id=asked.json.get("session_id"))

    server = FakeServer({"POST /runs": answer})
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        mine = (await post(gateway, "/runs", request(session_id=SESSION), key=True)).json()
        server.routes[f"GET /runs/{RUN}"] = (200, run("completed", session_id=session_id("alice", SESSION)))
        later = (await gateway.http.get(f"/runs/{RUN}", headers=KEY)).json()
        assert later["session_id"] == SESSION
        open_ = (await post(gateway, "/runs", request(session_id=SESSION))).json()
        fresh = (await post(gateway, "/runs", request(), key=True)).json()
    inner = [a.json["session_id"] for a in server.asked if a.method == "POST"]
    assert mine["session_id"] == open_["session_id"] == SESSION
    assert inner[0] == session_id("alice", SESSION) != SESSION and inner[1] == SESSION
    assert inner[2] == fresh["session_id"] not in inner[:2]


async def test_a_session_that_was_begun_here_goes_on_for_whom_it_was_begun(
    gateway: Gateway, as_alice: None
) -> None:
    """The first run makes no record of it: its id tells whose it is. For everybody else it is like one that
    there never was."""

    def answer(asked: Asked) -> tuple[int, Any]:
        return 200, run("completed", session_id=asked.json.get("session_id"))

    def streamed(asked: Asked) -> Any:
        ended = run("completed", session_id=asked.json["session_id"])
        return sse({"type": "run.completed", "run": ended})(asked)

    alice = Principal(id="alice")
    server = FakeServer({"POST /runs": answer})
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        name = (await post(gateway, "/runs", request(), key=True)).json()["session_id"]
        assert await gateway.hub.upstream_context("outer", name, alice) is None
        assert await gateway.hub.context_agent(name, alice) == "outer"
        for stranger in (Principal(), Principal(id="bob")):
            assert await gateway.hub.context_agent(name, stranger) is None
        again = (await post(gateway, "/runs", request(session_id=name.upper()), key=True)).json()
        assert again["session_id"] == name
        assert await gateway.hub.upstream_context("outer", name, alice) == name
        other = (await post(gateway, "/runs", request(session_id=name))).json()
        made_up = f"{name[:-4]}{int(name[-4:], 16) ^ 1:04x}"
        forged = (await post(gateway, "/runs", request(session_id=made_up), key=True)).json()
        assert (other["session_id"], forged["session_id"]) == (name, made_up)
        server.routes["POST /runs"] = streamed
        for who in ("alice", "bob"):  # through another protocol's door
            call = say("one", "outer", context_id=name, principal=Principal(id=who))
            await (await gateway.hub.invoke(call)).settled()
    inner = [a.json["session_id"] for a in server.asked]
    assert inner[:2] == [name, name] and inner[4] == name
    assert inner[2:4] == [session_id("anonymous", name), session_id("alice", made_up)]
    assert inner[5] == session_id("bob", name)
    assert len({*inner, made_up}) == 5


def _session(asked: Asked) -> dict[str, Any]:
    return {"session_id": asked.json["session_id"]}


async def test_a_session_is_shown_after_its_first_run(gateway: Gateway, as_alice: None) -> None:
    server = FakeServer({})
    async with served(server) as url:
        server.routes["POST /runs"] = lambda asked: (
            200,
            run("completed", session_id=asked.json["session_id"]),
        )
        gateway.relay("outer", url, "inner")
        name = (await post(gateway, "/runs", request(), key=True)).json()["session_id"]
        state = f"{url}/resources/{RUN}"
        server.routes[f"GET /sessions/{name}"] = (200, {"id": name, "history": [], "state": state})
        server.routes[f"GET /resources/{RUN}"] = (200, b"\0state")
        session = (await gateway.http.get(f"/sessions/{name}", headers=KEY)).json()
        assert (session["id"], session["state"]) == (name, f"{gateway.acp}/resources/outer.{name}.{RUN}")
        assert (await gateway.http.get(session["state"], headers=KEY)).content == b"\0state"
        assert (await gateway.http.get(session["state"])).status_code == 404
        strange, unknown = [await gateway.http.get(f"/sessions/{id}") for id in (name, RUN)]
    assert strange.status_code == unknown.status_code == 404
    assert strange.json()["message"] == unknown.json()["message"].replace(RUN, name)


@pytest.mark.parametrize("who", ["anonymous", "alice"])
async def test_a_conversation_of_another_door_goes_on(gateway: Gateway, as_alice: None, who: str) -> None:
    """Its id need be no UUID: the agent has one session for it, whichever door a turn comes through."""
    headers = KEY if who == "alice" else {}
    server = FakeServer({"POST /runs": lambda asked: began(asked)})

    def began(asked: Asked) -> Any:
        ended = run("completed", session_id=asked.json["session_id"])
        return sse({"type": "run.completed", "run": ended})(asked)

    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        begun = say("one", "outer", context_id="conv/1", principal=Principal(id=who))
        task = await (await gateway.hub.invoke(begun)).settled()
        shown = (await gateway.http.get(f"/runs/{task.id}", headers=headers)).json()["session_id"]
        body = request(mode="stream", session_id=shown)
        (*_, last) = events_of(await gateway.http.post("/runs", json=body, headers=headers))
    first, second = (a.json["session_id"] for a in server.asked)
    assert first == second == session_id(who, "conv/1") and last["run"]["session_id"] == shown
    tasks = await gateway.hub.tasks(Principal(id=who))
    assert [t.context_id for t in tasks] == ["conv/1", "conv/1"]


async def test_nothing_said_is_a_mistake(gateway: Gateway) -> None:
    """The SDK's server would run its agent, and that would crash."""
    server = FakeServer({})
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        answer = await post(gateway, "/runs", request(input=[]))
    assert answer.status_code == 422 and answer.json()["message"].startswith("input: ")
    assert not server.asked


async def test_a_session_object_is_named_by_its_id(gateway: Gateway) -> None:
    server = FakeServer({"POST /runs": (200, run("completed"))})
    async with served(server) as url:
        gateway.relay("outer", url, "inner")
        session = {"id": SESSION, "history": ["http://169.254.169.254/secret"], "state": None}
        await post(gateway, "/runs", request(session=session))
    assert "session" not in server.asked[0].json and server.asked[0].json["session_id"] == SESSION
    (span,) = (s for s in gateway.spans() if s.kind == "server")
    assert span.attributes["agentgw.losses"] == "session history from elsewhere"


async def test_history_is_reached_through_the_gateway_only(gateway: Gateway) -> None:
    message = {"role": "user", "parts": []}
    server = FakeServer({"POST /runs": (200, run("completed")), f"GET /resources/{RUN}": (200, message)})
    async with served(server) as url:
        outside = "https://elsewhere.example/resources/" + RUN
        history = [f"{url}/resources/{RUN}", outside]
        server.routes[f"GET /sessions/{SESSION}"] = (200, {"id": SESSION, "history": history, "state": None})
        gateway.relay("outer", url, "inner")
        assert (await gateway.http.get(f"/session/{SESSION}")).status_code == 404  # not this caller's yet
        await post(gateway, "/runs", request())
        session = (await gateway.http.get(f"/session/{SESSION}")).json()
        assert session["history"] == [f"{gateway.acp}/resources/outer.{SESSION}.{RUN}", outside]
        assert (await gateway.http.get(session["history"][0])).json() == message
        for odd in (f"outer.{SESSION}.{RUN}x", "outer...", f"nobody.{SESSION}.{RUN}", f"outer.{RUN}.{RUN}"):
            assert (await gateway.http.get(f"/resources/{odd}")).status_code == 404
        assert (await gateway.http.get(f"/resources/outer.{SESSION}.{SESSION}")).status_code == 404
    assert [a.path for a in server.asked if a.path.startswith("/res")] == [f"/resources/{RUN}"]


async def test_state_and_history_are_their_owners_alone(gateway: Gateway, as_alice: None) -> None:
    """Neither another caller, nor the same with another session, gets a resource by its address."""
    inner = session_id("alice", SESSION)
    server = FakeServer({"POST /runs": (200, run("completed")), f"GET /resources/{RUN}": (200, b"\0state")})
    async with served(server) as url:
        theirs = {"id": inner, "history": [], "state": f"{url}/resources/{RUN}"}
        server.routes[f"GET /sessions/{inner}"] = (200, theirs)
        gateway.relay("outer", url, "inner")
        await post(gateway, "/runs", request(session_id=SESSION), key=True)
        session = (await gateway.http.get(f"/sessions/{SESSION}", headers=KEY)).json()
        assert session["id"] == SESSION and inner not in str(session)
        state = await gateway.http.get(session["state"], headers=KEY)
        assert (state.content, state.headers["content-type"]) == (b"\0state", "application/octet-stream")
        await post(gateway, "/runs", request(session_id=RUN))
        assert (await gateway.http.get(session["state"])).status_code == 404
        server.routes[f"GET /sessions/{SESSION}"] = (200, {**theirs, "id": SESSION})
        assert (await gateway.http.get(session["state"])).status_code == 404  # no session of this caller's
