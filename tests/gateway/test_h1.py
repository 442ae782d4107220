"""The way out: requests and their answers, whole and as streams, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentgw.gateway import dial, pool
from agentgw.gateway.errors import BadUpstream, Unconnected, Unreachable
from agentgw.gateway.h1 import HIGH_WATER, Connection
from agentgw.gateway.transport import HttpTransport, Transport
from agentgw.gateway.waiting import Timer

from .agent_server import CHUNKED, GOOD, HEAD, Script, ends, hangs, says, serving


@pytest.fixture
async def http() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport()
    yield transport
    await transport.aclose()


async def body(http: Transport, url: str) -> bytes:
    async with http.stream("POST", url, body=b"") as reply:
        return await reply.read()


async def whole(http: Transport, url: str) -> bytes:
    return (await http.request("POST", url, body=b"")).body


# --- connections ---------------------------------------------------------------------------------


async def test_left_in_the_middle_the_connection_is_closed(http: HttpTransport) -> None:
    async with serving(hangs(CHUNKED + b"3\r\nabc\r\n")) as server:
        async with http.stream("GET", server.url) as reply:
            async for chunk in reply.chunks():
                assert chunk == b"abc"  # before the answer has ended
                break
        async with asyncio.timeout(60):
            await server.gone.wait()


async def test_what_comes_in_a_short_time_is_waited_for(http: HttpTransport) -> None:
    """The head, pieces and the end each come alone; who has patience goes on when all is there."""
    go = asyncio.Queue[bytes]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await go.get():
            writer.write(piece)

    pieces = [b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\nt: x\r\n", b"\r\n"]
    length = ("content-length", str(len(b"".join(pieces))))
    with_length = HEAD + b"%b: %b\r\n\r\n" % (length[0].encode(), length[1].encode())
    in_chunks = ("transfer-encoding", "chunked")
    async with serving(script) as server:
        for head, header, said in (
            (CHUNKED, in_chunks, b"abcde"),
            (with_length, length, b"".join(pieces)),
            (CHUNKED, in_chunks, b"abcde"),
        ):
            opening = asyncio.ensure_future(http.opened("GET", server.url, patience=Timer(60)))
            go.put_nowait(head)
            go.put_nowait(pieces[0])
            while not (busy := list(http._pool._busy)) or not busy[0]._size:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not opening.done()
            for piece in (*pieces[1:], b""):
                go.put_nowait(piece)
            reply = await opening
            assert reply.complete
            assert reply.headers == [header]
            assert await reply.read() == said
            reply.close()
    assert server.connections == 1


async def test_what_takes_longer_is_not_waited_for(http: HttpTransport) -> None:
    script = hangs(CHUNKED + b"3\r\nabc\r\n")
    async with serving(script) as server, http.stream("GET", server.url, patience=Timer(0)) as reply:
        assert not reply.complete
        assert await anext(aiter(reply.chunks())) == b"abc"


async def test_much_is_not_waited_for(http: HttpTransport) -> None:
    large = b"x" * (2 * HIGH_WATER)
    script = hangs(CHUNKED + b"%x\r\n%b\r\n" % (len(large), large))
    async with serving(script) as server, http.stream("GET", server.url, patience=Timer(60)) as reply:
        assert not reply.complete


async def test_a_connection_that_breaks_is_told_to_who_reads(http: HttpTransport) -> None:
    script = ends(CHUNKED + b"3\r\nabc\r\n")
    async with serving(script) as server, http.stream("GET", server.url, patience=Timer(60)) as reply:
        chunks = aiter(reply.chunks())
        assert await anext(chunks) == b"abc"
        with pytest.raises(Unreachable):
            await anext(chunks)


async def test_the_end_of_the_connection_may_be_that_of_the_answer(http: HttpTransport) -> None:
    script = ends(HEAD + b"\r\nabc")
    async with serving(script) as server, http.stream("GET", server.url, patience=Timer(60)) as reply:
        assert await reply.read() == b"abc"


async def test_what_is_no_http_is_told_to_who_reads(http: HttpTransport) -> None:
    script = hangs(CHUNKED + b"3\r\nabc\r\nx")
    async with serving(script) as server, http.stream("GET", server.url, patience=Timer(60)) as reply:
        with pytest.raises(BadUpstream):
            await reply.read()


async def test_only_its_end_is_missing(http: HttpTransport) -> None:
    """A stream's last event often comes alone, and the end of the body after it."""
    end = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\nabc\r\n")
        await end.wait()
        writer.write(b"0\r\n\r\n")

    async with serving(script) as server:
        async with http.stream("GET", server.url) as reply:
            await anext(aiter(reply.chunks()))
            reply.settle()
        end.set()
        async with asyncio.timeout(60):
            while not any(lane.kept for lane in http._pool._lanes.values()):  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert (await http.request("GET", server.url)).body == b"abc"
        assert server.connections == 1


