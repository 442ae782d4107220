"""The clients of the benchmark: raw HTTP over kept connections, in a process of their own.

``python bench/load.py`` reads one job a line (JSON) from its input and prints one outcome a line.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import Any

import httptools
import msgspec
import uvloop

ID = b"10000"  # what stands for a request's id


class Job(msgspec.Struct, omit_defaults=True):
    """``count`` requests over ``connections`` at once. ``head`` and ``body`` as they go out; ``expect`` is
    text that each good answer holds. ``kind``: "calls"; "stream" (the delay of every stamped piece is
    measured); "abort" (the connection is broken after the first bytes of an answer); "hold" (connections
    with a stream stay open until the next job)."""

    port: int
    head: str
    body: str
    expect: str
    connections: int = 1
    count: int = 1
    kind: str = "calls"


class Outcome(msgspec.Struct):
    """``seconds`` of wall clock for all; ``delays`` in seconds: of stamped pieces, or of first bytes;
    ``bytes`` of answers' bodies; ``error``: the first wrong answer."""

    seconds: float
    delays: list[float]
    first: list[float]
    bytes: int
    error: str = ""


class Client(asyncio.Protocol):
    """One connection; asks again as soon as an answer is complete."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.request = state.request_of_next()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        if not self.state.take():
            self.finish()
            return
        self.parser: Any = httptools.HttpResponseParser(self)
        self.chunks: list[bytes] = []
        self.begun = time.monotonic()
        self.heard = False
        self.transport.write(self.request)

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        now = time.monotonic_ns()
        state = self.state
        if not self.heard:
            self.heard = True
            state.first.append(now / 1e9 - self.begun)
        if state.job.kind in ("stream", "hold"):
            *events, rest = b"".join((*self.chunks, body)).split(b"\n\n")
            self.chunks[:] = [rest]
            for event in events:
                _, stamp, piece = event.partition(b'"@')
                if stamp and b".completed" not in event:  # there it is said again
                    state.delays.append((now - int(piece[: piece.index(b"@")])) / 1e9)
        else:
            self.chunks.append(body)
        state.bytes += len(body)
        if state.job.kind == "abort":
            self.finish()
            self.transport.abort()
        elif state.job.kind == "hold" and not self.done.done():
            self.done.set_result(None)

    def on_message_complete(self) -> None:
        body = b"".join(self.chunks)
        if self.state.expect not in body or self.parser.get_status_code() != 200:
            self.state.error = self.state.error or f"{self.parser.get_status_code()} {body[:300]!r}"
        asyncio.get_running_loop().call_soon(self.ask)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.state.error = self.state.error or "the connection was closed"
            self.done.set_result(None)


class State:
    """What the connections of one job share."""

    def __init__(self, job: Job) -> None:
        self.job = job
        body = job.body.encode()
        head = f"{job.head}content-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._ids = itertools.count(int(ID))
        self.expect = job.expect.encode()
        self.left = job.count
        self.delays: list[float] = []
        self.first: list[float] = []
        self.bytes = 0
        self.error = ""

    def request_of_next(self) -> bytes:
        """The request of one more connection; it has an id of its own, as MCP wants it within a session."""
        return self._request.replace(b'"id": %b' % ID, b'"id": %d' % next(self._ids), 1)

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


async def run(job: Job, held: list[Any]) -> Outcome:
    for transport in held:
        transport.abort()
    held.clear()
    state = State(job)
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    while True:
        made = await asyncio.gather(
            *(
                loop.create_connection(lambda: Client(state), "127.0.0.1", job.port)
                for _ in range(job.connections)
            )
        )
        await asyncio.gather(*(client.done for _, client in made))
        if job.kind != "abort" or state.left <= 0 or state.error:
            break
    if job.kind == "hold":
        held.extend(transport for transport, _ in made)
    return Outcome(time.perf_counter() - begun, state.delays, state.first, state.bytes, state.error)


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    held: list[Any] = []
    while line := await reader.readline():
        outcome = await run(msgspec.json.decode(line, type=Job), held)
        print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
