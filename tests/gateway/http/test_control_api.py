"""The control plane over HTTP: the admin API and its errors, calls as streams, metrics, the page."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html.parser
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import httpx
import msgspec
import pytest

from agentgw.gateway import sse
from agentgw.gateway.access import Access
from agentgw.gateway.config import Config
from agentgw.gateway.engine import Hub
from agentgw.gateway.errors import AgentError, UpstreamTimeout
from agentgw.gateway.http.app import App
from agentgw.gateway.http.control_api import build_control_app
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.metrics import Metrics
from agentgw.gateway.model import (
    Finished,
    InputRequest,
    InputRequired,
    Logged,
    Message,
    MessageDone,
    Principal,
    Started,
    Task,
    TaskState,
    Text,
)
from agentgw.gateway.store import Batch
from agentgw.gateway.telemetry import Tracer, span_json
from agentgw.registry.memory import MemoryStore

from ...support.agents import World, WorldUpstream, adapter, registry
from .support import serving

URL = "http://agent.example/"


class Plane:
    """A control plane over a made-up world, as one kind of caller sees it."""

    def __init__(self) -> None:
        self.world = World()
        self.world.put(URL, "echo", description="says it again")
        self.world.put("run this", "command")
        self.store = MemoryStore()
        self.manager, self.directory = registry(
            adapter("a2a", self.world),
            adapter("mcp", self.world, stdio=True, probes=False),
            store=self.store,
            environ={},
        )
        self.tracer = Tracer()
        self.hub = Hub(self.directory, self.store, self.tracer, Config())
        self.metrics = Metrics()
        app = build_control_app(self.manager, self.hub, metrics=self.metrics)
        self.principal = Principal(admin=True)  # a caller without a key, on this machine

        async def front(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("state", {})["principal"] = self.principal
            await app(scope, receive, send)

        self.app = front
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://gw")

    def upstream(self, name: str) -> WorldUpstream:
        view = self.directory.get(name)
        assert view is not None and isinstance(view.upstream, WorldUpstream)
        return view.upstream

    async def add(self, name: str = "echo", **fields: Any) -> httpx.Response:
        return await self.http.post("/api/agents", json={"name": name, "url": URL} | fields)


@pytest.fixture
async def plane():
    plane = Plane()
    await plane.directory.start(refresh=False)
    try:
        yield plane
    finally:
        await plane.http.aclose()
        await plane.hub.aclose()
        await plane.directory.aclose()


# --- agents ---------------------------------------------------------------------------------------


async def test_an_agent_from_registration_to_removal(plane):
    added = await plane.add()
    assert added.status_code == 201
    agent = added.json()["agents"][0]
    assert {k: agent[k] for k in ("name", "protocol", "target", "enabled", "health", "description")} == {
        "name": "echo",
        "protocol": "a2a",
        "target": URL,
        "enabled": True,
        "health": "ok",
        "description": "says it again",
    }
    assert [skill["id"] for skill in agent["skills"]] == ["run"]
    assert (await plane.http.get("/api/agents")).json() == [agent]
    assert (await plane.http.get("/api/agents/echo")).json()["name"] == "echo"
    assert (await plane.http.post("/api/agents/echo/check")).json()["health"] == "ok"
    assert (await plane.http.post("/api/agents/echo/disable")).json()["enabled"] is False
    assert (await plane.http.post("/api/agents/echo/enable")).json()["enabled"] is True
    assert (await plane.http.delete("/api/agents/echo")).status_code == 204
    assert (await plane.http.get("/api/agents")).json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/agents/none", None, 404, "unknown_agent"),
        ("DELETE", "/api/agents/none", None, 404, "unknown_agent"),
        ("POST", "/api/agents/none/check", None, 404, "unknown_agent"),
        ("POST", "/api/agents/none/call", {"parts": []}, 404, "unknown_agent"),
        ("POST", "/api/agents", {"name": "echo", "url": URL}, 409, "invalid_request"),
        ("POST", "/api/agents", {"name": "No!", "url": URL}, 400, "invalid_request"),
        ("POST", "/api/agents", {"name": "x", "url": URL, "colour": 1}, 400, "invalid_request"),
        ("POST", "/api/agents", {"name": 1}, 400, "invalid_request"),
        ("POST", "/api/agents", {"name": "x", "url": "http://nobody.example"}, 502, "upstream_unreachable"),
        ("POST", "/api/agents", {"name": "x", "url": URL, "headers": {"X-A": "${UNSET}"}}, 403, "forbidden"),
        ("POST", "/api/agents", {"name": "x", "command": ["run", "this"]}, 403, "forbidden"),
        ("POST", "/api/agents/echo/call", {"parts": [{"type": "poem"}]}, 400, "invalid_request"),
        ("POST", "/api/agents/echo/call", {"parts": [], "task_id": "none"}, 404, "unknown_task"),
        ("POST", "/api/tasks/none/cancel", None, 404, "unknown_task"),
        ("GET", "/api/traces/ffff", None, 404, "invalid_request"),
        ("GET", "/api/traces?limit=0", None, 400, "invalid_request"),
        ("GET", "/api/nothing", None, 404, "not_found"),
        ("PUT", "/api/agents", {}, 405, "method_not_allowed"),
    ],
)
async def test_errors_have_a_status_and_one_form(plane, method, path, body, status, code):
    await plane.add()
    answer = await plane.http.request(method, path, json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "data"}
    assert error["code"] == code
    assert error["message"] and "\n" not in error["message"]


async def test_a_body_that_is_no_json_is_the_clients_mistake(plane):
    answer = await plane.http.post("/api/agents", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


async def test_a_timeout_is_a_504(plane):
    await plane.add()

    async def late(name: str) -> Any:
        raise UpstreamTimeout("the agent did not answer in time")

    plane.manager.check_agent = late
    assert (await plane.http.post("/api/agents/echo/check")).status_code == 504


async def test_a_bug_is_a_500_that_says_nothing(plane):
    async def broken() -> Any:
        raise RuntimeError("/secret/path")

    plane.manager.list_agents = broken
    answer = await plane.http.get("/api/agents")
    assert answer.status_code == 500
    assert answer.json() == {"error": {"code": "internal", "message": "internal error", "data": None}}


async def test_only_the_owner_registers_a_command(plane):
    body = {"name": "tool", "command": ["run", "this"]}
    assert (await plane.http.post("/api/agents", json=body)).status_code == 403
    plane.principal = Principal(id="owner", owner=True)
    added = await plane.http.post("/api/agents", json=body)
    assert added.status_code == 201
    assert added.json()["agents"][0]["target"] == "run this"


async def test_only_the_owner_refers_to_the_gateways_environment(plane):
    for field in ("headers", "env"):
        body = {"name": "thief", "url": URL, field: {"X_STEAL": "a${PATH}"}}
        answer = await plane.http.post("/api/agents", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


# --- calls ----------------------------------------------------------------------------------------


def words(text: str) -> dict[str, Any]:
    return {"parts": [{"type": "text", "text": text}]}


def events(body: bytes) -> list[tuple[str, Any]]:
    return [(e.event, msgspec.json.decode(e.data)) for e in sse.Decoder().feed(body)]


async def test_a_call_streams_the_task_its_events_and_the_task_again(plane):
    await plane.add()
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = await plane.http.post(
        "/api/agents/echo/call",
        json=words("good day") | {"context_id": "c1", "skill": "run"},
        headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    got = events(answer.content)
    assert [name for name, _ in got][:1] == ["task"]
    assert [name for name, _ in got][-1:] == ["task"]
    logged = [msgspec.convert(data, Logged) for name, data in got if name == "event"]
    assert [e.seq for e in logged] == list(range(1, len(logged) + 1))
    assert isinstance(logged[-1].event, Finished)
    first, last = got[0][1], got[-1][1]
    assert first["trace_id"] == last["trace_id"] == trace
    task = msgspec.convert({k: v for k, v in last.items() if k != "trace_id"}, Task)
    assert (task.state, task.context_id, task.messages[0].parts) == (
        "completed",
        "c1",
        (Text(text="good day"),),
    )
    call = plane.upstream("echo").calls[0]
    assert (call.skill, call.client_protocol, call.trace.traceparent[3:35]) == ("run", "cli", trace)
    span = span_json(plane.tracer.drain()[0])
    assert span["attributes"] | {
        "agentgw.agent": "echo", "agentgw.client_protocol": "cli", "agentgw.agent_protocol": "a2a",
        "agentgw.state": "completed",
    } == span["attributes"]  # fmt: skip
    assert span["kind"] == "server"


async def test_the_answer_to_a_question_streams_its_own_turn_only(plane):
    await plane.add()
    upstream = plane.upstream("echo")

    async def asks(call):
        yield Started(task_id="up")
        yield InputRequired(request=InputRequest(message=Message(role="agent", parts=(Text(text="sure?"),))))

    async def goes_on(reply):
        yield MessageDone(message=Message(role="agent", parts=reply.message.parts))
        yield Finished(state=TaskState.COMPLETED)

    upstream.script, upstream.answers = asks, goes_on
    asked = events((await plane.http.post("/api/agents/echo/call", json=words("go"))).content)
    task = asked[-1][1]
    assert task["state"] == "input_required"
    body = words("yes") | {"task_id": task["id"]}
    answered = events((await plane.http.post("/api/agents/echo/call", json=body)).content)
    kinds = [data["event"]["type"] for name, data in answered if name == "event"]
    assert "input_required" not in kinds and kinds[-1] == "finished"
    assert answered[-1][1]["state"] == "completed"
    again = await plane.http.post("/api/agents/echo/call", json=body)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_active")


async def test_a_call_s_own_timeouts_reach_the_agent(plane):
    await plane.add()
    headers = {"agentgw-idle-timeout": "500ms", "agentgw-total-timeout": "2m"}
    answer = await plane.http.post("/api/agents/echo/call", json=words("go"), headers=headers)
    assert answer.status_code == 200
    await plane.http.post("/api/agents/echo/call", json=words("go"))
    calls = [(c.idle_timeout, c.total_timeout) for c in plane.upstream("echo").calls]
    assert calls == [(0.5, 120.0), (None, None)]


@pytest.mark.parametrize("text", ["soon", "", "-1s", "0", "1 day"])
async def test_a_timeout_that_is_no_duration_is_the_client_s_mistake(plane, text):
    await plane.add()
    headers = {"agentgw-total-timeout": text}
    answer = await plane.http.post("/api/agents/echo/call", json=words("go"), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert "agentgw-total-timeout" in answer.json()["error"]["message"]


async def test_a_failed_call_says_why_in_its_task(plane):
    await plane.add()

    async def fails(call):
        yield Started(task_id="up")
        raise AgentError("no money left")

    plane.upstream("echo").script = fails
    got = events((await plane.http.post("/api/agents/echo/call", json=words("go"))).content)
    assert (got[-1][1]["state"], got[-1][1]["fault"]["message"]) == ("failed", "no money left")
    span = plane.tracer.drain()[0]
    assert (span.status, span.attributes["error.type"]) == ("error", "agent_error")


@asynccontextmanager
async def served(control: Any):
    """The control plane behind the front on a port of its own."""
    app = App([], control, Doors("127.0.0.1", ""), access=Access("owner"), body_limit=1 << 20)
    async with serving(app) as (port, _):
        yield f"http://127.0.0.1:{port}"


async def test_leaving_does_not_cancel_and_canceling_does(plane):
    await plane.add()
    upstream = plane.upstream("echo")
    go_on = asyncio.Event()

    async def slow(call):
        yield Started(task_id="up")
        await go_on.wait()
        yield Finished(state=TaskState.COMPLETED)

    upstream.script = slow
    async with served(plane.app) as url, httpx.AsyncClient(base_url=url) as http:

        async def first_task() -> str:
            async with http.stream("POST", "/api/agents/echo/call", json=words("go")) as answer:
                decoder = sse.Decoder()
                async for chunk in answer.aiter_bytes():
                    for event in decoder.feed(chunk):
                        return msgspec.json.decode(event.data)["id"]
            raise AssertionError("no task came")

        left, canceled = await first_task(), await first_task()
        answer = await http.post(f"/api/tasks/{canceled}/cancel", json={})
        assert answer.json()["state"] in ("canceling", "canceled")
        await upstream.canceled.wait()
        go_on.set()
        assert (await (await plane.hub.task(left, Principal())).settled()).state == "completed"
        assert not plane.upstream("echo").closed.is_set()


# --- traces, metrics, schema ----------------------------------------------------------------------


async def test_traces_are_listed_and_shown_with_their_spans(plane):
    await plane.add()
    await plane.http.post("/api/agents/echo/call", json=words("go"))
    await plane.store.save(Batch(spans=plane.tracer.drain()))
    (row,) = (await plane.http.get("/api/traces")).json()
    assert (row["agent"], row["client_protocol"], row["agent_protocol"]) == ("echo", "cli", "a2a")
    shown = (await plane.http.get(f"/api/traces/{row['trace_id'][:8]}")).json()
    assert {**row, "spans": shown["spans"]} == shown
    assert shown["spans"][0]["name"] == "invoke_agent echo"


async def test_metrics_count_calls_answers_and_agents(plane):
    await plane.add()
    await plane.http.post("/api/agents/echo/call", json=words("go"))
    plane.metrics.spans(plane.tracer.drain())
    plane.metrics.response("mcp", 200)
    plane.metrics.gauge("tasks_running", "Tasks that run.", lambda: 3)
    answer = await plane.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    labels = 'agent="echo",door="cli",outcome="completed"'
    bucket = 'agent="echo",door="cli",le="+Inf",outcome="completed"'
    assert f"agentgw_call_duration_seconds_count{{{labels}}} 1.0" in lines
    assert f"agentgw_call_duration_seconds_bucket{{{bucket}}} 1.0" in lines
    assert 'agentgw_http_responses_total{door="mcp",status="200"} 1.0' in lines
    assert 'agentgw_agents{health="ok"} 1.0' in lines
    assert "agentgw_tasks_running 3.0" in lines
    assert "agentgw_spans_dropped 0.0" in lines


def test_labels_past_the_bound_are_counted_together(monkeypatch):
    monkeypatch.setattr("agentgw.gateway.metrics.SERIES", 2)
    metrics = Metrics()
    for agent in ("a", "b", "c", "d", "a"):
        metrics.call("mcp", agent, "completed", 0.001)
    assert {key[1]: sum(h.counts) for key, h in metrics.calls.items()} == {"a": 2, "b": 1, "other": 2}


async def test_an_admin_learns_what_the_gateway_is(plane):
    found = (await plane.http.get("/api/gateway")).json()
    assert (found["version"], found["host"], found["public_url"]) == (version("agentgw"), "127.0.0.1", "")
    plane.principal = Principal()  # without a key, from elsewhere
    assert (await plane.http.get("/api/gateway")).status_code == 403


async def test_the_schema_describes_the_api(plane):
    schema = (await plane.http.get("/api/schema")).json()
    assert schema["info"]["title"] == "agentgw"
    assert {"/api/agents", "/api/agents/{name}", "/api/agents/{name}/call", "/api/traces"} <= set(
        schema["paths"]
    )


# --- the page -------------------------------------------------------------------------------------


class Elements(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_what_agents_say_is_escaped_on_the_page(plane):
    evil = '<script>alert(1)</script><img src=x onerror="x"> "\' &amp;'
    plane.world.put(URL, "echo", description=evil)
    await plane.add()
    answer = await plane.http.get("/")
    page = Elements()
    page.feed(answer.text)
    assert evil in page.text
    assert "script" not in page.tags and "img" not in page.tags
    assert "onerror" not in page.attributes and "src" not in page.attributes
    for shown in ("echo", "a2a", URL, "ok", "Run", "http://gw/mcp", "http://gw/a2a/echo/", "http://gw/acp"):
        assert shown in page.text


async def test_the_page_may_load_nothing_and_be_framed_by_nobody(plane):
    answer = await plane.http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_the_policy_lets_the_pages_own_style_through(plane):
    answer = await plane.http.get("/")
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]


# --- who may change what ------------------------------------------------------------------------------------


async def test_callers_without_a_key_from_elsewhere_look_and_call_but_change_nothing(plane):
    await plane.add()
    plane.principal = Principal()
    assert (await plane.http.get("/api/agents")).status_code == 200
    assert (await plane.http.post("/api/agents/echo/call", json=words("go"))).status_code == 200
    for method, path in (("DELETE", ""), ("POST", "/disable"), ("POST", "/enable")):
        assert (await plane.http.request(method, f"/api/agents/echo{path}")).status_code == 403
    assert (await plane.add("more")).status_code == 403
    assert (await plane.http.get("/api/agents/echo/logs")).status_code == 403


@pytest.mark.parametrize(
    ("principal", "status"),
    [
        (Principal(), 403),
        (Principal(admin=True), 403),  # on this machine, while there is no key
        (Principal(id="key:1"), 403),
        (Principal(id="key:1", admin=True, agents=frozenset({"echo"})), 403),
        (Principal(id="key:1", admin=True), 200),
        (Principal(id="owner", owner=True), 200),
    ],
    ids=["anybody", "anybody here", "a key", "an admin of some agents", "an admin", "the owner"],
)
async def test_keys_are_for_the_owner_and_admins_of_all_agents(plane, principal, status):
    plane.principal = principal
    made = await plane.http.post("/api/keys", json={"name": "new", "agents": ["echo"]})
    assert made.status_code == (201 if status == 200 else status)
    assert (await plane.http.get("/api/keys")).status_code == status
    assert (await plane.http.post("/api/keys/new/revoke")).status_code == status
    assert (await plane.http.delete("/api/keys/new")).status_code == (204 if status == 200 else status)


async def test_a_key_s_secret_is_in_one_answer_alone(plane):
    plane.principal = Principal(id="owner", owner=True)
    secret = (await plane.http.post("/api/keys", json={"name": "new"})).json()["secret"]
    for answer in (await plane.http.get("/api/keys"), await plane.http.post("/api/keys/new/revoke")):
        assert secret not in answer.text
    assert (await plane.http.post("/api/keys/none/revoke")).status_code == 404