async def test_the_end_that_never_comes(http: HttpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SETTLE", 0.01)
    async with serving(hangs(CHUNKED + b"3\r\nabc\r\n")) as server:
        async with http.stream("GET", server.url) as reply:
            await anext(aiter(reply.chunks()))
            reply.settle()
        async with asyncio.timeout(60):
            await server.gone.wait()


async def test_a_taker_is_offered_what_the_reader_waits_for(http: HttpTransport) -> None:
    """What it does not take the reader gets, and the answer's end in any case."""
    go, taken = asyncio.Queue[bytes](), list[bytes]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while piece := await go.get():
            writer.write(piece)

    then = {b"a": b"2\r\nno\r\n", b"b": b"3\r\nend\r\n0\r\n\r\n", b"end": b""}

    def take(piece: bytes) -> bool:
        if piece == b"no":
            return False
        taken.append(piece)
        go.put_nowait(then[piece])
        return True

    async with serving(script) as server:
        for _ in range(2):  # on one connection
            taken.clear()
            async with http.stream("GET", server.url) as reply:
                reply.offer(take)
                chunks = reply.chunks()
                go.put_nowait(b"1\r\na\r\n")
                assert await anext(aiter(chunks)) == b"no"
                go.put_nowait(b"1\r\nb\r\n")
                assert [chunk async for chunk in chunks] == []
            assert taken == [b"a", b"b", b"end"]


async def test_a_taker_is_offered_nothing_of_another_answer(http: HttpTransport) -> None:
    go = asyncio.Queue[bytes]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        writer.write(await go.get())

    async with serving(script) as server:
        for offering in (True, False):
            async with http.stream("GET", server.url) as reply:
                if offering:
                    reply.offer(lambda piece: True)
                go.put_nowait(b"1\r\na\r\n0\r\n\r\n")
                assert [chunk async for chunk in reply.chunks()] == ([] if offering else [b"a"])
        assert server.connections == 1


async def test_what_comes_while_the_reader_is_busy_waits_for_it(http: HttpTransport) -> None:
    """A taker would be told of it before the reader is done with what came before."""
    go, taken = asyncio.Queue[None](), list[bytes]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await go.get()
        writer.write(b"1\r\na\r\n")
        await go.get()
        writer.write(b"1\r\nb\r\n0\r\n\r\n")

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return piece != b"a"

    async with serving(script) as server, http.stream("GET", server.url) as reply:
        reply.offer(take)
        chunks = aiter(reply.chunks())
        go.put_nowait(None)
        assert await anext(chunks) == b"a"
        go.put_nowait(None)
        async with asyncio.timeout(60):
            while not reply.complete:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert [chunk async for chunk in chunks] == [b"b"]
    assert b"b" not in taken


async def test_what_a_taker_raises_is_raised_where_the_reader_waits(http: HttpTransport) -> None:
    """It is no fault of the connection's, of which nothing is read twice."""
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await go.wait()
        writer.write(b"1\r\na\r\n")

    def take(piece: bytes) -> bool:
        raise LookupError(piece)

    async with serving(script) as server:
        async with http.stream("GET", server.url) as reply:
            reply.offer(take)
            go.set()
            with pytest.raises(LookupError, match="a"):
                await anext(aiter(reply.chunks()))
        async with asyncio.timeout(60):
            await server.gone.wait()


async def test_a_taker_that_takes_all_keeps_a_fast_agent_reading(http: HttpTransport) -> None:
    """Nothing of what was taken counts as what waits unread."""
    size = 8 * HIGH_WATER
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return True

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"1\r\n<\r\n")
        await reader.readexactly(1)  # all that was asked for has been read
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))

    async with serving(script) as server, http.stream("POST", server.url, body=b"?") as reply:
        reply.offer(take)
        async with asyncio.timeout(60):
            read = b"".join([chunk async for chunk in reply.chunks()])
    assert len(read) + sum(map(len, taken)) == size + 1
    assert len(taken) > 1


