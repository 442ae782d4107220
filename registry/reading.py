"""The store of commands that only look, while no gateway runs."""

from __future__ import annotations

import sqlite3

from . import beside, schema
from .sqlite import SqliteStore


class ReadingStore(SqliteStore):
    """What ``SqliteStore`` holds, as it stands when it is opened or later: no lock is taken, and nothing is
    made or changed, so it needs no disk that can be written. What would change it raises ConfigError."""

    async def open(self) -> None:
        try:
            await self._run(self._open, opening=True)
        except BaseException:
            await self.aclose()
            raise

    def _open(self) -> None:
        found = beside.connected(self._path)
        try:
            newest = found is not None and schema.schema_version(found) == len(schema.STEPS)
            self._connection = found if newest else _brought_up(found)
        finally:
            if found is not None and self._connection is not found:
                found.close()


def _brought_up(old: sqlite3.Connection | None) -> sqlite3.Connection:
    """A copy in memory, in the newest form, of a database that the next start of a gateway brings up; an
    empty one for None. Raises ConfigError for one that a newer agentgw wrote."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        if old is not None:
            old.backup(copy)
        schema.migrate(copy)
    except BaseException:
        copy.close()
        raise
    return copy
