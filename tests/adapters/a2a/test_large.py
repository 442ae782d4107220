"""A large answer in one document passes between A2A client and agent as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from .support import caller, gateway
from .test_relay import DONE, agent, message

WORDS = "x" * 600_000  # more than what may wait on the way
Pieces = Callable[[Any], AsyncIterator[str]]  # of the answer to the request with this JSON-RPC id


def says(pieces: Pieces) -> Any:
    """An agent's ``handle``."""

    async def handle(method: str, params: Any, request: Request) -> Response:
        found = pieces((await request.json())["id"])
        return StreamingResponse(found, media_type="application/json")

    return handle


def task(context: str = "c") -> tuple[str, str]:
    """What stands before a task's text, and after it."""
    artifact = '{"task":{"artifacts":[{"artifactId":"a","parts":[{"text":"'
    rest = {
        "contextId": context,
        "history": [{"messageId": "h", "contextId": context, "parts": []}],
        "id": "t",
    }
    return artifact, f'"}}]}}],{json.dumps({**rest, "status": {"state": DONE}})[1:]}}}'


@pytest.mark.parametrize("binding", ["jsonrpc", "rest"])
async def test_the_client_has_its_beginning_before_it_has_ended(binding: str) -> None:
    more = asyncio.Event()
    before, after = task()

    async def pieces(id: Any) -> AsyncIterator[str]:
        yield f'{{"jsonrpc":"2.0","id":{id},"result":{before}'
        yield WORDS
        await more.wait()
        yield f"{after}}}"

    async with agent(says(pieces)) as url, gateway(x=url) as g:
        path, body = "/a2a/x", {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": {}}
        body["params"] = {"message": message()}
        if binding == "rest":
            path, body = "/a2a/x/message:send", {"message": message()}
        got = ""
        async with asyncio.timeout(60), g.http.stream("POST", g.url + path, json=body) as answer:
            async for piece in answer.aiter_text():
                got += piece
                if len(got) > len(WORDS) // 2:
                    more.set()
        result = f"{before}{WORDS}{after}"
        assert got == (result if binding == "rest" else f'{{"jsonrpc":"2.0","id":7,"result":{result}}}')
        known = (await g.rpc("/a2a/x", "ListTasks", {}))["result"]["tasks"]
        assert [(t["id"], t["contextId"], t["status"]["state"]) for t in known] == [("t", "c", DONE)]
        spans = [s.attributes for s in g.hub.tracer.drain() if s.kind == "server"]
        assert spans[0]["agentgw.passed_in_pieces"] is True
        assert (spans[0]["a2a.task.id"], spans[0]["agentgw.state"]) == ("t", "completed")


async def test_its_conversation_has_the_clients_name() -> None:
    sent: list[str] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        sent.append(params["message"]["contextId"])
        before, after = task(sent[-1])
        body = f'{{"jsonrpc":"2.0","id":{(await request.json())["id"]},"result":{before}{WORDS}{after}}}'
        halves = [body[:1000], body[1000:]]

        async def pieces() -> AsyncIterator[str]:
            for half in halves:
                yield half

        return StreamingResponse(pieces(), media_type="application/json")

    async with agent(handle) as url, gateway(x=url) as g:
        params = {"message": message(contextId="mine")}
        answer = await g.rpc("/a2a/x", "SendMessage", params, **caller("anna"))
        found = answer["result"]["task"]
        assert found["contextId"] == found["history"][0]["contextId"] == "mine" != sent[0]
        assert found["artifacts"][0]["parts"][0]["text"] == WORDS
        (known,) = (await g.rpc("/a2a/x", "ListTasks", {}, **caller("anna")))["result"]["tasks"]
        assert known["contextId"] == "mine"
        await g.rpc("/a2a/x", "SendMessage", params, **caller("anna"))
        assert sent[1] == sent[0]


async def test_a_task_that_is_asked_after_passes_too() -> None:
    async def pieces(id: Any) -> AsyncIterator[str]:
        before, after = task()
        yield f'{{"jsonrpc":"2.0","id":{id},"result":'
        yield before.removeprefix('{"task":') + WORDS
        yield f"{after[:-1]}}}"

    async def small(id: Any) -> AsyncIterator[str]:
        yield f'{{"jsonrpc":"2.0","id":{id},"result":{"".join(task())}}}'

    say = [small]

    async def handle(method: str, params: Any, request: Request) -> Response:
        return await says(say[0])(method, params, request)

    async with agent(handle) as url, gateway(x=url) as g:
        await g.rpc("/a2a/x", "SendMessage", {"message": message()})
        say[0] = pieces
        g.hub.tracer.drain()
        found = (await g.rpc("/a2a/x", "GetTask", {"id": "t"}))["result"]
        assert (found["id"], found["artifacts"][0]["parts"][0]["text"]) == ("t", WORDS)
        (span,) = [s.attributes for s in g.hub.tracer.drain() if s.kind == "server"]
        assert span["agentgw.passed_in_pieces"] is True


@pytest.mark.parametrize("end", ["", '"}', '"}]}]}},"more":1}', "\ud83d"])
async def test_one_that_does_not_end_as_it_should_is_cut(end: str) -> None:
    async def pieces(id: Any) -> AsyncIterator[str]:
        yield f'{{"jsonrpc":"2.0","id":{id},"result":{task()[0]}'
        yield WORDS
        if end == "\ud83d":
            raise OSError("the connection broke")
        yield end

    async with agent(says(pieces)) as url, gateway(x=url) as g:
        body = {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": {"message": message()}}
        with pytest.raises(httpx.RemoteProtocolError):
            await g.http.post(f"{g.url}/a2a/x", json=body)
        (span,) = [s for s in g.hub.tracer.drain() if s.kind == "server"]
        assert span.status == "error"


async def test_a_client_that_leaves_ends_it() -> None:
    left = asyncio.Event()

    async def pieces(id: Any) -> AsyncIterator[str]:
        try:
            yield f'{{"jsonrpc":"2.0","id":{id},"result":{task()[0]}'
            while True:
                yield WORDS
                await asyncio.sleep(0)
        finally:
            left.set()

    async with agent(says(pieces)) as url, gateway(x=url) as g:
        body = {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": {"message": message()}}
        async with g.http.stream("POST", f"{g.url}/a2a/x", json=body) as answer:
            await anext(answer.aiter_bytes())
        async with asyncio.timeout(60):
            await left.wait()


@pytest.mark.parametrize(
    ("opening", "revision"),
    [('{"jsonrpc":"2.0","result":', "1.0"), ('{"jsonrpc":"2.0","id":1,"result":', "0.3")],
)
async def test_what_must_be_seen_as_a_whole_is(opening: str, revision: str) -> None:
    """Its id does not come before its result, or it is translated."""

    async def pieces(id: Any) -> AsyncIterator[str]:
        before, after = task()
        if revision == "0.3":
            text = '{"kind":"task","artifacts":[{"artifactId":"a","parts":[{"kind":"text","text":"'
            before, after = text, '"}]}],"id":"t","contextId":"c","status":{"state":"completed"}}'
        yield opening.replace('"id":1', f'"id":{id}') + before
        yield WORDS
        yield after + ("}" if '"id"' in opening else f',"id":{id}}}')

    async with agent(says(pieces), version=revision) as url, gateway(x=url) as g:
        found = (await g.rpc("/a2a/x", "SendMessage", {"message": message()}))["result"]["task"]
        assert (found["id"], found["artifacts"][0]["parts"][0]["text"]) == ("t", WORDS)
        (span,) = [s.attributes for s in g.hub.tracer.drain() if s.kind == "server"]
        assert "agentgw.passed_in_pieces" not in span