@pytest.mark.parametrize("ask", [body, whole])
async def test_read_to_the_end_it_is_used_again(http: HttpTransport, ask: Any) -> None:
    async with serving(says(CHUNKED, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: x\r\n\r\n")) as server:
        assert [await ask(http, server.url) for _ in range(3)] == [b"abcde"] * 3
        assert server.connections == 1


async def test_trailers_are_no_headers(http: HttpTransport) -> None:
    async with serving(says(CHUNKED, b"2\r\nok\r\n0\r\nX-Trailer: z\r\n\r\n")) as server:
        for _ in range(2):
            reply = await http.request("GET", server.url)
            assert (reply.body, reply.headers) == (b"ok", [("transfer-encoding", "chunked")])
        assert server.connections == 1


async def test_not_after_connection_close(http: HttpTransport) -> None:
    async with serving(says(HEAD, b"connection: close\r\ncontent-length: 2\r\n\r\nok")) as server:
        assert [await body(http, server.url) for _ in range(2)] == [b"ok"] * 2
        assert server.connections == 2


async def test_a_close_that_the_loop_has_not_seen(http: HttpTransport) -> None:
    """The agent closes a kept connection in the very moment in which the next request begins."""
    writers: list[asyncio.StreamWriter] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(HEAD + b"content-length: 2\r\n\r\nok")

    async with serving(script) as server:
        assert await body(http, server.url) == b"ok"
        with socket.socket(fileno=os.dup(writers[0].get_extra_info("socket").fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)
        assert await body(http, server.url) == b"ok"
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_what_cannot_be_sent_again_takes_no_old_connection(
    http: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent might be closing it."""
    monkeypatch.setattr(pool, "FRESH", 0.0)
    async with serving(says()) as server:
        for method, connections in (("GET", 1), ("PUT", 1), ("POST", 2), ("POST", 3), ("DELETE", 3)):
            await http.request(method, server.good)
            assert server.connections == connections


async def test_connections_of_a_burst_do_not_stand_in_the_way_of_new_ones(
    http: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are too old for a POST, and as many as are kept: a new one is kept in their place."""
    monkeypatch.setattr(pool, "KEPT", 3)
    burst = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.connections == 3:
            burst.set()
        await burst.wait()
        writer.write(GOOD)

    async with serving(script) as server:
        await asyncio.gather(*(whole(http, server.url) for _ in range(3)))
        for lane in http._pool._lanes.values():
            for connection in lane.kept:
                connection.idle_since -= pool.FRESH
        for _ in range(3):
            await whole(http, server.good)
        assert server.connections == 4
        async with asyncio.timeout(60):
            await server.gone.wait()  # the oldest, whose place it took


async def test_as_many_are_kept_in_all_as_may_be_in_use() -> None:
    """The oldest makes room, on whatever route it is."""
    http, burst = HttpTransport(total=2), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if one.connections == 2:
            burst.set()
        await burst.wait()
        writer.write(GOOD)

    async with serving(script) as one, serving(says()) as other:
        await asyncio.gather(*(whole(http, one.url) for _ in range(2)))
        for _ in range(3):
            await whole(http, other.good)
        assert other.connections == 1
        async with asyncio.timeout(60):
            await one.gone.wait()
        await whole(http, one.good)
        assert one.connections == 2  # the other one of the two was kept
        for _ in range(2):
            await whole(http, other.good)
        assert other.connections == 1
        await http.aclose()
        http = HttpTransport(total=1)
        for url in (one.good, other.good, one.good):
            await whole(http, url)
        assert len(http._pool._lanes) == 1  # a route without connections is forgotten
        await http.aclose()


async def test_what_nobody_uses_is_closed(http: HttpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE", 0.01)
    async with serving(says()) as server:
        await whole(http, server.good)
        async with asyncio.timeout(60):
            await server.gone.wait()


async def test_closing_ends_what_is_under_way(http: HttpTransport) -> None:
    async with serving(hangs()) as server:
        asking = asyncio.create_task(body(http, server.url))
        await server.asked.wait()
        await http.aclose()
        async with asyncio.timeout(60):
            await server.gone.wait()
            assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], Exception)


@pytest.mark.parametrize("bounds", [{"per_route": 2}, {"total": 2}])
async def test_requests_wait_for_a_free_connection(bounds: Any) -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(HEAD + b"content-length: 2\r\n\r\nok")

    http = HttpTransport(**bounds)
    async with serving(script) as server:
        asking = [asyncio.create_task(whole(http, server.url)) for _ in range(10)]
        asking.pop().cancel()
        await server.asked.wait()
        go.set()
        assert await asyncio.gather(*asking) == [b"ok"] * 9
        assert server.connections == 2
    await http.aclose()


async def test_not_for_ever() -> None:
    http = HttpTransport(connect_timeout=0.4, per_route=1)
    async with serving(hangs()) as server, serving(says()) as other:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(body(http, server.url))
            await server.asked.wait()
            with pytest.raises(Unconnected, match="too many requests to it are under way"):
                await whole(http, server.good)
            assert await whole(http, other.good) == b"good"
            first.cancel()
        assert await whole(http, server.good) == b"good"
    await http.aclose()


async def test_who_stops_waiting_leaves_its_place() -> None:
    http = HttpTransport(connect_timeout=60, per_route=1, total=1)
    async with serving(hangs()) as busy, serving(says()) as other:
        first = asyncio.create_task(body(http, busy.url))
        await busy.asked.wait()
        waiting = [asyncio.create_task(whole(http, other.good)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        first.cancel()
        assert await waiting[1] == b"good"
    await http.aclose()


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [b"", b"HTTP/1.1 103 Early Hints\r\ncontent-length: 7\r\n\r\n"])
@pytest.mark.parametrize("ask", [body, whole])
async def test_a_body_that_ends_with_the_connection(http: HttpTransport, ask: Any, early: bytes) -> None:
    async with serving(ends(early + HEAD + b"\r\nall of it")) as server:
        assert await ask(http, server.url) == b"all of it"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body(http: HttpTransport, status: bytes) -> None:
    async with serving(says(b"HTTP/1.1 " + status + b"\r\n\r\n")) as server:
        assert [await whole(http, server.url) for _ in range(2)] == [b"", b""]
        assert server.connections == 1


async def test_the_answer_to_head_has_no_body(http: HttpTransport) -> None:
    async with serving(says(HEAD + b"content-length: 7\r\n\r\n")) as server:
        reply = await http.request("HEAD", server.url)
        assert (reply.body, reply.header("content-length")) == (b"", "7")
        assert await whole(http, server.good) == b"good"
        assert server.connections == 1


async def test_what_comes_before_the_final_answer_is_skipped(http: HttpTransport) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
    async with serving(says(early, HEAD, b"Content-Length: 2\r\nX-A:  b \r\n\r\nok")) as server:
        reply = await http.request("GET", server.url)
        assert (reply.status, reply.header("x-a"), reply.header("link")) == (200, "b", None)
        assert reply.body == b"ok"


async def test_a_large_answer_waits_for_its_reader(http: HttpTransport) -> None:
    size = 20_000_000
    async with serving(says(HEAD + b"content-length: %d\r\n\r\n" % size + b"x" * size)) as server:
        sizes: list[int] = []
        async with http.stream("GET", server.url) as reply:
            async for chunk in reply.chunks():
                sizes.append(len(chunk))
                for _ in range(10):  # meanwhile more could come in
                    await asyncio.sleep(0)
        assert sum(sizes) == size
        assert max(sizes) <= 3 * HIGH_WATER


async def test_a_large_request_waits_for_the_agent() -> None:
    async with serving(hangs()) as server:
        connection = Connection()
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: connection, "127.0.0.1", server.port)
        sending = asyncio.create_task(connection.send("POST", b"POST / HTTP/1.1\r\n\r\n", bytes(50_000_000)))
        await server.asked.wait()
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 1_000_000
        connection.close()
        await asyncio.gather(sending, return_exceptions=True)


async def test_an_agent_that_refuses_gets_no_more_of_a_request() -> None:
    size, received, go = 50_000_000, 0, asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def read() -> None:
            nonlocal received
            while piece := await reader.read(2**16):
                received += len(piece)

        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\n")
        reading = asyncio.create_task(read())
        await go.wait()
        writer.write(b"no!")
        await reading

    async with serving(script) as server:
        connection = Connection()
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", server.port)
        await connection.send("POST", b"POST / HTTP/1.1\r\n\r\n", bytes(size))
        assert connection.transport is not None
        while connection.transport.get_write_buffer_size():  # noqa: ASYNC110 (what was under way)
            await asyncio.sleep(0)
        go.set()
        assert (connection.status, [piece async for piece in connection]) == (413, [b"no!"])
        assert received < size
        assert not connection.reusable  # it still waits for the rest
        connection.close()


async def test_too_large_an_answer() -> None:
    http = HttpTransport(limit=10, per_route=1)
    async with serving(says(HEAD + b"content-length: 11\r\n\r\nhello world")) as server:
        for ask in (whole, body):
            with pytest.raises(BadUpstream, match="larger than 10 bytes"):
                await ask(http, server.url)
        assert await whole(http, server.good) == b"good"
    await http.aclose()


# --- compression ---------------------------------------------------------------------------------


def packed(coding: bytes, data: bytes) -> Script:
    return says(HEAD + b"content-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (coding, len(data)) + data)


@pytest.mark.parametrize("ask", [body, whole])
async def test_compressed_though_nobody_asked(http: HttpTransport, ask: Any) -> None:
    text = b"agent " * 100_000
    async with serving(packed(b"gzip", gzip.compress(text))) as server:
        assert await ask(http, server.url) == text
        assert b"accept-encoding: identity\r\n" in server.requests[0]


async def test_what_is_compressed_is_offered_to_nobody(http: HttpTransport) -> None:
    """Who takes pieces wants to see what they say."""
    go, packed_ = asyncio.Event(), gzip.compress(b"agent")

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed_))
        await go.wait()
        writer.write(packed_)

    async with serving(script) as server, http.stream("GET", server.url) as reply:
        reply.offer(lambda piece: True)
        go.set()
        assert b"".join([chunk async for chunk in reply.chunks()]) == b"agent"


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        (b"gzip", gzip.compress(b"agent " * 100)[:-9]),
        (b"gzip", b"no gzip"),
        (b"br", b"\x0b\x02\x80agent\x03"),
    ],
    ids=["cut off", "not gzip", "another coding"],
)
async def test_what_cannot_be_unpacked(http: HttpTransport, coding: bytes, data: bytes) -> None:
    async with serving(packed(coding, data)) as server:
        with pytest.raises(BadUpstream, match=r"gzip|compressed"):
            await whole(http, server.url)


