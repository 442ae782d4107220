"""Who may do what: every door, every agent, every kind of caller. The main rows are foreign SDK clients."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.types import SendMessageRequest, a2a_pb2_grpc
from google.protobuf.json_format import ParseDict
from mcp import Client as McpClient
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

from ..conftest import PATIENCE, wait_until
from .clients import A2aPython, a2a_request
from .conftest import register
from .reply import Request

AGENTS = ("talk", "tools")  # an A2A agent, an MCP server
OTHERS = "absent"
SERVED, UNKNOWN, REFUSED = "served", "unknown", "refused"
# What each caller meets at an agent; "admin" alone may use the control plane, beside the owner.
CALLERS = {
    "anonymous": (),
    "key-of-talk": ("talk",),
    "key-of-tools": ("tools",),
    "admin-key": AGENTS,
    "revoked-key": (),
    "expired-key": (),
    "owner": AGENTS,
}
NOBODY = ("anonymous", "revoked-key", "expired-key")
ADMINS = ("admin-key", "owner")


@dataclass
class Guarded:
    """A gateway with keys; ``secrets``: what each caller sends."""

    url: str
    cli: Any
    grpc: str
    secrets: dict[str, str | None]

    def key(self, name: str, *agents: str, **more: Any) -> str:
        """The secret of a new key for these agents (none: for all)."""
        body = {"name": name, **({"agents": agents} if agents else {}), **more}
        answer = httpx.post(f"{self.url}/api/keys", json=body, headers=self.headers("owner"))
        return answer.raise_for_status().json()["secret"]

    def headers(self, caller: str) -> dict[str, str]:
        secret = self.secrets[caller]
        return {"Authorization": f"Bearer {secret}"} if secret else {}


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["alone", "workers"])
def guarded(
    request: pytest.FixtureRequest, launch_gateway: Any, peers: Any, free_port: Callable[[], int]
) -> Iterator[Guarded]:
    port = free_port()
    hooks = {"AGENTGW_OUTBOUND__ALLOW": '["127.0.0.0/8"]'}
    gateway = launch_gateway("--workers", request.param, "--grpc-port", port, **hooks)
    cli = gateway.cli
    register(gateway, "talk", url=peers.a2a, protocol="a2a")
    register(gateway, "tools", url=peers.mcp, protocol="mcp")
    owner = json.loads((cli.home / "owner.json").read_text())["token"]
    secrets: dict[str, str | None] = {"anonymous": None, "owner": owner}
    made = Guarded(gateway.url, cli, f"127.0.0.1:{port}", secrets)
    secrets["key-of-talk"] = cli.json("keys", "create", "key-of-talk", "--agents", "talk")["secret"]
    secrets["key-of-tools"] = made.key("key-of-tools", "tools")
    secrets["admin-key"] = made.key("admin-key", admin=True)
    secrets["revoked-key"] = made.key("revoked-key", admin=True)
    secrets["expired-key"] = made.key("expired-key", admin=True, expires_at=time.time() + 5)
    cli("keys", "revoke", "revoked-key")
    listed = lambda: httpx.get(f"{gateway.url}/api/keys", headers=made.headers("owner")).json()  # noqa: E731
    states = lambda: {key["name"]: key["state"] for key in listed()}  # noqa: E731
    wait_until("a key expires", lambda: states()["expired-key"] == "expired")
    yield made
    gateway.process.stop()


# --- the doors --------------------------------------------------------------------------------------------


def text_of(error: BaseException) -> str:
    """An error with all that it holds: SDKs wrap what they got."""
    inner = [text_of(e) for e in getattr(error, "exceptions", ())]
    cause = [text_of(e) for e in (error.__cause__, error.__context__) if e is not None]
    return " ".join([repr(error), *inner, *cause])


def judged(error: BaseException) -> str:
    """Whether a client's error says that the agent is unknown, or that the caller is."""
    text = text_of(error)
    if any(said in text for said in ("401", "unauthenticated", "UNAUTHENTICATED", "wants a key")):
        return REFUSED
    if "unknown agent" in text.lower() or "Unknown tool" in text or "404" in text or "NOT_FOUND" in text:
        return UNKNOWN
    raise AssertionError(text) from error


