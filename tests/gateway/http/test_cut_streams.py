"""What cuts an event stream never looks like its end: the client can tell, at every door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from agentgw.adapters.mcp.face.streams import Stream
from agentgw.gateway.access import Access
from agentgw.gateway.engine import Hub
from agentgw.gateway.errors import Unreachable
from agentgw.gateway.http.app import App
from agentgw.gateway.http.control_api import build_control_app
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.http.request import ClientGone, Request
from agentgw.gateway.model import Logged
from agentgw.gateway.plugins import build_faces, load_adapters
from agentgw.gateway.tasklog import TaskLog

from ...support.memory import MemoryUpstream, echo, hub
from .support import serving
from .test_front import Face

END = b"0\r\n\r\n"
PARTS = [{"content_type": "text/plain", "content": "hi"}]
MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
RPC = {"jsonrpc": "2.0", "id": 1}
STREAMS: dict[str, tuple[str, Any]] = {
    "acp": ("/acp/runs", {"agent_name": "echo", "mode": "stream", "input": [{"parts": PARTS}]}),
    "a2a": ("/a2a/echo", {**RPC, "method": "SendStreamingMessage", "params": {"message": MESSAGE}}),
    "a2a rest": ("/a2a/echo/message:stream", {"message": MESSAGE}),
    "api": ("/api/agents/echo/call", {"parts": [{"type": "text", "text": "hi"}]}),
}


async def asked(app: App, path: str, value: Any, *more: bytes) -> bytes:
    """All that the client gets until the server closes."""
    body = msgspec.json.encode(value)
    accept = b"accept: application/json, text/event-stream\r\nconnection: close"
    lines = b"host: 127.0.0.1\r\ncontent-type: application/json\r\n" + b"\r\n".join([accept, *more])
    async with serving(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST %b HTTP/1.1\r\n%b\r\ncontent-length: %d\r\n\r\n" % (path.encode(), lines, len(body))
        writer.write(head + body)
        async with asyncio.timeout(60):
            got = await reader.read()
        writer.close()
    return got


def front(engine: Hub) -> App:
    faces = build_faces(load_adapters().values(), engine)
    control = build_control_app(None, engine)
    return App(faces, control, Doors("127.0.0.1", ""), access=Access("t"), body_limit=10**6)


@pytest.mark.parametrize("door", STREAMS)
async def test_a_stream_that_runs_to_its_end_has_one(door: str) -> None:
    got = await asked(front(hub(echo=MemoryUpstream(echo))), *STREAMS[door])
    assert b"text/event-stream" in got
    assert got.endswith(END)


@pytest.mark.parametrize("door", STREAMS)
async def test_what_a_crash_cuts_has_no_end(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TaskLog.events

    async def breaks(self: TaskLog, after: int = 0, *_: object) -> AsyncGenerator[Logged]:
        async for logged in whole(self, after):
            yield logged
            raise RuntimeError("secret")

    monkeypatch.setattr(TaskLog, "events", breaks)
    got = await asked(front(hub(echo=MemoryUpstream(echo))), *STREAMS[door])
    assert b"text/event-stream" in got
    assert not got.endswith(END)
    assert b"secret" not in got


async def test_an_mcp_stream_that_a_crash_cuts_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(*_: object) -> bool:
        raise RuntimeError("secret")

    app = front(hub(echo=MemoryUpstream(echo)))
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    begun = await asked(app, "/mcp", {**RPC, "method": "initialize", "params": info})
    session = next(line for line in begun.split(b"\r\n") if line.lower().startswith(b"mcp-session-id"))
    monkeypatch.setattr(Stream, "_follow", breaks)
    async with serving(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n%b\r\n\r\n" % session
        )
        async with asyncio.timeout(60):
            got = await reader.read()
        writer.close()
    assert b"text/event-stream" in got
    assert not got.endswith(END)


async def test_nothing_follows_a_stream_s_end() -> None:
    """Not even what somebody else had in mind to say: the connection may have another request by then."""

    async def door(request: Request) -> None:
        async with await request.events() as stream:
            await stream.send(b"1")
        assert not stream.write_now(b"2")
        with pytest.raises(ClientGone):
            await stream.comment()

    got = await asked(_one_door(door), "/x", {})
    assert got.endswith(b"data: 1\n\n\r\n" + END)


@pytest.mark.parametrize("error", [RuntimeError("secret"), Unreachable("gone"), asyncio.CancelledError()])
async def test_whatever_leaves_a_stream_s_block_cuts_it(error: BaseException) -> None:
    async def door(request: Request) -> None:
        async with await request.events() as stream:
            await stream.send(b"1")
            raise error

    got = await asked(_one_door(door), "/x", {})
    assert b"data: 1\n\n" in got
    assert not got.endswith(END)


def _one_door(door: Callable[[Request], Awaitable[None]]) -> App:
    class Streams(Face):
        serve = staticmethod(door)  # type: ignore[assignment]

    async def control(*_: Any) -> None:
        raise AssertionError

    return App([Streams()], control, Doors("127.0.0.1", ""), access=Access("t"), body_limit=1000)
