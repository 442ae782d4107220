"""The audit log's file: lines are appended, full files step back (``audit.jsonl.1`` is the newest)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from pathlib import Path

log = logging.getLogger("agentgw.audit")


class AuditFile:
    """Appends to ``path`` (mode 0600), past ``size`` bytes to a new file; ``kept`` full ones stay. What moves
    the file away meanwhile (logrotate) finds a new one made. Failing to write costs no call: the log says so
    once, and the file itself how many lines are missing, when it can be written again."""

    def __init__(self, path: Path, size: int, kept: int) -> None:
        self._path = path
        self._size = size
        self._kept = kept
        self._fd = -1
        self._written = 0
        self._regular = True  # no pipe or terminal
        self._torn = False  # the last line is not whole
        self._lost = 0
        self._turn = asyncio.Lock()

    async def write(self, lines: bytes) -> int:
        """Append whole lines; they are with the system when it returns. How many were lost before these: 0
        but for the first time that writing goes on."""
        async with self._turn:
            return await asyncio.to_thread(self._write, lines)

    async def move(self, path: Path, size: int, kept: int) -> None:
        """Other bounds, and another place, for the lines that come."""
        async with self._turn:
            if path != self._path:
                self.close()
            self._path, self._size, self._kept = path, size, kept

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, lines: bytes) -> int:
        try:
            self._append(lines)
        except OSError as e:
            if not self._lost:
                log.error("the audit log %s can't be written, calls go on: %s", self._path, e.strerror or e)
            self._lost += lines.count(b"\n")
            self.close()
            return 0
        lost, self._lost = self._lost, 0
        if lost:
            log.warning("the audit log %s is written again; %d lines are missing", self._path, lost)
        return lost

    def _append(self, lines: bytes) -> None:
        self._open()
        if self._regular and 0 < self._written > self._size - len(lines):
            self._step_back()
            self._open()
        rest = memoryview(b"\n" + lines if self._torn else lines)
        while rest:
            done = os.write(self._fd, rest)
            self._written += done
            rest = rest[done:]
        self._torn = False

    def _open(self) -> None:
        """The file at the path is the one that is open."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                there, ours = os.stat(self._path), os.fstat(self._fd)
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    return
            self.close()
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        found = os.fstat(self._fd)
        self._regular = stat.S_ISREG(found.st_mode)
        self._written = found.st_size if self._regular else 0
        self._torn = self._written > 0 and not _ends_well(self._path)

    def _step_back(self) -> None:
        self.close()
        for number in range(self._kept, 0, -1):
            older = self._beside(number)
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._beside(number - 1), older)
        if not self._kept:
            os.unlink(self._path)

    def _beside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
