"""What an agent that is a process writes on stderr: kept in a file of bounded size, or in memory.

A file holds up to ``FILE`` bytes; then it becomes ``NAME.log.1``, in place of the one before. Several
processes may write one (each worker has agents of its own): every write is one append.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

FILE = 1024 * 1024
LINE = 2000  # characters of a line that are kept
IN_MEMORY = 1000  # lines
RUN = 200  # of them are looked at for what a process wrote
STARTED, ENDED = "[started]", "[ended with "  # lines of ours


class Lines(msgspec.Struct, frozen=True):
    """Lines of a log, and where they end: what to ask for those that come after."""

    lines: Sequence[str] = ()
    next: str = ""


class AgentLog:
    """One agent's. ``path`` None: it is kept in memory. Everything here blocks for as long as a disk does."""

    def __init__(self, path: Path | None, size: int = FILE) -> None:
        self._path = path
        self._size = size
        self._memory: deque[str] = deque(maxlen=IN_MEMORY)
        self._written = 0  # lines, in memory

    def write(self, pid: int, lines: Sequence[str]) -> None:
        """Add lines of the process ``pid``, with the time and without control characters."""
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} [{pid}] "
        shown = [stamp + _printable(line[:LINE]) for line in lines]
        if self._path is None:
            self._memory.extend(shown)
            self._written += len(shown)
            return
        data = "".join(f"{line}\n" for line in shown).encode()
        with contextlib.suppress(OSError):  # a full disk must not end the agent
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                if os.fstat(file).st_size + len(data) > self._size:
                    os.replace(self._path, self._older)
                    os.close(file)
                    file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                os.write(file, data)
            finally:
                os.close(file)

    def tail(self, count: int) -> Lines:
        """The last ``count`` lines."""
        if self._path is None:
            return Lines(list(self._memory)[-count:], str(self._written))
        found: deque[bytes] = deque(maxlen=count)
        where = ""
        for path in (self._older, self._path):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                content = file.read()
                found.extend(content.splitlines())
                where = f"{os.fstat(file.fileno()).st_ino}-{len(content)}"
        return Lines([line.decode("utf-8", "replace") for line in found], where)

    def last_words(self, count: int) -> Sequence[str]:
        """The last ``count`` lines of the process that was started last, as it wrote them."""
        said = [line.partition("] ")[2] for line in self.tail(RUN).lines]
        begun = max((at for at, line in enumerate(said) if line == STARTED), default=-1)
        return [line for line in said[begun + 1 :] if not line.startswith(ENDED)][-count:]

    def after(self, where: str) -> Lines:
        """The lines after those that ended there: ``next`` of what was asked before, or ""."""
        if self._path is None:
            missed = self._written - (int(where) if where.isdigit() else 0)
            return Lines(list(self._memory)[-missed:] if missed > 0 else (), str(self._written))
        known, _, offset = where.partition("-")
        fresh, since = b"", ""
        for path in (self._older, self._path):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                content = file.read()
                inode = str(os.fstat(file.fileno()).st_ino)
                if inode == known:
                    fresh = content[int(offset) if offset.isdigit() else 0 :]
                elif path == self._path:
                    fresh += content
                since = f"{inode}-{len(content)}"
        return Lines(fresh.decode("utf-8", "replace").splitlines(), since)

    def forget(self) -> None:
        """Remove it."""
        self._memory.clear()
        if self._path is not None:
            for path in (self._older, self._path):
                path.unlink(missing_ok=True)

    @property
    def _older(self) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + ".1")


class AgentLogs:
    """Those of all agents, in a directory; None: in memory."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._logs: dict[str, AgentLog] = {}

    def of(self, agent: str) -> AgentLog:
        """The log of the agent with this name, which is fit for a file's."""
        if agent not in self._logs:
            self._logs[agent] = AgentLog(
                None if self._directory is None else self._directory / f"{agent}.log"
            )
        return self._logs[agent]


def logs_in(home: Path) -> AgentLogs:
    """Those that are kept in a data directory."""
    return AgentLogs(home / "logs")


def _printable(line: str) -> str:
    return (
        line if line.isprintable() else "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)
    )
