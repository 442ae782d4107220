"""One process owns a data directory: the file ``lock`` in it, which also says who that is.

SQLite before 3.51.3 can corrupt a write-ahead log that two processes write at the same moment, so there is
never a second writer. The system drops the lock with its process, however that ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from ..gateway.errors import ConfigError

log = logging.getLogger("agentgw.registry")

FILE = "lock"
POLL = 0.05  # seconds between two tries
NOTICE = 2.0  # seconds of silence; who waits longer is told why


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock: process id and what it runs (``agentgw serve``)."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class HomeLock:
    """The lock on ``home``; ``name`` tells others what holds it."""

    def __init__(self, home: Path, name: str) -> None:
        self._home = home
        self._path = home / FILE
        self._name = name
        self._lock = FileLock(self._path, mode=0o600, thread_local=False)

    async def acquire(self, wait: float) -> None:
        """Take it, waiting up to ``wait`` seconds. Raises ConfigError naming the holder."""
        loop = asyncio.get_running_loop()
        begun, told = loop.time(), False
        while not self._try():
            who = holder(self._home) or "another process"
            waited = loop.time() - begun
            if waited >= wait:
                raise ConfigError(
                    f"the data directory {self._home} is in use by {who}: "
                    "stop it, or set AGENTGW_HOME to another directory"
                )
            if waited >= NOTICE and not told:
                told = True
                log.warning("waiting up to %g s for %s, which uses %s", wait, who, self._home)
            await asyncio.sleep(POLL)
        self._path.write_bytes(msgspec.json.encode(Holder(pid=os.getpid(), name=self._name)))

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
            self._path.write_bytes(b"")
            self._lock.release()


def holder(home: Path) -> Holder | None:
    """Who wrote the lock last and has not given it up; None if nobody or unreadable. It may have died."""
    try:
        return msgspec.json.decode((home / FILE).read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None
