"""Conversations in SQLite: the log of their changes, several to a row, without an index on disk.

Only one thread uses a table. Which row tells of a conversation it knows by marks in memory, 8 bytes for each
of the three things that are looked up; what a mark leads to is read, so a wrong one does no harm. Marks are
made when something is looked up, of all that was written since the last time: most calls begin a conversation
that nobody asks for.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence

import msgspec

from ..gateway.store import StoredContext

CHANGES = 50_000  # kept; the oldest go first
GENERATION = 25_000  # changes that one set of marks tells of; the one before is kept
_SLOTS = 1 << 17
_PIECE = 1 << 12  # slots that are cleared at once
_ROW = 0xFFFF

_decode = msgspec.json.Decoder(list[StoredContext]).decode


class _Marks:
    """Rows by key: 48 bits of its hash, and the row's place in ``_rows``."""

    def __init__(self) -> None:
        self._slots = array("Q", (0,)) * _SLOTS
        self._rows = array("q")
        self.changes = 0

    def clear(self) -> None:
        """Nothing was put."""
        view, nothing = memoryview(self._slots), array("Q", (0,)) * _PIECE
        for at in range(0, _SLOTS, _PIECE):
            view[at : at + _PIECE] = nothing
        del self._rows[:]
        self.changes = 0

    def begin(self, row: int, changes: int) -> None:
        """What is put from now on is in this row."""
        self._rows.append(row)
        self.changes += changes

    def _slot(self, key: tuple[str, ...]) -> tuple[int, int]:
        """Where the key's mark is, or would be; and the mark, without the row."""
        digest = hash(key) & 0xFFFFFFFFFFFFFFFF
        slots, at, mark = self._slots, digest % _SLOTS, digest & ~_ROW
        while (found := slots[at]) and found & ~_ROW != mark:
            at = (at + 1) % _SLOTS
        return at, mark

    def put(self, key: tuple[str, ...]) -> None:
        at, mark = self._slot(key)
        self._slots[at] = mark | len(self._rows)

    def get(self, key: tuple[str, ...]) -> int | None:
        place = self._slots[self._slot(key)[0]] & _ROW
        return self._rows[place - 1] if place else None


class ContextTable:
    """After a method raised, or its transaction was rolled back, the table must be made anew."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._new, self._old = _Marks(), _Marks()
        (self._last,) = db.execute("SELECT coalesce(max(id), 0) FROM conversations").fetchone()
        self._noted = 0

    def save(self, changes: int, contexts: bytes) -> None:
        """In a transaction of the caller's: of ``Store.save`` what tells of conversations, ``changes`` of
        them as JSON."""
        self._last += changes
        self._db.execute("INSERT INTO conversations VALUES (?, ?)", (self._last, contexts))
        self._db.execute("DELETE FROM conversations WHERE id <= ?", (self._last - CHANGES,))

    def _catch_up(self) -> None:
        """Note what was written since something was looked up: most conversations never are."""
        if self._noted < self._last:
            query = "SELECT id, value FROM conversations WHERE id > ? ORDER BY id"
            for row, value in self._db.execute(query, (self._noted,)).fetchall():
                self._note(row, _decode(value))
            self._noted = self._last

    def _note(self, row: int, contexts: Sequence[StoredContext]) -> None:
        contexts = contexts[-GENERATION:]  # more would not fit
        if self._new.changes + len(contexts) > GENERATION:
            self._new, self._old = self._old, self._new  # made anew they would leave holes in memory
            self._new.clear()
        self._new.begin(row, len(contexts))
        agents: dict[tuple[str, str], str | None] = {}
        owners: dict[tuple[str, str], str | None] = {}
        several = _called_the_same(contexts)
        for c in contexts:
            self._new.put(("", c.principal, c.agent, c.context_id))
            place = (c.principal, c.context_id)
            if place not in agents:
                agents[place] = None if c.turn else self._agent(*place)
            if c.turn or agents[place] in (None, c.agent):
                agents[place] = c.agent
                self._new.put(("agent", *place))
            if not c.upstream_id:
                continue
            place = (c.agent, c.upstream_id)
            if place not in owners:
                owners[place] = self._owner(*place)
            if owners[place] is None or (owners[place] == c.principal and place not in several):
                owners[place] = c.principal
                self._new.put(("owner", *place))

    def _at(self, key: tuple[str, ...]) -> Sequence[StoredContext]:
        """What was written together with what the key stands for."""
        row = self._new.get(key)
        if row is None:
            row = self._old.get(key)
        found = self._db.execute("SELECT value FROM conversations WHERE id = ?", (row,)).fetchone()
        return _decode(found[0]) if found else ()

    # --- reading -----------------------------------------------------------------------------

    def find(self, principal: str, agent: str, context_id: str) -> StoredContext | None:
        """``Store.find_context``."""
        self._catch_up()
        key = (principal, agent, context_id)
        there = [c for c in self._at(("", *key)) if (c.principal, c.agent, c.context_id) == key]
        return there[-1] if there else None

    def agent(self, principal: str, context_id: str) -> str | None:
        """``Store.context_agent``."""
        self._catch_up()
        return self._agent(principal, context_id)

    def _agent(self, principal: str, context_id: str) -> str | None:
        key = (principal, context_id)
        there = [c for c in self._at(("agent", *key)) if (c.principal, c.context_id) == key]
        went = [c for c in there if c.turn]
        return went[-1].agent if went else there[0].agent if there else None

    def owner(self, agent: str, upstream_id: str) -> str | None:
        """``Store.context_owner``."""
        self._catch_up()
        return self._owner(agent, upstream_id)

    def _owner(self, agent: str, upstream_id: str) -> str | None:
        key = (agent, upstream_id)
        there = (c.principal for c in self._at(("owner", *key)) if (c.agent, c.upstream_id) == key)
        return next(there, None)


def _called_the_same(contexts: Sequence[StoredContext]) -> set[tuple[str, str]]:
    """What agents call conversations of several principals among these: (agent, its name for them)."""
    firsts: dict[tuple[str, str], str] = {}
    return {
        place
        for c in contexts
        if c.upstream_id and firsts.setdefault(place := (c.agent, c.upstream_id), c.principal) != c.principal
    }
