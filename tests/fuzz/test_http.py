"""Bytes at the front, and from agents' servers: the same is read, or refused, however they arrive."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.errors import GatewayError
from agentgw.gateway.h1 import Connection
from agentgw.gateway.http.incoming import Incoming
from agentgw.gateway.http.wire import ClientGone

from ..gateway.http.support import Wire, read_all, settled
from ..support.examples import examples

# What requests are made of; strung together at random nearly all are refused, some of them late.
PIECES = [
    b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"PUT /a%20b?c HTTP/1.0\r\n", b"HEAD * HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n", b"GET http://x.example/y HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n",
    b"GET /\xff HTTP/1.1\r\n",
    b"get / HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n", b"GET / HTTP/9.9\r\n", b"GET /\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"host: a\r\n", b"host: a\r\n", b"Host:\r\n", b"content-length: 3\r\n", b"content-length: 0\r\n",
    b"content-length: -1\r\n",
    b"content-length: 99999999999999999999\r\n", b"content-length: 3, 3\r\n", b"content-length: \xb2\r\n",
    b"Content-Length : 3\r\n",
    b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip, chunked\r\n", b"transfer-encoding: x\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\n", b"expect: 100-continue\r\n", b"expect: x\r\n",
    b"a: b\r\n c\r\n", b": x\r\n",
    b"a\x00b: c\r\n", b"a: b\x00\r\n", b"x: " + b"y" * 3000 + b"\r\n", b"cookie: a=b; c\r\n", b"a: b\n",
    b"a: b\r", b"no colon\r\n",
    b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\n\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n",
    b"0\r\nt: x\r\n\r\n", b"ffffffffffffffffff\r\n",
    b"3;x=\"y\r\nabc\r\n", b"g\r\n", b"-1\r\n", b"0\r\n",
]  # fmt: skip
STARTS = [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
 b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
          b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
          b"3\r\nabc\r\n0\r\n\r\n"]  # fmt: skip


async def sent(data: bytes, cuts: list[int]) -> tuple[list[tuple[str, bytes, bytes]], bytes, bool]:
    """What the door got, what the client got, and whether the connection ended."""
    got: list[tuple[str, bytes, bytes]] = []

    async def door(request: Incoming) -> None:
        try:
            body = await read_all(request)
        except ClientGone:
            return
        got.append((request.method, request.target, body))
        await request.answer(200, (), (), b"ok")

    client = Wire(door)
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for a, b in itertools.pairwise(at):
        for _ in range(1000):
            if client.reading or client.closed:
                break
            await asyncio.sleep(0)
        if client.closed:
            break
        client.send(data[a:b])
        await settled(3)
    await settled(200)
    answers, ended = client.reads(), client.ended
    client.leaves()
    await settled()
    assert not client.home.tasks
    return got, b"\n".join(line for line in answers.split(b"\n") if not line.startswith(b"date: ")), ended


@examples(200)
@given(
    st.lists(st.sampled_from(PIECES), max_size=12)
    | st.lists(st.sampled_from([*STARTS, *PIECES]), max_size=8),
    st.binary(max_size=12),
    st.integers(0, 1 << 16),
    st.lists(st.integers(0, 1 << 16), max_size=12),
)
def test_a_connection(pieces: list[bytes], junk: bytes, where: int, cuts: list[int]) -> None:
    data = b"".join(pieces)
    at = where % (len(data) + 1)
    data = data[:at] + junk + data[at:]

    async def both() -> None:
        whole, parted = await sent(data, []), await sent(data, cuts)
        assert parted == whole

    asyncio.run(both())


# --- an agent's answer ---------------------------------------------------------------------------------

ANSWERED = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 \r\n", b"HTTP/1.1 304 x\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 99 x\r\n", b"HTTP/1.1 2000 x\r\n", b"HTTP/2 200\r\n",
    b"ICY 200 OK\r\n", b"HTTP/1.1\r\n",
]  # fmt: skip
WELL = [b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
 b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"]  # fmt: skip


class Line(asyncio.Transport):
    """To an agent's server that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


async def answered(
    data: bytes, cuts: list[int], method: str
) -> tuple[int, list[tuple[str, str]], bytes] | None:
    """What the gateway reads of an agent's answer; None: an error, of those that are declared."""
    connection, line = Connection(), Line()
    connection.connection_made(line)
    sending = asyncio.ensure_future(connection.send(method, b"GET / HTTP/1.1\r\n\r\n"))
    await asyncio.sleep(0)
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for a, b in itertools.pairwise(at):
        if line.closed:
            break
        connection.data_received(data[a:b])
    connection.eof_received()
    connection.connection_lost(None)
    try:
        await sending
        body = b""
        async for piece in connection:
            body += piece
    except GatewayError:
        return None
    return connection.status, connection.headers, body


@examples(200)
@given(
    st.tuples(st.sampled_from(ANSWERED), st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join)).map(
        b"".join
    )
    | st.lists(st.sampled_from([*WELL, *PIECES]), max_size=4).map(b"".join),
    st.sampled_from([b"", b"", b"\0", b"\xff", b"\r\n", b"1", b" "]),
    st.integers(0, 1 << 16),
    st.lists(st.integers(0, 1 << 16), max_size=12),
    st.sampled_from(["GET", "POST", "HEAD"]),
)
def test_an_answer(data: bytes, junk: bytes, where: int, cuts: list[int], method: str) -> None:
    at = where % (len(data) + 1)
    data = data[:at] + junk + data[at:]

    async def both() -> None:
        assert await answered(data, cuts, method) == await answered(data, [], method)

    asyncio.run(both())