async def mcp_all(gateway: Guarded, caller: str, agent: str, mode: str, path: str = "/mcp") -> str:
    """The tools at the door of all agents, which must be those of the caller's agents alone; then a call."""
    from .clients import McpHost

    async with McpHost(gateway.url, mode, path=path).connect(headers=gateway.headers(caller)) as client:
        return await mcp_called(client, caller, agent)


async def mcp_called(client: McpClient, caller: str, agent: str) -> str:
    names = {tool.name for tool in (await client.list_tools()).tools}
    assert {name.partition("__")[0] for name in names} == set(CALLERS[caller])
    tool, arguments = {
        "tools": ("tools__echo", {"text": "hi"}),
        "talk": ("talk", {"message": "echo hi"}),
        OTHERS: (OTHERS, {"message": "hi"}),
    }[agent]
    result = await client.call_tool(tool, arguments)
    said = str(result.content)
    return UNKNOWN if result.is_error and "nknown tool" in said else SERVED


def mcp_one(mode: str) -> Door:
    async def look(gateway: Guarded, caller: str, agent: str) -> str:
        from .clients import McpHost

        host = McpHost(gateway.url, mode, path=f"/mcp/{agent}")
        async with host.connect(headers=gateway.headers(caller)) as client:
            assert (await client.list_tools()).tools
        return SERVED

    return look


def mcp(mode: str, path: str = "/mcp") -> Door:
    return lambda gateway, caller, agent: mcp_all(gateway, caller, agent, mode, path)


async def stdio(gateway: Guarded, caller: str, agent: str) -> str:
    """``agentgw mcp`` as a desktop's host starts it; the owner needs no key there."""
    cli, secret = gateway.cli, gateway.secrets[caller]
    token = {"AGENTGW_TOKEN": secret or "nothing"} if caller != "owner" else {}
    server = StdioServerParameters(command=str(cli.script), args=["mcp"], env={**cli.environment, **token})
    async with McpClient(stdio_client(server), mode="legacy") as client:
        return await mcp_called(client, caller, agent)


def a2a(binding: str, version: str) -> Door:
    async def look(gateway: Guarded, caller: str, agent: str) -> str:
        client = A2aPython(gateway.url, binding, version)
        async with httpx.AsyncClient(headers=gateway.headers(caller), timeout=PATIENCE) as http:
            card = await client.card(agent, http)
            assert card.security_schemes["bearer"].http_auth_security_scheme.scheme == "Bearer"
            config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding])
            message = ParseDict(a2a_request(Request(agent, "echo hi")), SendMessageRequest())
            events = [event async for event in ClientFactory(config).create(card).send_message(message)]
        assert events
        return SERVED

    return look


async def a2a_grpc(gateway: Guarded, caller: str, agent: str) -> str:
    message = ParseDict(a2a_request(Request(agent, "echo hi")), SendMessageRequest())
    message.tenant = agent
    metadata = [(name.lower(), value) for name, value in gateway.headers(caller).items()]
    async with grpc.aio.insecure_channel(gateway.grpc) as channel:
        stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)
        await stub.SendMessage(message, metadata=metadata, timeout=PATIENCE)
    return SERVED


def asked(method: str, path: str, body: Callable[[str], Any] | None = None) -> Door:
    """A request by hand; what it got is judged by its status and its words."""

    async def look(gateway: Guarded, caller: str, agent: str) -> str:
        sent = None if body is None else body(agent)
        async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.headers(caller)) as http:
            answer = await http.request(method, path.format(agent=agent), json=sent, timeout=PATIENCE)
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
            return REFUSED
        if answer.status_code == 404 or "unknown agent" in answer.text.lower():
            return UNKNOWN
        assert answer.status_code == 200, answer.text
        return SERVED

    return look


def run_of(agent: str) -> Any:
    return {
        "agent_name": agent,
        "input": [{"role": "user", "parts": [{"content": "echo hi", "content_type": "text/plain"}]}],
        "mode": "sync",
    }


