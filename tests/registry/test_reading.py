"""The store that only looks: it needs no lock, writes nothing, and reads what any version left."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agentgw.gateway.errors import ConfigError
from agentgw.gateway.model import Record
from agentgw.registry import schema
from agentgw.registry.lock import HomeLock
from agentgw.registry.reading import ReadingStore
from agentgw.registry.sqlite import FILE, SqliteStore

# Ends without a word, as when it is killed: what it wrote is in the write-ahead log.
CRASHED = """
import asyncio, os, sys
from pathlib import Path
from agentgw.gateway.model import Record
from agentgw.registry.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]), spans=10)
    await store.open()
    await store.put_record(Record(name="late", protocol="a2a", url="http://127.0.0.1:9/"))
    os._exit(0)

asyncio.run(main())
"""


def state(home: Path) -> dict[str, tuple[bytes, int]]:
    """All files, what they hold and when they were written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in home.iterdir()}


def crashed(home: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASHED, str(home)], check=True)
    assert (home / f"{FILE}-wal").stat().st_size > 0


async def names(home: Path) -> list[str]:
    store = ReadingStore(home, spans=10)
    await store.open()
    try:
        return [record.name for record in await store.records()]
    finally:
        await store.aclose()


async def kept(home: Path, name: str = "kept") -> None:
    store = SqliteStore(home, spans=10)
    await store.open()
    await store.put_record(Record(name=name, protocol="a2a", url="http://127.0.0.1:9/"))
    await store.aclose()


async def test_nothing_is_there_and_nothing_is_made(tmp_path: Path) -> None:
    assert await names(tmp_path / "none") == []
    assert await names(tmp_path) == []
    assert state(tmp_path) == {}


async def test_what_ended_well_is_read_and_left(tmp_path: Path) -> None:
    await kept(tmp_path)
    before = state(tmp_path)
    assert await names(tmp_path) == ["kept"]
    assert state(tmp_path) == before


async def test_what_a_crash_left_in_the_log_is_read_and_left(tmp_path: Path) -> None:
    await kept(tmp_path)
    crashed(tmp_path)
    before = state(tmp_path)
    assert await names(tmp_path) == ["kept", "late"]
    assert state(tmp_path) == before


async def test_a_copy_without_the_shared_memory_file_is_read_too(tmp_path: Path) -> None:
    crashed(tmp_path / "home")
    (tmp_path / "copy").mkdir()
    for name in (FILE, f"{FILE}-wal"):
        shutil.copy(tmp_path / "home" / name, tmp_path / "copy" / name)
    assert await names(tmp_path / "copy") == ["late"]


async def test_it_is_read_beside_its_owner(tmp_path: Path) -> None:
    owner = SqliteStore(tmp_path, spans=10)
    await owner.open()
    store = ReadingStore(tmp_path, spans=10)
    await store.open()
    await owner.put_record(Record(name="new", protocol="a2a", url="http://127.0.0.1:9/"))
    assert [record.name for record in await store.records()] == ["new"]
    await store.aclose()
    await owner.aclose()


async def test_somebody_else_s_lock_keeps_nobody_from_looking(tmp_path: Path) -> None:
    await kept(tmp_path)
    lock = HomeLock(tmp_path, "another")
    await lock.acquire(0)
    assert await names(tmp_path) == ["kept"]
    lock.release()


async def test_what_an_older_version_wrote_is_read_and_left(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA journal_mode = WAL")
    schema.migrate(db, schema.STEPS[:1])
    db.execute("INSERT INTO agents VALUES ('old', ?)", (b'{"name": "old", "protocol": "a2a"}',))
    db.commit()
    db.close()
    before = state(tmp_path)
    store = ReadingStore(tmp_path, spans=10)
    await store.open()
    assert [record.name for record in await store.records()] == ["old"]
    assert await store.items("anything") == {}
    assert await store.traces() == []
    await store.aclose()
    assert state(tmp_path) == before


async def test_what_a_newer_version_wrote_is_refused(tmp_path: Path) -> None:
    await kept(tmp_path)
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(ConfigError, match="newer agentgw"):
        await names(tmp_path)


async def test_nothing_can_be_changed(tmp_path: Path) -> None:
    await kept(tmp_path)
    store = ReadingStore(tmp_path, spans=10)
    await store.open()
    with pytest.raises(ConfigError):
        await store.remove_record("kept")
    await store.aclose()
    assert await names(tmp_path) == ["kept"]
