"""An agent that never answers and has an hour: a caller's own limits end the call at every door, and who only
watches it takes no call's place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from agentgw.cli import process
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.model import Agent, Record
from agentgw.registry import records
from agentgw.registry.memory import MemoryStore

WORDS = {"role": "user", "parts": [{"content_type": "text/plain", "content": "hi"}]}
MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
TOOL = {"name": "silent", "arguments": {"message": "hi"}}
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
MCP = {
    "accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call", "mcp-name": "silent",
}  # fmt: skip


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


CALLS = {
    "mcp": ("/mcp", MCP, rpc("tools/call", **TOOL, _meta=MODERN)),
    "a2a": ("/a2a/silent", {"a2a-version": "1.0"}, rpc("SendMessage", message=MESSAGE)),
    "a2a-rest": ("/a2a/silent/message:send", {}, {"message": MESSAGE}),
    "acp": ("/acp/runs", {}, {"agent_name": "silent", "mode": "stream", "input": [WORDS]}),
    "cli": ("/api/agents/silent/call", {}, {"parts": [{"type": "text", "text": "hi"}]}),
}


@contextlib.asynccontextmanager
async def silence() -> AsyncGenerator[str]:
    """The URL of a server that takes requests and never answers."""
    gone = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        gone.set()
        server.close()


@contextlib.asynccontextmanager
async def gateway(agent: str, **limits: Any) -> AsyncGenerator[httpx.AsyncClient]:
    record = Record(name="silent", protocol="acp", url=agent, remote="silent")
    known = records.labelled(Agent(name="silent", conversational=True), record)  # nobody need ask it
    store = MemoryStore(records=[record], descriptions={"silent": known})
    listener = process.listen("127.0.0.1", 0)
    config = Config(limits=Limits(**limits))
    async with process.running(
        process.Gateway(config, store, bind="127.0.0.1", token="owner"), listener, refresh=False
    ):
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            yield http


@pytest.mark.parametrize("kind", ["idle", "total"])
async def test_at_every_door(kind: str) -> None:
    async with silence() as agent, gateway(agent) as http:

        async def asked(path: str, headers: dict[str, str], body: Any) -> str:
            own = {f"agentgw-{kind}-timeout": "200ms"}
            return (await http.post(path, headers=headers | own, json=body)).text

        answers = await asyncio.gather(*(asked(*call) for call in CALLS.values()))
    said = dict(zip(CALLS, answers, strict=True))
    assert {door for door, text in said.items() if "did not answer in time" in text} == set(CALLS), said


@pytest.mark.parametrize("kind", ["idle", "total"])
async def test_in_the_meta_of_mcp(kind: str) -> None:
    meta = MODERN | {f"agentgw/{kind}_timeout": "200ms"}
    async with silence() as agent, gateway(agent) as http:
        answer = await http.post("/mcp", headers=MCP, json=rpc("tools/call", **TOOL, _meta=meta))
    assert "did not answer in time" in answer.text


async def test_what_is_no_duration_is_the_client_s_mistake_at_every_door() -> None:
    async with silence() as agent, gateway(agent) as http:
        for door, (path, headers, body) in CALLS.items():
            wrong = headers | {"agentgw-total-timeout": "soon"}
            answer = await http.post(path, headers=wrong, json=body)
            assert answer.status_code < 500 and "agentgw-total-timeout" in answer.text, door


async def test_a_subscription_takes_no_call_s_place() -> None:
    async with silence() as agent, gateway(agent, concurrency=1) as http:
        now = {"message": MESSAGE, "configuration": {"returnImmediately": True}}
        headers = {"a2a-version": "1.0"}
        sent = await http.post("/a2a/silent", headers=headers, json=rpc("SendMessage", **now))
        task = sent.json()["result"]["task"]["id"]
        watch = rpc("SubscribeToTask", id=task)
        async with http.stream("POST", "/a2a/silent", headers=headers, json=watch) as stream:
            events = stream.aiter_lines()
            assert task in await anext(events)
            assert (await http.post("/a2a/silent", headers=headers, json=rpc("GetTask", id=task))).json()[
                "result"
            ]
            again = await http.post("/a2a/silent", headers=headers, json=watch)
            assert "too many requests" in again.text
