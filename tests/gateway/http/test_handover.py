"""Of several processes that are one gateway: which one answers a request."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentgw.gateway.access import Access
from agentgw.gateway.errors import GatewayError
from agentgw.gateway.homes import Homes
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.http.handover import Handover, socket_path
from agentgw.gateway.http.request import Request
from agentgw.gateway.ports import Handler

from .support import read_answer, serving
from .test_front import Face, control

HERE, THERE = Homes(0, 2).new(), Homes(1, 2).new()


class Asked(Face):
    """What a body says is the id that the request goes on with; "late …" has to be looked up."""

    def mounts(self) -> Sequence[tuple[str, Handler]]:
        return [("/x", self.serve)]

    async def serve(self, request: Request) -> None:
        await request.respond(200, b"here " + await request.body())

    def home(self, request: Request, body: bytes) -> str | Awaitable[str | None] | None:
        said = body.decode()
        if not said.startswith("late "):
            return said or None
        return self._looked_up(said.removeprefix("late "))

    async def _looked_up(self, said: str) -> str | None:
        await asyncio.sleep(0)
        return said or None

    def refusal(self, request: Request, error: GatewayError) -> bytes:
        return error.code.encode()


async def _other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The other process: says what it was sent."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    answer = b"there " + await reader.readexactly(length)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))
    writer.close()


@asynccontextmanager
async def one_of_two(face: Face) -> AsyncGenerator[int]:
    """The port of worker 0."""
    with tempfile.TemporaryDirectory(prefix="agentgw-") as directory:
        handover = Handover(Homes(0, 2), Path(directory))
        doors = Doors(bind="127.0.0.1", public_url="")
        front = App([face], control, doors, access=Access("t"), body_limit=1000, elsewhere=handover)
        other = await asyncio.start_unix_server(_other, socket_path(Path(directory), 1))
        try:
            async with serving(front) as (port, _):
                yield port
        finally:
            handover.close()
            other.close()


async def ask(port: int, *pieces: bytes, length: int | None = None) -> tuple[int, bytes]:
    """The answer to a POST whose body comes in these pieces, each once the one before is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = sum(map(len, pieces)) if length is None else length
    head = b"POST /x HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-length: %d\r\n\r\n" % (port, size)
    data = b""
    try:
        writer.write(head)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        while (found := read_answer(data, "POST", ended=False)) is None:
            piece = await reader.read(65536)
            assert piece, data
            data += piece
    finally:
        writer.close()
    return found[0].status, found[0].body


@pytest.mark.parametrize("split", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("late", ["", "late "], ids=["known", "looked up"])
async def test_what_goes_on_with_something_is_answered_where_that_is(late: str, split: bool) -> None:
    async with one_of_two(Asked()) as port:
        for id, place in ((HERE, "here"), (THERE, "there"), ("", "here")):
            body = f"{late}{id}".encode()
            pieces = [body[:3], body[3:]] if split else [body]
            assert await ask(port, *pieces) == (200, f"{place} {late}{id}".encode())


async def test_a_face_that_names_nothing_is_asked_for_no_home() -> None:
    async with one_of_two(Face()) as port:
        status, body = await ask(port, THERE.encode())
        assert status == 200
        assert THERE.encode() in body


@pytest.mark.parametrize("split", [False, True], ids=["at once", "in pieces"])
async def test_a_body_that_is_refused_is_refused_in_the_face_s_form(split: bool) -> None:
    async with one_of_two(Asked()) as port:
        large = b"x" * 1001
        assert await ask(port, *([large[:9], large[9:]] if split else [large])) == (413, b"too_large")
