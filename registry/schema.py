"""The SQLite schema as steps: step n brings a database from ``user_version`` n to n + 1.

Steps that have been released are never changed, only followed by others. Values are the canonical structs
as JSON; columns beside them exist to be searched.
"""

from __future__ import annotations

import sqlite3

from ..gateway.errors import ConfigError

STEPS: tuple[str, ...] = (
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
)


def migrate(db: sqlite3.Connection, steps: tuple[str, ...] = STEPS) -> None:
    """Bring ``db`` to the newest schema, all of it or nothing. Raises ConfigError for one that a newer
    agentgw wrote."""
    version = schema_version(db)
    if version > len(steps):
        raise ConfigError("the data directory was written by a newer agentgw: upgrade, or use another one")
    if version == len(steps):
        return
    script = "".join(steps[version:])
    try:
        db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {len(steps)}; COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.rollback()
        raise


def schema_version(db: sqlite3.Connection) -> int:
    """The database's ``user_version``; 0 for a new file."""
    return db.execute("PRAGMA user_version").fetchone()[0]
