"""The A2A doors, driven by the official client SDK over real sockets, in front of agents of every kind."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentgw.gateway.errors import UpstreamFailed
from agentgw.gateway.model import (
    Agent,
    Artifact,
    ArtifactDelta,
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
    Progress,
    Skill,
    Started,
    TaskState,
    Text,
    text_of,
)

from ...support.memory import MemoryUpstream, echo
from .support import Way, gateway, items_of, last_state, peer, peer_agent, say, served, texts

pytestmark = pytest.mark.slow

WAYS: list[Way] = [("1.0", "JSONRPC"), ("1.0", "HTTP+JSON"), ("0.3", "JSONRPC"), ("0.3", "HTTP+JSON")]
IDS = ["-".join(w) for w in WAYS]
BLOB = bytes(range(256))


async def worker(call: Invocation) -> AsyncIterator[Event]:
    """An agent in memory that does what the first word says."""
    yield Started()
    match text_of(call.message.parts).split(" ")[0]:
        case "file":
            parts = (
                File(content=BLOB, name="a.bin", media_type="application/octet-stream"),
                Data(data=[1, None]),
            )
            yield ArtifactDelta(artifact=Artifact(artifact_id="out", parts=parts, name="out"))
            yield Finished(state=TaskState.COMPLETED)
        case "progress":
            yield Progress(message="half", progress=1, total=2)
            yield Finished(state=TaskState.COMPLETED)
        case "crash":
            raise UpstreamFailed("worker", detail="secret")
        case "ask":
            question = Message(role="agent", parts=(Text(text="Which colour?"),))
            yield InputRequired(request=InputRequest(message=question))
        case "wait":
            await asyncio.Event().wait()
        case _:
            async for event in echo(call):
                if not isinstance(event, Started):
                    yield event


async def answers(reply: InputReply) -> AsyncIterator[Event]:
    yield Started()
    words = f"You said {text_of(reply.message.parts)}"
    yield Finished(state=TaskState.COMPLETED, message=Message(role="agent", parts=(Text(text=words),)))


# --- agents of other protocols -----------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_an_agent_of_another_protocol(way: Way, streaming: bool) -> None:
    async with gateway(worker=MemoryUpstream(worker, answers)) as gw:
        client = await gw.client(f"{gw.url}/a2a/worker", way, streaming=streaming)
        items = await items_of(client, say("hello wide world"))
        assert "task" in items[0]
        assert texts(items) == "hello wide world"
        assert last_state(items) == "TASK_STATE_COMPLETED"

        items = await items_of(client, say("file"))
        artifacts = [i["artifactUpdate"]["artifact"] for i in items if "artifactUpdate" in i]
        (artifact,) = artifacts or items[0]["task"]["artifacts"]
        assert base64.b64decode(artifact["parts"][0]["raw"]) == BLOB
        assert artifact["parts"][0]["filename"] == "a.bin"
        assert artifact["parts"][1]["data"] == [1, None]


@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_a_question_and_its_answer(way: Way) -> None:
    async with gateway(worker=MemoryUpstream(worker, answers)) as gw:
        client = await gw.client(f"{gw.url}/a2a/worker/", way)
        first = await items_of(client, say("ask"))
        assert last_state(first) == "TASK_STATE_INPUT_REQUIRED"
        asked = first[-1]["statusUpdate"]
        assert asked["status"]["message"]["parts"][0]["text"] == "Which colour?"
        ids = {"taskId": asked["taskId"], "contextId": asked["contextId"]}
        second = await items_of(client, say("red", **ids))
        assert last_state(second) == "TASK_STATE_COMPLETED"
        assert second[-1]["statusUpdate"]["status"]["message"]["parts"][0]["text"] == "You said red"
        assert second[-1]["statusUpdate"]["taskId"] == ids["taskId"]


async def test_progress_is_a_working_status_and_no_result() -> None:
    async with gateway(worker=MemoryUpstream(worker)) as gw:
        client = await gw.client(f"{gw.url}/a2a/worker")
        items = await items_of(client, say("progress"))
        status = next(i["statusUpdate"] for i in items if "statusUpdate" in i)
        assert status["status"]["state"] == "TASK_STATE_WORKING"
        assert status["status"]["message"]["parts"][0]["text"] == "half"
        assert not any("artifactUpdate" in i for i in items)


async def test_a_crash_is_named_and_nothing_more() -> None:
    async with gateway(worker=MemoryUpstream(worker)) as gw:
        client = await gw.client(f"{gw.url}/a2a/worker")
        items = await items_of(client, say("crash"))
        assert last_state(items) == "TASK_STATE_FAILED"
        assert items[-1]["statusUpdate"]["status"]["message"]["parts"][0]["text"] == "worker failed"
        assert "secret" not in json.dumps(items)


async def test_return_immediately_get_cancel_list() -> None:
    upstream = MemoryUpstream()

    async def until_canceled(call: Invocation) -> AsyncIterator[Event]:
        if text_of(call.message.parts) == "wait":
            yield Started(task_id="up")
            await upstream.canceled.wait()
            yield Finished(state=TaskState.CANCELED)
        async for event in echo(call):
            yield event

    upstream.script = until_canceled
    async with gateway(worker=upstream) as gw:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "wait"}]}
        params = {"message": message, "configuration": {"returnImmediately": True}}
        task = (await gw.rpc("/a2a/worker", "SendMessage", params))["result"]["task"]
        assert task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
        got = (await gw.rpc("/a2a/worker", "GetTask", {"id": task["id"], "historyLength": 1}))["result"]
        assert got["history"][0]["parts"] == [{"text": "wait"}]
        got = (await gw.rpc("/a2a/worker", "GetTask", {"id": task["id"], "historyLength": 0}))["result"]
        assert "history" not in got

        canceled = (await gw.rpc("/a2a/worker/", "CancelTask", {"id": task["id"]}))["result"]
        assert canceled["status"]["state"] == "TASK_STATE_CANCELED"
        again = await gw.rpc("/a2a/worker", "CancelTask", {"id": task["id"]})
        assert again["error"]["code"] == -32002
        late = await gw.rpc("/a2a/worker", "SubscribeToTask", {"id": task["id"]})
        assert late["error"]["code"] == -32004

        for n in range(3):
            await gw.rpc("/a2a/worker", "SendMessage", {"message": message | {"parts": [{"text": f"t{n}"}]}})
        seen: list[str] = []
        token = ""
        while True:
            listed = (await gw.rpc("/a2a/worker", "ListTasks", {"pageSize": 3, "pageToken": token}))["result"]
            assert listed["totalSize"] == 4
            assert not any("artifacts" in t for t in listed["tasks"])
            seen += [t["id"] for t in listed["tasks"]]
            token = listed["nextPageToken"]
            if not token:
                break
        assert len(set(seen)) == len(seen) == 4
        found = await gw.http.get(
            f"{gw.url}/a2a/worker/tasks?status=TASK_STATE_CANCELED&includeArtifacts=true"
        )
        assert [t["id"] for t in found.json()["tasks"]] == [task["id"]]


async def test_subscribers_may_come_and_go() -> None:
    """A second stream of a running task begins with its snapshot; leaving the first does not stop it."""
    go = asyncio.Event()

    async def script(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        yield ArtifactDelta(artifact=Artifact(artifact_id="a", parts=(Text(text="one"),)), last=False)
        await go.wait()
        yield ArtifactDelta(artifact=Artifact(artifact_id="a", parts=(Text(text=" two"),)), append=True)
        yield Finished(state=TaskState.COMPLETED)

    async with gateway(worker=MemoryUpstream(script)) as gw:
        client = await gw.client(f"{gw.url}/a2a/worker")
        stream = client.send_message(say("go"))
        task_id = (await anext(stream)).task.id
        await anext(stream)
        await stream.aclose()
        url = f"{gw.url}/a2a/worker/tasks/{task_id}:subscribe"
        async with gw.http.stream("GET", url, headers={"a2a-version": "1.0"}) as answer:
            lines = answer.aiter_lines()
            first = json.loads((await anext(lines)).removeprefix("data: "))
            assert first["task"]["artifacts"][0]["parts"] == [{"text": "one"}]
            go.set()
            rest = [json.loads(x.removeprefix("data: ")) async for x in lines if x]
        assert texts(rest) == " two"
        assert last_state(rest) == "TASK_STATE_COMPLETED"


# --- A2A agents --------------------------------------------------------------------------------


PAIRS = [(a, b) for a in WAYS for b in WAYS if WAYS[0] in (a, b) or (WAYS[3] in (a, b) and a[1] != b[1])]


@pytest.mark.parametrize(
    ("way", "behind"), PAIRS, ids=["-to-".join(("-".join(a), "-".join(b))) for a, b in PAIRS]
)
async def test_relay_between_all_revisions_and_bindings(way: Way, behind: Way) -> None:
    async with peer_agent([behind]) as url, gateway(peer=url) as gw:
        client = await gw.client(f"{gw.url}/a2a/peer", way)
        items = await items_of(client, say("stream a b c"))
        assert texts(items) == "a b c"
        assert last_state(items) == "TASK_STATE_COMPLETED"
        task = next(iter(items[0].values()))
        listed = (await gw.rpc("/a2a/peer", "ListTasks", {}))["result"]["tasks"]
        assert [t["id"] for t in listed] == [task.get("id") or task["taskId"]]

        items = await items_of(client, say("message hello"))
        assert [list(i) for i in items] == [["message"]]
        assert items[0]["message"]["parts"][0]["text"] == "hello"

        asked = (await items_of(client, say("ask")))[-1]["statusUpdate"]
        ids = {"taskId": asked["taskId"], "contextId": asked["contextId"]}
        done = await items_of(client, say("blue", **ids))
        assert done[-1]["statusUpdate"]["status"]["message"]["parts"][0]["text"] == "You said blue"


async def test_relay_hands_on_what_it_does_not_know() -> None:
    seen: list[Any] = []

    async def rpc(request: Any) -> JSONResponse:
        seen.append((await request.json())["params"])
        status = {"state": "TASK_STATE_COMPLETED", "message": None}
        result = {"new": [1], "task": {"id": "t", "contextId": "c", "status": status, "new": [1]}}
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": result})

    async def card(request: Any) -> JSONResponse:
        interface = {
            "url": str(request.base_url),
            "protocolBinding": "JSONRPC",
            "protocolVersion": "1.0",
            "tenant": "acme",
        }
        return JSONResponse({"name": "x", "skills": [], "supportedInterfaces": [interface]})

    app = Starlette(routes=[Route("/", rpc, methods=["POST"]), Route("/.well-known/agent-card.json", card)])
    async with served(app) as url, gateway(x=url) as gw:
        message = {
            "messageId": "mid-7",
            "role": "ROLE_USER",
            "parts": [{"text": "a", "odd": 1}],
            "odd": {"k": 2},
        }
        answer = await gw.rpc("/a2a/x", "SendMessage", {"message": message, "odd": 3})
        assert answer["result"]["new"] == answer["result"]["task"]["new"] == [1]
        assert answer["result"]["task"]["status"]["message"] is None
        assert seen == [{"message": message, "odd": 3, "tenant": "acme"}]


async def test_relay_withholds_crash_text_and_passes_the_agents_own_errors() -> None:
    async with peer_agent([WAYS[0]]) as url, gateway(peer=url) as gw:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "crash"}]}
        crashed = await gw.rpc("/a2a/peer", "SendMessage", {"message": message}, **{"a2a-version": "1.0"})
        assert peer.SECRET not in json.dumps(crashed)
        assert crashed["error"]["code"] == -32603
        assert crashed["error"]["message"] == "peer failed"
        assert len(crashed["error"]["data"][0]["metadata"]["traceId"]) == 32
        unknown = await gw.rpc("/a2a/peer", "GetTask", {"id": "nope"})
        assert unknown["error"]["code"] == -32001
        assert unknown["error"]["data"][0]["reason"] == "TASK_NOT_FOUND"
        again = message | {"parts": [{"text": "echo x"}]}
        ended = (await gw.rpc("/a2a/peer", "SendMessage", {"message": again}))["result"]["task"]
        late = again | {"taskId": ended["id"], "contextId": ended["contextId"]}
        refused = await gw.rpc("/a2a/peer", "SendMessage", {"message": late})
        assert refused["error"]["code"] == -32004


# --- cards and errors --------------------------------------------------------------------------


async def test_cards_by_reader() -> None:
    tool = Skill(id="add", name="add", description="Adds", input_schema={"type": "object"})
    upstream = MemoryUpstream(agent=Agent(name="calc", description="Calculates", skills=(tool,)))
    async with peer_agent(WAYS[:2]) as url, gateway(calc=upstream, peer=url) as gw:

        async def card(path: str, **headers: str) -> Mapping[str, Any]:
            answer = await gw.http.get(gw.url + path, headers=headers)
            assert answer.headers["cache-control"] == "private, max-age=60"
            same = await gw.http.get(
                gw.url + path, headers={**headers, "if-none-match": answer.headers["etag"]}
            )
            assert (same.status_code, same.content) == (304, b"")
            assert answer.headers["last-modified"]
            return answer.json()

        new, old = "/.well-known/agent-card.json", "/.well-known/agent.json"
        both = await card("/a2a/calc" + new)
        assert both["url"] == both["supportedInterfaces"][0]["url"] == f"{gw.url}/a2a/calc/"
        assert [i["protocolVersion"] for i in both["supportedInterfaces"]] == ["1.0", "1.0", "0.3", "0.3"]
        assert both["skills"][0]["id"] == "add"
        assert '"type":"object"' in both["skills"][0]["description"]
        assert "url" not in await card("/a2a/calc" + new, **{"a2a-version": "1.0"})
        assert "supportedInterfaces" not in await card("/a2a/calc" + old)
        assert (await card("/a2a/calc" + new, **{"a2a-version": "0.3"}))["preferredTransport"] == "JSONRPC"
        own = await card("/a2a/peer" + new)
        assert "url" not in own  # the agent's own card speaks of 1.0 alone
        assert own["name"] == "Peer"
        assert {i["url"].rstrip("/") for i in own["supportedInterfaces"]} == {f"{gw.url}/a2a/peer"}
        assert [s["id"] for s in (await card(new))["skills"]] == ["calc", "peer"]
        assert (await gw.http.get(f"{gw.url}/a2a/none{new}")).status_code == 404


async def test_cards_follow_what_they_tell_of() -> None:
    async with gateway(one=MemoryUpstream(), two=MemoryUpstream()) as gw:

        async def cards() -> tuple[list[str], str, str]:
            own, ours = [
                await gw.http.get(f"{gw.url}{door}/.well-known/agent-card.json") for door in ("/a2a/one", "")
            ]
            skills = [f"{s['id']}: {s['description']}" for s in ours.json()["skills"]]
            return skills, own.json()["description"], ours.headers["etag"]

        def now(**agents: str) -> None:
            view = gw.hub.agents(Principal())[0]
            told = {
                n: msgspec.structs.replace(
                    view,
                    record=msgspec.structs.replace(view.record, name=n),
                    agent=Agent(name=n, description=words),
                )
                for n, words in agents.items()
            }
            gw.hub._directory._views = told  # pyright: ignore

        now(one="first", two="second")
        assert (await cards())[:2] == (["one: first", "two: second"], "first")
        before = await cards()
        now(one="first", two="second")
        assert await cards() == before, "made again, the same comes out"
        now(one="in other words", two="second", three="third")
        assert (await cards())[:2] == (
            ["one: in other words", "three: third", "two: second"],
            "in other words",
        )
        now(one="in other words")
        assert (await cards())[0] == ["one: in other words"]
        assert (await cards())[2] != before[2]


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        ("{", {}, -32700),
        ("[]", {}, -32600),
        ('{"jsonrpc":"1.0","id":1,"method":"GetTask"}', {}, -32600),
        ('{"jsonrpc":"2.0","id":{},"method":"GetTask"}', {}, -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"Nothing"}', {}, -32601),
        ('{"jsonrpc":"2.0","id":1,"method":"GetTask","params":[]}', {}, -32602),
        ('{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{}}', {}, -32602),
        ('{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{}}', {}, -32602),
        ('{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x"}}', {"a2a-version": "9.9"}, -32009),
        ('{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x"}}', {}, -32001),
        ('{"jsonrpc":"2.0","id":1,"method":"GetExtendedAgentCard"}', {}, -32004),
        ('{"jsonrpc":"2.0","id":1,"method":"agent/getAuthenticatedExtendedCard"}', {}, -32007),
        (
            '{"jsonrpc":"2.0","id":1,"method":"ListTaskPushNotificationConfigs","params":{"taskId":"x"}}',
            {},
            -32001,
        ),
        (
            '{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x"}}',
            {"content-type": "text/plain"},
            -32005,
        ),
    ],
)
async def test_json_rpc_errors(body: str, headers: dict[str, str], code: int) -> None:
    async with gateway(worker=MemoryUpstream(worker)) as gw:
        sent = {"content-type": "application/json", **headers}
        answer = await gw.http.post(f"{gw.url}/a2a/worker", content=body, headers=sent)
        assert answer.status_code == 200
        assert answer.json()["error"]["code"] == code


async def test_rest_errors() -> None:
    async with gateway(worker=MemoryUpstream(worker)) as gw:
        base = f"{gw.url}/a2a/worker"
        missing = await gw.http.get(f"{base}/tasks/nope")
        assert missing.status_code == 404
        assert missing.json()["error"]["details"][0]["reason"] == "TASK_NOT_FOUND"
        old = await gw.http.get(f"{base}/v1/tasks/nope")
        assert (old.status_code, old.json()["type"], old.json()["code"]) == (404, "TaskNotFoundError", -32001)
        assert (await gw.http.get(f"{base}/nothing")).status_code == 404
        assert (await gw.http.get(f"{base}/tasks?pageSize=0")).status_code == 400
        assert (await gw.http.post(f"{base}/message:send", content="{")).status_code == 400
        assert (await gw.http.get(f"{base}/tasks/x", headers={"a2a-version": "7.0"})).status_code == 400
        assert (await gw.http.get(f"{gw.url}/a2a/none/tasks/x")).status_code == 404


# --- the gateway's own agent -------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_the_gateway_asks_which_agent_and_sends_the_first_message_there(way: Way) -> None:
    async with peer_agent([WAYS[0]]) as url, gateway(one=MemoryUpstream(worker, answers), peer=url) as gw:
        client = await gw.client(gw.url, way)
        for name, first, expected in (("one", "hello there", "hello there"), ("peer", "stream x y", "x y")):
            asked = (await items_of(client, say(first)))[0]["task"]
            assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            assert "- one" in asked["status"]["message"]["parts"][0]["text"]
            ids = {"taskId": asked["id"], "contextId": asked["contextId"]}
            again = (await items_of(client, say("nobody", **ids)))[0]["task"]
            assert again["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            items = await items_of(client, say(f" {name.title()} ", **ids))
            assert texts(items) == expected
            assert last_state(items) == "TASK_STATE_COMPLETED"
            assert items[-1]["statusUpdate"]["taskId"] == asked["id"]
            got = (await gw.rpc("/", "GetTask", {"id": asked["id"]}))["result"]
            assert got["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_messages_are_routed_by_metadata_context_and_task() -> None:
    one, two = MemoryUpstream(worker, answers), MemoryUpstream(worker, answers)
    async with gateway(one=one, two=two) as gw:

        async def send(text: str, request: Any = None, **fields: Any) -> Any:
            message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **fields}
            params = {"message": message} | ({"metadata": request} if request else {})
            return (await gw.rpc("/", "SendMessage", params))["result"]["task"]

        first = await send("ask", metadata={"agent": "two", "skill": "paint"})
        assert two.calls[0].skill == "paint"
        await send("red", taskId=first["id"], contextId=first["contextId"])
        assert len(two.replies) == 1
        await send("more", contextId=first["contextId"])
        await send("hi", {"skill": "two"})
        await send("hi", {"agent": "one"}, metadata={"agent": "two"})
        assert len(two.calls) == 4
        assert not one.calls
        listed = (await gw.rpc("/", "ListTasks", {}))["result"]
        assert listed["totalSize"] == 4
        assert "error" in await gw.rpc(
            "/", "SendMessage", {"message": {**_message(), "metadata": {"agent": "x"}}}
        )


async def test_a_lone_agent_needs_no_name_and_a_question_can_be_withdrawn() -> None:
    async with gateway(one=MemoryUpstream(worker)) as gw:
        answer = await gw.http.post(f"{gw.url}/message:send", json={"message": _message()})
        assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    async with gateway(one=MemoryUpstream(worker), two=MemoryUpstream(worker)) as gw:
        asked = (await gw.rpc("/", "SendMessage", {"message": _message()}))["result"]["task"]
        ended = (await gw.rpc("/", "CancelTask", {"id": asked["id"]}))["result"]
        assert ended["status"]["state"] == "TASK_STATE_CANCELED"
        late = {**_message(), "taskId": asked["id"]}
        assert (await gw.rpc("/", "SendMessage", {"message": late}))["error"]["code"] == -32004


def _message() -> dict[str, Any]:
    return {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}


async def test_every_request_leaves_one_server_span() -> None:
    async with peer_agent([WAYS[0]]) as url, gateway(peer=url, one=MemoryUpstream(worker)) as gw:
        await gw.rpc("/a2a/one", "SendMessage", {"message": _message()})
        (span,) = gw.hub.tracer.drain()
        assert (span.name, span.kind, span.status) == ("SendMessage", "server", "unset")
        assert span.attributes["agentgw.agent"] == "one"
        assert span.attributes["agentgw.client_protocol"] == "a2a"
        assert span.attributes["agentgw.state"] == "completed"
        await gw.rpc("/a2a/peer", "GetTask", {"id": "nope"})
        (span,) = gw.hub.tracer.drain()
        assert (span.status, span.attributes["error.type"]) == ("error", "unknown_task")
