"""The door: every endpoint, with agents of other protocols behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentgw.adapters.acp.face import ids
from agentgw.adapters.acp.face.ids import Ids
from agentgw.adapters.acp.ids import as_uuid, is_uuid
from agentgw.gateway.errors import Unreachable
from agentgw.gateway.model import (
    Agent,
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    Fault,
    File,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    MessageDone,
    Principal,
    Skill,
    Started,
    TaskState,
    Text,
    text_of,
)
from agentgw.gateway.store import StoredItems
from agentgw.registry.memory import MemoryStore

from ...support.memory import MemoryUpstream, say
from .conftest import Gateway, client, events_of

RESUME = {"type": "message", "message": {"role": "user", "parts": [{"content": "red"}]}}
NOBODY = "11111111-1111-4111-8111-111111111111"
COMPLETED = Finished(state=TaskState.COMPLETED)


def said(text: str) -> Message:
    return Message(role="agent", parts=(Text(text=text),))


async def asks(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="up-1")
    yield InputRequired(request=InputRequest(message=said("Which colour?")))


async def answers(reply: InputReply) -> AsyncIterator[Event]:
    yield Started(task_id="up-1")
    yield MessageDone(message=said(f"You said {text_of(reply.message.parts)}"))
    yield COMPLETED


async def endless(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="up-1")
    await asyncio.Event().wait()


async def crashes(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="up-1")
    raise RuntimeError("secret crash text")


async def unreachable(call: Invocation) -> AsyncIterator[Event]:
    raise Unreachable("the agent can't be reached", detail="secret address")
    yield


async def refuses(call: Invocation) -> AsyncIterator[Event]:
    fault = Fault(code="agent_error", message="sold out")
    yield Finished(state=TaskState.FAILED, message=said("sold out"), fault=fault)


@pytest.fixture
def echo(gateway: Gateway) -> MemoryUpstream:
    upstream = MemoryUpstream()
    gateway.add("echo", upstream, upstream.agent)
    return upstream


def run_of(agent: str, mode: str = "sync") -> dict[str, Any]:
    return {"agent_name": agent, "mode": mode, "input": [{"role": "user", "parts": []}]}


def texts(run: dict[str, Any]) -> list[str]:
    return ["".join(p.get("content") or "" for p in m["parts"]) for m in run["output"]]


# --- agents ----------------------------------------------------------------------------------


async def test_ping_and_lists_in_pages(gateway: Gateway) -> None:
    for n in range(12):
        gateway.add(f"a{n:02}", MemoryUpstream(), Agent(name="x"))
    assert (await gateway.http.get("/ping")).json() == {}

    async def names(query: str = "") -> list[str]:
        return [a["name"] for a in (await gateway.http.get(f"/agents{query}")).json()["agents"]]

    assert len(await names()) == 12  # the SDK's clients never page
    assert await names("?limit=2&offset=3") == ["a03", "a04"]
    assert await names("?limit=5&offset=50") == await names(f"?offset={10**30}") == []


async def test_the_list_tells_what_there_is_now(gateway: Gateway) -> None:
    async def described() -> list[str]:
        listed = (await gateway.http.get("/agents")).json()["agents"]
        return [a["description"] for a in listed]

    gateway.add("one", MemoryUpstream(), Agent(name="one", description="first"))
    assert await described() == await described() == ["first"]
    gateway.add("one", MemoryUpstream(), Agent(name="one", description="second"))
    gateway.add("two", MemoryUpstream(), Agent(name="two", description="third"))
    assert await described() == ["second", "third"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "offset=-1", "limit="])
async def test_a_bad_page_is_named(gateway: Gateway, query: str) -> None:
    answer = await gateway.http.get(f"/agents?{query}")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_input" and query.split("=")[0] in answer.json()["message"]


async def test_a_tool_server_shows_its_tools(gateway: Gateway) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = Skill(id="add", name="Add", description="adds", input_schema=schema, tags=("math",))
    gateway.add("sums", MemoryUpstream(), Agent(name="s", skills=(tool,), conversational=False), "mcp")
    manifest = (await gateway.http.get("/agents/sums")).json()
    assert manifest["name"] == "sums" and manifest["description"] == "sums"
    assert manifest["input_content_types"] == ["application/json", "text/plain"]
    assert manifest["metadata"]["capabilities"] == [{"name": "Add", "description": "adds"}]
    (annotated,) = manifest["metadata"]["annotations"]["tools"]
    assert annotated == {"name": "add", "description": "adds", "input_schema": schema}


async def test_the_bare_address_answers_too(gateway: Gateway, echo: MemoryUpstream) -> None:
    async with client(gateway.root) as http:
        assert (await http.get("/ping")).json() == {}
        assert [a["name"] for a in (await http.get("/agents")).json()["agents"]] == ["echo"]
        assert (await http.get("/other")).text == "control plane"


# --- runs ------------------------------------------------------------------------------------


async def test_a_run_in_three_modes(gateway: Gateway, echo: MemoryUpstream) -> None:
    answer = await gateway.run("echo", "a b")
    run = answer.json()
    assert answer.status_code == 200 and answer.headers["run-id"] == run["run_id"]
    assert (run["status"], texts(run), run["agent_name"]) == ("completed", ["a b"], "echo")
    assert run["created_at"].endswith("Z") and run["finished_at"].endswith("Z")

    answer = await gateway.run("echo", "a b", mode="async")
    assert answer.status_code == 202 and answer.json()["status"] in ("created", "in-progress")
    run_id = answer.json()["run_id"]
    await (await gateway.hub.task(run_id, echo.calls[0].principal)).settled()
    assert texts((await gateway.http.get(f"/runs/{run_id}")).json()) == ["a b"]

    answer = await gateway.run("echo", "a b", mode="stream")
    events = events_of(answer)
    assert [e["type"] for e in events] == [
        "run.created", "run.in-progress", "message.created", "message.part", "message.part",
        "message.completed", "run.completed",
    ]  # fmt: skip
    assert events[-1]["run"]["run_id"] == answer.headers["run-id"]
    assert echo.calls[0].client_protocol == "acp" and not echo.calls[0].streaming


async def test_json_needs_no_content_type(gateway: Gateway, echo: MemoryUpstream) -> None:
    """The Python SDK's client sends none."""
    body = b'{"agent_name":"echo","input":[{"role":"user","parts":[{"content":"hi"}]}]}'
    assert texts((await gateway.http.post("/runs", content=body)).json()) == ["hi"]


