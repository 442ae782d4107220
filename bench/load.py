"""The clients of the benchmark: raw HTTP over kept connections, in a process of their own.

``python bench/load.py`` reads one job a line (JSON) from its input and prints one outcome a line.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import sys
import time
from typing import Any

import httptools
import msgspec
import uvloop

ID = b"10000"  # what stands for a request's id
PATIENCE = 120.0  # seconds for a whole job
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Job(msgspec.Struct, omit_defaults=True):
    """``count`` requests over ``connections`` at once. ``head`` and ``body`` as they go out; ``opening``: a
    body that each connection sends first, for a session of its own (mcp-session-id) where the server has
    sessions. ``expect`` is text that each good answer holds. ``kind``:

    - "calls"; with an ``opening`` over the connections that the "open" job before it made
    - "open": connections with their sessions stay until the next job
    - "stream": the delay of every stamped piece is measured
    - "abort": the connection is broken after the first bytes of an answer
    - "hold": connections with a stream stay open until the next job that holds none
    - "stall": as "hold", and nothing more is read
    - "resume": the stalled ones are read to their end (head and body are not used)
    """

    port: int = 0
    head: str = ""
    body: str = ""
    opening: str = ""
    expect: str = ""
    connections: int = 1
    count: int = 1
    kind: str = "calls"


class Outcome(msgspec.Struct):
    """``seconds`` of wall clock for all; ``delays`` in seconds of stamped pieces, ``first`` of first bytes;
    ``bytes`` of answers' bodies; ``error``: the first wrong answer."""

    seconds: float
    delays: list[float]
    first: list[float]
    bytes: int
    error: str = ""


class Opening:
    """The answer to what opens a session."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.session = b""
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"mcp-session-id":
            self.session = value

    def on_message_complete(self) -> None:
        if (status := self.parser.get_status_code()) == 200:
            asyncio.get_running_loop().call_soon(self.client.opened, self.session)  # the parser is at work
        else:
            self.client.state.error = self.client.state.error or f"no session: {status}"
            self.client.finish()


class Client(asyncio.Protocol):
    """One connection; asks again as soon as an answer is complete."""

    def __init__(self, state: State) -> None:
        self.lost = False
        self.opening: Opening | None = None
        self.session = b""
        self.take(state)

    def take(self, state: State) -> None:
        """Do this job from now on."""
        self.state = state
        self.request = state.request_of_next(self.session)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.state.opening:
            self.opening = Opening(self)
            transport.write(self.state.opening)
        else:
            self.ask()

    def opened(self, session: bytes) -> None:
        """The session (empty: the server has none) goes with all that follows."""
        self.opening, self.session = None, session
        if self.state.job.kind == "open":
            self.done.set_result(None)
        else:
            self.request = self.state.request_of_next(session)
            self.ask()

    def ask(self) -> None:
        if not self.state.take():
            self.finish()
            return
        self.parser: Any = None
        self.chunks: list[bytes] = []
        self.begun = time.monotonic()
        self.transport.write(self.request)

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.opening is not None:
            self.opening.parser.feed_data(data)
            return
        if self.parser is None:
            if self.state.job.kind == "stream":
                self.state.first.append(time.monotonic() - self.begun)
            if self.is_whole(data):
                return
            self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(data)

    def is_whole(self, data: bytes) -> bool:
        """A small answer in one piece, as most are, needs no parser: the clients must cost little."""
        end = data.find(b"\r\n\r\n")
        length = LENGTH.search(data, 0, end) if data.startswith(b"HTTP/1.1 200") else None
        if length is None or len(data) - end - 4 != int(length[1]):
            return False
        self.state.bytes += len(data) - end - 4
        self.answered(data, 200)
        return True

    def on_body(self, body: bytes) -> None:
        now = time.monotonic_ns()
        state = self.state
        kind = state.job.kind
        if kind == "stream":
            *events, rest = b"".join((*self.chunks, body)).split(b"\n\n")
            self.chunks[:] = [rest]
            for event in events:
                _, stamp, piece = event.partition(b'"@')
                if stamp and b".completed" not in event:  # there it is said again
                    state.delays.append((now - int(piece[: piece.index(b"@")])) / 1e9)
        elif kind == "calls":
            self.chunks.append(body)
        state.bytes += len(body)
        if kind == "abort":
            self.finish()
            self.transport.abort()
        elif kind in ("hold", "stall") and not self.done.done():
            self.done.set_result(None)
            if kind == "stall":
                self.transport.pause_reading()

    def on_message_complete(self) -> None:
        self.answered(b"".join(self.chunks), self.parser.get_status_code())

    def answered(self, answer: bytes, status: int) -> None:
        if status != 200 or self.state.expect not in answer:
            self.state.error = self.state.error or f"{status} {answer[:300]!r}"
        if self.parser is None:
            self.ask()
        else:
            asyncio.get_running_loop().call_soon(self.ask)  # the parser is at work

    def resume(self) -> asyncio.Future[None]:
        """Read on to the end."""
        self.done = asyncio.get_running_loop().create_future()
        if self.lost or self.transport.is_closing():
            self.connection_lost(None)
            return self.done
        self.state.job.kind = "rest"
        self.transport.resume_reading()
        return self.done

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.done.done():
            self.state.error = self.state.error or "the connection was closed"
            self.done.set_result(None)


def request_of(head: str, body: str) -> bytes:
    content = body.encode()
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class State:
    """What the connections of one job share."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._request = request_of(job.head, job.body)
        self.opening = request_of(job.head, job.opening) if job.opening else b""
        self._ids = itertools.count(int(ID))
        self.expect = job.expect.encode()
        self.left = job.count
        self.delays: list[float] = []
        self.first: list[float] = []
        self.bytes = 0
        self.error = ""

    def request_of_next(self, session: bytes = b"") -> bytes:
        """The request of one more connection; it has an id of its own, as MCP wants it within a session."""
        request = self._request.replace(b'"id": %b' % ID, b'"id": %d' % next(self._ids), 1)
        if session:
            line, _, rest = request.partition(b"\r\n")
            request = b"%b\r\nmcp-session-id: %b\r\n%b" % (line, session, rest)
        return request

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


