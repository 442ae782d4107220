"""A large result in one document passes between client and server as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest

from agentgw.gateway.config import Config, Limits

from .support import Raw, by_hand, rpc, served, serving
from .test_cancel import ERAS, VERSION, Hanging

WORDS = b"x" * 600_000  # more than what may wait on the way, and than the limit below
CONFIG = Config(limits=Limits(body=100_000))
Say = Callable[[bytes], AsyncIterator[bytes]]


class Large(Hanging):
    """Its tool answers with the pieces that ``say`` gives for the request's id; ``broken``: and then breaks
    off. ``more`` is for ``say`` to wait for."""

    def __init__(self, era: str, say: Say, *, broken: bool = False) -> None:
        super().__init__(era)
        self.say = say
        self.broken = broken

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        first = await receive()
        message = msgspec.json.decode(first.get("body") or b"{}") if scope["type"] == "http" else {}
        if message.get("method") != "tools/call":

            async def again() -> Any:
                return first

            await super().__call__(scope, again, send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self.say(msgspec.json.encode(message["id"])):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.broken:
            raise OSError("the connection broke")
        await send({"type": "http.response.body", "body": b""})


def call(raw: Raw, era: str) -> Any:
    params: dict[str, Any] = {"name": "hang", "arguments": {}}
    if era == "handshake":
        return raw.stream("POST", rpc("tools/call", params, "mine"))
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = rpc("tools/call", {**params, "_meta": meta}, "mine")
    names = {"MCP_Protocol_Version": VERSION, "Mcp_Method": "tools/call", "Mcp_Name": "hang"}
    return raw.stream("POST", message, **names)


async def answered(era: str, say: Say, *, broken: bool = False) -> tuple[bytes, Any]:
    """The client's answer, and the attributes of the call's span."""
    async with (
        serving(Large(era, say, broken=broken)) as url,
        served(CONFIG) as gateway,
        by_hand(f"{gateway.url}/mcp/peer") as raw,
    ):
        await gateway.add_server("peer", f"{url}/mcp")
        await raw.initialize()
        gateway.spans()
        got = b""
        async with call(raw, era) as events:
            try:
                async for piece in events.answer.aiter_bytes():
                    got += piece
            except httpx.RemoteProtocolError:
                got += b"(cut)"
        (span,) = [s for s in gateway.spans() if s.kind == "server"]
        return got, span.attributes


@pytest.mark.parametrize("era", ERAS)
async def test_the_client_has_its_beginning_before_it_has_ended(era: str) -> None:
    more = asyncio.Event()

    async def say(id: bytes) -> AsyncIterator[bytes]:
        yield b'{"jsonrpc": "2.0", "id": %b, "result": {"content":[{"type":"text","text":"' % id
        yield WORDS
        await more.wait()
        yield b'"}], "odd":\n1}}'

    async with (
        serving(Large(era, say)) as url,
        served(CONFIG) as gateway,
        by_hand(f"{gateway.url}/mcp/peer") as raw,
    ):
        await gateway.add_server("peer", f"{url}/mcp")
        await raw.initialize()
        async with asyncio.timeout(60), call(raw, era) as events:
            got = b""
            async for piece in events.answer.aiter_bytes():
                got += piece
                if len(got) > len(WORDS) // 2:
                    more.set()
        result = b'{"content":[{"type":"text","text":"%b"}], "odd":\n1}' % WORDS
        assert got == b'{"jsonrpc":"2.0","id":"mine","result":' + result + b"}"
        assert events.answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("era", ERAS)
async def test_its_span_says_how_it_passed_and_what_can_be_seen(era: str, failed: bool) -> None:
    async def say(id: bytes) -> AsyncIterator[bytes]:
        yield b'{"id":%b,"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"%b"}],' % (id, WORDS)
        yield b'"isError": %b}}' % (b"true" if failed else b"false")

    got, span = await answered(era, say)
    assert len(msgspec.json.decode(got)["result"]["content"][0]["text"]) == len(WORDS)
    assert span["agentgw.passed_in_pieces"] is True
    assert span["agentgw.state"] == ("failed" if failed else "completed")
    assert span.get("error.type") == ("tool_error" if failed else None)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("end", "broken"), [(b'"}]}', True), (b'"}]}}', True), (b'"}]},"id":7}', False), (b'"}]}', False)]
)
async def test_one_that_does_not_end_as_it_should_is_cut(era: str, end: bytes, broken: bool) -> None:
    async def say(id: bytes) -> AsyncIterator[bytes]:
        yield b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"' % id
        yield WORDS
        yield end

    got, span = await answered(era, say, broken=broken)
    assert got.endswith(b"(cut)")
    assert span["error.type"]
    assert span["agentgw.state"] == "failed"


@pytest.mark.parametrize("era", ERAS)
async def test_what_has_its_id_after_the_result_is_read_as_a_whole(era: str) -> None:
    async def say(id: bytes) -> AsyncIterator[bytes]:
        yield b'{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"%b"}]},"id":%b}' % (WORDS, id)

    got, span = await answered(era, say)
    assert msgspec.json.decode(got)["id"] == "mine"
    assert len(msgspec.json.decode(got)["result"]["content"][0]["text"]) == len(WORDS)
    assert "agentgw.passed_in_pieces" not in span
