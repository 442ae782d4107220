"""Stdio: a server as a child process, one JSON-RPC message a line (basic/transports/stdio).

Lines may be as long as ``limits.body``; asyncio's own line reader stops at 64 KiB.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import PurePath

from ....gateway.children import CHUNK, Child
from ....gateway.errors import ConfigError, Unreachable, UpstreamFailed
from ....gateway.model import Record
from ....gateway.ports import Host
from .duplex import DuplexLink
from .link import Hello, log

LAST_WORD = 1.0  # seconds in which the end of a process that can't be written to is heard of


class StdioLink(DuplexLink):
    """A running child. ``hello`` is set by whoever opened it, once the server
    has spoken. ``on_end`` is called when the child has ended by itself; ``begun``: when it was started."""

    transport = "pipe"

    def __init__(self, child: Child, hello: Hello, changed: Callable[[], None], host: Host) -> None:
        super().__init__(child.agent, hello, changed)
        self.begun = time.monotonic()
        self.on_end: Callable[[], None] | None = None
        self._child = child
        self._host = host
        self._writing = asyncio.Lock()
        self._closing = self._ending = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, record: Record, host: Host, hello: Hello, changed: Callable[[], None]) -> StdioLink:
        """Start the record's command. Raises Unreachable when it can't be started, ConfigError for an unset
        reference in its environment."""
        name = PurePath(record.command[0]).name  # the full path is the machine's own business
        environment, hidden = host.environment(record), host.hidden(record)
        try:
            child = await host.children.start(record.name, record.command, environment, record.cwd, hidden)
        except (FileNotFoundError, NotADirectoryError) as e:
            if record.cwd is not None and not await asyncio.to_thread(os.path.isdir, record.cwd):
                raise ConfigError(
                    f"{record.name}: the working directory does not exist", detail=str(e)
                ) from e
            raise Unreachable(f"{record.name}: command not found: {name}", detail=str(e)) from e
        except PermissionError as e:
            raise Unreachable(f"{record.name}: command is not executable: {name}", detail=str(e)) from e
        except OSError as e:
            raise Unreachable(f"{record.name}: {name} can't be started", detail=str(e)) from e
        return cls(child, hello, changed, host)

    @property
    def most(self) -> int:
        return self._host.config.limits.per_agent

    async def send(self, message: bytes) -> None:
        try:
            async with self._writing:
                self._child.stdin.write(message + b"\n")
                await self._child.stdin.drain()
        except (ConnectionError, RuntimeError) as e:
            await asyncio.wait([self._reader], timeout=LAST_WORD)
            raise self._lost or UpstreamFailed(self.agent, detail=f"writing to the process: {e}") from e

    async def _read(self) -> None:
        pieces: list[bytes] = []
        size = 0
        reason = ""
        try:
            while chunk := await self._child.stdout.read(CHUNK):
                first, *rest = chunk.split(b"\n")
                pieces.append(first)
                size += len(first)
                if size > (largest := self._host.config.limits.body):
                    reason = f"it wrote a message larger than {largest} bytes"
                    break
                for line in rest:
                    await self._line(b"".join(pieces))
                    pieces, size = [line], len(line)
        except Exception:
            log.debug("%s: reading from the process", self.agent, exc_info=True)
            reason = "what it writes can't be read"
        await self._ended(reason)

    async def _line(self, line: bytes) -> None:
        if line.strip():
            await self.feed(line)

    async def _ended(self, reason: str) -> None:
        """Stdout is at its end: the process is gone, or will be."""
        self._ending = True
        if not reason:
            reason = _how(await self._child.wait(0.5))
        tail = "\n".join(self._child.tail)
        log.debug("%s: %s\n%s", self.agent, reason, tail)
        self.lost(UpstreamFailed(self.agent, detail=f"{reason}\n{tail}".strip(), operator=reason))
        await self._child.kill()
        if self.on_end is not None and not self._closing:
            self.on_end()

    async def aclose(self) -> None:
        """Close the child's stdin, and end its group if it does not end by itself (stdio, "Shutdown")."""
        self._closing = True
        await super().aclose()
        if self._ending:
            await asyncio.wait([self._reader])
            return
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self.lost(UpstreamFailed(self.agent, detail="the process was stopped"))
        await self._child.stop()


def _how(status: int | None) -> str:
    """A process' end in words."""
    if status is None:
        return "its process closed its standard output"
    ended = f"exit status {status}" if status >= 0 else f"signal {-status}"
    return f"its process ended with {ended}"
