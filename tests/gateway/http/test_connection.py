"""A connection's life: requests one after the other, slow and vanishing clients, its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import pytest

from agentgw.gateway.http import connection
from agentgw.gateway.http.incoming import Incoming
from agentgw.gateway.http.wire import ClientGone

from .support import HIGH, Served, Wire, read_all, served, settled

END = b"GET /end HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


def get(target: bytes, more: bytes = b"", method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nhost: a\r\n%b\r\n" % (method, target, more)


def post(target: bytes, body: bytes, more: bytes = b"") -> bytes:
    return get(target, b"content-length: %d\r\n%b" % (len(body), more), b"POST") + body


# --- one after the other ----------------------------------------------------------------------------------


async def test_a_thousand_pipelined_requests_are_answered_in_order() -> None:
    async with served() as server, server.client() as client:
        asked = [b"/%d" % i for i in range(1000)]
        client.send(b"".join(get(t) if i % 2 else post(t, t) for i, t in enumerate(asked)) + END)
        assert [a.body for a in await client.all()] == [*asked, b"/end"]
        assert [seen[1] for seen in server.seen] == [*asked, b"/end"]


async def test_one_is_answered_at_a_time_while_the_next_is_half_read() -> None:
    go_on, running = asyncio.Event(), []

    async def door(request: Incoming) -> None:
        running.append(request.head.target)
        body = await read_all(request)
        await go_on.wait()
        await request.answer(200, (), (), body)

    async with served(door) as server, server.client() as client:
        half = post(b"/b", b"x" * 300_000)
        client.send(post(b"/a", b"a") + half[:200_000])
        async with server.client() as other:  # by now the half was read
            other.send(get(b"/other"))
            await server.reached(2)
        assert running == [b"/a", b"/other"]
        go_on.set()
        assert (await client.answer()).body == b"a"
        client.send(half[200_000:] + END)
        assert [len(a.body) for a in await client.all()] == [300_000, 0]


async def test_a_half_head_does_not_end_an_answer_that_takes_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.15)
    go_on = asyncio.Event()

    async def door(request: Incoming) -> None:
        if request.head.target == b"/slow":
            await go_on.wait()
        await request.answer(200, (), (), request.head.target)

    async with served(door) as server, server.client() as client:
        client.send(get(b"/slow") + b"GET /n")
        for _ in range(3):
            async with server.client() as silent:
                await silent.rest()  # was left
        go_on.set()
        assert (await client.answer()).body == b"/slow"
        await client.rest()  # and now this one is


async def test_many_requests_on_one_connection_and_a_date_on_each() -> None:
    async with served() as server, server.client() as client:
        for i in range(300):
            client.send(get(b"/%d" % i))
            answer = await client.answer()
            assert (answer.body, "connection" in answer.headers) == (b"/%d" % i, False)
            assert parsedate_to_datetime(answer.headers["date"]).tzinfo is not None
        assert len(server.home.connections) == 1
        client.send(END)
        await client.rest()


async def test_what_is_good_is_answered_before_garbage_ends_the_connection() -> None:
    go_on = asyncio.Event()

    async def door(request: Incoming) -> None:
        await go_on.wait()
        await request.answer(200, (), (), request.head.target)

    async with served(door) as server, server.client() as client:
        client.send(get(b"/a") + get(b"/b") + b"garbage\r\n\r\n" + get(b"/c"))
        await server.reached(1)
        go_on.set()
        answers = await client.all()
        assert [(a.body, a.headers.get("connection")) for a in answers] == [(b"/a", None), (b"/b", "close")]


async def test_garbage_in_the_next_body_does_not_come_before_the_answer() -> None:
    go_on = asyncio.Event()

    async def door(request: Incoming) -> None:
        await go_on.wait()
        await request.answer(200, (), (), request.head.target)

    async with served(door) as server, server.client() as client:
        client.send(get(b"/a") + get(b"/b", b"transfer-encoding: chunked\r\n", b"POST") + b"xyz\r\n")
        await server.reached(1)
        go_on.set()
        assert [a.body for a in await client.all()] == [b"/a"]
        assert len(server.requests) == 1


async def test_who_never_leaves_after_garbage_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER", 0.02)
    async with served() as server, server.client() as client:
        client.send(b"garbage\r\n\r\n")
        await server.empty()
        assert b" 400 " in await client.rest()


async def test_a_last_answer_ends_the_connection_at_once() -> None:
    async def door(request: Incoming) -> None:
        await request.answer(200, (), (), b"")

    client = Wire(door)
    client.send(END)
    await settled()
    assert client.closed


async def test_who_comes_while_the_server_ends_is_left() -> None:
    async def door(request: Incoming) -> None:
        raise AssertionError("no request is taken")

    client = Wire(door, closing=True)
    assert client.closed


async def test_patience_is_not_for_who_has_said_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.15)
    async with served() as server, server.client() as client:
        client.send(get(b"/a"))
        assert (await client.answer()).body == b"/a"
        for _ in range(3):
            async with server.client() as silent:
                await silent.rest()  # was left
        client.send(get(b"/b"))
        assert (await client.answer()).body == b"/b"


async def test_garbage_after_the_answer_and_before_its_door_is_done_ends_the_connection() -> None:
    go_on = asyncio.Event()

    async def door(request: Incoming) -> None:
        await request.answer(200, (), (), b"")
        await go_on.wait()

    async with served(door) as server, server.client() as client:
        client.send(get(b"/a"))
        await client.answer()
        client.send(b"garbage\r\n\r\n")
        async with server.client() as other:  # by then the garbage was read
            other.send(get(b"/b"))
            await other.answer()
            go_on.set()
        await client.rest()


# --- bodies -----------------------------------------------------------------------------------------------


async def test_100_is_said_when_the_body_is_wanted() -> None:
    async with served() as server, server.client() as client:
        client.send(get(b"/a", b"content-length: 1\r\nexpect: 100-Continue \r\n", b"POST"))
        await server.reached(1)
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"x" + END)
        assert [(a.body, a.informed) for a in await client.all()] == [(b"x", []), (b"/end", [])]


async def test_100_is_not_said_to_who_sends_anyway_or_does_not_know_it() -> None:
    async with served() as server, server.client() as client:
        half = post(b"/a", b"xy", b"expect: 100-continue\r\n")
        client.send(half[:-1])
        await server.reached(1)
        client.send(half[-1:])
        client.send(b"POST /b HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n")
        assert (await client.answer()).informed == []
        client.send(b"y")
        assert [(a.body, a.informed) for a in await client.all()] == [(b"y", [])]


async def test_whose_body_was_never_asked_for_is_read_no_further() -> None:
    """Nobody knows whether it comes: what follows may be it, or a request."""

    async def door(request: Incoming) -> None:
        await request.answer(413, (), (), b"")

    async with served(door) as server, server.client() as client:
        client.send(get(b"/a", b"content-length: 30\r\nexpect: 100-continue\r\n", b"POST"))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        client.send(END)  # too long to be the body
        assert await client.rest() == b""
        assert len(server.requests) == 1

    client = Wire(door)
    client.send(get(b"/a", b"content-length: 3\r\nexpect: 100-continue\r\n", b"POST"))
    await settled()
    assert not client.ended
    client.send(b"xyz" + END)
    assert client.closed
    assert not client.home.tasks


async def test_a_body_that_nobody_reads_is_not_taken_in() -> None:
    go_on = asyncio.Event()

    async def door(request: Incoming) -> None:
        await go_on.wait()
        await request.answer(200, (), (), await read_all(request))

    body = b"x" * 1_000_000
    data, sent = post(b"/", body), 0
    client = Wire(door)
    while client.reading and sent < len(data):
        client.send(data[sent : sent + 10_000])
        sent += 10_000
        await settled(5)
    assert sent < 200_000
    go_on.set()
    await settled()
    assert client.reading
    client.send(data[sent:])
    await settled()
    client.reads()
    await settled()
    client.leaves()
    await settled()
    assert not client.home.tasks


async def test_the_last_of_many_that_wait_may_be_half_there() -> None:
    go_on = asyncio.Event()

    async def door(request: Incoming) -> None:
        await go_on.wait()
        await request.answer(200, (), (), await read_all(request))

    async with served(door) as server, server.client() as client:
        half = post(b"/", b"half")
        client.send(get(b"/") * 8 + half[:-2])
        await server.reached(1)
        go_on.set()
        for _ in range(8):
            await client.answer()
        client.send(half[-2:])
        assert (await client.answer()).body == b"half"


async def test_an_early_answer_lets_the_next_request_through() -> None:
    async def door(request: Incoming) -> None:
        await request.answer(413 if request.head.target == b"/a" else 200, (), (), b"")

    big = b"x" * 5_000_000
    async with served(door) as server, server.client() as client:
        client.send(post(b"/a", big) + post(b"/a", big) + END)
        assert [a.status for a in await client.all()] == [413, 413, 200]


async def test_who_sends_on_after_an_early_last_answer_gets_it() -> None:
    """A reset would take it away from under a client that reads only once it has sent all."""

    async def door(request: Incoming) -> None:
        await request.answer(413, (), (), b"no")

    async with served(door) as server, server.client() as client:
        client.send(post(b"/a", b"x" * 5_000_000, b"connection: close\r\n"))
        await client.writer.drain()
        assert [a.body for a in await client.all()] == [b"no"]


@pytest.mark.parametrize("status", [200, 204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("streams", [False, True])
async def test_what_has_no_body_sends_none(status: int, method: str, streams: bool) -> None:
    async def door(request: Incoming) -> None:
        if request.head.target == b"/end":
            await request.answer(200, (), (), b"end")
        elif streams:
            await request.start(status, (), ())
            await request.write(b"body")
            await request.end()
        else:
            await request.answer(status, (), (), b"body")

    async with served(door) as server, server.client() as client:
        client.send(get(b"/a", method=method.encode()) + END)
        answers = await client.all(method, "GET")
        assert [a.status for a in answers] == [status, 200]
        bare = status != 200
        assert answers[0].body == (b"" if bare or method == "HEAD" else b"body")
        if bare:
            assert not {"content-length", "transfer-encoding"} & set(answers[0].headers)
        elif not streams:
            assert answers[0].headers["content-length"] == "4"


# --- headers of the answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [(b"x", b"a\r\nb: c"), (b"x", b"a\nb"), (b"x", b"\0"), (b"x", b"\x1b"), (b"x\r\nb", b""), (b"", b"")],
)
async def test_a_header_never_splits_an_answer_and_a_refusal_is_possible(
    name: bytes, value: bytes, streams: bool
) -> None:
    async def door(request: Incoming) -> None:
        with pytest.raises(ValueError, match="not a header"):
            if streams:
                await request.start(200, (), [(name, value)])
            else:
                await request.answer(200, (), [(name, value)], b"")
        assert not request.begun
        await request.answer(500, (), [(b"x", "é\t".encode())], b"")

    async with served(door) as server, server.client() as client:
        client.send(END)
        assert [(a.status, "b" in a.headers) for a in await client.all()] == [(500, False)]


# --- slow readers ---------------------------------------------------------------------------------------


async def test_what_would_have_to_wait_for_a_slow_reader_is_not_written_now() -> None:
    wrote: list[bool] = []
    go = asyncio.Event()

    async def door(request: Incoming) -> None:
        await request.start(200, (), ())
        while not wrote or wrote[-1]:
            wrote.append(request.write_now(b"x" * 10_000))
        await go.wait()
        wrote.append(request.write_now(b"y"))
        await request.end()

    client = Wire(door)
    client.send(get(b"/"))
    await settled()
    assert 1 < len(wrote) < 10
    assert client.written.count(b"x") == 10_000 * (len(wrote) - 1)
    client.reads()
    go.set()
    await settled()
    assert wrote[-2:] == [False, True]
    assert client.written == b"1\r\ny\r\n0\r\n\r\n"
    client.leaves()
    await settled()


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"\r\n\r\nb"),
        (get(b"/", method=b"HEAD"), b"\r\n\r\n"),
        (get(b"/"), b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"),
    ],
    ids=["no chunks", "no body", "chunks"],
)
async def test_only_what_goes_out_in_chunks_is_written_now(head: bytes, body: bytes) -> None:
    async def door(request: Incoming) -> None:
        await request.start(200, (), ())
        assert request.write_now(b"a") == body.endswith(b"0\r\n\r\n")
        await request.write(b"b")
        await request.end()

    client = Wire(door)
    client.send(head)
    await settled()
    assert client.written.endswith(body) and client.written.count(b"\r\n\r\n") <= 2


async def test_nothing_is_written_now_for_a_client_that_has_left() -> None:
    go, wrote = asyncio.Event(), list[bool]()

    async def door(request: Incoming) -> None:
        await request.start(200, (), ())
        await go.wait()
        wrote.append(request.write_now(b"a"))

    client = Wire(door)
    client.send(get(b"/"))
    await settled()
    client.leaves()
    go.set()
    await settled()
    assert wrote == [False]


async def test_a_stream_waits_for_a_slow_reader_and_ends_when_it_leaves() -> None:
    sent = 0

    async def door(request: Incoming) -> None:
        nonlocal sent
        await request.start(200, (), ())
        while not request.gone:
            await request.write(b"x" * 10_000)
            sent += 1
        await request.end()

    client = Wire(door)
    client.send(get(b"/"))
    await settled()
    first = sent
    assert first < 10
    client.reads()
    await settled()
    assert first < sent < 2 * first + 3
    client.leaves()
    await settled()
    assert not client.home.tasks


@pytest.mark.parametrize("size", [0, 1_000, 60_000, 100_000])
async def test_answers_do_not_pile_up_for_who_asks_and_does_not_read(size: int) -> None:
    async def door(request: Incoming) -> None:
        await request.answer(200, (), (), b"x" * size)

    client = Wire(door)
    for i in range(10_000):
        if not client.reading:
            break
        client.send(get(b"/%d" % i))
        await settled(5)
    assert not client.reading
    assert len(client.written) < HIGH + size + 1000
    while not client.reading:
        client.reads()
        await settled()
    client.leaves()
    await settled()
    assert not client.home.tasks


@pytest.mark.parametrize("waits", [True, False])
async def test_who_takes_nothing_of_its_answer_is_cut_and_who_is_slow_is_not(waits: bool) -> None:
    """However much waits for it: a stream that has little to say would hold its place for ever, too."""
    go_on = asyncio.Event()

    async def door(request: Incoming) -> None:
        await request.start(200, (), ())
        await request.write(b"x" * (3 * HIGH if waits else 1000))
        gone = asyncio.Event()
        request.on_gone(gone.set)
        await gone.wait()
        go_on.set()

    client = Wire(door)
    client.send(get(b"/"))
    await settled()
    at = 1000.0
    for _ in range(10):
        client.sweep(at := at + connection.STALLED * 0.9)
        client.written = client.written[1:]  # slow
    assert not client.closed
    client.sweep(at := at + connection.STALLED * 0.9)
    assert not client.closed
    client.sweep(at + connection.STALLED * 1.1)
    assert client.closed
    client.leaves()
    await settled()
    assert go_on.is_set()
    assert not client.home.tasks


async def test_a_place_is_given_back_by_who_never_reads() -> None:
    """Over a real socket, whose system takes a part of the answer all the same."""

    async def door(request: Incoming) -> None:
        await request.answer(200, (), (), b"x" * 50_000_000)

    async with served(door) as server, server.client() as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.send(get(b"/"))
        await server.reached(1)
        connections = server.home.connections
        now = asyncio.get_running_loop().time()
        for number in range(1000):  # until the system takes no more
            for each in list(connections):
                each.sweep(now + 2 * number * connection.STALLED)
            await asyncio.sleep(0)
        assert not connections
        assert not server.home.tasks


async def test_a_large_answer_to_who_leaves_ends_its_task() -> None:
    async def door(request: Incoming) -> None:
        await request.answer(200, (), (), b"x" * 50_000_000)

    async with served(door) as server, server.client() as client:
        client.send(get(b"/"))
        await client.reader.readexactly(1000)
        client.reset()
        await server.empty()


# --- who leaves -----------------------------------------------------------------------------------------

MOMENTS = {
    "in the head": b"GET / HT",
    "in the body": post(b"/", b"xyz")[:-1],
    "in a chunk": get(b"/", b"transfer-encoding: chunked\r\n", b"POST") + b"5\r\nab",
    "while it waits": get(b"/"),
    "with others queued": get(b"/") * 5,
    "with one half queued": get(b"/") + post(b"/", b"xyz")[:-1],
    "after 100": get(b"/", b"content-length: 1\r\nexpect: 100-continue\r\n", b"POST"),
}


@pytest.mark.parametrize("data", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
async def test_who_leaves_leaves_nothing_behind(data: bytes, how: str) -> None:
    """Doors learn of it, and what waits in the queue is not begun. Who says no more has left, too."""
    learned: list[Incoming] = []

    async def door(request: Incoming) -> None:
        gone = asyncio.Event()
        try:
            await read_all(request)
        except ClientGone:
            learned.append(request)
            return
        request.on_gone(gone.set)
        async with asyncio.timeout(60):
            await gone.wait()
        learned.append(request)
        await request.answer(200, (), (), b"to nobody")

    async with served(door) as server, server.client() as client:
        client.send(data)
        await client.writer.drain()
        if data != MOMENTS["in the head"]:
            await server.reached(1)
        match how:
            case "reset":
                client.reset()
            case "close":
                client.writer.close()
            case _:
                client.writer.write_eof()
        await server.empty()
        assert learned == server.requests
        assert len(learned) <= 1


async def test_on_gone_after_the_client_left_is_called_all_the_same() -> None:
    left, called = asyncio.Event(), asyncio.Event()

    async def door(request: Incoming) -> None:
        request.on_gone(left.set)
        await left.wait()
        request.on_gone(called.set)
        await called.wait()
        await request.start(200, (), ())
        await request.write(b"to nobody")
        await request.end()

    async with served(door) as server, server.client() as client:
        client.send(get(b"/"))
        await server.reached(1)
        client.reset()
        await server.empty()


# --- doors that fail --------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_what_a_door_leaves_unanswered_is_cut(begun: bool, error: Callable[[], Exception]) -> None:
    async def door(request: Incoming) -> None:
        if begun:
            await request.start(200, (), ())
            await request.write(b"half")
        raise error

    async with served(door, fails=True) as server, server.client() as client:
        client.send(get(b"/") + END)
        data = await client.rest()
        assert data.endswith(b"half\r\n" if begun else b"")  # no end of it: the client knows
        assert len(server.requests) == 1


# --- idle and closing -----------------------------------------------------------------------------------


def swept(server: Served) -> None:
    """As if a long time had gone by."""
    for each in list(server.home.connections):
        each.sweep(asyncio.get_running_loop().time() + connection.IDLE + 1)


async def test_only_who_is_idle_is_swept_away() -> None:
    go_on = asyncio.Event()

    async def door(request: Incoming) -> None:
        body = await read_all(request)
        if request.head.target == b"/slow":
            await go_on.wait()
        await request.answer(200, (), (), body)

    async with served(door) as server, contextlib.AsyncExitStack() as stack:
        idle, new, busy, half, heading, last = [
            await stack.enter_async_context(server.client()) for _ in range(6)
        ]
        idle.send(get(b"/"))
        new.send(b"\r\n")
        busy.send(get(b"/slow"))
        half.send(post(b"/", b"xy")[:-1])
        heading.send(b"GET / HTTP/1.1\r\nhost: a\r\n")
        await idle.answer()
        last.send(get(b"/"))
        await last.answer()  # all was read by now
        swept(server)
        for left in (idle, new, last):
            assert await left.rest() == b""
        go_on.set()
        half.send(b"y")
        heading.send(b"\r\n")
        for kept in (busy, half, heading):
            assert (await kept.answer()).status == 200
            kept.reset()


async def test_who_does_not_take_its_last_answer_is_cut_at_last() -> None:
    async def door(request: Incoming) -> None:
        request._line.send(b"x" * 20_000_000)  # a door that does not wait for room
        raise RuntimeError

    async with served(door, fails=True) as server, server.client() as client:
        client.send(get(b"/"))
        await client.reader.readexactly(1)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        if server.home.tasks:
            await asyncio.wait(server.home.tasks)
        assert len(server.home.connections) == 1
        swept(server)
        await server.empty()