async def test_little_that_unpacks_to_very_much() -> None:
    http = HttpTransport(limit=1_000_000)
    async with serving(packed(b"gzip", gzip.compress(bytes(100_000_000), 1))) as server:
        with pytest.raises(BadUpstream, match="larger than 1000000 bytes"):
            await whole(http, server.url)
        async with http.stream("GET", server.url) as reply:
            assert len(await anext(aiter(reply.chunks()))) <= 1_000_000
    await http.aclose()


# --- requests ------------------------------------------------------------------------------------


async def test_the_request_is_well_formed(http: HttpTransport) -> None:
    async with serving(says(HEAD, b"content-length: 0\r\n\r\n")) as server:
        await http.request("POST", server.url, headers=[("x-b", "c"), ("Connection", "close")], body=b"")
        line, *headers = server.requests[0].decode().rstrip().split("\r\n")
        assert line == "POST /a%20b?q=%C3%A4 HTTP/1.1"
        host = f"host: 127.0.0.1:{server.port}"
        expected = [host, "x-b: c", "user-agent: agentgw", "accept-encoding: identity", "content-length: 0"]
        assert sorted(headers) == sorted(expected)


async def test_a_name_with_several_addresses(http: HttpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on one of them only, as it often is with ``localhost``."""

    async def addresses(host: str, port: int) -> list[str]:
        return ["127.0.0.3", "127.0.0.1", "127.0.0.2"]

    monkeypatch.setattr(dial, "_addresses", addresses)
    async with serving(says()) as server:
        assert await whole(http, f"http://agent.example:{server.port}/good") == b"good"


async def test_a_user_in_the_url(http: HttpTransport) -> None:
    async with serving(says(HEAD, b"content-length: 0\r\n\r\n")) as server:
        await http.request("GET", server.url.replace("//", "//me:p%40ss@"))
        assert b"authorization: Basic bWU6cEBzcw==\r\n" in server.requests[0]
        assert b"me:p" not in server.requests[0]


async def test_another_address_for_a_name(http: HttpTransport) -> None:
    async with serving(says(HEAD, b"content-length: 0\r\n\r\n")) as server:
        url = f"http://agent.example:{server.port}/x"
        await http.request("GET", url, address="127.0.0.1")
        async with http.stream("GET", url, address="127.0.0.1") as answer:
            assert await answer.read() == b""
        assert f"host: agent.example:{server.port}\r\n".encode() in server.requests[0]
        with pytest.raises(Unconnected):  # the connection is kept for that address only
            await http.request("GET", url, address="127.0.0.2")
        assert server.connections == 1


@pytest.mark.parametrize(
    "headers", [[("a", "b\r\nc: d")], [("a\n", "b")], [("a: b", "c")], [("a", "\u20ac")]]
)
async def test_a_header_cannot_smuggle_another(http: HttpTransport, headers: Any) -> None:
    with pytest.raises(BadUpstream, match="header"):
        async with http.stream("GET", "http://127.0.0.1:1/", headers=headers):
            pass
