"""The SQLite schema as steps: step n brings a database from ``user_version`` n to n + 1.

Steps that have been released are never changed, only followed by others. Values are the canonical structs
as JSON (spans: ``segments``); columns beside them exist to be searched. A step is SQL (no ";" inside a
statement) or a function.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec

from ..gateway.errors import ConfigError
from ..gateway.telemetry import Span, Template
from . import segments

Step = str | Callable[[sqlite3.Connection], None]


def _into_segments(db: sqlite3.Connection) -> None:
    """Spans, formerly a row each, into segments. ``id``: the number of its last span, counted from the first
    that was ever kept."""
    db.execute("CREATE TABLE segments (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, value BLOB NOT NULL)")
    old = db.execute("SELECT value FROM spans ORDER BY id")
    last = 0
    while some := [_span(value) for (value,) in old.fetchmany(segments.SIZE)]:
        last += len(some)
        db.execute("INSERT INTO segments VALUES (?, ?, ?)", (last, len(some), segments.encode(some)))
    db.execute("DROP TABLE spans")
    db.execute("DROP TABLE traces")


def _span(value: bytes) -> Span:
    """A span out of its former JSON."""
    old: dict[str, Any] = msgspec.json.decode(value)
    return Span(
        Template(old["name"], old["kind"]),
        old["trace_id"],
        old["span_id"],
        old["parent_id"],
        True,
        None,
        None,
        old["attributes"],
        old["start"],
        None,
        old["start"] + round(old["duration_ms"] * 1e6),
        old["status"],
    )


def _without_indexes(db: sqlite3.Connection) -> None:
    """Tasks by number alone (``tasktable``), their events in chunks, conversations as the log of their
    changes, several to a row."""
    for statement in (
        """
        CREATE TABLE numbered (
            n INTEGER PRIMARY KEY, id TEXT NOT NULL, principal TEXT NOT NULL, agent TEXT NOT NULL,
            context_id TEXT NOT NULL, state TEXT NOT NULL, created_at TEXT NOT NULL, value BLOB NOT NULL
        )
        """,
        """
        INSERT INTO numbered
        SELECT rowid, id, principal, agent, context_id, state, created_at, value FROM tasks
        """,
        """
        CREATE TABLE chunks (
            n INTEGER NOT NULL, last INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (n, last)
        ) WITHOUT ROWID
        """,
        """
        INSERT INTO chunks
        SELECT tasks.rowid, max(seq), CAST('[' || group_concat(CAST(events.value AS TEXT)) || ']' AS BLOB)
        FROM events JOIN tasks ON tasks.id = events.task_id GROUP BY tasks.rowid
        """,
        "DROP TABLE events",
        "DROP TABLE tasks",
        "ALTER TABLE numbered RENAME TO tasks",
        "CREATE TABLE conversations (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    ):
        db.execute(statement)
    names = ("principal", "agent", "context_id", "upstream_id")
    old = db.execute(f"SELECT {', '.join(names)} FROM contexts ORDER BY rowid")
    last = 0
    while some := [dict(zip(names, row, strict=True)) for row in old.fetchmany(500)]:
        last += len(some)
        db.execute("INSERT INTO conversations VALUES (?, ?)", (last, msgspec.json.encode(some)))
    db.execute("DROP TABLE contexts")


STEPS: tuple[Step, ...] = (
    """
    CREATE TABLE agents (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE descriptions (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

    CREATE TABLE tasks (
        id TEXT NOT NULL UNIQUE, principal TEXT NOT NULL, agent TEXT NOT NULL, context_id TEXT NOT NULL,
        state TEXT NOT NULL, created_at TEXT NOT NULL, value BLOB NOT NULL
    );
    CREATE INDEX tasks_by_age ON tasks (created_at);
    CREATE INDEX tasks_by_principal ON tasks (principal, created_at);
    CREATE INDEX tasks_by_context ON tasks (context_id, created_at);
    CREATE INDEX tasks_by_state ON tasks (state, created_at);
    CREATE TABLE events (
        task_id TEXT NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (task_id, seq)
    ) WITHOUT ROWID;

    CREATE TABLE contexts (
        principal TEXT NOT NULL, agent TEXT NOT NULL, context_id TEXT NOT NULL, upstream_id TEXT NOT NULL,
        UNIQUE (principal, agent, context_id)
    );

    CREATE TABLE spans (
        id INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, start INTEGER NOT NULL, value BLOB NOT NULL
    );
    CREATE INDEX spans_by_trace ON spans (trace_id, start);
    CREATE TABLE traces (trace_id TEXT PRIMARY KEY, start INTEGER NOT NULL, value BLOB NOT NULL);
    CREATE INDEX traces_by_age ON traces (start);
    """,
    """
    CREATE TABLE items (
        space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, key)
    ) WITHOUT ROWID;
    """,
    _into_segments,
    _without_indexes,
    "ALTER TABLE tasks ADD COLUMN log BLOB",
)


WITH_ITEMS = 2  # the first version that has the table


def migrate(db: sqlite3.Connection, steps: tuple[Step, ...] = STEPS) -> None:
    """Bring ``db`` to the newest schema, all of it or nothing. Raises ConfigError for one that a newer
    agentgw wrote."""
    version = schema_version(db)
    if version > len(steps):
        raise ConfigError("the data directory was written by a newer agentgw: upgrade, or use another one")
    if version == len(steps):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            if callable(step):
                step(db)
            else:
                for statement in step.split(";"):
                    db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(steps)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.rollback()
        raise


def schema_version(db: sqlite3.Connection) -> int:
    """The database's ``user_version``; 0 for a new file."""
    return db.execute("PRAGMA user_version").fetchone()[0]
