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
from ..gateway.lifecycle import PAUSED, TERMINAL
from ..gateway.model import Agent, Logged, Record, TaskState
from ..gateway.store import Store, StoredContext, StoredTask
from ..gateway.telemetry import Span
from . import schema, segments, traces
from .lock import HomeLock

FILE = "agentgw.db"
LOCK_WAIT = 30.0  # seconds to wait for another process that has the directory
CONTEXTS = 50_000  # conversations kept; the least recently used go first

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(Record).decode
_decode_agent = msgspec.json.Decoder(Agent).decode
_decode_task = msgspec.json.Decoder(StoredTask).decode
_decode_event = msgspec.json.Decoder(Logged).decode
_ENDED, _PAUSED = tuple(sorted(TERMINAL)), tuple(sorted(PAUSED))


class SqliteStore(Store):
    """``gateway.store.Store`` in ``home/agentgw.db``.

    ``spans`` and ``tasks``: how many are kept, the oldest go first (of tasks, those that have ended).
    ``holder``: how other processes are told who has the directory. ``wait``: seconds to wait for them.
    """

    def __init__(
        self,
        home: Path,
        *,
        spans: int,
        tasks: int = 10_000,
        holder: str = "agentgw",
        wait: float = LOCK_WAIT,
    ) -> None:
        self._home = home
        self._path = home / FILE
        self._spans = spans
        self._tasks = tasks
        self._wait = wait
        self._lock = HomeLock(home, holder)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="agentgw-store")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def open(self) -> None:
        _make_private(self._home)
        await self._lock.acquire(self._wait)
        try:
            await self._run(lambda: self._open())
        except BaseException:
            await self.aclose()
            raise

    def _open(self) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite's own files take its mode
        db = sqlite3.connect(self._path, isolation_level=None)
        self._connection = db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # durable when put_record returns
        schema.migrate(db)

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

    async def _run(self, work: Callable[[], T]) -> T:
        """``work`` in the worker thread, with SQLite's errors as one clear line."""

        def guarded() -> T:
            with _readable(self._path):
                return work()

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
        path = home / FILE
        if not path.exists():
            return [], {}
        # A write-ahead log means that an owner is, or was, at work. Without one, "immutable" keeps SQLite
        # from making its shared-memory file.
        mode = "mode=ro" if path.with_name(FILE + "-wal").exists() else "immutable=1"
        with _readable(path), contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)) as db:
            if not schema.schema_version(db):
                return [], {}
            return _records(db), _descriptions(db)

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

    # --- tasks ---------------------------------------------------------------------------------

    async def save_tasks(self, tasks: Sequence[StoredTask], events: Sequence[tuple[str, Logged]]) -> None:
        def save() -> None:
            rows = [
                (t.task.id, t.principal, t.task.agent, t.task.context_id, t.task.state.value,
                 t.task.created_at, _encode(t))
                for t in tasks
            ]  # fmt: skip
            log = [(task_id, event.seq, _encode(event)) for task_id, event in events]
            with self._transaction() as db:
                db.executemany(_UPSERT_TASK, rows)
                db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", log)
                self._forget_tasks(db)

        await self._run(save)

    def _forget_tasks(self, db: sqlite3.Connection) -> None:
        surplus = db.execute("SELECT count(*) FROM tasks").fetchone()[0] - self._tasks
        if surplus <= 0:
            return
        oldest = db.execute(_OLDEST_TASKS, (*_ENDED, *_PAUSED, surplus)).fetchall()
        db.executemany("DELETE FROM events WHERE task_id = ?", oldest)
        db.executemany("DELETE FROM tasks WHERE id = ?", oldest)

    async def load_task(self, task_id: str) -> StoredTask | None:
        def load() -> StoredTask | None:
            found = self._db.execute("SELECT value FROM tasks WHERE id = ?", (task_id,)).fetchone()
            return None if found is None else _decode_task(found[0])

        return await self._run(load)

    async def load_tasks(
        self,
        *,
        principal: str | None = None,
        agent: str | None = None,
        context_id: str | None = None,
        states: Sequence[TaskState] = (),
        limit: int = 1000,
    ) -> Sequence[StoredTask]:
        wanted = {"principal": principal, "agent": agent, "context_id": context_id}
        given = {column: value for column, value in wanted.items() if value is not None}
        tests = [f"{column} = ?" for column in given]
        if states:
            tests.append(f"state IN ({', '.join('?' * len(states))})")
        where = f"WHERE {' AND '.join(tests)}" if tests else ""
        query = f"SELECT value FROM tasks {where} ORDER BY created_at DESC, rowid DESC LIMIT ?"
        values = (*given.values(), *(state.value for state in states), limit)
        return await self._run(lambda: [_decode_task(v) for (v,) in self._db.execute(query, values)])

    async def load_events(self, task_id: str, after: int = 0) -> Sequence[Logged]:
        query = "SELECT value FROM events WHERE task_id = ? AND seq > ? ORDER BY seq"
        return await self._run(
            lambda: [_decode_event(v) for (v,) in self._db.execute(query, (task_id, after))]
        )

    async def save_contexts(self, contexts: Sequence[StoredContext]) -> None:
        def save() -> None:
            rows = [(c.principal, c.agent, c.context_id, c.upstream_id) for c in contexts]
            with self._transaction() as db:
                # Replacing gives a new rowid: rowids go by last use.
                db.executemany("INSERT OR REPLACE INTO contexts VALUES (?, ?, ?, ?)", rows)
                db.execute(
                    "DELETE FROM contexts WHERE rowid <= (SELECT max(rowid) FROM contexts) - ?", (CONTEXTS,)
                )

        await self._run(save)

    async def load_contexts(self) -> Sequence[StoredContext]:
        query = "SELECT principal, agent, context_id, upstream_id FROM contexts ORDER BY rowid"
        return await self._run(
            lambda: [
                StoredContext(principal=p, agent=a, context_id=c, upstream_id=u)
                for p, a, c, u in self._db.execute(query)
            ]
        )

    # --- items ---------------------------------------------------------------------------------

    async def items(self, space: str) -> dict[str, bytes]:
        query = "SELECT key, value FROM items WHERE space = ? ORDER BY key"
        return await self._run(lambda: dict(self._db.execute(query, (space,)).fetchall()))

    async def put_item(self, space: str, key: str, value: bytes) -> None:
        row = (space, key, value)
        await self._run(lambda: self._db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", row))

    async def remove_item(self, space: str, key: str) -> None:
        query = "DELETE FROM items WHERE space = ? AND key = ?"
        await self._run(lambda: self._db.execute(query, (space, key)))

    # --- spans ---------------------------------------------------------------------------------

    async def save_spans(self, spans: Sequence[Span]) -> None:
        def save() -> None:
            with self._transaction() as db:
                (last,) = db.execute("SELECT coalesce(max(id), 0) FROM segments").fetchone()
                for at in range(0, len(spans), segments.SIZE):
                    some = spans[at : at + segments.SIZE]
                    last += len(some)
                    row = (last, len(some), segments.encode(some))
                    db.execute("INSERT INTO segments VALUES (?, ?, ?)", row)
                db.execute("DELETE FROM segments WHERE id <= ?", (last - self._spans,))

        await self._run(save)

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


_UPSERT_TASK = """
INSERT INTO tasks (id, principal, agent, context_id, state, created_at, value) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET context_id = excluded.context_id, state = excluded.state,
    created_at = excluded.created_at, value = excluded.value
WHERE tasks.principal = excluded.principal AND tasks.agent = excluded.agent
"""
# Ended ones first, then those that wait for input. What runs is written again at its next change.
_OLDEST_TASKS = f"""
SELECT id FROM tasks ORDER BY
    CASE WHEN state IN ({", ".join("?" * len(_ENDED))}) THEN 0
         WHEN state IN ({", ".join("?" * len(_PAUSED))}) THEN 1 ELSE 2 END, created_at, rowid
LIMIT ?
"""


def _records(db: sqlite3.Connection) -> list[Record]:
    return [_decode_record(value) for (value,) in db.execute("SELECT value FROM agents ORDER BY name")]


def _descriptions(db: sqlite3.Connection) -> dict[str, Agent]:
    rows = db.execute("SELECT name, value FROM descriptions ORDER BY name")
    return {name: _decode_agent(value) for name, value in rows}


def _make_private(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"can't make the data directory {home}: {e.strerror or e}") from None


@contextlib.contextmanager
def _readable(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.DatabaseError as e:
        hint = "" if isinstance(e, sqlite3.OperationalError) else "; move it away to begin with a new one"
        raise ConfigError(f"the data in {path} can't be used: {e}{hint}") from e
    except OSError as e:
        raise ConfigError(f"the data in {path} can't be used: {e.strerror or e}") from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"the data in {path} can't be read: {e}; move it away to begin with a new one"
        ) from e
