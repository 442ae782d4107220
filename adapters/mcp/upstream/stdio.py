"""Stdio: a server as a child process, one JSON-RPC message a line (basic/transports/stdio).

The child leads a process group of its own, so that what it starts ends with it. Lines may be as long as
``MAX_MESSAGE``; asyncio's own line reader stops at 64 KiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import PurePath

from ....gateway.errors import ConfigError, Unreachable, UpstreamFailed
from ....gateway.model import Record
from ....gateway.ports import Host
from .duplex import DuplexLink
from .link import Hello, log

MAX_MESSAGE = 64 * 1024 * 1024
CHUNK = 256 * 1024
STDERR_LINES = 50
GRACE = 2.0  # seconds between closing stdin, SIGTERM and SIGKILL


class StdioLink(DuplexLink):
    """A running child. ``hello`` is set by whoever opened it, once the server has spoken."""

    transport = "pipe"

    def __init__(
        self, agent: str, process: asyncio.subprocess.Process, hello: Hello, changed: Callable[[], None]
    ) -> None:
        super().__init__(agent, hello, changed)
        self._process = process
        self._writing = asyncio.Lock()
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._reader = asyncio.create_task(self._read())
        self._drainer = asyncio.create_task(self._drain_stderr())

    @classmethod
    async def start(cls, record: Record, host: Host, hello: Hello, changed: Callable[[], None]) -> StdioLink:
        """Start the record's command. Raises Unreachable when it can't be started, ConfigError for an unset
        reference in its environment."""
        name = PurePath(record.command[0]).name  # the full path is the machine's own business
        try:
            process = await asyncio.create_subprocess_exec(
                *record.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=host.environment(record),
                cwd=record.cwd,
                start_new_session=True,
                limit=CHUNK,
            )
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
        return cls(record.name, process, hello, changed)

    async def send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        try:
            async with self._writing:
                self._process.stdin.write(message + b"\n")
                await self._process.stdin.drain()
        except (ConnectionError, RuntimeError) as e:
            raise UpstreamFailed(self.agent, detail=f"writing to the process: {e}") from e

    async def _read(self) -> None:
        assert self._process.stdout is not None
        pieces: list[bytes] = []
        size = 0
        reason = ""
        try:
            while chunk := await self._process.stdout.read(CHUNK):
                first, *rest = chunk.split(b"\n")
                pieces.append(first)
                size += len(first)
                if size > MAX_MESSAGE:
                    reason = f"wrote a message larger than {MAX_MESSAGE} bytes"
                    break
                for line in rest:
                    await self._line(b"".join(pieces))
                    pieces, size = [line], len(line)
        except Exception:
            log.debug("%s: reading from the process", self.agent, exc_info=True)
            reason = "reading failed"
        await self._died(reason)

    async def _line(self, line: bytes) -> None:
        if line.strip():
            await self.feed(line)

    async def _died(self, reason: str) -> None:
        """Stdout is at its end: the process is gone, or will be."""
        if not reason:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 0.5)
            reason = f"the process ended with {self._process.returncode}"
        tail = "\n".join(self._stderr)
        log.debug("%s: %s\n%s", self.agent, reason, tail)
        self.lost(UpstreamFailed(self.agent, detail=f"{reason}\n{tail}".strip()))
        self._signal(signal.SIGKILL)

    async def _drain_stderr(self) -> None:
        """Keep the child from blocking on a full pipe; the last lines help when it dies."""
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-CHUNK:]
            for line in lines:
                text = line.decode("utf-8", "replace")[:2000]
                self._stderr.append(text)
                log.debug("%s stderr: %s", self.agent, text)

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signum)

    async def aclose(self) -> None:
        """Close the child's stdin, and end its group if it does not end by itself (stdio, "Shutdown")."""
        await super().aclose()
        if self._process.stdin is not None:
            self._process.stdin.close()
        for signum in (signal.SIGTERM, signal.SIGKILL):
            try:
                await asyncio.wait_for(self._process.wait(), GRACE)
                break
            except TimeoutError:
                self._signal(signum)
        self._signal(signal.SIGKILL)  # whatever it has started
        await self._process.wait()
        self.lost(UpstreamFailed(self.agent, detail="the process was stopped"))
        readers = (self._reader, self._drainer)
        await asyncio.wait(readers, timeout=GRACE)  # its pipes are at their end now
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