async def test_events_can_be_read_again(gateway: Gateway, echo: MemoryUpstream) -> None:
    streamed = await gateway.stream("echo", "a b")
    run_id = streamed[-1]["run"]["run_id"]
    assert (await gateway.http.get(f"/runs/{run_id}/events")).json()["events"] == streamed


async def test_results_are_named_parts(gateway: Gateway) -> None:
    async def draws(call: Invocation) -> AsyncIterator[Event]:
        file = File(content=b"\x89PNG", media_type="image/png")
        parts = (Data(data={"n": 1}), file)
        yield ArtifactDelta(artifact=Artifact(artifact_id="result", name="plot", parts=parts))
        yield COMPLETED

    gateway.add("painter", MemoryUpstream(draws))
    (message,) = (await gateway.run("painter", "x")).json()["output"]
    assert message["parts"] == [
        {"name": "plot", "content_type": "application/json", "content": '{"n":1}'},
        {"name": "plot", "content_type": "image/png", "content_encoding": "base64", "content": "iVBORw=="},
    ]


async def test_what_the_client_sends_arrives(gateway: Gateway, echo: MemoryUpstream) -> None:
    parts = [
        {"content_type": "application/json", "content": '{"tool": "add"}'},
        {"name": "a", "content_type": "image/png", "content_encoding": "base64", "content": "iVBORw=="},
    ]
    await gateway.run("echo", "text", *parts, metadata={"skill": "add"})
    (call,) = echo.calls
    text, data, file = call.message.parts
    assert isinstance(text, Text) and isinstance(data, Data) and isinstance(file, File)
    assert (text.text, data.data, file.content) == ("text", {"tool": "add"}, b"\x89PNG")
    assert call.skill == "add"


