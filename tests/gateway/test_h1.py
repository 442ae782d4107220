"""Streamed requests: what happens to the connection when its reader leaves."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agentgw.gateway.errors import BadUpstream, Unreachable
from agentgw.gateway.transport import PyreqwestTransport

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


class Server:
    """Speaks what the test wants; counts connections."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[bytes] = []
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked.set()
                await self.script(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Script], Awaitable[Server]]]:
    listening: list[asyncio.Server] = []

    async def start(script: Script) -> Server:
        server = Server(script)
        listening.append(await asyncio.start_server(server.serve, "127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{listening[-1].sockets[0].getsockname()[1]}/a b?q=ä"
        return server

    yield start
    for server in listening:
        server.close()


@pytest.fixture
async def http() -> AsyncIterator[PyreqwestTransport]:
    transport = PyreqwestTransport()
    yield transport
    await transport.aclose()


def says(*pieces: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(pieces)

    return script


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)


async def body(http: PyreqwestTransport, url: str) -> bytes:
    async with http.stream("POST", url, body=b"") as reply:
        return await reply.read()


async def test_cancelled_before_the_head_the_connection_is_closed(
    serve: Any, http: PyreqwestTransport
) -> None:
    server = await serve(never)
    waiting = asyncio.create_task(body(http, server.url))
    await server.asked.wait()
    waiting.cancel()
    async with asyncio.timeout(5):
        await server.gone.wait()


async def test_left_in_the_middle_the_connection_is_closed(serve: Any, http: PyreqwestTransport) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\nabc\r\n")
        await never(reader, writer)

    server = await serve(script)
    async with http.stream("GET", server.url) as reply:
        async for chunk in reply.chunks():
            assert chunk == b"abc"  # before the answer has ended
            break
    async with asyncio.timeout(5):
        await server.gone.wait()


async def test_read_to_the_end_it_is_used_again(serve: Any, http: PyreqwestTransport) -> None:
    server = await serve(says(CHUNKED, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
    assert [await body(http, server.url) for _ in range(3)] == [b"abcde"] * 3
    assert server.connections == 1


async def test_not_after_connection_close(serve: Any, http: PyreqwestTransport) -> None:
    server = await serve(says(HEAD, b"connection: close\r\ncontent-length: 2\r\n\r\nok"))
    assert [await body(http, server.url) for _ in range(2)] == [b"ok"] * 2
    assert server.connections == 2


async def test_a_body_that_ends_with_the_connection(serve: Any, http: PyreqwestTransport) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\nall of it")
        writer.close()
        await writer.wait_closed()

    assert await body(http, (await serve(script)).url) == b"all of it"


async def test_a_body_cut_short_is_an_error(serve: Any, http: PyreqwestTransport) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 100\r\n\r\nnot all")
        writer.close()
        await writer.wait_closed()

    server = await serve(script)
    with pytest.raises(Unreachable):
        await body(http, server.url)


async def test_what_comes_before_the_final_answer_is_skipped(serve: Any, http: PyreqwestTransport) -> None:
    server = await serve(
        says(b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n", HEAD, b"Content-Length: 2\r\nX-A:  b \r\n\r\nok")
    )
    async with http.stream("GET", server.url) as reply:
        assert (reply.status, reply.header("x-a"), reply.header("link")) == (200, "b", None)
        assert await reply.read() == b"ok"


async def test_a_large_body_waits_for_its_reader(serve: Any, http: PyreqwestTransport) -> None:
    size = 20_000_000

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % size + b"x" * size)

    server = await serve(script)
    async with http.stream("GET", server.url) as reply:
        first = await anext(aiter(reply.chunks()))
        assert len(first) + len(await reply.read()) == size


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"NONSENSE\r\n\r\n", BadUpstream), (b"", Unreachable)],
)
async def test_what_is_no_answer(serve: Any, http: PyreqwestTransport, answer: bytes, error: Any) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await serve(script)
    with pytest.raises(error):
        await body(http, server.url)
    gc.collect()  # nothing is left behind to complain


async def test_the_request_is_well_formed(serve: Any, http: PyreqwestTransport) -> None:
    server = await serve(says(HEAD, b"content-length: 0\r\n\r\n"))
    async with http.stream("POST", server.url, headers=[("x-b", "c")], body=b"") as reply:
        await reply.read()
    line, *headers = server.requests[0].decode().rstrip().split("\r\n")
    assert line == "POST /a%20b?q=%C3%A4 HTTP/1.1"
    assert {"content-length: 0", "x-b: c", "user-agent: agentgw"} <= set(headers)


@pytest.mark.parametrize("headers", [[("a", "b\r\nc: d")], [("a\n", "b")], [("a", "\u20ac")]])
async def test_a_header_cannot_smuggle_another(http: PyreqwestTransport, headers: Any) -> None:
    with pytest.raises(BadUpstream):
        async with http.stream("GET", "http://127.0.0.1:1/", headers=headers):
            pass


async def test_nobody_listens(http: PyreqwestTransport) -> None:
    with pytest.raises(Unreachable):
        await body(http, "http://127.0.0.1:1/")
