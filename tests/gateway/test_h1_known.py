"""An answer whose head came before means just what the parser makes of it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway import h1, h1_known
from agentgw.gateway.errors import GatewayError

OK = b"HTTP/1.1 200 OK\r\nContent-Type: a\r\nContent-Length: 5\r\n\r\nhello"
ANSWERS = [
    OK,
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab",
    b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
    OK + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",  # one that nobody asked for
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nab",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nrun-id: 1-a\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nRun-ID: 1-a\r\nX:y\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nt:x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nRun-Id: 1-a\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nrun-id: \r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nrun-id: 1 a\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nrun-id: 1-a\r\nrun-id: 1-a\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nrun-id: 1-a\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nrun-id: 1-a\r\n",
    b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
]
KNOWN = {0, 1, 2, 4, 11, 12, 13, 14, 15, 17}  # of these


class Out:
    """A transport that takes everything."""

    closed = False

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


async def outcome(answer: bytes, cuts: list[int], method: str) -> Any:
    """What comes of one answer: all that a user of the connection sees."""
    out = Out()
    connection = h1.Connection()
    connection.connection_made(cast("asyncio.BaseTransport", out))
    sending = asyncio.ensure_future(connection.send(method, b"head"))
    await asyncio.sleep(0)
    edges = [0, *sorted(cut % (len(answer) + 1) for cut in cuts), len(answer)]
    for start, end in pairwise(edges):
        if end > start and not out.closed:
            connection.data_received(answer[start:end])
    connection.eof_received()
    body = b""
    try:
        await sending
        while piece := await asyncio.wait_for(anext(connection, b""), 60):
            body += piece
    except GatewayError as e:
        return str(e), body, out.closed
    return connection.status, list(connection.headers), body, connection.reusable, out.closed


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200), max_size=3), st.sampled_from(["GET", "HEAD"]))
def test_what_is_known_is_told_as_what_is_parsed(answer: bytes, cuts: list[int], method: str) -> None:
    fresh, known = asyncio.run(before_and_after(answer, cuts, method))
    assert known == fresh


async def before_and_after(answer: bytes, cuts: list[int], method: str) -> tuple[Any, Any]:
    """What comes of an answer when nothing is known, and when all that can be is."""
    h1_known.heads.forget()
    fresh = await outcome(answer, cuts, method)
    for known in ANSWERS:
        for own in (b"2-b", b"3-c", b"4-d"):
            await outcome(known.replace(b"1-a", own), [], "GET")
    return fresh, await outcome(answer, cuts, method)


@pytest.mark.parametrize("index", range(len(ANSWERS)))
async def test_a_known_head_has_the_value_that_is_its_own(index: int) -> None:
    fresh, known = await before_and_after(ANSWERS[index], [], "GET")
    assert known == fresh


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
AB = b"2\r\nab\r\n"
PIECES = [
    [AB],
    [AB, b"4\r\n\r\n\r\n\r\n", AB],
    [AB, AB + AB, AB],
    [AB, b"A\r\n0123456789\r\n", b"02\r\nab\r\n", b"2;x=y\r\nab\r\n", AB],
    [AB, b"1", AB + b"0123456789", b"abcd\r\n", AB],  # 12 in hexadecimal digits
    [AB, b"1", AB, b"0123456789abcd\r\n", AB],
    [AB, b"a\r\n", AB, b"xyz\r\n", AB],
    [AB, b"a;x=", AB, b"0123456\r\n", AB],
    [AB, b"2", b"\r\nab\r\n", b"2\r", b"\nab\r\n", b"2\r\nab\r", b"\n", AB],
    [AB, b"2\r\nabc\r\n", AB],
    [AB, b"2\r\nabxy", AB],
    [AB, b"3\r\nab\r\n", AB],
    [AB, b"0x2\r\nab\r\n", AB],
    [AB, b"+2\r\nab\r\n", AB],
    [AB, b" 2\r\nab\r\n", AB],
    [AB, b"2\nab\n", AB],
    [AB, b"0\r\n", AB],
    [AB, b"0\r\n\r\n", AB],
]


async def of_pieces(pieces: list[bytes]) -> tuple[Any, Any]:
    """What comes of an answer byte by byte, and in these pieces."""
    pieces = [*pieces, b"0\r\n", b"t: x\r\n", b"\r\n"]
    edges = [len(CHUNKED) + len(b"".join(pieces[:n])) for n in range(len(pieces))]
    answer = CHUNKED + b"".join(pieces)
    bytewise = await outcome(answer, list(range(len(answer))), "GET")
    return bytewise, await outcome(answer, edges, "GET")


@pytest.mark.parametrize("number", range(len(PIECES)))
async def test_a_chunk_that_comes_whole_is_what_the_parser_makes_of_it(number: int) -> None:
    bytewise, whole = await of_pieces(PIECES[number])
    assert whole == bytewise


@given(st.lists(st.sampled_from(PIECES).flatmap(st.sampled_from), max_size=8))
def test_pieces_of_chunks_are_what_the_parser_makes_of_them(pieces: list[bytes]) -> None:
    bytewise, whole = asyncio.run(of_pieces(pieces))
    assert whole == bytewise


@pytest.mark.parametrize("index", range(len(ANSWERS)))
async def test_only_answers_whose_head_says_all_are_known(index: int) -> None:
    h1_known.heads.forget()
    answer = ANSWERS[index]
    for own in (b"2-b", b"3-c"):
        await outcome(answer.replace(b"1-a", own), [], "GET")
    around = h1_known.around(answer)
    known = h1_known.heads.find(answer) or (around and h1_known.heads.get(around[0]))
    assert (known is not None) == (index in KNOWN)
