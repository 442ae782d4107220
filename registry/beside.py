"""The database, read beside whoever owns its directory, and where nothing can be written: on a full disk, or
one that can only be read. No lock is taken, and nothing is made or changed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator
from pathlib import Path

import msgspec

from ..gateway.errors import ConfigError
from . import schema

# Nothing is ever written over what can't be read.
_HINT = "; put back a copy, or move it away (with its -wal and -shm) to begin with a new one"


def connected(path: Path) -> sqlite3.Connection | None:
    """The database to read, for this thread; None where there is none yet. Raises sqlite3.Error, OSError."""
    if not path.exists():
        return None
    db = _connected(path)
    try:
        if schema.schema_version(db):
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return None


def _connected(path: Path) -> sqlite3.Connection:
    # A write-ahead log means that an owner is, or was, at work. Without one, "immutable" keeps SQLite from
    # making its shared-memory file. Beside one that file lies already, but where somebody copied it alone.
    if not path.with_name(path.name + "-wal").exists():
        return _reading(path, "immutable=1")
    db = _reading(path, "mode=ro&readonly_shm=1")
    try:
        schema.schema_version(db)
    except sqlite3.OperationalError:
        db.close()
        return _reading(path, "mode=ro")
    return db


def _reading(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, isolation_level=None)


@contextlib.contextmanager
def readable(path: Path) -> Generator[None]:
    """What keeps the database from being used becomes a ConfigError of one line inside the block."""
    try:
        yield
    except sqlite3.DatabaseError as e:
        hint = "" if isinstance(e, sqlite3.OperationalError) else _HINT
        raise ConfigError(f"the data in {path} can't be used: {e}{hint}") from e
    except OSError as e:
        raise ConfigError(f"the data in {path} can't be used: {e.strerror or e}") from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"the data in {path} can't be read: {e}{_HINT}") from e
