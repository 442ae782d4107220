# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["acp-sdk==1.0.3", "uvicorn<0.36", "fastapi<0.130"]
# ///
"""Foreign ACP agents on the official SDK, for the end-to-end tests. They need an environment of their own:

uv run --script acp_agents.py PORT [JOURNAL]
"""

import asyncio
import base64
import gc
import json
import logging
import struct
import sys
import zlib
from collections.abc import AsyncGenerator

import obstore.store
from acp_sdk.models import (
    Artifact,
    CitationMetadata,
    Error,
    ErrorCode,
    Message,
    MessageAwaitRequest,
    MessagePart,
    Metadata,
    TrajectoryMetadata,
)
from acp_sdk.server import Context, RunYield, RunYieldResume, Server
from acp_sdk.shared import ResourceStore

SECRET = "secret-crash-text"
PAUSE = 0.05
STEP = 0.02  # between two pieces of work
Answer = AsyncGenerator[RunYield, RunYieldResume]

server = Server()


def blob(size: int = 1000) -> bytes:
    """The same bytes on every run, all 256 values among them."""
    return bytes((i * 167 + (i >> 8) * 31) % 256 for i in range(size))


def png() -> bytes:
    """A red square of 4 by 4 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + b"\xff\0\0" * 4 for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def parts(input: list[Message]) -> list[MessagePart]:
    return [part for message in input for part in message.parts]


def is_json(part: MessagePart) -> bool:
    return part.content_type == "application/json"


def json_part(value: object) -> MessagePart:
    return MessagePart(content_type="application/json", content=json.dumps(value))


def encoded(content: bytes) -> dict[str, str]:
    return {"content_encoding": "base64", "content": base64.b64encode(content).decode()}


@server.agent(name="echo", metadata=Metadata(framework="none", natural_languages=["en"]))
async def echo(input: list[Message]) -> Answer:
    """Says it again, word by word"""
    words = str(input[-1]).split(" ")
    for at, word in enumerate(words):
        yield MessagePart(content=word if at == len(words) - 1 else word + " ")
        await asyncio.sleep(PAUSE)


@server.agent(name="artist", output_content_types=["image/png", "application/json", "text/plain"])
async def artist(input: list[Message]) -> Answer:
    """Answers with every kind of part there is"""
    yield {"thought": "a generic event", "progress": 0.5}
    trajectory = TrajectoryMetadata(
        message="plotting", tool_name="plot", tool_input={"n": 4}, tool_output={"ok": True}
    )
    yield MessagePart(metadata=trajectory)
    yield json_part({"a": 1})
    yield Artifact(name="plot.png", content_type="image/png", **encoded(png()))
    yield MessagePart(
        name="remote.png", content_type="image/png", content_url="https://pictures.example/x.png"
    )
    citation = CitationMetadata(url="https://source.example", title="Source", start_index=0, end_index=3)
    yield MessagePart(content="see source", metadata=citation)


@server.agent(name="file")
async def file(input: list[Message]) -> Answer:
    """Gives back the files it got, byte by byte, or one of its own"""
    got = [part for part in parts(input) if part.content_encoding == "base64"]
    for part in got:
        yield Artifact(**{**part.model_dump(), "name": part.name or "unnamed"})
    if not got:
        yield Artifact(name="data.bin", content_type="application/octet-stream", **encoded(blob()))


@server.agent(name="data")
async def data(input: list[Message]) -> Answer:
    """Gives back the data it got, or some of its own"""
    got = [json.loads(part.content or "null") for part in parts(input) if is_json(part)]
    yield json_part(
        {"got": got[0]} if got else {"numbers": [1, 2.5], "nested": {"ok": True, "nothing": None}}
    )


@server.agent(name="memory")
async def memory(input: list[Message], context: Context) -> Answer:
    """Repeats what the user said earlier in the session"""
    earlier = [str(message) async for message in context.session.load_history() if message.role == "user"]
    yield MessagePart(content=" ".join(earlier) or "nothing")


@server.agent(name="approver")
async def approver(input: list[Message]) -> Answer:
    """Asks before it answers"""
    question = Message(role="agent/approver", parts=[MessagePart(content="Which colour?")])
    resume = yield MessageAwaitRequest(message=question)
    yield MessagePart(content=f"You said {resume.message}")


@server.agent(name="slow")
async def slow(input: list[Message]) -> Answer:
    """Takes as many seconds as the message says"""
    await asyncio.sleep(float(str(input[-1]).split()[-1]))
    yield MessagePart(content="done")


def note(line: str) -> None:
    """A line in the journal, by which a test sees what happens here."""
    if len(sys.argv) > 2:
        with open(sys.argv[2], "a") as file:
            file.write(line + "\n")


async def held(token: str) -> None:
    """Where the journal says `TOKEN holds`, wait until it says `TOKEN goes on`."""

    def noted(line: str) -> bool:
        with open(sys.argv[2]) as file:
            return line in file.read().splitlines()

    while len(sys.argv) > 2 and noted(f"{token} holds") and not noted(f"{token} goes on"):  # noqa: ASYNC110
        await asyncio.sleep(STEP)


@server.agent(name="worker")
async def worker(input: list[Message]) -> Answer:
    """`TOKEN COUNT`: that many pieces; notes when it begins and how it ends"""
    token, count = str(input[-1]).split()
    note(f"{token} started")
    try:
        for at in range(int(count)):
            yield MessagePart(content=f"p{at}" if at == int(count) - 1 else f"p{at} ")
            await asyncio.sleep(STEP)
            await held(token)
    except (asyncio.CancelledError, GeneratorExit):
        note(f"{token} stopped")
        raise
    note(f"{token} finished")


@server.agent(name="quitter")
async def quitter(input: list[Message]) -> Answer:
    """Begins, and then fails in ACP's own form"""
    for at in range(3):
        yield MessagePart(content=f"p{at} ")
        await asyncio.sleep(STEP)
    yield Error(code=ErrorCode.INVALID_INPUT, message=str(input[-1]))


