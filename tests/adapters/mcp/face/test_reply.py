"""What is sent before the result, at once: only where nothing has to be waited for."""

from __future__ import annotations

import asyncio
from typing import Any

from agentgw.adapters.mcp.face.reply import Outcome, Reply, ResumableReply
from agentgw.adapters.mcp.face.streams import Streams
from agentgw.gateway.waiting import Timers


class Client:
    """Stands for a request and the event stream that answers it. Reads while ``reading`` is set."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.got: list[bytes] = []
        self.gone = asyncio.Event()
        self.closed = False

    async def events(self, *, headers: Any = ()) -> Client:
        return self

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    async def send(self, data: bytes, **_: Any) -> None:
        await self.reading.wait()
        self.got.append(data)

    async def write(self, raw: bytes) -> None: ...

    async def comment(self) -> None: ...

    async def close(self) -> None:
        self.closed = True

    def write_now(self, raw: bytes) -> bool:
        if not self.reading.is_set():
            return False
        self.got.append(raw)
        return True


async def rested() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)


async def test_a_client_that_can_come_back_is_not_sent_more_than_it_reads() -> None:
    client: Any = Client()
    reply = ResumableReply(client, Timers(), (), Streams().new, primes=True)
    assert not reply.send_now([b"x"])  # it is no stream yet
    await reply.send(b"0")
    await rested()
    sent = [b"0"]
    while len(sent) < 1000 and reply.send_now([b"%d" % len(sent)]):
        sent.append(b"%d" % len(sent))
    assert 1 < len(sent) < 1000
    client.reading.set()
    await rested()
    assert client.got == sent
    assert reply.send_now([b"a", b"b"])
    await reply.finish(Outcome(b"end"))
    assert client.got == [*sent, b"a", b"b", b"end"]
    assert client.closed
    assert not reply.send_now([b"c"]) or client.got[-1] == b"end"


async def test_before_it_is_a_stream_and_after_its_end_nothing_is_sent_at_once() -> None:
    client: Any = Client()
    client.reading.set()
    reply = Reply(client, Timers())
    assert not reply.send_now([b"x"])
    await reply.send(b"0")
    assert reply.send_now([b"1", b"2"])
    await reply.finish(Outcome(b"end"))
    assert not reply.send_now([b"3"])
    assert client.got == [b"0", b"event: message\ndata: 1\n\nevent: message\ndata: 2\n\n", b"end"]
