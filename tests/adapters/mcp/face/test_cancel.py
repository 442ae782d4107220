"""Taking a call back: the agent stops, whatever it speaks, and everybody who watches sees the task end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from agentgw.gateway.model import (
    Data,
    Event,
    Finished,
    Invocation,
    Message,
    Principal,
    Started,
    StateChanged,
    TaskState,
    Text,
)

from ....support.memory import MemoryUpstream, say
from .support import META, VERSION, Gateway, Raw, by_hand, rpc, served, serving

ERAS = ["handshake", "modern"]
HEADERS = {"MCP_Protocol_Version": VERSION, "Mcp_Method": "tools/call"}


def said(text: str) -> Message:
    return Message(role="agent", parts=(Text(text=text),))


class Recording:
    """An agent that works until it is cancelled, and then says so."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.upstream = MemoryUpstream(self.script)
        self.upstream.on_cancel = self.stop

    async def stop(self, _: object) -> None:
        self.stopped.set()

    async def script(self, call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up")
        yield StateChanged(state=TaskState.WORKING, message=said("begun"))
        await self.stopped.wait()
        yield Finished(state=TaskState.CANCELED)


def call(name: str, era: str, id: Any, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call that wants progress, and the headers for it."""
    meta = {**META, "progressToken": id} if era == "modern" else {"progressToken": id}
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return rpc("tools/call", params, id=id), {**HEADERS, "Mcp_Name": name} if era == "modern" else {}


async def take_back(raw: Raw, era: str, id: Any) -> None:
    """As the era has it; in the modern one leaving the stream's block has done it."""
    if era == "handshake":
        await raw.post(rpc("notifications/cancelled", {"requestId": id}, id=None))


async def the_task(gateway: Gateway) -> Any:
    (task,) = await gateway.hub.tasks(Principal())
    return await gateway.hub.task(task.id, Principal())


@pytest.mark.parametrize("path", ["/mcp", "/mcp/slow"])
@pytest.mark.parametrize("era", ERAS)
async def test_the_agent_stops_and_everybody_sees_it(era: str, path: str) -> None:
    agent = Recording()
    async with served(slow=agent.upstream) as gateway, by_hand(gateway.url + path) as raw:
        await raw.initialize()
        message, headers = call("slow", era, 7, message="x")
        async with raw.stream("POST", message, **headers) as events:
            await events.next()
            handle = await the_task(gateway)
            watching = asyncio.ensure_future(_all(handle))
            await take_back(raw, era, 7)
        async with asyncio.timeout(60):
            assert (await watching)[-1] == Finished(state=TaskState.CANCELED)
        assert agent.upstream.canceled.is_set()
        assert handle.task.state is TaskState.CANCELED


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - nothing tells when somebody begins or ceases to watch
        await asyncio.sleep(0)


async def _all(handle: Any) -> list[Event]:
    return [logged.event async for logged in handle.events()]


async def test_a_lost_connection_of_the_handshake_era_cancels_nothing() -> None:
    agent = Recording()
    async with served(slow=agent.upstream) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        message, _ = call("slow", "handshake", 7, message="x")
        async with raw.stream("POST", message) as events:
            await events.next()
        handle = await the_task(gateway)
        agent.stopped.set()
        async with raw.stream("GET", Last_Event_Id=events.id) as again:
            assert (await again.next())["result"]["structuredContent"]["state"] == "canceled"
    assert not agent.upstream.canceled.is_set()
    assert handle.task.state is TaskState.CANCELED


@pytest.mark.parametrize("era", ERAS)
async def test_waiting_again_for_a_task_that_goes_on(era: str) -> None:
    """A modern connection that breaks then takes nothing with it; a client that says so does."""
    agent = Recording()
    async with served(slow=agent.upstream) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        handle = await gateway.hub.invoke(say("x", "slow"))
        message, headers = call("slow", era, 2, message="", task_id=handle.task.id)
        waiting = asyncio.ensure_future(raw.post(message, **headers))
        async with asyncio.timeout(60):
            await _until(lambda: handle.watchers > 0)
            if era == "modern":
                waiting.cancel()
            await take_back(raw, era, 2)
            await _until(lambda: handle.watchers == 0)
            if era == "handshake":
                await agent.upstream.canceled.wait()
                assert (await handle.ended()).state is TaskState.CANCELED
        assert agent.upstream.canceled.is_set() is (era == "handshake")


# --- servers -------------------------------------------------------------------------------------


class Hanging:
    """An MCP server of one era whose tool never ends; ``cancelled`` is set when it learns that it may."""

    def __init__(self, era: str) -> None:
        self.era = era
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._id: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        message = msgspec.json.decode(body) if body else {}
        match message.get("method"), self.era:
            case "tools/call", _:
                self._id = message["id"]
                self.begun.set()
                while (await receive())["type"] != "http.disconnect":
                    pass
                if self.era == "modern":
                    self.cancelled.set()
                return
            case "notifications/cancelled", "handshake" if message["params"]["requestId"] == self._id:
                self.cancelled.set()
            case _:
                pass
        result = self._result(message.get("method"))
        status = 405 if not message else 202 if "id" not in message else 404 if result is None else 200
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message.get("id")}
        answer |= {"error": {"code": -32601, "message": "?"}} if result is None else {"result": result}
        head = [(b"content-type", b"application/json"), (b"mcp-session-id", b"s")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send(
            {"type": "http.response.body", "body": msgspec.json.encode(answer) if status != 202 else b""}
        )

    def _result(self, method: str | None) -> Any:
        match method, self.era:
            case "initialize", "handshake":
                info = {"name": "hanging", "version": "1"}
                return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
            case "server/discover", "modern":
                return {"supportedVersions": [VERSION], "capabilities": {"tools": {}}}
            case "tools/list", _:
                return {"tools": [{"name": "hang", "inputSchema": {"type": "object"}}]}
            case _:
                return None


@pytest.mark.parametrize(("path", "tool"), [("/mcp", "peer__hang"), ("/mcp/peer", "hang")])
@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_a_server_is_told_in_its_own_way(era: str, client: str, path: str, tool: str) -> None:
    server = Hanging(era)
    async with serving(server) as url, served() as gateway:
        await gateway.add_server("peer", f"{url}/mcp")
        async with by_hand(gateway.url + path) as raw:
            await raw.initialize()
            message, headers = call(tool, client, "c")
            request = asyncio.ensure_future(raw.post(message, **headers))
            await server.begun.wait()
            if client == "modern":
                request.cancel()
            await take_back(raw, client, "c")
            async with asyncio.timeout(60):
                await server.cancelled.wait()
            if client == "handshake":
                assert (await request).json()["error"]["code"] == -32800


@pytest.mark.parametrize("era", ERAS)
async def test_a_task_of_another_protocols_caller_stops_at_the_server(era: str) -> None:
    """The hub's own cancel, as A2A's CancelTask, ACP's and the command line's call it."""
    server = Hanging(era)
    async with serving(server) as url, served() as gateway:
        await gateway.add_server("peer", f"{url}/mcp")
        message = Message(role="user", parts=(Data(data={"tool": "hang", "arguments": {}}),))
        handle = await gateway.hub.invoke(Invocation(agent="peer", message=message))
        async with asyncio.timeout(60):
            await server.begun.wait()
            await gateway.hub.cancel(handle.task.id, Principal())
            await server.cancelled.wait()
            assert (await handle.ended()).state is TaskState.CANCELED
