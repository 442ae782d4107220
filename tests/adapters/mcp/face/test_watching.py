"""Subscriptions to a modern server: when they count, what they let through, how they end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from agentgw.adapters.mcp.face import watching
from agentgw.adapters.mcp.face.sessions import Session
from agentgw.adapters.mcp.face.watching import Watches, listening
from agentgw.adapters.mcp.upstream.upstream import McpUpstream
from agentgw.adapters.mcp.wire import Caller, RpcError
from agentgw.gateway.model import Principal, Record

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
UPDATED = "notifications/resources/updated"


class Server:
    """Acknowledges a subscription when ``go`` is set."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        self.over = asyncio.Event()
        self.params: Any = None
        self.caller = Caller()

    async def request(self, method: str, params: Any, *, caller: Caller) -> Any:
        assert method == "subscriptions/listen"
        self.params, self.caller = params, caller
        self.asked.set()
        if self.refuses:
            raise RpcError(-32601, "no")
        await self.go.wait()
        await self.say(ACKNOWLEDGED, {})
        try:
            await asyncio.Event().wait()
        finally:
            self.over.set()

    async def say(self, method: str, params: dict[str, Any]) -> None:
        assert self.caller.on_notification is not None
        await self.caller.on_notification(method, params)


def listen(server: Server, told: list[Any]) -> Any:
    wanted = {"resourceSubscriptions": ["x://a"]}
    return listening(cast("McpUpstream", server), wanted, Caller(), lambda *said: told.append(said))


async def test_the_block_begins_when_the_server_knows_and_ends_the_request() -> None:
    server, told, inside = Server(), list[Any](), asyncio.Event()

    async def watch() -> None:
        async with listen(server, told):
            inside.set()
            await server.say(UPDATED, {"uri": "x://a", "_meta": {"id": 1}})

    job = asyncio.create_task(watch())
    await server.asked.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not inside.is_set(), "an update before the acknowledgement would be lost"
    server.go.set()
    await job
    assert server.params == {"notifications": {"resourceSubscriptions": ["x://a"]}}
    assert told == [(UPDATED, {"uri": "x://a"})], "the subscription's own id is the gateway's business"
    assert server.over.is_set()


async def test_a_server_that_refuses_is_an_error() -> None:
    with pytest.raises(RpcError):
        async with listen(Server(refuses=True), []):
            raise AssertionError("entered")


class Process:
    """A handshake server over stdio, which refuses to tell of what is called bad."""

    def __init__(self) -> None:
        self.record = Record(name="s", protocol="mcp", command=("s",))
        self.subscribed: set[str] = set()

    async def request(self, method: str, params: Any, *, caller: Caller) -> None:
        if params["uri"] == "x://bad":
            raise RpcError(-32002, "no")
        change = self.subscribed.add if method == "resources/subscribe" else self.subscribed.discard
        change(params["uri"])

    async def listen(self, caller: Caller, key: str) -> None: ...

    async def end_session(self, session: str) -> None: ...


async def test_who_fails_to_subscribe_takes_nothing_from_others_on_the_same_process() -> None:
    server, watches = Process(), Watches()
    process = cast("McpUpstream", server)

    def deaf(method: str, params: dict[str, Any]) -> None: ...

    async with watches.told(process, ["x://a"], Caller(), deaf):
        with pytest.raises(RpcError):
            async with watches.told(process, ["x://a", "x://bad"], Caller(), deaf):
                raise AssertionError("entered")
        assert server.subscribed == {"x://a"}
    assert server.subscribed == set()


class Away:
    """A server that can't be asked; what is to be watched there is kept all the same."""

    async def hello(self, caller: Caller) -> None:
        raise RpcError(-32603, "away")


async def test_a_session_can_not_watch_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST", 10)
    session, watches = Session(Principal(), "s", "2025-11-25", {}), Watches()
    server = cast("McpUpstream", Away())

    async def change(method: str, uri: str) -> None:
        await watches.change(session, server, f"resources/{method}", uri, Caller())

    await change("subscribe", "x://a")
    await change("subscribe", "x://b")
    with pytest.raises(RpcError, match="too many"):
        await change("subscribe", "x://c")
    await change("unsubscribe", "x://a")
    await change("subscribe", "x://c")
