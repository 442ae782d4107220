"""The agents of the soak, all in one process: they do what they are told, unless chance has it otherwise.

    /mcp  MCP 2026-07-28     /mcph  MCP with the handshake      /acp  ACP, one agent: writer
    /a2a  A2A 1.0, JSON-RPC  /old   A2A 0.3, JSON-RPC           /rest  A2A 1.0, HTTP+JSON
    /held  how many connections are open, the asker's included, and how many requests are being answered

python -m tests.soak.agents PORT SEED
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sys
import time
from typing import Any

import uvloop

from ..fuzz.agents import A2A, BREAKS, HANGS, Acp, Answer, Asked, Mcp

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
# What happens to an answer, and how often among 100.
FAULTS = {
    "": 62, "late": 12, "slow": 8, "gone before": 2, "gone in the body": 5, "500": 4, "garbage": 3,
    "no JSON": 2, "hangs": 2,
}  # fmt: skip
LISTENING = re.compile("^GET /mcp|subscriptions/listen")
DESCRIBING = re.compile(rb'"(initialize|server/discover|[a-z/]+/list|notifications/[a-z]+)"')
WORKS = (0.5, 4.0)  # seconds that long work takes


class LongWork:
    """Tasks that were begun with ``work`` end after a while: whoever asks then is told so."""

    def __init__(self, agent: Any, chance: random.Random) -> None:
        self.agent = agent
        self.chance = chance
        self.due: dict[str, float] = {}

    def __call__(self, asked: Asked) -> Answer:
        known: dict[str, dict[str, Any]] = getattr(self.agent, "tasks", None) or getattr(
            self.agent, "runs", {}
        )
        for id in [id for id, at in self.due.items() if at < time.monotonic()]:
            del self.due[id]
            self._complete(known[id])
        answer = self.agent(asked)
        for id, task in list(known.items())[-4:]:
            if id not in self.due and self._works(task):
                self.due[id] = time.monotonic() + self.chance.uniform(*WORKS)
        return answer

    def _works(self, task: dict[str, Any]) -> bool:
        state = task["status"]["state"] if isinstance(task["status"], dict) else task["status"]
        return state in ("working", "TASK_STATE_WORKING", "in-progress")

    def _complete(self, task: dict[str, Any]) -> None:
        if self._works(task):
            if isinstance(task["status"], dict):
                task["status"]["state"] = (
                    task["status"]["state"].replace("WORKING", "COMPLETED").replace("working", "completed")
                )
            else:
                task["status"] = "completed"


class Agents:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.held = 0
        self.served: dict[object, str] = {}
        self.agents: dict[str, Any] = {
            "mcp": lambda: Mcp(modern=True),  # one for each request: it keeps what it was answered
            "mcph": lambda: Mcp(modern=False),
            "a2a": LongWork(A2A(), self.chance),
            "old": LongWork(A2A("0.3"), self.chance),
            "rest": LongWork(A2A("1.0", "HTTP+JSON"), self.chance),
            "acp": LongWork(Acp(), self.chance),
        }
        self.waiting: dict[str, asyncio.Event] = {}  # for the answer to a question, by session

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.held += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        finally:
            self.held -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        found = LENGTH.search(head)
        body = await reader.readexactly(int(found[1])) if found else b""
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        headers = dict(
            line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if ": " in line
        )
        if target == "/held":
            # What only listens stays open: an MCP session's stream, and the gateway's own subscription to a
            # server's lists, which may have come to hang.
            asked = sorted(each for each in self.served.values() if not LISTENING.search(each))
            return await self._write(
                writer, Answer([{"held": self.held, "serving": len(asked), "asked": asked}]), ""
            )
        mark = object()
        self.served[mark] = f"{method} {target} {body[:60]!r}"
        try:
            return await self._answer(method, target, headers, body, reader, writer)
        finally:
            del self.served[mark]

    async def _answer(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        name, _, path = target[1:].partition("/")
        agent = self.agents[name]
        if name in ("mcp", "mcph"):
            agent = agent()
            session = headers.get("mcp-session-id")
            if name == "mcph" and session:
                agent.answered = self.waiting.setdefault(session, agent.answered)
                if method == "DELETE":
                    self.waiting.pop(session)
        asked = Asked(method, f"/{path}", headers, body)
        answer: Answer = agent(asked)
        if path.endswith(".json"):
            answer = Answer(
                [
                    json.loads(
                        json.dumps(answer.pieces[0]).replace(
                            f"http://{headers['host']}/", f"http://{headers['host']}/{name}"
                        )
                    )
                ]
            )
        describes = (
            method == "GET" and (path.endswith(".json") or path.startswith("agents"))
        ) or DESCRIBING.search(body)
        (fault,) = [""] if describes else self.chance.choices(list(FAULTS), list(FAULTS.values()))
        return await self._write(writer, answer, fault, reader)

    async def _write(
        self,
        writer: asyncio.StreamWriter,
        answer: Answer,
        fault: str,
        reader: asyncio.StreamReader | None = None,
    ) -> bool:
        pieces = list(answer.pieces)
        match fault:
            case "late":
                await asyncio.sleep(self.chance.uniform(0.02, 0.6))
            case "gone before":
                return False
            case "hangs":
                pieces.insert(0, HANGS)
            case "500":
                answer = Answer([b"Traceback: it crashed"], 500, [("content-type", "text/plain")])
                pieces = answer.pieces
            case "garbage":
                writer.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
                return False
            case "no JSON":
                pieces = [b"data: <html>\n\n" if answer.events else b"<html>"]
            case "gone in the body":
                at = self.chance.randrange(len(pieces) + 1)
                pieces[at:] = [BREAKS]
        head = [b"HTTP/1.1 %d x\r\ntransfer-encoding: chunked\r\n" % answer.status]
        head += [f"{n}: {v}\r\n".encode() for n, v in answer.all_headers]
        writer.write(b"".join([*head, b"\r\n"]))
        for piece in pieces:
            if fault == "slow":
                await asyncio.sleep(self.chance.uniform(0.02, 0.4))
            if piece is BREAKS:
                return False
            if piece is HANGS or callable(piece):
                await writer.drain()
                if not await _waited(piece, reader):
                    return False
            else:
                raw = piece if isinstance(piece, bytes) else json.dumps(piece).encode()
                if answer.events and not isinstance(piece, bytes):
                    raw = b"data: %b\n\n" % raw
                if raw:
                    writer.write(b"%x\r\n%b\r\n" % (len(raw), raw))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _waited(piece: Any, reader: asyncio.StreamReader | None) -> bool:
    """Wait for what ``piece`` waits for (nothing ends a hang); False when the other side has left before."""
    while reader is not None and not reader.at_eof() and reader.exception() is None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait() if piece is HANGS else piece(), 0.2)
            return True
    return False


async def main(port: int, seed: int) -> None:
    server = await asyncio.start_server(
        Agents(seed).connected, "127.0.0.1", port, limit=1 << 20, backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
