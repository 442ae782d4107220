"""Two processes on one local socket (here: two ends in one)."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from agentgw.gateway.errors import ConfigError, GatewayError
from agentgw.gateway.link import Cut, Link, Unpack, pack


@asynccontextmanager
async def linked(ours=None, theirs=None):
    ends = socket.socketpair()
    links = [await Link(handlers or {}).open(end) for handlers, end in zip((ours, theirs), ends, strict=True)]
    try:
        yield links
    finally:
        for link in links:
            link.close()


async def test_both_ends_call():
    async def double(payload):
        return pack(Unpack(int)(payload) * 2)

    async with linked({"double": double}, {"double": double}) as (a, b):
        assert Unpack(int)(await a.call("double", pack(4))) == 8
        assert Unpack(int)(await b.call("double", pack(5))) == 10


async def test_calls_do_not_wait_for_one_another_and_begin_in_order():
    begun, go = [], asyncio.Event()

    async def wait(payload):
        begun.append(Unpack(int)(payload))
        await go.wait()
        return payload

    async def release(payload):
        go.set()
        return payload

    async with linked(None, {"wait": wait, "release": release}) as (a, _):
        calls = [asyncio.create_task(a.call("wait", pack(number))) for number in range(5)]
        await asyncio.sleep(0)
        await a.call("release")
        answers = await asyncio.gather(*calls)
        assert begun == [Unpack(int)(answer) for answer in answers] == [0, 1, 2, 3, 4]


async def test_large_payloads_pass():
    async def echo(payload):
        return payload

    async with linked(None, {"echo": echo}) as (a, _):
        big = pack({"content": bytes(5_000_000), "number": 10**40})
        assert await a.call("echo", big) == big


async def test_payloads_of_every_size_pass_together():
    async def echo(payload):
        return payload

    sizes = [0, 1, *range(2**16 - 40, 2**16 + 20), 5, 200_000, 3, 300_000, 2]
    async with linked(None, {"echo": echo}) as (a, _):
        sent = [bytes([number]) * size for number, size in enumerate(sizes)]
        assert await asyncio.gather(*(a.call("echo", each) for each in sent)) == sent


async def test_a_frame_may_come_in_pieces():
    told, done = [], asyncio.Event()

    async def tell(payload):
        told.append(bytes(payload))
        if len(told) == len(sent):
            done.set()
        return payload

    sent = [b"", b"small", bytes(70_000), b"last"]
    frames = []
    sender = Link({})
    sender._transport = type("Transport", (), {"writelines": lambda _, pieces: frames.extend(pieces)})()
    for each in sent:
        sender.tell("tell", each)
    stream = b"".join(frames)
    receiver = Link({"tell": tell})
    for at in range(0, len(stream), 7):
        piece = stream[at : at + 7]
        while piece:
            room = receiver.get_buffer(-1)
            took = min(len(room), len(piece))
            room[:took] = piece[:took]
            receiver.buffer_updated(took)
            piece = piece[took:]
    await done.wait()
    assert told == sent


def test_any_json_passes():
    value = {"huge": 10**40, "text": "é", "list": [1, None, 2.5]}
    assert Unpack(dict)(pack(value)) == value


async def test_errors_keep_their_kind_and_tell_no_secret():
    async def operator(payload):
        raise ConfigError("the disk is full")

    async def crash(payload):
        raise RuntimeError("a secret")

    async with linked(None, {"operator": operator, "crash": crash}) as (a, _):
        with pytest.raises(ConfigError, match="the disk is full"):
            await a.call("operator")
        with pytest.raises(GatewayError) as e:
            await a.call("crash")
        assert e.value.message == "internal error"


async def test_the_others_end_ends_what_waits():
    begun = asyncio.Event()

    async def wait(payload):
        begun.set()
        await asyncio.Event().wait()
        return payload

    async with linked(None, {"wait": wait}) as (a, b):
        call = asyncio.create_task(a.call("wait"))
        await begun.wait()
        b.close()
        with pytest.raises(Cut):
            await call
        await a.closed.wait()
        with pytest.raises(Cut):
            await a.call("wait")
        a.tell("wait")