async def test_a_question_and_its_answer(gateway: Gateway) -> None:
    async def speaks_first(call: Invocation) -> AsyncIterator[Event]:
        yield MessageDone(message=said("Let me see."))
        async for event in asks(call):
            yield event

    gateway.add("approver", MemoryUpstream(speaks_first, answers))
    run = (await gateway.run("approver", "paint")).json()
    assert run["status"] == "awaiting" and run["await_request"]["type"] == "message"
    assert run["await_request"]["message"]["parts"][0]["content"] == "Which colour?"
    path = f"/runs/{run['run_id']}"
    events = events_of(await gateway.http.post(path, json={"await_resume": RESUME, "mode": "stream"}))
    assert events[0]["type"] == "run.in-progress" and events[-1]["type"] == "run.completed"
    assert texts(events[-1]["run"]) == ["Let me see.", "You said red"]
    assert (await gateway.http.get(path)).json() == events[-1]["run"]
    again = await gateway.http.post(path, json={"await_resume": RESUME})
    assert again.status_code == 403 and "does not wait" in again.json()["message"]


@pytest.mark.parametrize(("mode", "status"), [("sync", 200), ("async", 202)])
async def test_an_answer_in_the_other_modes(gateway: Gateway, mode: str, status: int) -> None:
    gateway.add("approver", MemoryUpstream(asks, answers))
    path = f"/runs/{(await gateway.run('approver', 'paint')).json()['run_id']}"
    resumed = await gateway.http.post(path, json={"await_resume": RESUME, "mode": mode})
    assert resumed.status_code == status
    if mode == "sync":
        assert texts(resumed.json()) == ["You said red"]


