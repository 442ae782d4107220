"""One process owns a data directory: the file ``lock`` in it, which also says who that is.

SQLite before 3.51.3 can corrupt a write-ahead log that two processes write at the same moment, so there is
never a second writer. The system drops the lock with its process, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from ..gateway.errors import ConfigError

log = logging.getLogger("agentgw.registry")

FILE = "lock"
POLL = 0.05  # seconds between two tries
ASK = 1.0  # seconds between two questions whether a gateway serves there
NOTICE = 2.0  # seconds of silence; who waits longer is told why

Serving = Callable[[], Awaitable[str]]


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock: process id and what it runs (``agentgw serve``)."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class HomeLock:
    """The lock on ``home``; ``name`` tells others what holds it. ``serving``: asked while somebody else has
    it; the URL of a gateway that serves on the directory, and will not give it up ("": none is known)."""

    def __init__(self, home: Path, name: str, serving: Serving | None = None) -> None:
        self._home = home
        self._path = home / FILE
        self._name = name
        self._serving = serving
        self._lock = FileLock(self._path, mode=0o600, thread_local=False)

    async def acquire(self, wait: float) -> None:
        """Take it, waiting up to ``wait`` seconds. Raises ConfigError naming the holder."""
        loop = asyncio.get_running_loop()
        begun, told, asked = loop.time(), False, -ASK
        while not self._try():
            who = str(holder(self._home) or "another process")
            waited = loop.time() - begun
            url = ""
            if self._serving is not None and waited >= asked + ASK:
                url, asked = await self._serving(), waited
            if url or waited >= wait:
                at = f" at {url}" if url else ""
                raise ConfigError(
                    f"the data directory {self._home} is in use by {who}{at}: "
                    "stop it, or set AGENTGW_HOME to another directory"
                )
            if waited >= NOTICE and not told:
                told = True
                log.warning("waiting up to %g s for %s, which uses %s", wait, who, self._home)
            await asyncio.sleep(POLL)
        try:
            self._path.write_bytes(msgspec.json.encode(Holder(pid=os.getpid(), name=self._name)))
        except OSError as e:
            self._lock.release()
            raise ConfigError(f"can't write {self._path}: {e.strerror or e}") from None

    def _try(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as e:
            raise ConfigError(f"can't lock {self._path}: {e.strerror or e}") from None
        return True

    def release(self) -> None:
        """Give it up; fine when it is not held."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._path.write_bytes(b"")
            self._lock.release()


def holder(home: Path) -> Holder | None:
    """Who wrote the lock last and has not given it up; None if nobody or unreadable. It may have died."""
    try:
        return msgspec.json.decode((home / FILE).read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def taken(home: Path) -> bool:
    """Whether a process has the lock now. Nothing is made or changed; False, too, where nobody can tell
    (Windows)."""
    try:
        import fcntl

        file = os.open(home / FILE, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back with the file
    except OSError:
        return True
    finally:
        os.close(file)
    return False
