"""A head that is known means just what the parser makes of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from agentgw.gateway.http.heads import KEPT, Head, KnownHeads
from agentgw.gateway.http.incoming import Incoming
from agentgw.gateway.http.parsing import BadRequest, Parser

POST = b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nhost: x\r\nA: 1\r\na: 2\r\n\r\n"
REQUESTS = [
    POST,
    GET,
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\nab",
    b"POST / HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nab",
    b"POST http://y/z HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab",
    b"\r\n\r\nPOST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab",
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\nconnection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +2\r\n\r\nab",
]


class Told:
    """Takes what a parser tells, as it is told, with the pieces of a body put together."""

    paused = False

    def __init__(self) -> None:
        self.all: list[Any] = []

    def on_request(self, incoming: Incoming) -> None:
        head = incoming.head
        self.all.append([head.method, head.target, list(head.headers), head.path, dict(head.fields)])
        self.all.append((incoming.keep_alive, incoming.chunked, incoming.continues, incoming.too_large))

    def on_whole(self, incoming: Incoming) -> None:
        self.on_request(incoming)
        if body := incoming.whole():
            self.on_body(body)
        self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        if isinstance(self.all[-1], bytes):
            body = self.all.pop() + body
        self.all.append(body)

    def on_message_complete(self) -> None:
        self.all.append("complete")


def told(stream: bytes, cuts: list[int], known: KnownHeads) -> list[Any]:
    taker = Told()
    parser = Parser(taker, 65536, known)  # type: ignore[arg-type]
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    try:
        for start, end in pairwise(edges):
            if end > start:
                taker.all.append("too much") if not parser.feed(stream[start:end]) else None
    except BadRequest:
        taker.all.append("bad")
    return taker.all


def knows(*requests: bytes) -> KnownHeads:
    known = KnownHeads()
    for request in requests:
        for _ in range(3):
            told(request, [], known)
    return known


@given(
    st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6),
    st.lists(st.integers(0, 2000), max_size=6),
)
@example([POST, GET, POST], [])
@example([POST, POST], [len(POST) - 3])
@example([POST, POST], [len(POST) - 5])
def test_what_is_known_is_told_as_what_is_parsed(requests: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(requests)
    assert told(stream, cuts, knows(*REQUESTS)) == told(stream, cuts, KnownHeads())


def test_plain_heads_are_known_from_the_third_time_on() -> None:
    known = KnownHeads()
    for _ in range(2):
        assert known.find(POST) is None
        told(POST, [], known)
    found = known.find(POST)
    assert found is not None
    assert (found[0].length, found[1]) == (5, len(POST) - 5)


def test_only_heads_that_frame_their_request_by_a_length_are_known() -> None:
    known = knows(*REQUESTS)
    assert [known.find(request) is not None for request in REQUESTS] == [True] * 3 + [False] * 11


def test_what_is_kept_is_bounded() -> None:
    known = KnownHeads()
    for n in range(2000):
        raw = b"GET /%d HTTP/1.1\r\nhost: %b\r\n\r\n" % (n, b"x" * 1000)
        for _ in range(2):
            known.note(raw, Head("GET", b"/%d" % n, [(b"host", b"x" * 1000)]))
    held = sum(len(raw) for raw in known._values)  # pyright: ignore[reportPrivateUsage]
    assert 0 < held <= KEPT + 2000
