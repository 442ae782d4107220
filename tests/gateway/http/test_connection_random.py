"""Whatever is asked, and however it arrives in pieces: the answers are well framed, in order, and right."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.http.incoming import Incoming
from agentgw.gateway.http.wire import ClientGone

from ...support.examples import examples
from .support import Wire, read_all, read_answer, settled


@dataclass(frozen=True)
class Asked:
    """A request; ``reads``: whether the door reads the body; ``streams``: whether it answers in pieces."""

    method: str
    body: bytes
    sizes: tuple[int, ...]  # of its chunks; none: it has a length
    upgrade: bool
    reads: bool
    streams: bool
    status: int

    def sent(self, number: int) -> bytes:
        how = f"{number},{self.reads:d},{self.streams:d},{self.status}"
        lines = [f"{self.method} / HTTP/1.1", "host: a", f"how: {how}"]
        if self.upgrade:
            lines += ["connection: upgrade", "upgrade: h2c"]
        body = self.body
        if self.sizes:
            lines.append("transfer-encoding: chunked")
            body = self._chunked()
        elif body:
            lines.append(f"content-length: {len(body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def _chunked(self) -> bytes:
        chunks, rest = b"", self.body
        for size in self.sizes:
            piece, rest = rest[:size], rest[size:]
            if piece:
                chunks += b"%x;ext\r\n%b\r\n" % (len(piece), piece)
        if rest:
            chunks += b"%X\r\n%b\r\n" % (len(rest), rest)
        return chunks + b"0\r\ntrailer: x\r\n\r\n"

    def answer(self, number: int) -> bytes:
        if self.method == "HEAD" or self.status in (204, 304):
            return b""
        return b"%d:%b" % (number, self.body if self.reads else b"")


async def door(request: Incoming) -> None:
    how = dict(request.head.headers)[b"how"].split(b",")
    number, reads, streams, status = how[0], how[1] == b"1", how[2] == b"1", int(how[3])
    try:
        body = number + b":" + (await read_all(request) if reads else b"")
    except ClientGone:
        return
    if not streams:
        await request.answer(status, (), (), body)
        return
    await request.start(status, (), ())
    for start in range(0, len(body), 1000):
        await request.write(body[start : start + 1000])
    await request.end()


ASKED = st.builds(
    Asked,
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
    body=st.one_of(
        st.binary(max_size=200),
        st.just(b"GET / HTTP/1.1\r\nhost: a\r\nhow: 99,0,0,200\r\n\r\n"),
        st.integers(0, 150_000).map(lambda n: b"z" * n),
    ),
    sizes=st.lists(st.integers(1, 5000), max_size=5).map(tuple),
    upgrade=st.booleans(),
    reads=st.booleans(),
    streams=st.booleans(),
    status=st.sampled_from([200, 202, 204, 304, 404, 500, 599]),
)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@examples(300)
@given(
    asked=st.lists(ASKED, min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=20),
    waits=st.lists(st.booleans(), min_size=1, max_size=20),
    garbage=st.sampled_from([b"", b"x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
)
def test_random_requests_in_random_pieces(
    asked: list[Asked], cuts: list[int], waits: list[bool], garbage: bytes
) -> None:
    async def run() -> bytes:
        client = Wire(door)
        pieces = in_pieces(b"".join(each.sent(i) for i, each in enumerate(asked)) + garbage, cuts)
        answers = b""
        for i, piece in enumerate(pieces):
            for _ in range(10_000):
                if client.reading:
                    break
                answers += client.reads()
                await asyncio.sleep(0)
            client.send(piece)
            if waits[i % len(waits)]:
                await settled(5)
        for _ in range(20_000):
            await asyncio.sleep(0)
            answers += client.reads()
            if not client.home.tasks:
                break
        assert client.ended == bool(garbage)
        client.leaves()
        await settled()
        assert not client.home.tasks
        return answers + client.reads()

    data = asyncio.run(run())
    for number, each in enumerate(asked):
        found = read_answer(data, each.method, ended=False)
        assert found is not None
        answer, data = found
        assert (answer.status, answer.body) == (each.status, each.answer(number))
    assert not data or (garbage and data.startswith(b"HTTP/1.1 400 ") and data.endswith(b"Invalid HTTP"))
