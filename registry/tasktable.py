"""Tasks and their events in SQLite: the statements, without the life of the connection.

Only one thread uses a table. It knows which task has which number, so that the ids of tasks, which come in no
order, need no index on disk: that is what would cost most (``numbers``). Events are written in chunks, one
for what a task has gained since the last flush; what a new task has at once stands beside it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec
from msgspec.structs import astuple

from ..gateway.lifecycle import PAUSED, TERMINAL
from ..gateway.model import Logged, TaskState
from ..gateway.store import Place, StoredTask
from .numbers import Numbers
from .rows import TaskRow

_decode_task = msgspec.json.Decoder(StoredTask).decode
_decode_events = msgspec.json.Decoder(list[Logged]).decode
_GROUPS = (tuple(TERMINAL), tuple(PAUSED), tuple(set(TaskState) - TERMINAL - PAUSED))


class TaskTable:
    """``limit``: how many tasks are kept; a sixteenth more is there before the oldest are forgotten.

    After a method raised, or its transaction was rolled back, the table must be made anew.
    """

    def __init__(self, db: sqlite3.Connection, limit: int) -> None:
        self._db = db
        self.limit = limit
        self._numbers = Numbers(limit + limit // 16)
        self._last = 0
        for id, self._last in db.execute("SELECT id, n FROM tasks ORDER BY n"):
            self._numbers.put(id, self._last)

    # --- writing -----------------------------------------------------------------------------

    def save(self, tasks: Sequence[TaskRow], chunks: Sequence[tuple[str, int, bytes]]) -> None:
        """In a transaction of the caller's: of ``Store.save`` what tells of tasks."""
        new: list[tuple[object, ...]] = []
        changed: list[tuple[object, ...]] = []
        gained: list[tuple[int, int, bytes]] = []
        numbers = self._numbers
        for id, principal, agent, context_id, state, created_at, value, log, last in map(astuple, tasks):
            number = numbers.get(id)
            if number is None:
                self._last = number = self._last + 1
                numbers.put(id, number)
                new.append((number, id, principal, agent, context_id, state, created_at, value, log or None))
                continue
            changed.append((context_id, state, created_at, value, number, id, principal, agent))
            if log:
                gained.append((number, last, log))
        for id, last, log in chunks:
            if (number := numbers.get(id)) is not None:
                gained.append((number, last, log))
        for statement, rows in ((_ADD, new), (_CHANGE, changed), (_GAIN, gained)):
            if rows:
                self._db.executemany(statement, rows)
        if len(numbers) > self.limit + self.limit // 16:
            self._forget(len(numbers) - self.limit)

    def _forget(self, surplus: int) -> None:
        """The oldest: ended ones, then those that wait for input, then the rest, which is written again at
        its next change."""
        for states in _GROUPS:
            among = f"state IN ({', '.join('?' * len(states))})"
            found = self._db.execute(
                f"SELECT id, n FROM tasks WHERE {among} ORDER BY n LIMIT ?", (*states, surplus)
            ).fetchall()
            if found:
                bound = (found[-1][1], *states)
                self._db.execute(
                    f"DELETE FROM chunks WHERE n IN (SELECT n FROM tasks WHERE n <= ? AND {among})", bound
                )
                self._db.execute(f"DELETE FROM tasks WHERE n <= ? AND {among}", bound)
            for id, _ in found:
                self._numbers.drop(id)
            surplus -= len(found)
            if surplus <= 0:
                return

    # --- reading -----------------------------------------------------------------------------

    def load(self, ids: Sequence[str]) -> list[StoredTask]:
        """Those of these tasks that there are."""
        query = "SELECT value FROM tasks WHERE n = ? AND id = ?"
        wanted = [(number, id) for id in ids if (number := self._numbers.get(id)) is not None]
        rows = (self._db.execute(query, each).fetchone() for each in wanted)
        return [_decode_task(row[0]) for row in rows if row is not None]

    def find(
        self,
        principal: str | None,
        agent: str | None,
        context_id: str | None,
        states: Sequence[TaskState],
        limit: int,
    ) -> list[StoredTask]:
        """``Store.load_tasks``."""
        wanted = {"principal": principal, "agent": agent, "context_id": context_id}
        given = {column: value for column, value in wanted.items() if value is not None}
        tests = [f"{column} = ?" for column in given]
        if states:
            tests.append(f"state IN ({', '.join('?' * len(states))})")
        where = f"WHERE {' AND '.join(tests)}" if tests else ""
        query = f"SELECT value FROM tasks {where} ORDER BY created_at DESC, n DESC LIMIT ?"
        values = (*given.values(), *(state.value for state in states), limit)
        return [_decode_task(value) for (value,) in self._db.execute(query, values)]

    def places(self, states: Sequence[TaskState], limit: int) -> list[Place]:
        """``Store.load_places``."""
        query = f"""
        SELECT id, principal, agent, context_id FROM tasks WHERE state IN ({", ".join("?" * len(states))})
        ORDER BY created_at DESC, n DESC LIMIT ?
        """
        return [Place(*row) for row in self._db.execute(query, (*map(str, states), limit))]

    def events(self, task_id: str, after: int) -> list[Logged]:
        """``Store.load_events``."""
        number = self._numbers.get(task_id)
        chunks = self._db.execute(_EVENTS, (number, number, after))
        events = {event.seq: event for (value,) in chunks for event in _decode_events(value)}
        return [events[seq] for seq in sorted(events) if seq > after]


_ADD = "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GAIN = "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?)"
_EVENTS = """
SELECT log FROM tasks WHERE n = ? AND log IS NOT NULL
UNION ALL SELECT value FROM (SELECT value FROM chunks WHERE n = ? AND last > ? ORDER BY last)
"""
_CHANGE = """
UPDATE tasks SET context_id = ?, state = ?, created_at = ?, value = ?
WHERE n = ? AND id = ? AND principal = ? AND agent = ?
"""
