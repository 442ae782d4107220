"""Relaying to A2A agents that do what agents need not: silence, broken streams, ids of several callers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agentgw.adapters.a2a.face import binding, passage
from agentgw.gateway.model import Invocation, Message, Record, Text

from .support import Gateway, caller, gateway, served

Handle = Callable[[str, dict[str, Any], Request], Awaitable[Response]]
WORKING, DONE = "TASK_STATE_WORKING", "TASK_STATE_COMPLETED"


@contextlib.asynccontextmanager
async def agent(
    handle: Handle, *, streaming: bool = True, version: str = "1.0", **capabilities: Any
) -> AsyncIterator[str]:
    """An A2A agent that answers JSON-RPC as ``handle(method, params, request)`` does."""

    async def rpc(request: Request) -> Response:
        body = await request.json()
        return await handle(body["method"], body["params"], request)

    async def card(request: Request) -> Response:
        interface = {
            "url": str(request.base_url),
            "protocolBinding": "JSONRPC",
            "protocolVersion": version,
        }
        return JSONResponse(
            {
                "name": "x",
                "skills": [{"id": "paint", "name": "Paint"}],
                "supportedInterfaces": [interface],
                "capabilities": {"streaming": streaming, **capabilities},
            }
        )

    app = Starlette(routes=[Route("/", rpc, methods=["POST"]), Route("/.well-known/agent-card.json", card)])
    async with served(app) as url:
        yield url


def answer(result: Any) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "result": result})


def event(result: Any) -> bytes:
    return f"data: {json.dumps({'jsonrpc': '2.0', 'result': result})}\n\n".encode()


def task(state: str = WORKING, text: str = "", **fields: Any) -> dict[str, Any]:
    artifacts = [{"artifactId": "a", "parts": [{"text": text}]}] if text else []
    return {"id": "t", "contextId": "c", "status": {"state": state}, "artifacts": artifacts} | fields


def piece(text: str, **fields: Any) -> dict[str, Any]:
    artifact = {"artifactId": "a", "parts": [{"text": text}]}
    return {"artifactUpdate": {"taskId": "t", "contextId": "c", "artifact": artifact, **fields}}


def status(state: str) -> dict[str, Any]:
    return {"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": state}}}


def message(text: str = "go", **fields: Any) -> dict[str, Any]:
    return {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **fields}


@contextlib.asynccontextmanager
async def streaming(
    gw: Gateway, method: str, params: Any, **headers: str
) -> AsyncIterator[AsyncIterator[Any]]:
    """What a stream through the gateway says, JSON-RPC's results and errors one by one."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}

    async def events(lines: AsyncIterator[str]) -> AsyncIterator[Any]:
        async for line in lines:
            if line.startswith("data: "):
                said = json.loads(line.removeprefix("data: "))
                yield said.get("result") or said["error"]

    async with gw.http.stream("POST", f"{gw.url}/a2a/x", json=body, headers=headers) as response:
        if not response.headers["content-type"].startswith("text/event-stream"):
            said = json.loads(await response.aread())
            pytest.fail(f"no stream: {said}")
        yield events(response.aiter_lines())


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["idle_timeout", "total_timeout"])
@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_silence_ends_at_the_agents_limit(method: str, limit: str) -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        await asyncio.Event().wait()
        return answer({})

    async with agent(handle) as url:
        record = Record(name="x", protocol="a2a", url=url, **{limit: 0.1})
        async with gateway(x=record) as gw:
            async with asyncio.timeout(60):
                said = await gw.rpc("/a2a/x", method, {"message": message()})
            assert said["error"]["code"] == -32603
            assert said["error"]["data"][0]["metadata"]["code"] == "upstream_timeout"
            assert said["error"]["data"][0]["metadata"]["limit"] == limit


async def test_a_stream_that_falls_silent_says_so_at_its_end() -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield event({"task": task()})
            await asyncio.Event().wait()

        return StreamingResponse(body(), media_type="text/event-stream")

    async with agent(handle) as url, gateway(x=url) as gw:
        headers = {"agentgw-idle-timeout": "0.5"}
        async with streaming(gw, "SendStreamingMessage", {"message": message()}, **headers) as events:
            said = [e async for e in events]
        assert said[0] == {"task": task()}
        assert said[1]["data"][0]["metadata"]["limit"] == "idle_timeout"


