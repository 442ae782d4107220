"""The embedded store: SQLite in the data directory, no service needed.

One connection, used by one worker thread, in the one process that holds the directory's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..gateway.errors import ConfigError
from ..gateway.model import Agent, Logged, Record, TaskState
from ..gateway.store import Batch, Place, StoredContext, StoredLog, StoredTask
from . import beside, schema, segments, traces
from .contexttable import ContextTable
from .lock import HomeLock, Serving
from .rows import Rows, RowStore, rows_of
from .tasktable import TaskTable

FILE = "agentgw.db"
# Bytes. Most rows hold 1 to 2 KB: of SQLite's own 4 KiB a page, each would have one almost for itself.
PAGE = 16 * 1024
WAL = 4 * 1024 * 1024  # of written pages that wait in the log to be put into the file
LOCK_WAIT = 30.0  # seconds to wait for another process that has the directory

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(Record).decode
_decode_agent = msgspec.json.Decoder(Agent).decode


class SqliteStore(RowStore):
    """``gateway.store.Store`` in ``home/agentgw.db``.

    ``spans`` and ``tasks``: how many are kept, the oldest go first (of tasks, those that have ended).
    ``holder``: how other processes are told who has the directory. ``wait``: seconds to wait for them, unless
    a gateway is ``serving`` there (see ``HomeLock``).
    """

    def __init__(
        self,
        home: Path,
        *,
        spans: int,
        tasks: int = 10_000,
        holder: str = "agentgw",
        wait: float = LOCK_WAIT,
        serving: Serving | None = None,
    ) -> None:
        self._home = home
        self._path = home / FILE
        self._spans = spans
        self._tasks = tasks
        self._wait = wait
        self._lock = HomeLock(home, holder, serving)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="agentgw-store")
        self._connection: sqlite3.Connection | None = None
        self._task_rows: TaskTable | None = None
        self._unreadable: set[str] = set()
        self._context_rows: ContextTable | None = None
        self._closed = False

    async def open(self) -> None:
        _make_private(self._home)
        await self._lock.acquire(self._wait)
        try:
            await self._run(lambda: self._open(), opening=True)
        except BaseException:
            await self.aclose()
            raise

    def _open(self) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite's own files take its mode
        db = sqlite3.connect(self._path, isolation_level=None)
        self._connection = db
        db.execute(f"PRAGMA page_size = {PAGE}")  # of a new file
        db.execute("PRAGMA journal_mode = WAL")
        (page,) = db.execute("PRAGMA page_size").fetchone()
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL // page}")
        db.execute("PRAGMA synchronous = FULL")  # durable when put_record returns
        schema.migrate(db)

    def keep(self, *, spans: int, tasks: int) -> None:
        self._spans, self._tasks = spans, tasks
        if (table := self._task_rows) is not None:
            table.limit = tasks

    async def aclose(self) -> None:
        def close() -> None:
            db, self._connection = self._connection, None
            if db is not None:
                db.close()

        if self._closed:
            return
        self._closed = True
        try:
            await self._run(close)
        finally:
            self._worker.shutdown(wait=False)
            self._lock.release()

    async def rest(self) -> None:
        await self._run(lambda: self._db.execute("PRAGMA shrink_memory").close())

    async def _run(self, work: Callable[[], T], *, opening: bool = False) -> T:
        """``work`` in the worker thread, with SQLite's errors as one clear line. Once it is open, clients may
        hear of them, and are told of no path."""

        def guarded() -> T:
            try:
                with beside.readable(self._path):
                    return work()
            except ConfigError as e:
                if opening or self._connection is None:
                    raise
                raise ConfigError("the gateway can't use its data now", operator=e.message) from e

        return await asyncio.get_running_loop().run_in_executor(self._worker, guarded)

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ConfigError("the store is not open")
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    # --- registry ------------------------------------------------------------------------------

    @staticmethod
    def read_registry(home: Path) -> tuple[list[Record], dict[str, Agent]]:
        """Records and descriptions as they stand, read beside whoever owns the directory: takes no lock
        and creates nothing. Empty where there is no registry yet. Raises ConfigError."""
        with _beside(home / FILE) as db:
            return (_records(db), _descriptions(db)) if db is not None else ([], {})

    @staticmethod
    def read_items(home: Path, space: str) -> dict[str, bytes]:
        """What ``items`` gives, read in the same way."""
        with _beside(home / FILE) as db:
            if db is None or schema.schema_version(db) < schema.WITH_ITEMS:
                return {}
            return _items(db, space)

    async def records(self) -> Sequence[Record]:
        return await self._run(lambda: _records(self._db))

    async def put_record(self, record: Record) -> None:
        row = (record.name, _encode(record))
        await self._run(lambda: self._db.execute("INSERT OR REPLACE INTO agents VALUES (?, ?)", row))

    async def remove_record(self, name: str) -> None:
        def remove() -> None:
            with self._transaction() as db:
                db.execute("DELETE FROM agents WHERE name = ?", (name,))
                db.execute("DELETE FROM descriptions WHERE name = ?", (name,))

        await self._run(remove)

    async def descriptions(self) -> dict[str, Agent]:
        return await self._run(lambda: _descriptions(self._db))

    async def put_description(self, name: str, agent: Agent) -> None:
        row = (name, _encode(agent))
        await self._run(lambda: self._db.execute("INSERT OR REPLACE INTO descriptions VALUES (?, ?)", row))

    # --- what calls leave ------------------------------------------------------------------------

    async def save(self, batch: Batch) -> Sequence[int]:
        def save() -> Sequence[int]:
            rows = rows_of(batch)
            self._write(rows)
            return rows.sizes

        return await self._run(save)

    async def write(self, made: Callable[[], Rows]) -> None:
        await self._run(lambda: self._write(made()))

    def _write(self, rows: Rows) -> None:
        # Whatever goes wrong, the tables are made anew.
        tasks, self._task_rows = self._task_table(), None
        contexts, self._context_rows = self._context_table(), None
        with self._transaction() as db:
            if rows.tasks or rows.chunks:
                tasks.save(rows.tasks, rows.chunks)
            if rows.changes:
                contexts.save(rows.changes, rows.contexts)
            if rows.spans:
                self._save_spans(db, rows.spans)
        self._task_rows, self._context_rows = tasks, contexts

    def _save_spans(self, db: sqlite3.Connection, spans: Sequence[tuple[int, bytes]]) -> None:
        (last,) = db.execute("SELECT coalesce(max(id), 0) FROM segments").fetchone()
        for count, value in spans:
            last += count
            db.execute("INSERT INTO segments VALUES (?, ?, ?)", (last, count, value))
        db.execute("DELETE FROM segments WHERE id <= ?", (last - self._spans,))

    # --- tasks ---------------------------------------------------------------------------------

    def _task_table(self) -> TaskTable:
        if self._task_rows is None:
            self._task_rows = TaskTable(self._db, self._tasks, self._unreadable)
        return self._task_rows

    async def load_task(self, task_id: str) -> StoredTask | None:
        return await self._run(lambda: self._task_table().one(task_id))

    async def load_known(self, task_ids: Sequence[str]) -> Sequence[StoredTask]:
        return await self._run(lambda: self._task_table().load(task_ids))

    async def load_tasks(
        self,
        *,
        principal: str | None = None,
        agent: str | None = None,
        context_id: str | None = None,
        states: Sequence[TaskState] = (),
        limit: int = 1000,
    ) -> Sequence[StoredTask]:
        return await self._run(lambda: self._task_table().find(principal, agent, context_id, states, limit))

    async def load_places(self, states: Sequence[TaskState], limit: int) -> Sequence[Place]:
        return await self._run(lambda: self._task_table().places(states, limit))

    async def load_logs(self, wanted: Sequence[tuple[str, int]]) -> Sequence[StoredLog]:
        return await self._run(lambda: self._task_table().logs(wanted))

    async def load_events(self, task_id: str, after: int = 0) -> Sequence[Logged]:
        return await self._run(lambda: self._task_table().events(task_id, after))

    def _context_table(self) -> ContextTable:
        if self._context_rows is None:
            self._context_rows = ContextTable(self._db)
        return self._context_rows

    async def find_context(self, principal: str, agent: str, context_id: str) -> StoredContext | None:
        return await self._run(lambda: self._context_table().find(principal, agent, context_id))

    async def context_agent(self, principal: str, context_id: str) -> str | None:
        return await self._run(lambda: self._context_table().agent(principal, context_id))

    async def context_owner(self, agent: str, upstream_id: str) -> str | None:
        return await self._run(lambda: self._context_table().owner(agent, upstream_id))

    # --- items ---------------------------------------------------------------------------------

    async def items(self, space: str) -> dict[str, bytes]:
        return await self._run(lambda: _items(self._db, space))

    async def put_item(self, space: str, key: str, value: bytes) -> None:
        row = (space, key, value)
        await self._run(lambda: self._db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", row))

    async def remove_item(self, space: str, key: str) -> None:
        query = "DELETE FROM items WHERE space = ? AND key = ?"
        await self._run(lambda: self._db.execute(query, (space, key)))

    async def replace_item(self, space: str, key: str, old: bytes, new: bytes) -> bool:
        query = "UPDATE items SET value = ? WHERE space = ? AND key = ? AND value = ?"
        return await self._run(lambda: self._db.execute(query, (new, space, key, old)).rowcount > 0)

    async def spaces(self) -> Sequence[str]:
        query = "SELECT DISTINCT space FROM items ORDER BY space"
        return await self._run(lambda: [space for (space,) in self._db.execute(query)])

    # --- spans ---------------------------------------------------------------------------------

    def _segments(self) -> Iterator[tuple[bytes, int]]:
        """Those with spans that are kept, oldest first, each with the number of spans to skip."""
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM segments").fetchone()
        bound = last - self._spans
        rows = self._db.execute("SELECT id, count, value FROM segments WHERE id > ? ORDER BY id", (bound,))
        for id, count, value in rows:
            yield value, max(0, bound - (id - count))

    async def traces(self, limit: int = 50) -> Sequence[dict[str, Any]]:
        def load() -> list[dict[str, Any]]:
            found = (segments.decode(value, skip, calls=True) for value, skip in self._segments())
            return traces.listing(chain.from_iterable(found), limit)

        return await self._run(load)

    async def trace(self, trace_id: str) -> Sequence[dict[str, Any]]:
        def load() -> list[dict[str, Any]]:
            found = (
                segments.decode(value, skip)
                for value, skip in self._segments()
                if segments.may_hold(value, trace_id)
            )
            return traces.one(chain.from_iterable(found), trace_id)

        return await self._run(load)


def _records(db: sqlite3.Connection) -> list[Record]:
    return [_decode_record(value) for (value,) in db.execute("SELECT value FROM agents ORDER BY name")]


def _descriptions(db: sqlite3.Connection) -> dict[str, Agent]:
    rows = db.execute("SELECT name, value FROM descriptions ORDER BY name")
    return {name: _decode_agent(value) for name, value in rows}


def _items(db: sqlite3.Connection, space: str) -> dict[str, bytes]:
    query = "SELECT key, value FROM items WHERE space = ? ORDER BY key"
    return dict(db.execute(query, (space,)).fetchall())


def _make_private(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"can't make the data directory {home}: {e.strerror or e}") from None


@contextlib.contextmanager
def _beside(path: Path) -> Generator[sqlite3.Connection | None]:
    """The database, to read beside whoever owns it; None where there is none yet. Raises ConfigError."""
    with beside.readable(path):
        db = beside.connected(path)
        with contextlib.closing(db) if db is not None else contextlib.nullcontext():
            yield db
