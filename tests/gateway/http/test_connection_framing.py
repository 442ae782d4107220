"""Where a request begins and ends: what another server could read otherwise is refused (RFC 9112, 11.2)."""

from __future__ import annotations

import pytest

from agentgw.gateway.http.incoming import Incoming

from .support import LIMIT, Client, Wire, read_all, served, settled

NEXT = b"GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nhost: a\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"

BAD_HEADS = {
    "both lengths": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, other order": POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    "the same length twice": POST + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "a list of lengths": POST + b"content-length: 1, 1\r\n\r\nx",
    "a length with a sign": POST + b"content-length: +1\r\n\r\nx",
    "a negative length": POST + b"content-length: -1\r\n\r\nx",
    "no length": POST + b"content-length: \r\n\r\n",
    "a length past 64 bits": POST + b"content-length: 99999999999999999999999\r\n\r\nx",
    "a folded header": POST + b"x: a\r\n b\r\ncontent-length: 1\r\n\r\nx",
    "a folded coding": POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a header before the first": b"POST / HTTP/1.1\r\n host: a\r\ncontent-length: 1\r\n\r\nx",
    "bare line feeds": b"POST / HTTP/1.1\nhost: a\ncontent-length: 1\n\nx",
    "a bare line feed": b"POST / HTTP/1.1\r\nhost: a\ncontent-length: 1\r\n\r\nx",
    "a bare carriage return": POST + b"x: a\rb\r\ncontent-length: 1\r\n\r\nx",
    "a space before the colon": POST + b"content-length : 1\r\n\r\nx",
    "NUL": POST + b"x: a\0b\r\ncontent-length: 1\r\n\r\nx",
    "a control character": POST + b"x: a\x01b\r\n\r\n",
    "a control character in a name": POST + b"x\x01y: a\r\n\r\n",
    "no name": POST + b": a\r\n\r\n",
    "no colon": POST + b"abc\r\n\r\n",
    "another coding": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a blank that is none": POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"transfer-encoding: identity\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
    "two Hosts of 1.0": b"GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",
    "not ASCII": "GET /é HTTP/1.1\r\nhost: a\r\n\r\n".encode(),
    "a method in lower case": b"get / HTTP/1.1\r\nhost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c403035f"),
    "an unknown version": b"GET / HTTP/1.2\r\nhost: a\r\n\r\n",
}
BAD_BODIES = {
    "bare line feeds": b"1\nx\n0\n\n",
    "a bare line feed in an extension": b"1;a\nx\r\n0\r\n\r\n",
    "a blank after the size": b"1 \r\nx\r\n0\r\n\r\n",
    "0x": b"0x1\r\nx\r\n0\r\n\r\n",
    "a sign": b"+1\r\nx\r\n0\r\n\r\n",
    "a negative size": b"-1\r\nx\r\n0\r\n\r\n",
    "a size past 64 bits": b"fffffffffffffffff\r\nx\r\n0\r\n\r\n",
    "more than its size": b"1\r\nxy\r\n0\r\n\r\n",
    "NUL in a trailer": b"0\r\nx: \0\r\n\r\n",
    "an endless extension": b"1;" + b"a" * 400_000,
    "an endless trailer": b"0\r\nx: " + b"a" * 400_000,
}
GOOD = {
    "chunk extensions": (CHUNKED + b'1;a=b;c="d"\r\nx\r\n0\r\n\r\n', b"x"),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\nhost: b\r\nx: y\r\n\r\n", b"x"),
    "a length with zeros before it": (POST + b"content-length: 001\r\n\r\nx", b"x"),
    "lines before the first": (b"\r\n\r\n" + POST + b"content-length: 1\r\n\r\nx", b"x"),
    "a body of a GET": (b"GET /p HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx", b"x"),
    "empty headers": (POST + b"a:\r\nb:\r\ncontent-length: 1\r\nc:\r\n\r\nx", b"x"),
}


@pytest.mark.parametrize("data", BAD_HEADS.values(), ids=BAD_HEADS)
async def test_a_request_of_two_meanings_is_refused_and_ends_the_connection(data: bytes) -> None:
    async with served() as server, server.client() as client:
        client.send(data + NEXT)
        answers = await client.all()
        assert [a.status for a in answers] == [400]
        assert answers[0].headers["connection"] == "close"
        assert server.seen == []