async def test_a_client_that_comes_back_has_missed_nothing(gateway: Gateway, left: asyncio.Event) -> None:
    """The run goes on without it; what it missed stands in the run's events, in order."""
    gate = asyncio.Event()

    async def counts(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up-1")
        for n in range(5):
            if n == 2:
                await gate.wait()
            yield MessageDone(message=said(str(n)))
        yield COMPLETED

    gateway.add("counter", MemoryUpstream(counts))
    async with gateway.http.stream("POST", "/runs", json=run_of("counter", "stream")) as answer:
        run_id = answer.headers["run-id"]
        lines = answer.aiter_lines()
        while '"message.completed"' not in (line := await anext(lines)):
            pass
    await left.wait()
    gate.set()
    await (await gateway.hub.task(run_id, Principal())).settled()
    events = (await gateway.http.get(f"/runs/{run_id}/events")).json()["events"]
    done = [e["message"]["parts"][0]["content"] for e in events if e["type"] == "message.completed"]
    assert done == ["0", "1", "2", "3", "4"] and json.loads(line[6:]) in events
    assert events[-1]["type"] == "run.completed"


async def test_a_waiting_client_that_leaves_stops_nothing(gateway: Gateway) -> None:
    """Its request ends, the run does not."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def waits(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up-1")
        begun.set()
        await gate.wait()
        yield COMPLETED

    gateway.add("waiting", MemoryUpstream(waits))
    asking = asyncio.create_task(gateway.http.post("/runs", json=run_of("waiting")))
    await begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    await gateway.quiet()
    (task,) = await gateway.hub.tasks(Principal())
    assert task.state is TaskState.WORKING
    gate.set()
    assert (await (await gateway.hub.task(task.id, Principal())).settled()).state is TaskState.COMPLETED


async def test_everybody_watching_sees_that_a_run_was_cancelled(gateway: Gateway) -> None:
    upstream = MemoryUpstream(endless)
    gateway.add("slow", upstream)
    async with gateway.http.stream("POST", "/runs", json=run_of("slow", mode="stream")) as answer:
        run_id = answer.headers["run-id"]
        waiting = asyncio.create_task((await gateway.hub.task(run_id, Principal())).settled())
        canceled = await gateway.http.post(f"/runs/{run_id}/cancel")
        assert (canceled.status_code, canceled.json()["status"]) == (202, "cancelling")
        assert (await gateway.http.post(f"/runs/{run_id}/cancel")).json()["status"] == "cancelling"
        await upstream.canceled.wait()
        (await gateway.hub.task(run_id, Principal())).runner.cancel()  # type: ignore[attr-defined]
        events = [json.loads(line[6:]) async for line in answer.aiter_lines() if line]
    assert events[-1]["type"] == "run.cancelled" and events[-1]["run"]["status"] == "cancelled"
    assert (await waiting).state is TaskState.CANCELED
    assert (await gateway.http.get(f"/runs/{run_id}")).json() == events[-1]["run"]


async def test_a_call_may_be_granted_less_time(gateway: Gateway) -> None:
    upstream = MemoryUpstream(endless)
    gateway.add("slow", upstream)
    for limit in ("idle", "total"):
        headers = {f"agentgw-{limit}-timeout": "0.05"}
        run = (await gateway.http.post("/runs", json=run_of("slow"), headers=headers)).json()
        assert run["error"]["data"]["limit"] == f"{limit}_timeout"
    bad = await gateway.http.post("/runs", json=run_of("slow"), headers={"agentgw-idle-timeout": "soon"})
    assert bad.status_code == 422


async def test_a_run_is_cancelled(gateway: Gateway) -> None:
    upstream = MemoryUpstream(endless)
    gateway.add("slow", upstream)
    run_id = (await gateway.run("slow", "x", mode="async")).json()["run_id"]
    events = asyncio.create_task(gateway.http.get(f"/runs/{run_id}/events"))
    assert (await events).json()["events"][0]["type"] == "run.created"  # answers though the run goes on
    canceled = await gateway.http.post(f"/runs/{run_id}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (202, "cancelling")
    await upstream.canceled.wait()


async def test_a_finished_run_cannot_be_cancelled(gateway: Gateway, echo: MemoryUpstream) -> None:
    run_id = (await gateway.run("echo", "x")).json()["run_id"]
    answer = await gateway.http.post(f"/runs/{run_id}/cancel")
    assert answer.status_code == 403 and answer.json()["code"] == "invalid_input"


# --- failures --------------------------------------------------------------------------------


async def test_failures_are_runs_that_failed(gateway: Gateway) -> None:
    gateway.add("failing", MemoryUpstream(crashes))
    gateway.add("away", MemoryUpstream(unreachable))
    gateway.add("shop", MemoryUpstream(refuses))
    for agent, message in (("failing", "failing failed"), ("shop", "sold out")):
        answer = await gateway.run(agent, "x")
        run = answer.json()
        assert (answer.status_code, run["status"]) == (200, "failed")
        assert run["error"]["message"] == message and run["error"]["code"] == "server_error"
        assert len(run["error"]["data"]["trace_id"]) == 32 and run["output"] == []
    last = (await gateway.stream("away", "x"))[-1]
    assert last["type"] == "run.failed" and last["run"]["error"]["data"]["code"] == "upstream_unreachable"
    assert "secret" not in str(last)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "JSON"),
        (b"[]", "expected"),
        (b'{"input":[]}', "agent_name: required"),
        (b'{"agent_name":"echo"}', "input: required"),
        (b'{"agent_name":"echo","input":[]}', "input: "),
        (b'{"agent_name":"echo","input":"hi"}', "input: "),
        (b'{"agent_name":"echo","input":[{"role":"user"}]}', "input[0].parts: "),
        (b'{"agent_name":"echo","input":[{"parts":[{"content":1}]}]}', "input[0].parts[0].content: "),
        (b'{"agent_name":"echo","input":[],"mode":"fast"}', "mode: "),
        (b'{"agent_name":"echo","input":[],"session_id":"mine"}', "session_id: "),
        (b'{"agent_name":5,"input":[]}', "agent_name: "),
        (
            b'{"agent_name":"echo","input":[],"session":{"id":"%s","history":["x"]}}' % NOBODY.encode(),
            "session: ",
        ),
    ],
)
async def test_a_mistake_is_named(gateway: Gateway, echo: MemoryUpstream, body: bytes, field: str) -> None:
    answer = await gateway.http.post("/runs", content=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid_input" and field in answer.json()["message"]
    assert not echo.calls


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/runs/{NOBODY}"), ("GET", "/runs/not-a-uuid"), ("GET", f"/runs/{NOBODY}/events"),
        ("POST", f"/runs/{NOBODY}/cancel"), ("GET", "/agents/nobody"), ("GET", f"/sessions/{NOBODY}"),
        ("GET", f"/resources/{NOBODY}-0"), ("GET", "/resources/x.y"), ("GET", "/nowhere"), ("GET", "/"),
    ],
)  # fmt: skip
async def test_what_is_not_there(gateway: Gateway, method: str, path: str) -> None:
    answer = await gateway.http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_methods_that_are_not_possible(gateway: Gateway) -> None:
    answer = await gateway.http.get("/runs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["code"] == "invalid_input"


async def test_another_callers_run_is_not_there(
    gateway: Gateway, echo: MemoryUpstream, as_alice: None
) -> None:
    run_id = (await gateway.run("echo", "mine")).json()["run_id"]
    key = {"authorization": "Bearer alice's"}
    assert (await gateway.http.get(f"/runs/{run_id}")).status_code == 200
    assert (await gateway.http.get(f"/runs/{run_id}", headers=key)).status_code == 404
    assert (await gateway.http.get(f"/resources/{run_id}-0", headers=key)).status_code == 404


# --- sessions --------------------------------------------------------------------------------


async def test_a_session_is_a_conversation(gateway: Gateway, echo: MemoryUpstream) -> None:
    first = (await gateway.run("echo", "one")).json()
    session = first["session_id"]
    await gateway.run("echo", "two", session_id=session)
    assert [c.context_id for c in echo.calls] == [session, session]
    for path in (f"/session/{session}", f"/sessions/{session}"):
        read = (await gateway.http.get(path)).json()
        assert (read["id"], read["state"], len(read["history"])) == (session, None, 4)
        assert all(url.startswith(f"{gateway.acp}/resources/") for url in read["history"])
    messages = [(await gateway.http.get(url)).json() for url in read["history"]]
    assert [(m["role"], m["parts"][0]["content"]) for m in messages] == [
        ("user", "one"), ("agent/echo", "one"), ("user", "two"), ("agent/echo", "two"),
    ]  # fmt: skip
    async with client(gateway.root) as http:  # URLs for the door that was used
        at_root = (await http.get(f"/sessions/{session}")).json()["history"]
        assert at_root[0].startswith(f"{gateway.root}/resources/")
        assert (await http.get(at_root[0])).json() == messages[0]


async def test_a_conversation_of_another_door_goes_on(gateway: Gateway, echo: MemoryUpstream) -> None:
    """Its id need be no UUID; the session id that the client sees for it leads back, also after a restart."""
    begun = say("one", context_id="conv/1", new_task_id="task 1")
    await (await gateway.hub.invoke(begun)).settled()
    run = (await gateway.http.get("/runs/task%201")).json()
    assert is_uuid(run["run_id"]) and is_uuid(run["session_id"])
    assert (await gateway.http.get(f"/runs/{run['run_id']}")).json() == run
    again = (await gateway.run("echo", "two", session_id=run["session_id"].upper())).json()
    assert again["session_id"] == run["session_id"]
    assert [c.context_id for c in echo.calls] == ["conv/1", "conv/1"]
    for path in (f"/sessions/{run['session_id']}", f"/session/{run['session_id']}"):
        session = (await gateway.http.get(path)).json()
        said = [(await gateway.http.get(url)).json()["parts"][0]["content"] for url in session["history"]]
        assert (session["id"], said) == (run["session_id"], ["one", "one", "two", "two"])
    later = Ids(gateway.hub.items)
    assert await later.original(run["session_id"]) == "conv/1"


async def test_ids_given_out_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "LIMIT", 2)
    items = StoredItems(MemoryStore())
    given = Ids(items)
    for name in ("one", "two", "three", "two"):
        await given.give(name)
    assert [await given.original(as_uuid(n)) for n in ("one", "two", "three")] == [
        as_uuid("one"),
        "two",
        "three",
    ]
    assert sorted((await items.all(ids.SPACE)).values()) == [b"three", b"two"]


async def test_history_from_elsewhere_is_not_fetched(gateway: Gateway, echo: MemoryUpstream) -> None:
    session = {"id": NOBODY, "history": ["http://127.0.0.1:9/secret"], "state": None}
    run = (await gateway.run("echo", "one", session=session)).json()
    assert run["session_id"] == NOBODY
    own = {"id": NOBODY, "history": [f"{gateway.acp}/resources/{run['run_id']}-0"]}
    await gateway.run("echo", "two", session=own)
    lost = [s.attributes.get("agentgw.losses") for s in gateway.spans() if s.kind == "server"]
    assert lost == ["session history from elsewhere", None]
    wrong = await gateway.run("echo", "x", session=own, session_id=NOBODY.replace("1", "2"))
    assert wrong.status_code == 422 and "session_id" in wrong.json()["message"]


# --- tracing and leaving ---------------------------------------------------------------------


async def test_each_request_is_one_span(gateway: Gateway, echo: MemoryUpstream) -> None:
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    body = {"agent_name": "echo", "input": [{"role": "user", "parts": [{"content": "x"}]}]}
    await gateway.http.post("/runs", json=body, headers=trace)
    (span,) = gateway.spans()
    assert (span.name, span.kind, span.trace_id, span.parent_id) == (
        "POST /runs",
        "server",
        "a" * 32,
        "b" * 16,
    )
    assert span.attributes["agentgw.agent"] == "echo"
    assert span.attributes["agentgw.client_protocol"] == "acp"
    assert span.attributes["agentgw.agent_protocol"] == "memory"
    assert span.attributes["agentgw.state"] == "completed"
    assert (echo.calls[0].trace.traceparent or "").split("-")[2] == span.span_id
    await gateway.run("nobody", "x")
    (span,) = gateway.spans()
    assert (span.status, span.attributes["error.type"]) == ("error", "unknown_agent")


async def test_a_run_outlives_its_client(gateway: Gateway, left: asyncio.Event) -> None:
    gate = asyncio.Event()

    async def waits(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up-1")
        await gate.wait()
        yield MessageDone(message=said("done"))
        yield COMPLETED

    upstream = MemoryUpstream(waits)
    gateway.add("slow", upstream)
    body = {"agent_name": "slow", "mode": "stream", "input": [{"role": "user", "parts": []}]}
    async with gateway.http.stream("POST", "/runs", json=body) as answer:
        run_id = answer.headers["run-id"]
        async for line in answer.aiter_lines():
            if "run.in-progress" in line:
                break
    await left.wait()
    await gateway.quiet()  # the request ends with its client, not with the run
    assert gateway.spans()[0].attributes["agentgw.state"] == "working"
    gate.set()
    await (await gateway.hub.task(run_id, upstream.calls[0].principal)).settled()
    assert texts((await gateway.http.get(f"/runs/{run_id}")).json()) == ["done"]
