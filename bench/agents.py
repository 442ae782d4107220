"""The agents of the benchmark, all in one process: raw HTTP and canned answers, for they are not measured.

    /mcp   MCP 2026-07-28            /mcph  MCP with the handshake (2025-11-25)
    /a2a   A2A 1.0 over JSON-RPC     /acp   ACP: one agent, "bench"
    /held  how many connections are open here, the asker's own included
    /sent  how many bytes of bodies were given to the kernel, in all

What they say is in ``speech``. The little HTTP that is needed is read by hand: these agents must cost less
than what stands in front of them.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

import uvloop
from speech import Answer, Refused, Streamed, answer

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 %d OK\r\ncontent-type: %b\r\n%b%b\r\n\r\n"


class Agents(asyncio.Protocol):
    """One connection."""

    held = 0
    sent = 0

    def connection_made(self, transport: Any) -> None:
        Agents.held += 1
        self.transport = transport
        self.open = True
        self.head = b""
        self.pieces: list[bytes] = []
        self.missing = 0
        self.job: asyncio.Task[None] | None = None
        self.room = asyncio.Event()
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        Agents.held -= 1
        self.open = False
        self.room.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def data_received(self, data: bytes) -> None:
        if self.missing:
            self.pieces.append(data)
            self.missing -= len(data)
            if not self.missing:
                self._heard(b"".join(self.pieces))
            return
        self.head, found, body = (self.head + data).partition(b"\r\n\r\n")
        if not found:
            return
        length = LENGTH.search(self.head)
        self.missing = (int(length[1]) if length else 0) - len(body)
        self.pieces = [body]
        if not self.missing:
            self._heard(body)

    def _heard(self, body: bytes) -> None:
        method, target, _ = self.head.split(b" ", 2)
        self.head = b""
        path = target.decode().partition("?")[0]
        if path in ("/held", "/sent"):
            self._answer(Answer(b"%d" % (Agents.held if path == "/held" else Agents.sent)))
            return
        try:
            said = answer(method.decode(), path, body, self.transport.get_extra_info("sockname"))
        except Refused as e:
            said = Answer(b"{}", status=e.args[0])
        if isinstance(said, Answer):
            self._answer(said)
        else:
            self.job = asyncio.create_task(self._stream(said))

    def _answer(self, said: Answer) -> None:
        Agents.sent += len(said.body)
        size = b"content-length: %d" % len(said.body)
        head = HEAD % (said.status, b"application/json", said.head, size)
        self.transport.write(head + said.body)

    async def _stream(self, said: Streamed) -> None:
        framing = b"transfer-encoding: chunked" if said.size is None else b"content-length: %d" % said.size
        kind = b"text/event-stream" if said.size is None else b"application/json"
        self.transport.write(HEAD % (200, kind, said.head, framing))
        for piece in said.pieces:
            data = piece()
            await self.room.wait()
            if not self.open:
                return
            Agents.sent += len(data)
            self.transport.write(data if said.size is not None else b"%x\r\n%b\r\n" % (len(data), data))
            await asyncio.sleep(said.pause)
        if self.open and said.size is None:
            self.transport.write(b"0\r\n\r\n")


async def serve() -> None:
    """Print the port, serve until killed."""
    server = await asyncio.get_running_loop().create_server(Agents, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))