@pytest.mark.parametrize("data", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_body_of_two_meanings_is_refused(data: bytes) -> None:
    async with served() as server, server.client() as client:
        client.send(CHUNKED + data + NEXT)
        assert [a.status for a in await client.all()] == [400]
        assert server.seen == []  # the door was told that nobody waits


@pytest.mark.parametrize(("data", "body"), GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("step", [1, 100_000])
async def test_what_is_odd_and_allowed_is_read_to_its_end(data: bytes, body: bytes, step: int) -> None:
    async with served() as server, server.client() as client:
        await in_steps(client, data + NEXT, step)
        assert [a.body for a in await client.all()] == [body, b"/next"]
        assert b"host" not in [name for name, _ in server.requests[0].head.headers[1:]]


async def in_steps(client: Client, data: bytes, step: int) -> None:
    for start in range(0, len(data), step):
        client.send(data[start : start + step])
        await client.writer.drain()


# --- what is not HTTP/1.1 -------------------------------------------------------------------------------

UPGRADE = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"


@pytest.mark.parametrize("step", [1, 100_000])
async def test_an_upgrade_is_ignored_and_its_body_read(step: int) -> None:
    """Java's HttpClient asks for h2c with its first request, whatever that is."""
    hidden = b"GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"
    sized = POST + UPGRADE + b"content-length: %d\r\n\r\n" % len(hidden) + hidden
    chunked = POST + UPGRADE + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    bare = b"GET /bare?x HTTP/1.1\r\nhost: a\r\n" + UPGRADE + b"\r\n"
    async with served() as server, server.client() as client:
        await in_steps(client, sized + chunked + bare + bare + NEXT, step)
        bodies = [a.body for a in await client.all()]
        assert bodies == [hidden, b"ab", b"/bare?x", b"/bare?x", b"/next"]
        assert [seen[1] for seen in server.seen] == [b"/p", b"/p", b"/bare?x", b"/bare?x", b"/next"]


async def test_a_thousand_upgrades_at_once() -> None:
    async with served() as server, server.client() as client:
        client.send((b"GET /b HTTP/1.1\r\nhost: a\r\n" + UPGRADE + b"\r\n") * 1000 + NEXT)
        assert len(await client.all()) == 1001


async def test_two_lengths_are_refused_with_an_upgrade_too() -> None:
    async with served() as server, server.client() as client:
        client.send(POST + UPGRADE + b"transfer-encoding: xchunked\r\n\r\n" + NEXT)
        assert [a.status for a in await client.all()] == [400]
        assert server.seen == []


@pytest.mark.parametrize("more", [b"", b"content-length: 1\r\n"])
async def test_nothing_is_a_request_after_connect(more: bytes) -> None:
    async with served() as server, server.client() as client:
        client.send(b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n" + more + b"\r\n" + NEXT)
        answers = await client.all("GET")  # read by the length it has: it is no tunnel
        assert [(a.body, a.headers["connection"]) for a in answers] == [(b"a:1", "close")]
        assert [seen[0] for seen in server.seen] == ["CONNECT"]


async def test_nothing_is_a_request_after_a_last_one() -> None:
    last = b"GET /a HTTP/1.0\r\n"
    for head in (last, last + b"connection: keep-alive\r\n", b"GET /a HTTP/1.1\r\nconnection: close\r\n"):
        async with served() as server, server.client() as client:
            client.send(head + b"host: a\r\n\r\n" + NEXT * 1000)
            answers = await client.all()
            assert [(a.body, a.headers["connection"]) for a in answers] == [(b"/a", "close")]
            assert len(server.seen) == 1


async def test_a_client_of_1_0_gets_one_answer_without_chunks() -> None:
    async def door(request: Incoming) -> None:
        await request.start(200, (), ())
        await request.write(b"a")
        await request.write(b"b")
        await request.end()

    async with served(door) as server, server.client() as client:
        client.send(b"GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n" * 2)
        data = await client.rest()
        assert data.endswith(b"connection: close\r\n\r\nab")
        assert b"transfer-encoding" not in data
        assert len(server.requests) == 1


async def test_a_proxy_s_form_is_read_as_its_host_was_asked() -> None:
    async with served() as server, server.client() as client:
        for target in (b"http://b/c?d", b"HTTP://b/c?d", b"http://b?d", b"http://b"):
            client.send(b"GET " + target + b" HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n")
            await client.answer()
        assert [request.head.target for request in server.requests] == [b"/c?d", b"/c?d", b"/?d", b"/"]
        for request in server.requests:
            assert request.head.headers == [(b"host", b"b"), (b"x", b"y")]
        client.send(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await client.answer()).body == b"*"


# --- heads past the limit -------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n"])
async def test_who_still_sends_a_head_that_was_refused_gets_the_answer(before: bytes) -> None:
    """A reset would take it away from under the client."""

    async def door(request: Incoming) -> None:
        await request.answer(431 if request.too_large else 200, (), (), b"")

    async with served(door) as server, server.client() as client:
        client.send(before + b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 800_000)
        answers = await client.all()
        assert [a.status for a in answers] == [200] * bool(before) + [431]
        assert answers[-1].headers["connection"] == "close"


async def test_what_ends_too_late_is_dropped_after_what_was_asked_before() -> None:
    async def door(request: Incoming) -> None:
        assert await read_all(request) == b""
        await request.answer(200, (), (), b"")

    async with served(door) as server, server.client() as client:
        client.send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n" + CHUNKED + b"0\r\nx: " + b"a" * 400_000)
        assert (await client.all())[0].status == 200  # a 400 may follow


@pytest.mark.parametrize("size", [8000, 9000])
async def test_a_head_counts_as_a_whole_however_it_comes(size: int) -> None:
    too_large: list[bool] = []

    async def door(request: Incoming) -> None:
        too_large.append(request.too_large)
        await request.answer(200, (), (), b"")

    data = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n" * 3
    data += b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * size + b"\r\n\r\n"
    for step in (1000, 5000, 100_000):
        client = Wire(door)
        for start in range(0, len(data), step):
            client.send(data[start : start + step])
        await settled()
        client.leaves()
        assert too_large[-4:] == [False] * 3 + [size > LIMIT]