def sent_to(agent: str) -> Any:
    message = a2a_request(Request(agent, "echo hi", metadata={"agent": agent}))
    return {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": message}


Door = Callable[[Guarded, str, str], Awaitable[str]]
DOORS: dict[str, Door] = {
    "/mcp handshake": mcp("legacy"),
    "/mcp 2026-07-28": mcp("2026-07-28"),
    "/mcp/{agent} handshake": mcp_one("legacy"),
    "/mcp/{agent} 2026-07-28": mcp_one("2026-07-28"),
    "/ as MCP": mcp("2026-07-28", path="/"),
    "agentgw mcp": stdio,
    "/a2a JSON-RPC 1.0": a2a("JSONRPC", "1.0"),
    "/a2a JSON-RPC 0.3": a2a("JSONRPC", "0.3"),
    "/a2a REST 1.0": a2a("HTTP+JSON", "1.0"),
    "/a2a gRPC": a2a_grpc,
    "/a2a card": asked("GET", "/a2a/{agent}/.well-known/agent-card.json"),
    "/a2a 0.3 card": asked("GET", "/a2a/{agent}/.well-known/agent.json"),
    "/ as A2A": asked("POST", "/", sent_to),
    "/acp/agents/{name}": asked("GET", "/acp/agents/{agent}"),
    "/acp/runs": asked("POST", "/acp/runs", run_of),
    "/agents/{name}": asked("GET", "/agents/{agent}"),
    "/runs": asked("POST", "/runs", run_of),
}


TELLING = {
    ("key-of-talk", "talk"),
    ("key-of-talk", "tools"),
    ("key-of-tools", "tools"),
    ("revoked-key", "talk"),
}
WHOLE = ("/mcp 2026-07-28", "/a2a JSON-RPC 1.0", "/a2a gRPC", "/acp/runs")


def cells() -> Iterator[Any]:
    """All of them; slow are those that say again what others say. At every door a key reaches its agent and
    no other, and who has none is refused; at one door of each protocol every caller is tried."""
    for door in DOORS:
        for caller in CALLERS:
            for agent in (*AGENTS, OTHERS):
                telling = (caller, agent) in TELLING or (
                    door in WHOLE and (agent != OTHERS or caller == "key-of-talk")
                )
                marks = [] if telling else [pytest.mark.slow]
                yield pytest.param(door, caller, agent, marks=marks, id=f"{door}, {caller}, {agent}")


@pytest.mark.parametrize(("door", "caller", "agent"), list(cells()))
async def test_a_caller_meets_its_agents_alone(door: str, caller: str, agent: str, guarded: Guarded) -> None:
    expected = REFUSED if caller in NOBODY else SERVED if agent in CALLERS[caller] else UNKNOWN
    try:
        got = await DOORS[door](guarded, caller, agent)
    except AssertionError:
        raise
    except BaseException as error:
        got = judged(error)
    assert got == expected


# --- the control plane --------------------------------------------------------------------------------------

CONTROL = ("/api/agents", "/api/agents/tools", "/api/traces", "/api/keys", "/api/schema", "/metrics", "/")


@pytest.mark.parametrize("path", CONTROL)
@pytest.mark.parametrize("caller", CALLERS)
def test_the_control_plane_is_for_admins(caller: str, path: str, guarded: Guarded) -> None:
    expected = 401 if caller in NOBODY else 200 if caller in ADMINS else 403
    answer = httpx.get(guarded.url + path, headers=guarded.headers(caller))
    assert answer.status_code == expected
    assert ("www-authenticate" in answer.headers) == (expected == 401)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("caller", CALLERS)
def test_probes_name_no_agent_and_need_no_key(caller: str, path: str, guarded: Guarded) -> None:
    answer = httpx.get(guarded.url + path, headers=guarded.headers(caller))
    assert answer.status_code == 200
    assert not any(agent in answer.text for agent in AGENTS)


@pytest.mark.parametrize("path", ["/.well-known/agent-card.json", "/.well-known/agent.json"])
@pytest.mark.parametrize("caller", CALLERS)
def test_the_gateways_card_tells_each_caller_of_its_agents(caller: str, path: str, guarded: Guarded) -> None:
    answer = httpx.get(guarded.url + path, headers=guarded.headers(caller))
    if caller in ("revoked-key", "expired-key"):
        assert answer.status_code == 401
        return
    card = answer.json()
    assert [skill["id"] for skill in card["skills"]] == list(CALLERS[caller])
    assert card["securitySchemes"]["bearer"]
    assert card["security"] == [{"bearer": []}]


@pytest.mark.parametrize("path", ["/acp/agents", "/agents"])
@pytest.mark.parametrize("caller", CALLERS)
def test_lists_hold_the_callers_agents(caller: str, path: str, guarded: Guarded) -> None:
    answer = httpx.get(guarded.url + path, headers=guarded.headers(caller))
    if caller in NOBODY:
        assert answer.status_code == 401
    else:
        assert [agent["name"] for agent in answer.json()["agents"]] == list(CALLERS[caller])


def test_an_admin_of_some_agents_sees_and_changes_those_alone(guarded: Guarded) -> None:
    secret = guarded.cli.json("keys", "create", f"half-{uuid.uuid4()}", "--admin", "--agents", "talk")[
        "secret"
    ]
    for agent in AGENTS:
        httpx.post(f"{guarded.url}/acp/runs", json=run_of(agent), headers=guarded.headers("admin-key"))
    http = httpx.Client(base_url=guarded.url, headers={"Authorization": f"Bearer {secret}"}, timeout=PATIENCE)

    def traces() -> Any:
        return http.get("/api/traces", params={"limit": 1000}).json()

    def of_tools() -> Any:
        every = httpx.get(f"{guarded.url}/api/traces", headers=guarded.headers("owner")).json()
        return [trace["trace_id"] for trace in every if trace["agent"] == "tools"]

    hidden = wait_until("the calls are written", lambda: traces() and of_tools())[0]
    assert {trace["agent"] for trace in traces()} == {"talk"}
    refused, unknown = http.get(f"/api/traces/{hidden}"), http.get(f"/api/traces/{'0' * 32}")
    assert refused.status_code == unknown.status_code == 404
    assert refused.text.replace(hidden, "ID") == unknown.text.replace("0" * 32, "ID")
    assert [agent["name"] for agent in http.get("/api/agents").json()] == ["talk"]
    assert "tools" not in http.get("/metrics").text
    assert "<strong>tools</strong>" not in http.get("/").text
    assert http.get("/api/keys").status_code == 403
    assert http.post("/api/keys", json={"name": "more", "admin": True}).status_code == 403
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/disable"), ("POST", "/check")):
        seen = [http.request(method, f"/api/agents/{name}{path}") for name in ("tools", OTHERS)]
        assert seen[0].status_code == seen[1].status_code == 404
        assert seen[0].text.replace("tools", OTHERS) == seen[1].text
    assert http.post("/api/reload", json={}).status_code == 403  # whose answer names all agents that changed
    body = {"name": "more", "url": "http://127.0.0.1:9/", "protocol": "a2a"}
    assert http.post("/api/agents", json=body).status_code == 403


# --- what belongs to whom -----------------------------------------------------------------------------------


@dataclass
class Person:
    """A caller of its own: both agents are its, and what it does there."""

    http: httpx.Client

    def rpc(self, method: str, params: Any, path: str = "/a2a/talk/") -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = self.http.post(path, json=body, headers={"A2A-Version": "1.0"})
        lines = [line[5:] for line in answer.text.splitlines() if line.startswith("data:")]
        return json.loads(lines[0]) if lines else answer.json()

    def send(self, text: str, path: str = "/a2a/talk/", **fields: Any) -> Any:
        request = Request("talk", text) if path != "/a2a/tools/" else Request("", None, tool="echo")
        request.arguments = {"text": text}
        message = a2a_request(request)
        message["message"] |= fields
        return self.rpc("SendMessage", message, path)["result"]["task"]

    def run(self, agent: str, text: str, **fields: Any) -> Any:
        body = run_of(agent) | fields
        body["input"][0]["parts"][0]["content"] = text
        return self.http.post("/acp/runs", json=body).json()


@pytest.fixture
def people(guarded: Guarded) -> Iterator[tuple[Person, Person]]:
    """Two callers who may reach the same agents."""
    both: list[Person] = []
    for _ in range(2):
        secret = guarded.key(f"person-{uuid.uuid4()}", "talk", "tools")
        headers = {"Authorization": f"Bearer {secret}"}
        both.append(Person(httpx.Client(base_url=guarded.url, headers=headers, timeout=PATIENCE)))
    yield both[0], both[1]
    for person in both:
        person.http.close()


TRACE = re.compile(r'"trace_id": "[0-9a-f]{32}"')  # each call has its own


def alike(ask: Callable[[str], Any], theirs: str) -> None:
    """Another's id is answered as one that nobody has."""
    unknown = str(uuid.uuid4())
    got, wanted = ask(theirs), ask(unknown)
    assert TRACE.sub("", json.dumps(got).replace(theirs, "ID")) == TRACE.sub(
        "", json.dumps(wanted).replace(unknown, "ID")
    )
    assert "error" in json.dumps(got) or "code" in json.dumps(got), got


@pytest.mark.parametrize("path", ["/a2a/talk/", "/a2a/tools/", "/"])
def test_tasks_are_their_callers_alone_at_a2a(path: str, people: tuple[Person, Person]) -> None:
    ann, bob = people
    target = "/a2a/talk/" if path == "/" else path
    task = ann.send("echo secret", target)["id"]
    assert ann.rpc("GetTask", {"id": task}, path)["result"]["id"] == task
    for method in ("GetTask", "CancelTask", "SubscribeToTask"):
        alike(lambda id, method=method: bob.rpc(method, {"id": id}, path), task)
    alike(lambda id: bob.rpc("SendMessage", sent_with(taskId=id), path), task)
    rest = path.rstrip("/")
    for ask in (
        lambda id: shown(bob.http.get(f"{rest}/tasks/{id}")),
        lambda id: shown(bob.http.post(f"{rest}/tasks/{id}:cancel", json={})),
        lambda id: shown(bob.http.get(f"{rest}/tasks/{id}/pushNotificationConfigs")),
    ):
        alike(ask, task)
    listed = bob.rpc("ListTasks", {}, path)["result"]["tasks"]
    assert task not in [found["id"] for found in listed]
    assert task in [found["id"] for found in ann.rpc("ListTasks", {}, path)["result"]["tasks"]]


def sent_with(**fields: Any) -> Any:
    message = a2a_request(Request("talk", "echo hi"))
    message["message"] |= {"messageId": "m", **fields}
    return message


def test_no_other_spelling_leads_into_anothers_task(people: tuple[Person, Person]) -> None:
    ann, bob = people
    task = ann.send("ask what")
    mine = bob.send("echo mine")["id"]
    for fields in (
        {"task_id": task["id"]},
        {"TaskId": task["id"]},
        {"context_id": task["contextId"]},
        {"reference_task_ids": [task["id"]]},
        {"referenceTaskIds": [task["id"]]},
    ):
        assert "error" in bob.rpc("SendMessage", sent_with(**fields)), fields
        old = {"messageId": "m", "role": "user", "kind": "message", "parts": [{"kind": "text", "text": "x"}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": old | fields}}
        assert "error" in bob.http.post("/a2a/talk/", json=body).json(), fields
    for method in ("GetTask", "CancelTask"):
        assert "error" in bob.rpc(method, {"id": mine, "ID": task["id"]})
    assert "result" in bob.rpc("SendMessage", sent_with(referenceTaskIds=[mine]))
    seen = ann.rpc("GetTask", {"id": task["id"]})["result"]
    assert seen["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"


def shown(answer: httpx.Response) -> Any:
    return [answer.status_code, answer.json()]


def test_push_configurations_are_their_callers_alone(people: tuple[Person, Person]) -> None:
    """Whoever asks for another's, or for one at another's task, is told what is told of a task that nobody
    has; and the other still has it afterwards."""
    ann, bob = people
    task = ann.send("ask what")["id"]
    here, mine = {"taskId": task}, {"taskId": task, "id": "mine"}
    made = ann.rpc("CreateTaskPushNotificationConfig", mine | {"url": "http://127.0.0.1:9/ann"})["result"]
    assert (made["taskId"], made["id"]) == (task, "mine")
    assert ann.rpc("GetTaskPushNotificationConfig", mine)["result"] == made
    assert ann.rpc("ListTaskPushNotificationConfigs", here)["result"]["configs"] == [made]

    for id in ("mine", "bobs"):
        hook = {"id": id, "url": "http://127.0.0.1:9/bob"}
        alike(lambda t, hook=hook: bob.rpc("CreateTaskPushNotificationConfig", hook | {"taskId": t}), task)
    for method in ("GetTaskPushNotificationConfig", "DeleteTaskPushNotificationConfig"):
        alike(lambda t, method=method: bob.rpc(method, {"taskId": t, "id": "mine"}), task)
    alike(lambda t: bob.rpc("ListTaskPushNotificationConfigs", {"taskId": t}), task)
    own = bob.send("ask what")["id"]
    assert "error" in bob.rpc("GetTaskPushNotificationConfig", {"taskId": own, "id": "mine"})
    assert bob.rpc("ListTaskPushNotificationConfigs", {"taskId": own})["result"].get("configs", []) == []

    assert ann.rpc("ListTaskPushNotificationConfigs", here)["result"]["configs"] == [made]
    assert "error" not in ann.rpc("DeleteTaskPushNotificationConfig", mine)
    assert "error" in ann.rpc("GetTaskPushNotificationConfig", mine)


def test_a_conversation_of_the_same_name_is_another_for_each_caller(people: tuple[Person, Person]) -> None:
    ann, bob = people
    name = str(uuid.uuid4())
    word = "the plums are ann's"
    ann.send(f"remember {word}", contextId=name)
    assert word in json.dumps(ann.send("recall", contextId=name))
    assert word not in json.dumps(bob.send("recall", contextId=name))
    assert word in json.dumps(ann.send("recall", contextId=name))
    run = bob.run("talk", "recall", session_id=name)
    assert word not in json.dumps(run["output"])


@pytest.mark.parametrize("agent", AGENTS)
def test_runs_and_sessions_are_their_callers_alone_at_acp(agent: str, people: tuple[Person, Person]) -> None:
    ann, bob = people
    run = ann.run(agent, "echo secret" if agent == "talk" else json.dumps({"tool": "echo"}))
    id, session = run["run_id"], run["session_id"]
    assert ann.http.get(f"/acp/runs/{id}").json()["run_id"] == id
    for method, path in (
        ("GET", "/acp/runs/{}"),
        ("GET", "/acp/runs/{}/events"),
        ("POST", "/acp/runs/{}/cancel"),
        ("GET", "/runs/{}"),
    ):
        alike(lambda i, method=method, path=path: shown(bob.http.request(method, path.format(i))), id)
    alike(lambda i: shown(bob.http.get(f"/acp/session/{i}")), session)
    resume = {"run_id": id, "await_resume": {"type": "message", "message": run_of(agent)["input"][0]}}
    alike(lambda i: shown(bob.http.post(f"/acp/runs/{i}", json=resume | {"run_id": i, "mode": "sync"})), id)


def test_sessions_are_their_callers_alone_at_mcp(people: tuple[Person, Person], guarded: Guarded) -> None:
    ann, bob = people
    accept = {"Accept": "application/json, text/event-stream"}
    hello = {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "ann", "version": "1"},
    }  # fmt: skip
    begun = ann.http.post("/mcp", json=request_of("initialize", hello), headers=accept)
    session = begun.headers["mcp-session-id"]

    def told(person: Person, id: str, method: str = "POST") -> Any:
        headers = {**accept, "Mcp-Session-Id": id, "MCP-Protocol-Version": "2025-11-25"}
        body = None if method != "POST" else request_of("tools/list", {})
        return shown(person.http.request(method, "/mcp", json=body, headers=headers))

    assert told(ann, session)[0] == 200
    for method in ("POST", "GET", "DELETE"):
        alike(lambda id, method=method: told(bob, id, method), session)
    assert told(ann, session)[0] == 200


def request_of(method: str, params: Any) -> Any:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def test_a_task_of_another_can_not_be_joined_at_mcp(people: tuple[Person, Person]) -> None:
    ann, bob = people
    task = ann.send("ask what")["id"]

    def joined(id: str) -> Any:
        arguments = {"message": "blue", "task_id": id}
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "bob", "version": "1"},
        }
        headers = {
            "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call", "Mcp-Name": "talk",
        }  # fmt: skip
        body = request_of("tools/call", {"name": "talk", "arguments": arguments, "_meta": meta})
        return shown(bob.http.post("/mcp", json=body, headers=headers))

    unknown = str(uuid.uuid4())
    got, wanted = joined(task), joined(unknown)
    assert json.dumps(got).replace(task, "ID") == json.dumps(wanted).replace(unknown, "ID")
    assert "unknown task" in json.dumps(got)


# --- the end of a key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_stream_ends_with_its_key(end: str, guarded: Guarded) -> None:
    for seconds in (2, 8, 32):  # a busy machine may take longer to open the stream than the key is good
        if ends_with_its_key(guarded, [] if end == "revoked" else ["--expires", f"{seconds}s"]):
            return
    raise AssertionError("the key was never good")


def ends_with_its_key(guarded: Guarded, expires: list[str]) -> bool:
    """Whether a stream was opened with the key. It ends when the key does, which ``expires`` says, or a
    revocation."""
    name = f"short-{uuid.uuid4()}"
    key = guarded.cli.json("keys", "create", name, "--agents", "talk,tools", *expires)
    accept = {"Accept": "text/event-stream", "Authorization": f"Bearer {key['secret']}"}
    hello = {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"},
    }  # fmt: skip
    with httpx.Client(base_url=guarded.url, headers=accept, timeout=PATIENCE) as http:
        both = {"Accept": "application/json, text/event-stream"}
        begun = http.post("/mcp", json=request_of("initialize", hello), headers=both)
        if expires and begun.status_code == 401:
            return False
        session = {"Mcp-Session-Id": begun.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
        with http.stream("GET", "/mcp", headers=session) as stream:
            if expires and stream.status_code == 401:
                return False
            assert stream.status_code == 200
            if not expires:
                guarded.cli("keys", "revoke", name)
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in stream.iter_bytes():
                    pass
        assert http.get("/mcp", headers=session).status_code == 401
    return True


@pytest.mark.parametrize("end", ["revoke", "remove"])
def test_what_a_key_began_is_cancelled_with_it(end: str, guarded: Guarded, peers: Any) -> None:
    """A task that its agent keeps, one that the gateway runs at each agent: the agents stop."""
    name = f"short-{uuid.uuid4()}"
    key = guarded.cli.json("keys", "create", name, "--agents", "talk", "--agents", "tools")
    token = f"{end}-{guarded.grpc.rpartition(':')[2]}"
    work = {"tool": "work", "arguments": {"token": f"{token}-run", "count": 100_000}}
    with httpx.Client(base_url=guarded.url, timeout=PATIENCE) as http:
        person = Person(http)
        http.headers["Authorization"] = f"Bearer {key['secret']}"
        kept = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": f"work {token}-kept 100000"}]}
        run = kept | {"parts": [{"data": work}]}
        ids: list[str] = []
        for agent, said in (("talk", kept), ("tools", run)):
            params = {"message": said, "configuration": {"returnImmediately": True}}
            ids.append(person.rpc("SendMessage", params, f"/a2a/{agent}/")["result"]["task"]["id"])
        body = run_of("talk") | {"mode": "async"}
        body["input"][0]["parts"][0]["content"] = f"work {token}-acp 100000"
        ids.append(http.post("/acp/runs", json=body).json()["run_id"])
        noted = lambda line: line in peers.journal.path.read_text().splitlines()  # noqa: E731
        for kind in ("kept", "run", "acp"):
            wait_until("the work begins", lambda kind=kind: noted(f"{token}-{kind} started"))
        guarded.cli("keys", end, name)
        for kind in ("kept", "run", "acp"):
            wait_until("the work is stopped", lambda kind=kind: noted(f"{token}-{kind} stopped"))
        http.headers["Authorization"] = guarded.headers("owner")["Authorization"]
        for id, agent in zip(ids, ("talk", "tools", "talk"), strict=True):
            canceled = lambda id=id, agent=agent: (  # noqa: E731
                person.rpc("GetTask", {"id": id}, f"/a2a/{agent}/")["result"]["status"]["state"]
                == "TASK_STATE_CANCELED"
            )
            wait_until("the task is cancelled", canceled)


def test_a_new_key_of_an_old_name_does_not_inherit(guarded: Guarded) -> None:
    name = f"again-{uuid.uuid4()}"
    secrets: list[str] = []
    for _ in range(2):
        secrets.append(guarded.key(name))
        guarded.cli.json("keys", "revoke", name)
    secrets.append(guarded.key(name))
    statuses = [
        httpx.get(f"{guarded.url}/acp/agents", headers={"Authorization": f"Bearer {secret}"}).status_code
        for secret in secrets
    ]
    assert statuses == [401, 401, 200]