@server.agent(name="failing")
async def failing(input: list[Message]) -> Answer:
    """Breaks"""
    raise RuntimeError(SECRET)
    yield  # a generator, like every agent


@server.agent(name="invalid")
async def invalid(input: list[Message]) -> Answer:
    """Refuses its input in ACP's own form"""
    yield Error(code=ErrorCode.INVALID_INPUT, message=str(input[-1]))


@server.agent(name="trace")
async def trace(input: list[Message], context: Context) -> Answer:
    """Tells which trace the call belongs to"""
    yield MessagePart(content=context.request.headers.get("traceparent", "none"))


def collect(after: float = 0.05) -> None:
    """In so many seconds, and again for a while: what the collector is to find may still be about to wait."""

    def now() -> None:
        gc.collect()
        if after < 20:
            collect(after * 2)

    asyncio.get_running_loop().call_later(after, now)


class Collect(logging.Handler):
    """The SDK leaves the generator of a cancelled run to the garbage collector: have it come at once."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "Run cancelled":
            collect()


class Resources(ResourceStore):
    """Session history in memory, under URLs that this server answers itself."""

    def __init__(self, base: str) -> None:
        super().__init__(store=obstore.store.MemoryStore())
        self.base = base

    async def url(self, id: object) -> str:
        return f"{self.base}/resources/{id}"


if __name__ == "__main__":
    port = int(sys.argv[1])
    runs = logging.getLogger("acp")
    runs.setLevel(logging.INFO)
    runs.propagate = False
    runs.addHandler(Collect())
    server.run(
        port=port,
        log_level="warning",
        configure_logger=False,
        self_registration=False,
        resource_store=Resources(f"http://127.0.0.1:{port}"),
        forward_base_url=f"http://127.0.0.1:{port}",
    )
