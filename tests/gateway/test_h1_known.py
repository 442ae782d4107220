"""An answer whose head came before means just what the parser makes of it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway import h1
from agentgw.gateway.errors import GatewayError
from agentgw.gateway.recurring import Recurring

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
]


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
    try:
        await sending
        body = b""
        while (piece := await asyncio.wait_for(connection.read(), 60)) is not None:
            body += piece
    except GatewayError as e:
        return str(e), out.closed
    return connection.status, list(connection.headers), body, connection.reusable, out.closed


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200), max_size=3), st.sampled_from(["GET", "HEAD"]))
def test_what_is_known_is_told_as_what_is_parsed(answer: bytes, cuts: list[int], method: str) -> None:
    async def both() -> tuple[Any, Any]:
        h1._known = Recurring(1 << 18)  # pyright: ignore[reportPrivateUsage]
        fresh = await outcome(answer, cuts, method)
        for known in ANSWERS:
            for _ in range(3):
                await outcome(known, [], "GET")
        return fresh, await outcome(answer, cuts, method)

    fresh, known = asyncio.run(both())
    assert known == fresh


@pytest.mark.parametrize("index", range(len(ANSWERS)))
async def test_only_whole_answers_with_a_length_are_known(
    index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h1, "_known", Recurring(1 << 18))
    for _ in range(3):
        await outcome(ANSWERS[index], [], "GET")
    known = h1._known.find(ANSWERS[index])  # pyright: ignore[reportPrivateUsage]
    assert (known is not None) == (index < 3)
