"""The data directory: can it be used, by its owner alone, and is there room?"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from ...gateway.errors import ConfigError
from ...gateway.seal import Sealer
from ...registry import beside, schema
from ...registry.sqlite import FILE
from ..auditing import audit_place
from .facts import Facts
from .finding import Finding

ROOM = 64 * 1024 * 1024  # bytes that should be free
_AT_ALL, _BY_OTHERS = 0o077, 0o022  # of a mode: what others may, what of that is to write
_POSIX = os.name != "nt"


def data(facts: Facts) -> Iterator[Finding]:
    home = facts.home
    try:
        found = home.stat()
    except (FileNotFoundError, NotADirectoryError):
        yield from _to_be_made(home)
        return
    except OSError as e:
        yield Finding(f"{home} can't be looked at: {e.strerror}", "run agentgw as the user whose it is")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield Finding(f"{home} is no directory", "move it away, or set AGENTGW_HOME to a directory")
        return
    yield from _owned(home, found)
    yield from _writable(home)
    yield from _room(home)
    yield from _files(home, found.st_uid)
    yield from _audit(facts)
    yield from _store(facts)


def _to_be_made(home: Path) -> Iterator[Finding]:
    parent = next(p for p in home.parents if p.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        yield Finding(
            f"{home} is not there, and can't be made in {parent}",
            "set AGENTGW_HOME to a directory that can be written",
        )


def _owned(home: Path, found: os.stat_result) -> Iterator[Finding]:
    if not _POSIX:
        return
    if found.st_uid != os.geteuid():
        yield Finding(
            f"{home} belongs to another user ({found.st_uid}; this is {os.geteuid()})",
            "run agentgw as that user: what this one writes there the gateway may not be able to use",
        )
    if found.st_mode & _AT_ALL:
        can = "change" if found.st_mode & _BY_OTHERS else "look into"
        yield Finding(
            f"other users can {can} {home} (mode {stat.S_IMODE(found.st_mode):o})",
            f"chmod 700 {shlex.quote(str(home))}",
            wrong=bool(found.st_mode & _BY_OTHERS),
        )


def _writable(home: Path) -> Iterator[Finding]:
    if not os.access(home, os.W_OK | os.X_OK):
        yield Finding(
            f"{home} can't be written (a disk that can only be read, or its mode)",
            "make it writable for this user, or set AGENTGW_HOME to another directory",
        )


def _room(home: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(home).free
    if free < ROOM:
        yield Finding(
            f"only {free / 1024**2:.0f} MiB are free where {home} is",
            "make room: what can't be written waits in memory, and registrations are refused",
        )
    elif _POSIX and (fs := os.statvfs(home)).f_files and not fs.f_favail:
        yield Finding(f"no more files can be made where {home} is", "remove files there (inodes are used up)")


def _files(home: Path, uid: int) -> Iterator[Finding]:
    if not _POSIX:
        return
    for path in sorted(path for path in home.iterdir() if path.is_file()):
        found = path.stat()
        if found.st_mode & _AT_ALL:
            yield Finding(
                f"other users can read or write {path} (mode {stat.S_IMODE(found.st_mode):o})",
                f"chmod 600 {shlex.quote(str(path))}",
            )
        if found.st_uid != uid:
            yield Finding(
                f"{path} belongs to another user ({found.st_uid}) than its directory ({uid})",
                f"chown {uid} {shlex.quote(str(path))}",
            )


def _audit(facts: Facts) -> Iterator[Finding]:
    if not facts.config.audit.enabled or not facts.config.audit.file:
        return
    path = audit_place(facts.config, facts.home)
    place = path if path.exists() else path.parent
    if not os.access(place, os.W_OK):
        yield Finding(f"the audit log {path} can't be written", "make its directory, or change audit.file")


def _store(facts: Facts) -> Iterator[Finding]:
    path, newest = facts.home / FILE, len(schema.STEPS)
    version = _version(path)
    if version is not None and version > newest:
        yield Finding(
            f"{path} was written by a newer agentgw", "upgrade, or set AGENTGW_HOME to another directory"
        )
    elif facts.unreadable:
        problem, _, hint = facts.unreadable.partition("; ")
        yield Finding(problem, hint or "mend that, or put back a copy: nothing is written over it")
    elif version is not None and version < newest:
        yield Finding(
            f"{path} is of an older version ({version}; this one's is {newest})",
            "nothing: the next start brings it up; keep a copy if you may go back",
            wrong=False,
        )
    try:
        Sealer(facts.home).open(make=False)
    except ConfigError as e:
        problem, _, hint = e.message.partition("; ")
        if problem not in facts.unreadable:
            yield Finding(problem, hint or "put back a copy of it")


def _version(path: Path) -> int | None:
    """Of the schema; None where there is none, or it can't be read."""
    try:
        db = beside.connected(path)
    except (OSError, sqlite3.Error):
        return None
    if db is None:
        return None
    with contextlib.closing(db):
        return schema.schema_version(db)


def summary(facts: Facts) -> str:
    try:
        free = shutil.disk_usage(facts.home).free
    except OSError:
        return f"{facts.home}, made when it is needed"
    return f"{facts.home}, {free / 1024**3:.1f} GiB free"