async def test_idle_streams_are_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "HEARTBEAT", 0.05)
    go = asyncio.Event()

    async def handle(method: str, params: Any, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            await go.wait()
            yield event({"task": task(DONE)})

        return StreamingResponse(body(), media_type="text/event-stream")

    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "SendStreamingMessage",
        "params": {"message": message()},
    }
    async with agent(handle) as url, gateway(x=url) as gw:
        async with gw.http.stream("POST", f"{gw.url}/a2a/x", json=body) as response:
            lines = response.aiter_lines()
            assert (await anext(lines)).startswith(":")
            go.set()
            said = [line async for line in lines if line.startswith("data")]
        assert len(said) == 1


# --- clients that leave ------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True], ids=["before the first byte", "later"])
async def test_who_leaves_frees_the_connection_and_cancels_nothing(begun: bool) -> None:
    asked, left = asyncio.Event(), asyncio.Event()
    methods: list[str] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        methods.append(method)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if begun:
                head = [(b"content-type", b"text/event-stream")]
                await send({"type": "http.response.start", "status": 200, "headers": head})
                first = event({"task": task()})
                await send({"type": "http.response.body", "body": first, "more_body": True})
            asked.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

        return app  # pyright: ignore[reportReturnType]

    body = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": message()}}
    async with agent(handle) as url, gateway(x=url) as gw, httpx.AsyncClient() as http:
        client = asyncio.create_task(http.post(f"{gw.url}/a2a/x", json=body))
        await asyncio.wait_for(asked.wait(), 60)
        client.cancel()
        await asyncio.wait_for(left.wait(), 60)
        assert methods == ["SendStreamingMessage"]


# --- streams that break ------------------------------------------------------------------------


def breaking(first: list[Any]) -> Response:
    """A stream that says this and then breaks."""

    async def body() -> AsyncIterator[bytes]:
        for said in first:
            yield event(said)
        raise OSError("the connection broke")

    return StreamingResponse(body(), media_type="text/event-stream")


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("watchable", [True, False], ids=["subscribing", "asking"])
async def test_a_broken_stream_is_taken_up_where_it_broke(
    monkeypatch: pytest.MonkeyPatch, watchable: bool, large: bool
) -> None:
    monkeypatch.setattr(passage, "NOTED", 100 if large else passage.NOTED)
    looks, end = 0, WORKING if watchable else DONE

    async def handle(method: str, params: Any, request: Request) -> Response:
        nonlocal looks
        if method == "SendStreamingMessage":
            return breaking([{"task": task()}, piece("one")])
        if method == "SubscribeToTask" and watchable:

            async def body() -> AsyncIterator[bytes]:
                yield event({"task": task(text="one two")})
                yield event(piece(" two", append=True))  # as the official server does
                yield event(piece(" three", append=True))
                yield event(status(DONE))

            return StreamingResponse(body(), media_type="text/event-stream")
        if method == "GetTask":
            looks += 1
            return answer(task(text="one two") if looks == 1 else task(end, "one two three"))
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "error": {"code": -32004, "message": "no"}})

    async with agent(handle) as url, gateway(x=url) as gw:
        async with streaming(gw, "SendStreamingMessage", {"message": message()}) as events:
            said = [e async for e in events]
        assert said[0] == {"task": task()}
        updates = [s["artifactUpdate"] for s in said if "artifactUpdate" in s]
        assert [u["artifact"]["parts"][0]["text"] for u in updates] == ["one", " two", " three"]
        assert [u.get("append", False) for u in updates] == [False, True, True]
        assert said[-1]["statusUpdate"]["status"]["state"] == DONE
        assert (await gw.rpc("/a2a/x", "ListTasks", {}))["result"]["tasks"][0]["status"]["state"] == DONE