async def connected(state: State) -> Client:
    """A small buffer where nothing is read, so that what is not read stays with the sender."""
    sock = socket.socket()
    if state.job.kind == "stall":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", state.job.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _, client = await loop.create_connection(lambda: Client(state), sock=sock)
    return client


async def run(job: Job, held: list[Client]) -> Outcome:
    """Raises TimeoutError."""
    if job.kind == "resume":
        return await resume(held)
    state = State(job)
    ready = [client for client in held if job.kind == "calls" and client.state.job.kind == "open"]
    if job.kind not in ("hold", "stall"):
        for client in held:
            if client not in ready:
                client.transport.abort()
        held.clear()
    begun = time.perf_counter()
    end = begun + PATIENCE
    while True:
        async with asyncio.timeout(end - time.perf_counter()):
            made = ready or await asyncio.gather(*(connected(state) for _ in range(job.connections)))
        for client in ready:
            client.take(state)
            client.ask()
        _, silent = await asyncio.wait([c.done for c in made], timeout=end - time.perf_counter())
        if silent:
            state.error = state.error or f"{len(silent)} of {len(made)} connections still wait for an answer"
            for client in made:
                client.transport.abort()
        if job.kind != "abort" or state.left <= 0 or state.error:
            break
    if job.kind in ("open", "hold", "stall"):
        held.extend(made)
    return Outcome(time.perf_counter() - begun, state.delays, state.first, state.bytes, state.error)


async def resume(held: list[Client]) -> Outcome:
    begun = time.perf_counter()
    _, silent = await asyncio.wait([client.resume() for client in held], timeout=PATIENCE)
    states = [client.state for client in held]
    for client in held:
        client.transport.abort()
    held.clear()
    error = next((state.error for state in states if state.error), "")
    if silent:
        error = error or f"{len(silent)} answers did not come to their end"
    return Outcome(time.perf_counter() - begun, [], [], sum(state.bytes for state in states), error)


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    held: list[Client] = []
    while line := await reader.readline():
        try:
            outcome = await run(msgspec.json.decode(line, type=Job), held)
        except (TimeoutError, OSError) as e:
            outcome = Outcome(0, [], [], 0, f"can't connect: {e!r}")
        print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
