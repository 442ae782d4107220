"""A server of our own with a door that tests write, and answers to it as h11 reads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple

import h11

from agentgw.cli.process import listen
from agentgw.gateway.http.app import App
from agentgw.gateway.http.connection import Connection, Home
from agentgw.gateway.http.incoming import Incoming
from agentgw.gateway.http.server import Server
from agentgw.gateway.http.wire import ClientGone

Door = Callable[[Incoming], Awaitable[None]]
LIMIT = 8192
HIGH = 65536


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    informed: list[int]  # the statuses that came before it


def read_answer(data: bytes, method: str, *, ended: bool) -> tuple[Answer, bytes] | None:
    """The first answer in ``data`` and what follows it; None when it is not all there (``ended``: no more
    comes). Raises h11.RemoteProtocolError where it is not well framed."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    if data:
        client.receive_data(data)
    if ended:
        client.receive_data(b"")
    informed: list[int] = []
    status, headers, body = 0, {}, b""
    while True:
        event = client.next_event()
        match event:
            case h11.InformationalResponse():
                informed.append(event.status_code)
            case h11.Response():
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
                assert len(headers) == len(event.headers), "a header twice"
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return Answer(status, headers, body, informed), client.trailing_data[0]
            case h11.NEED_DATA:
                return None
            case _:
                raise AssertionError(event)


def read_answers(data: bytes, methods: list[str]) -> list[Answer]:
    """The answers that are all of ``data``, to requests with these methods, before the connection ended."""
    answers: list[Answer] = []
    while data:
        found = read_answer(data, methods[min(len(answers), len(methods) - 1)], ended=True)
        assert found is not None
        answers.append(found[0])
        data = found[1]
    return answers


class Client:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._data = b""

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer."""
        async with asyncio.timeout(60):
            ended = False
            while (found := read_answer(self._data, method, ended=ended)) is None:
                piece = await self.reader.read(65536)
                ended = not piece
                self._data += piece
        self._data = found[1]
        return found[0]

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(60):
            data, self._data = self._data + await self.reader.read(), b""
        return data

    async def all(self, *methods: str) -> list[Answer]:
        """The answers until the server closes."""
        return read_answers(await self.rest(), list(methods or ("GET",)))

    def reset(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()


class Served:
    """The running server. ``seen`` are requests as the door got them: method, target, body."""

    def __init__(self, door: Door | None) -> None:
        self.seen: list[tuple[str, bytes, bytes]] = []
        self.requests: list[Incoming] = []
        self.errors: list[BaseException] = []
        self.home = Home(self._handle, LIMIT)
        self.port = 0
        self._door = door or self._echo
        self._changed = asyncio.Event()

    async def reached(self, number: int) -> None:
        """Return when the door has got that many requests."""
        async with asyncio.timeout(60):
            while len(self.requests) < number:
                self._changed.clear()
                await self._changed.wait()

    async def _handle(self, request: Incoming) -> None:
        self.requests.append(request)
        self._changed.set()
        try:
            await self._door(request)
        except ClientGone:
            pass
        except BaseException as e:
            self.errors.append(e)
            if isinstance(e, asyncio.CancelledError):
                raise

    async def _echo(self, request: Incoming) -> None:
        body = await read_all(request)
        self.seen.append((request.method, request.head.target, body))
        await request.answer(200, (), (), body or request.head.target)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def empty(self) -> None:
        """Return when no connection and no task is left."""
        self.home.closing = True
        async with asyncio.timeout(60):
            while self.home.tasks:
                await asyncio.wait(self.home.tasks)
            if self.home.connections:
                await self.home.emptied.wait()


async def read_all(request: Incoming) -> bytes:
    body = b""
    while piece := await request.read():
        body += piece
    return body


@contextlib.asynccontextmanager
async def served(door: Door | None = None, *, fails: bool = False) -> AsyncGenerator[Served]:
    """A server whose ``door`` answers; without one, with the body or target. Nothing may be left of it.
    ``fails``: the door raises."""
    ours = Served(door)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(ours.home), "127.0.0.1", 0)
    ours.port = server.sockets[0].getsockname()[1]
    try:
        yield ours
        await ours.empty()
        assert bool(ours.errors) == fails, ours.errors
    finally:
        server.close()


class Wire(asyncio.Transport):
    """A connection without a socket: what it does is in the test's hands. ``written`` is what the client has
    not read yet; past ``HIGH`` of it the connection is told so. ``reading``: it wants to hear more;
    ``ended``: it says no more."""

    def __init__(self, door: Door, *, closing: bool = False) -> None:
        super().__init__()
        self.home = Home(door, LIMIT)
        self.home.closing = closing
        self.written = b""
        self.reading = True
        self.closed = self.ended = False
        self._connection = Connection(self.home)
        self._connection.connection_made(self)

    def send(self, data: bytes) -> None:
        """The client sends."""
        self._connection.data_received(data)

    def reads(self) -> bytes:
        """The client reads all there is."""
        data, self.written = self.written, b""
        if len(data) > HIGH:
            self._connection.resume_writing()
        return data

    def leaves(self) -> None:
        self._connection.connection_lost(None)

    # What the connection does.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        full = len(self.written) > HIGH
        self.written += data
        if not full and len(self.written) > HIGH:
            self._connection.pause_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def sweep(self, now: float) -> None:
        """The server looks at the connection."""
        self._connection.sweep(now)

    def is_closing(self) -> bool:
        return self.closed

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = self.ended = True

    abort = close


async def settled(turns: int = 50) -> None:
    """Let what can go on without the client go on."""
    for _ in range(turns):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(app: App) -> AsyncGenerator[tuple[int, Server]]:
    """``app`` behind the gateway's own server; its port."""
    server, listener = Server(app, LIMIT), listen("127.0.0.1", 0)
    await server.start(listener)
    try:
        yield listener.getsockname()[1], server
    finally:
        await server.aclose()
        listener.close()
