"""Agents that speak HTTP badly, or not at all: a clear error in bounded time, and the next request works.

There is one place in the pool: one that leaked would keep the next request from being sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentgw.gateway import pool
from agentgw.gateway.errors import BadUpstream, Unconnected, Unreachable, UpstreamTimeout
from agentgw.gateway.transport import HttpTransport, Transport

from .agent_server import CHUNKED, HEAD, Script, Server, ends, forever, hangs, resets, says, serving


@pytest.fixture
async def http(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpTransport]:
    monkeypatch.setattr(pool, "IDLE", 1000.0)  # what is closed, is closed for a reason
    monkeypatch.setattr(pool, "FRESH", 1000.0)
    transport = HttpTransport(per_route=1, total=1)
    yield transport
    await transport.aclose()


async def whole(http: Transport, url: str, method: str = "GET", **more: Any) -> bytes:
    async with asyncio.timeout(60):
        return (await http.request(method, url, **more)).body


async def streamed(http: Transport, url: str, method: str = "GET", **more: Any) -> bytes:
    async with asyncio.timeout(60), http.stream(method, url, **more) as answer:
        return await answer.read()


async def is_well(http: Transport, server: Server) -> None:
    """The connection was closed, its place is free."""
    async with asyncio.timeout(60):
        await server.gone.wait()
    assert await whole(http, server.good) == b"good"


CL = HEAD + b"content-length: 10\r\n\r\n"
ILL: dict[str, tuple[Script, type[Exception], str]] = {
    "closes before the head": (ends(), Unreachable, "closed the connection"),
    "closes in the head": (ends(HEAD + b"content-le"), Unreachable, "closed the connection"),
    "closes in the body": (ends(CL + b"12345"), Unreachable, "before its answer was complete"),
    "closes in a chunk": (ends(CHUNKED + b"5\r\nab"), Unreachable, "before its answer was complete"),
    "closes before the last chunk": (ends(CHUNKED + b"2\r\nab\r\n"), Unreachable, "before its answer"),
    "resets before the head": (resets(), Unreachable, "closed the connection"),
    "resets in the body": (resets(CL + b"12345"), Unreachable, "before its answer was complete"),
    "resets a body without length": (resets(HEAD + b"\r\n12345"), Unreachable, "before its answer"),
    "garbage": (says(b"\x16\x03\x01 not HTTP\r\n\r\n"), BadUpstream, "not valid HTTP"),
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.6\r\n"), BadUpstream, "not valid HTTP"),
    "bad status": (says(b"HTTP/1.1 20 OK\r\n\r\n"), BadUpstream, "not valid HTTP"),
    "status zero": (says(b"HTTP/1.1 000 OK\r\n\r\n"), BadUpstream, "not valid HTTP"),
    "changes the protocol": (
        says(b"HTTP/1.1 101 Switch\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nx"),
        BadUpstream,
        "not valid HTTP",
    ),
    "a header line of 8 MB": (
        says(HEAD + b"x: " + b"y" * 8_000_000 + b"\r\n\r\n"),
        BadUpstream,
        "head of .* too large",
    ),
    "a header line without end": (forever(HEAD + b"x: ", b"y" * 1000), BadUpstream, "head of .* too large"),
    "headers without end": (forever(HEAD, b"x: y\r\n" * 100), BadUpstream, "head of .* too large"),
    "interim answers without end": (
        forever(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        BadUpstream,
        "not valid HTTP",
    ),
    "trailers without end": (forever(CHUNKED + b"0\r\n", b"x: y\r\n" * 100), BadUpstream, "too large"),
    "a chunk extension without end": (forever(CHUNKED + b"1;x=", b"y" * 1000), BadUpstream, "too large"),
    "a chunk size that is none": (says(CHUNKED + b"zz\r\nab\r\n"), BadUpstream, "not valid HTTP"),
    "a chunk size that is negative": (says(CHUNKED + b"-1\r\nab\r\n"), BadUpstream, "not valid HTTP"),
    "a chunk size of too many digits": (says(CHUNKED + b"f" * 20 + b"\r\n"), BadUpstream, "not valid HTTP"),
    "a chunk longer than said": (says(CHUNKED + b"2\r\nabc\r\n0\r\n\r\n"), BadUpstream, "not valid HTTP"),
    "a length and chunks": (
        says(HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        BadUpstream,
        "not valid HTTP",
    ),
    "chunks and a length": (
        says(HEAD + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"),
        BadUpstream,
        "not valid HTTP",
    ),
    "two lengths": (
        says(HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
        BadUpstream,
        "not valid HTTP",
    ),
    "two lengths in one": (says(HEAD + b"content-length: 3, 4\r\n\r\nabcd"), BadUpstream, "not valid HTTP"),
    "a length that is none": (says(HEAD + b"content-length: +3\r\n\r\nabc"), BadUpstream, "not valid HTTP"),
    "a coding that nobody knows": (
        says(HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        BadUpstream,
        "transfer encoding",
    ),
    "chunks that are not the last coding": (
        says(HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        BadUpstream,
        "transfer encoding",
    ),
    "lines that end in LF": (says(b"HTTP/1.1 200 OK\ncontent-length: 0\n\n"), BadUpstream, "not valid HTTP"),
    "a space before the colon": (says(HEAD + b"a : b\r\n\r\n"), BadUpstream, "not valid HTTP"),
}


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("case", ILL)
async def test_what_is_no_answer(http: HttpTransport, case: str, ask: Any) -> None:
    script, error, message = ILL[case]
    async with serving(script) as server:
        with pytest.raises(error, match=message) as e:
            await ask(http, server.url, "POST", body=b"{}")
        assert type(e.value) is error
        assert len(server.requests) == 1
        assert await whole(http, server.good) == b"good"
        assert server.connections == 2


@pytest.mark.parametrize(
    "script",
    [
        hangs(),
        hangs(b"HTTP/1.1 2"),
        hangs(CL + b"12345"),
        hangs(CHUNKED + b"5\r\nab"),
        hangs(HEAD + b"\r\nab"),
    ],
    ids=["before the head", "in the head", "in the body", "in a chunk", "in a body without length"],
)
async def test_hangs(http: HttpTransport, script: Script) -> None:
    async with serving(script) as server:
        await whole(http, server.good)
        with pytest.raises(UpstreamTimeout, match="did not answer in time"):
            await http.request("GET", server.url, timeout=0.05)
        await is_well(http, server)


@pytest.mark.parametrize(
    ("script", "upload"),
    [(hangs(), b""), (hangs(CL + b"12345"), b""), (hangs(), b"x" * 30_000_000)],
    ids=["before the head", "in the body", "while the request is sent"],
)
async def test_cancelled(http: HttpTransport, script: Script, upload: bytes) -> None:
    async with serving(script) as server:
        asking = asyncio.create_task(streamed(http, server.url, "POST", body=upload))
        await server.asked.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        if not upload:  # this server does not look up until it has read all of it
            await is_well(http, server)
        assert await whole(http, server.good) == b"good"


async def test_cancelled_in_a_handshake_of_tls(http: HttpTransport) -> None:
    began, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        began.set()
        await reader.read()
        gone.set()
        writer.close()

    async with serving(says()) as server, await asyncio.start_server(silent, "127.0.0.1", 0) as mute:
        url = f"https://127.0.0.1:{mute.sockets[0].getsockname()[1]}/"
        asking = asyncio.create_task(whole(http, url))
        await began.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(60):
            await gone.wait()
        assert await whole(http, server.good) == b"good"


async def test_a_connection_that_never_comes_about() -> None:
    """The handshake hangs: that, too, is bounded by ``connect_timeout``."""
    http = HttpTransport(connect_timeout=0.05)
    async with serving(hangs()) as server:
        with pytest.raises(Unconnected, match="can't be reached: no answer in time"):
            await whole(http, server.good.replace("http:", "https:"))
    await http.aclose()


async def test_refuses(http: HttpTransport) -> None:
    async with serving(says()) as server:
        for url, reason in (
            ("http://127.0.0.1:1/", "connection refused"),
            ("https://127.0.0.1:1/", "connection refused"),
            ("http://no..name/", "its name has no address"),
        ):
            with pytest.raises(Unconnected, match=f"can't be reached: {reason}"):
                await whole(http, url)
        assert await whole(http, server.good) == b"good"


@pytest.mark.parametrize(
    "url", ["ftp://h/", "http://", "http://h:0/", "http://h:99999/", "http://[h/", "x", ""]
)
async def test_what_is_no_url(http: HttpTransport, url: str) -> None:
    with pytest.raises(BadUpstream, match="URL is not valid"):
        await whole(http, url)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"content-length: 2\r\n\r\nok" + HEAD + b"content-length: 5\r\n\r\nwrong",
        HEAD + b"content-length: 2\r\n\r\nokwrong",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + HEAD + b"content-length: 5\r\n\r\nwrong",
    ],
)
async def test_more_than_one_answer(http: HttpTransport, answer: bytes) -> None:
    async with serving(says(answer)) as server:
        assert await whole(http, server.url) == b"ok"
        await is_well(http, server)
        assert server.connections == 2


async def test_an_answer_before_the_question(http: HttpTransport) -> None:
    """It comes while the connection is kept: it must not become the answer to the next request."""
    more = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 2\r\n\r\nok")
        await more.wait()
        writer.write(HEAD + b"content-length: 5\r\n\r\nwrong")

    async with serving(script) as server:
        assert await whole(http, server.url) == b"ok"
        more.set()
        await is_well(http, server)


@pytest.mark.parametrize("start", [HEAD, b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 Not Modified\r\n"])
async def test_a_body_where_there_must_be_none(http: HttpTransport, start: bytes) -> None:
    async with serving(says(start + b"content-length: 5\r\n\r\nwrong")) as server:
        reply = await http.request("HEAD" if start == HEAD else "GET", server.url)
        assert (reply.body, reply.header("content-length")) == (b"", "5")
        await is_well(http, server)


@pytest.mark.parametrize("status", [b"200 OK", b"413 Too Large"])
@pytest.mark.parametrize("end", [hangs, ends, resets], ids=["keeps", "closes", "resets"])
async def test_an_answer_while_the_request_is_being_sent(
    http: HttpTransport, end: Any, status: bytes
) -> None:
    script = end(b"HTTP/1.1 " + status + b"\r\ncontent-length: 3\r\n\r\nno!")
    async with serving(script) as server:
        for ask in (whole, streamed):
            body = await ask(http, server.url, "POST", body=b"x" * 30_000_000)
            assert body == b"no!"
        assert await whole(http, server.good) == b"good"


async def test_a_server_that_answers_while_it_reads(http: HttpTransport) -> None:
    """A conversation over one request: neither side waits for the other to end."""
    size = 20_000_000

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % size)
        left = size
        while left:
            piece = await reader.read(2**16)
            left -= len(piece)
            writer.write(piece)
            await writer.drain()

    sent = bytes(range(256)) * (size // 256)
    async with serving(echo) as server:
        for _ in range(2):
            assert await streamed(http, server.url, "POST", body=sent) == sent
        assert server.connections == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"])
@pytest.mark.parametrize("end", [ends(), resets()], ids=["closes", "resets"])
async def test_a_kept_connection_ends_as_the_request_comes(
    http: HttpTransport, method: str, end: Script
) -> None:
    """Sent again where that can do no harm, and only there."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (end if server.connections == 1 else says(HEAD + b"content-length: 0\r\n\r\n"))(reader, writer)

    async with serving(script) as server:
        await whole(http, server.good)
        if method in ("POST", "PATCH"):
            with pytest.raises(Unreachable):
                await whole(http, server.url, method)
            assert len(server.requests) == 2
        else:
            assert (await http.request(method, server.url)).status == 200
            assert len(server.requests) == 3


@pytest.mark.parametrize("said", [b"", b"H", HEAD])
async def test_sent_again_once_at_most_and_never_after_a_byte_of_the_answer(
    http: HttpTransport, said: bytes
) -> None:
    async with serving(ends(said)) as server:
        await whole(http, server.good)
        with pytest.raises(Unreachable):
            await whole(http, server.url)
        assert len(server.requests) == (2 if said else 3)
        assert await whole(http, server.good) == b"good"