async def test_what_is_large_is_with_its_agent_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record knows state and ids; who asks for the task gets it from the agent."""
    monkeypatch.setattr(passage, "NOTED", 1000)
    pieces = ["one" * 200, "two" * 200, "three" * 200]

    async def handle(method: str, params: Any, request: Request) -> Response:
        if method == "GetTask":
            return answer(task(DONE, "".join(pieces)))

        async def body() -> AsyncIterator[bytes]:
            yield event({"task": task()})
            for n, text in enumerate(pieces):
                yield event(piece(text, append=n > 0))
            yield event(status(DONE))

        return StreamingResponse(body(), media_type="text/event-stream")

    async with agent(handle) as url, gateway(x=url) as gw:
        async with streaming(gw, "SendStreamingMessage", {"message": message()}) as events:
            said = [e async for e in events]
        updates = [s["artifactUpdate"]["artifact"] for s in said if "artifactUpdate" in s]
        assert [u["parts"][0]["text"] for u in updates] == pieces
        (listed,) = (await gw.rpc("/a2a/x", "ListTasks", {"includeArtifacts": True}))["result"]["tasks"]
        assert listed["status"]["state"] == DONE
        assert [a["artifactId"] for a in listed["artifacts"]] == [updates[0]["artifactId"]]
        assert listed["artifacts"][0]["parts"][0]["text"].startswith("Too large to be kept here")
        got = (await gw.rpc("/a2a/x", "GetTask", {"id": "t"}))["result"]
        assert got["artifacts"][0]["parts"] == [{"text": "".join(pieces)}]


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
@pytest.mark.parametrize("text", ["few", "many" * 500], ids=["small", "large"])
async def test_a_large_message_is_with_its_agent_only(
    text: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passage, "NOTED", 1000)
    said: list[Any] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        said.append(params["message"]["parts"])
        result = {"task": task(DONE, "short")}
        return answer(result) if method == "SendMessage" else breaking([result])

    async with agent(handle) as url, gateway(x=url) as gw:
        if method == "SendMessage":
            await gw.rpc("/a2a/x", method, {"message": message(text)})
        else:
            async with streaming(gw, method, {"message": message(text)}) as events:
                assert len([e async for e in events]) == 1
        asked = {"includeArtifacts": True, "historyLength": 5}
        (listed,) = (await gw.rpc("/a2a/x", "ListTasks", asked))["result"]["tasks"]
    assert said == [[{"text": text}]]
    kept = listed["history"][0]["parts"][0]["text"]
    assert kept == text if len(text) < 1000 else kept.startswith("Too large to be kept here")
    assert listed["artifacts"][0]["parts"] == [{"text": "short"}]


async def test_a_list_asks_after_tasks_that_nobody_followed() -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        return answer(task(DONE, "late")) if method == "GetTask" else answer({"task": task()})

    async with agent(handle) as url, gateway(x=url) as gw:
        await gw.rpc("/a2a/x", "SendMessage", {"message": message()})
        listed = (await gw.rpc("/a2a/x", "ListTasks", {"includeArtifacts": True}))["result"]["tasks"]
        assert listed[0]["status"]["state"] == DONE
        assert listed[0]["artifacts"][0]["parts"] == [{"text": "late"}]
        ended = await gw.rpc("/a2a/x", "SubscribeToTask", {"id": "t"})
        assert ended["error"]["code"] == -32004


async def test_a_list_asks_after_tasks_that_work_before_those_that_wait() -> None:
    asked: list[str] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        if method == "GetTask":
            asked.append(params["id"])
            return answer(task(DONE, id=params["id"]))
        id = params["message"]["messageId"]
        return answer({"task": task(WORKING if id == "works" else "TASK_STATE_INPUT_REQUIRED", id=id)})

    async with agent(handle) as url, gateway(x=url) as gw:
        for name in ["works", *map(str, range(25))]:
            await gw.rpc("/a2a/x", "SendMessage", {"message": {**message(), "messageId": name}})
        await gw.rpc("/a2a/x", "ListTasks", {})
    assert asked[0] == "works"


async def test_looking_is_no_change() -> None:
    """Lists are sorted by changes, and pages go on where they ended: looks move nothing, and lose nothing."""
    said = {"messageId": "u", "role": "ROLE_USER", "parts": [{"text": "go"}]}
    ended = False

    async def handle(method: str, params: Any, request: Request) -> Response:
        if method == "GetTask":
            return answer(task(DONE if ended else WORKING, id=params["id"]))
        return answer({"task": task(id=params["message"]["messageId"], history=[said])})

    async with agent(handle) as url, gateway(x=url) as gw:
        for name in "abc":
            await gw.rpc("/a2a/x", "SendMessage", {"message": {**message(), "messageId": name}})
        before = (await gw.rpc("/a2a/x", "ListTasks", {}))["result"]["tasks"]
        assert [t["id"] for t in before] == ["c", "b", "a"]
        await gw.rpc("/a2a/x", "GetTask", {"id": "a", "historyLength": 0})
        assert (await gw.rpc("/a2a/x", "ListTasks", {}))["result"]["tasks"] == before
        assert before[0]["history"][0]["messageId"] == "u"
        page = (await gw.rpc("/a2a/x", "ListTasks", {"pageSize": 2}))["result"]
        rest = (await gw.rpc("/a2a/x", "ListTasks", {"pageToken": page["nextPageToken"]}))["result"]
        assert [t["id"] for t in rest["tasks"]] == ["a"]
        ended = True
        await gw.rpc("/a2a/x", "GetTask", {"id": "a", "historyLength": 0})
        (last, *_) = (await gw.rpc("/a2a/x", "ListTasks", {}))["result"]["tasks"]
        assert last["status"]["state"] == DONE
        assert last["history"][0]["messageId"] == "u"


async def test_a_watcher_of_an_older_agents_task_is_told_what_was_before() -> None:
    """Its ``tasks/resubscribe`` begins with the next event; a 1.0 client begins with the task."""

    def old(state: str, text: str) -> dict[str, Any]:
        artifacts = [{"artifactId": "a", "parts": [{"kind": "text", "text": text}]}]
        return {
            "kind": "task",
            "id": "t",
            "contextId": "c",
            "status": {"state": state},
            "artifacts": artifacts,
        }

    looks = 0

    async def handle(method: str, params: Any, request: Request) -> Response:
        nonlocal looks
        if method == "message/send":
            return answer(old("working", "one"))
        assert method == "tasks/get"
        looks += 1
        return answer(old("working", "one") if looks < 3 else old("completed", "one two"))

    async with agent(handle, version="0.3") as url, gateway(x=url) as gw:
        await gw.rpc("/a2a/x", "SendMessage", {"message": message()})
        async with streaming(gw, "SubscribeToTask", {"id": "t"}) as events:
            said = [e async for e in events]
        assert said[0]["task"]["artifacts"][0]["parts"] == [{"text": "one"}]
        assert said[1]["artifactUpdate"]["append"] is True
        assert said[1]["artifactUpdate"]["artifact"]["parts"] == [{"text": " two"}]
        assert said[2]["statusUpdate"]["status"]["state"] == DONE


# --- callers -----------------------------------------------------------------------------------


async def test_conversations_belong_to_their_caller() -> None:
    """Two callers choose the same id: the agent hears of two conversations, each caller of its own."""
    heard: list[str | None] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        if method == "GetTask":
            return answer(task(DONE, id=params["id"], contextId=params["id"].removeprefix("task-")))
        context = params["message"].get("contextId")
        heard.append(context)
        context = context or "made-by-the-agent"
        said = {"messageId": "a", "role": "ROLE_AGENT", "parts": [], "contextId": context}
        done = {"state": DONE, "message": said}
        return answer({"task": task(id=f"task-{context}", contextId=context, status=done, odd=1)})

    async with agent(handle) as url, gateway(x=url) as gw:

        async def send(who: str, **fields: Any) -> dict[str, Any]:
            headers = caller(who) if who else {}
            said = await gw.rpc("/a2a/x", "SendMessage", {"message": message(**fields)}, **headers)
            return said["result"]["task"]

        anna, bert = await send("anna", contextId="mine"), await send("bert", contextId="mine")
        nobody = await send("", contextId="mine")
        assert heard[2] == "mine"  # without a key ids are the agent's
        assert len(set(heard)) == 3
        for made in (anna, bert, nobody):
            assert made["contextId"] == made["status"]["message"]["contextId"] == "mine"
            assert made["odd"] == 1
        assert (await send("anna", contextId="mine"))["id"] == anna["id"]

        got = await gw.rpc("/a2a/x", "GetTask", {"id": anna["id"]}, **caller("anna"))
        assert got["result"]["contextId"] == "mine"
        for method in ("GetTask", "CancelTask", "SubscribeToTask"):
            got = await gw.rpc("/a2a/x", method, {"id": anna["id"]}, **caller("bert"))
            assert got["error"]["code"] == -32001
        listed = await gw.rpc("/a2a/x", "ListTasks", {"contextId": "mine"}, **caller("anna"))
        assert [t["id"] for t in listed["result"]["tasks"]] == [anna["id"]]

        heard.clear()
        fresh = await send("anna")
        assert fresh["contextId"] == "made-by-the-agent"
        await send("anna", contextId="made-by-the-agent")
        await send("bert", contextId="made-by-the-agent")
        assert heard[:2] == [None, "made-by-the-agent"]
        await send("", contextId="made-by-the-agent")
        assert len(set(heard)) == 4  # knowing the name does not open another's conversation


async def test_a_task_belongs_to_its_conversation() -> None:
    heard: list[Any] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        heard.append(params["message"].get("contextId"))
        return answer({"task": task("TASK_STATE_INPUT_REQUIRED", contextId=heard[0])})

    async with agent(handle) as url, gateway(x=url) as gw:

        async def send(**fields: Any) -> dict[str, Any]:
            return await gw.rpc("/a2a/x", "SendMessage", {"message": message(**fields)}, **caller("a"))

        await send(contextId="mine")
        await send(contextId="mine", taskId="t")
        await send(taskId="t")
        assert (await send(contextId="other", taskId="t"))["error"]["code"] == -32602
        assert heard == [heard[0], heard[0], None]


@pytest.mark.parametrize("again", ["taskId", "task\\u0049d", "referenceTaskIds"])
async def test_what_is_named_twice_is_passed_on_once(again: str) -> None:
    """An agent may take the first of two members of one name; the gateway goes by the last."""
    heard: list[list[tuple[str, Any]]] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        heard.append([])
        json.loads(await request.body(), object_pairs_hook=lambda pairs: heard[-1].extend(pairs))
        return answer({"task": task("TASK_STATE_INPUT_REQUIRED")})

    async with agent(handle) as url, gateway(x=url) as gw:
        plain = again if again == "referenceTaskIds" else "taskId"
        theirs, own = ('["other"]', "[]") if plain == "referenceTaskIds" else ('"other"', '""')
        body = (
            '{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": {"messageId": "m", '
            f'"role": "ROLE_USER", "parts": [{{"text": "x"}}], "{again}": {theirs}, "{plain}": {own}}}}}}}'
        )
        headers = {"content-type": "application/json", **caller("a")}
        said = await gw.http.post(f"{gw.url}/a2a/x", content=body, headers=headers)
        assert "result" in said.json()
        assert [value for name, value in heard[0] if name == plain] == [json.loads(own)]
        twice = '{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"other","id":"t"}}'
        await gw.http.post(f"{gw.url}/a2a/x", content=twice, headers=headers)
        assert [value for name, value in heard[1] if name == "id" and isinstance(value, str)].count(
            "other"
        ) == 0


async def test_a_conversation_that_lives_on_messages_alone_goes_on() -> None:
    heard: list[Any] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        heard.append(params["message"].get("contextId"))
        said = {"messageId": "a", "role": "ROLE_AGENT", "parts": [{"text": "hi"}], "contextId": "theirs"}
        return answer({"message": said})

    async with agent(handle) as url, gateway(x=url) as gw:
        headers = caller("anna")
        said = await gw.rpc("/a2a/x", "SendMessage", {"message": message(contextId="ours")}, **headers)
        assert said["result"]["message"]["contextId"] == "ours"
        await gw.rpc("/a2a/x", "SendMessage", {"message": message(contextId="ours")}, **headers)
        assert heard[1] == "theirs"


async def test_a_conversation_begun_at_another_door_goes_on() -> None:
    heard: list[Any] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        heard.append(params["message"].get("contextId"))
        return answer({"task": task(DONE, id=f"t{len(heard)}", contextId="theirs")})

    async with agent(handle, streaming=False) as url, gateway(x=url) as gw:
        said = Message(role="user", parts=(Text(text="hi"),))
        begun = await gw.hub.invoke(Invocation(agent="x", message=said, context_id="ours"))
        await begun.settled()
        went_on = await gw.rpc("/a2a/x", "SendMessage", {"message": message(contextId="ours")})
        assert heard == [None, "theirs"]
        assert went_on["result"]["task"]["contextId"] == "ours"
        listed = await gw.rpc("/a2a/x", "ListTasks", {"contextId": "ours"})
        assert listed["result"]["totalSize"] == 2


# --- extensions --------------------------------------------------------------------------------


async def test_extensions() -> None:
    """A required one must be declared; what the client declares and the agent used passes."""
    heard: list[Any] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        heard.append(request.headers.get("a2a-extensions"))
        said = answer({"task": task(DONE)})
        said.headers["a2a-extensions"] = "urn:a"
        return said

    required = [{"uri": "urn:a", "required": True}, {"uri": "urn:b"}]
    async with agent(handle, extensions=required) as url, gateway(x=url) as gw:
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message()}}
        for method in ("SendMessage", "SendStreamingMessage"):
            refused = (await gw.rpc("/a2a/x", method, {"message": message()}))["error"]
            assert refused["code"] == -32008
            assert refused["data"][0]["reason"] == "EXTENSION_SUPPORT_REQUIRED"
            assert "urn:a" in refused["message"]
        refused = await gw.http.post(f"{gw.url}/a2a/x/message:send", json={"message": message()})
        assert refused.status_code == 400
        assert not heard
        headers = [("a2a-extensions", "urn:b, urn:a"), ("a2a-extensions", "urn:c")]
        done = await gw.http.post(f"{gw.url}/a2a/x", json=body, headers=headers)
        assert done.json()["result"]["task"]["status"]["state"] == DONE
        assert done.headers["a2a-extensions"] == "urn:a"
        assert heard == ["urn:b, urn:a, urn:c"]
