"""The process around the relay: standard input and output, and which gateway to relay to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from threading import Thread
from urllib.parse import quote

from ..gateway.transport import Transport
from .door import Door
from .find import Target, find, transport
from .relay import Relay
from .terminal import Stop

CHUNK = 1 << 16


async def serve(agent: str | None) -> None:
    """Relay until standard input ends, or SIGTERM."""
    output = _claimed_output()
    path = "/mcp" if agent is None else f"/mcp/{quote(agent, safe='')}"
    async with transport() as http, _reachable(http) as reach:
        relay = Relay(Door(http, reach, path), output)
        stopping = asyncio.create_task(_until_signal())
        serving = asyncio.create_task(relay.serve(_input()))
        await asyncio.wait((stopping, serving), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError, BrokenPipeError):
            await serving
        await relay.aclose()


@contextlib.asynccontextmanager
async def _reachable(http: Transport) -> AsyncGenerator[Callable[[], Awaitable[Target]]]:
    """A way to find the gateway, now and again after it was restarted. A host that gives us a key is to see
    what that key may see, also where we could be the owner."""
    key = os.environ.get("AGENTGW_TOKEN") or None
    if await find(http) is not None:

        async def running() -> Target:
            target = await find(http)
            if target is None:
                raise Stop("the gateway has stopped: start it again with agentgw serve")
            return target if key is None else Target(target.url, key)

        yield running
        return
    from . import process
    from .configuration import load
    from .owner import home

    async with process.embedded(load(), home=home(), refresh=True) as inside:

        async def embedded() -> Target:
            return Target(inside.url, key if key is not None and inside.keyed else inside.token)

        yield embedded


def _claimed_output() -> Callable[[bytes], None]:
    """Writes a line to standard output. Whatever else would print there goes to stderr from now on."""
    file = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def write(line: bytes) -> None:
        file.write(line + b"\n")
        file.flush()

    return write


async def _input() -> AsyncGenerator[bytes]:
    """Lines of standard input.

    Read in a thread, because it may be a pipe, a file or a terminal; with ``os.read``, because a daemon
    thread inside ``sys.stdin`` would abort the interpreter's shutdown.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue(16)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: so is our reader
            while True:
                try:
                    chunk = os.read(0, CHUNK)
                except OSError:
                    chunk = b""
                asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop).result()
                if not chunk:
                    return

    Thread(target=read, daemon=True).start()
    rest: list[bytes] = []
    while chunk := await chunks.get():
        head, *lines = chunk.split(b"\n")
        rest.append(head)
        for line in lines:
            yield b"".join(rest)
            rest = [line]
    yield b"".join(rest)


async def _until_signal() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
