"""Tasks and their events in SQLite: the statements, without the life of the connection.

Only one thread uses a table. It knows which task has which number, so that the ids of tasks, which come in no
order, need no index on disk: that is what would cost most. Events are written in chunks, one
for what a task has gained since the last flush; what a new task has at once stands beside it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import astuple

from ..gateway.errors import ConfigError
from ..gateway.lifecycle import PAUSED, TERMINAL
from ..gateway.model import Logged, TaskState
from ..gateway.readable import UNREADABLE
from ..gateway.store import Place, StoredLog, StoredTask
from .rows import TaskRow

log = logging.getLogger("agentgw.registry")
_decode_task = msgspec.json.Decoder(StoredTask).decode
_decode_events = msgspec.json.Decoder(list[Logged]).decode
_blob = bytearray  # for bytes sqlite3 asks first, 1.5 µs each, whether somebody would adapt them
_GROUPS = (tuple(TERMINAL), tuple(PAUSED), tuple(set(TaskState) - TERMINAL - PAUSED))


class TaskTable:
    """``limit``: how many tasks are kept; a sixteenth more is there before the oldest are forgotten.
    ``unreadable``: the ids of tasks that the log tells of already, for they can't be read (a damaged disk,
    another version's form). They stay as they are, and take no other along.

    After a method raised, or its transaction was rolled back, the table must be made anew.
    """

    def __init__(self, db: sqlite3.Connection, limit: int, unreadable: set[str]) -> None:
        self._db = db
        self.limit = limit
        self._unreadable = unreadable
        # By the hash of an id, which is smaller than the id: whoever can looks whether the row has that id.
        self._numbers: dict[int, int] = {}
        self._last = 0
        for id, self._last in db.execute("SELECT id, n FROM tasks ORDER BY n"):
            self._numbers[hash(id)] = self._last

    def _number(self, id: str) -> int | None:
        return self._numbers.get(hash(id))

    # --- writing -----------------------------------------------------------------------------

    def save(self, tasks: Sequence[TaskRow], chunks: Sequence[tuple[str, int, bytes]]) -> None:
        """In a transaction of the caller's: of ``Store.save`` what tells of tasks."""
        new: list[tuple[object, ...]] = []
        changed: list[tuple[object, ...]] = []
        gained: list[tuple[int, int, bytearray]] = []
        numbers = self._numbers
        for id, principal, agent, context_id, state, created_at, value, log, last in map(astuple, tasks):
            number = numbers.get(key := hash(id))
            if number is None:
                self._last = number = self._last + 1
                numbers[key] = number
                known = (number, id, principal, agent, context_id, state, created_at)
                new.append((*known, _blob(value), _blob(log) if log else None))
                continue
            changed.append((context_id, state, created_at, _blob(value), number, id, principal, agent))
            if log:
                gained.append((number, last, _blob(log)))
        for id, last, log in chunks:
            if (number := numbers.get(hash(id))) is not None:
                gained.append((number, last, _blob(log)))
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
                if self._db.execute("SELECT 1 FROM chunks WHERE n <= ? LIMIT 1", bound[:1]).fetchone():
                    self._db.execute(
                        f"DELETE FROM chunks WHERE n IN (SELECT n FROM tasks WHERE n <= ? AND {among})", bound
                    )
                self._db.execute(f"DELETE FROM tasks WHERE n <= ? AND {among}", bound)
            for id, _ in found:
                self._numbers.pop(hash(id), None)
            surplus -= len(found)
            if surplus <= 0:
                return

    # --- reading -----------------------------------------------------------------------------

    def load(self, ids: Sequence[str]) -> list[StoredTask]:
        """Those of these tasks that there are, and that can be read."""
        query = "SELECT id, agent, value FROM tasks WHERE n = ? AND id = ?"
        wanted = [(number, id) for id in ids if (number := self._number(id)) is not None]
        rows = (self._db.execute(query, each).fetchone() for each in wanted)
        return self._read(row for row in rows if row is not None)

    def one(self, id: str) -> StoredTask | None:
        """``Store.load_task``."""
        found = self.load([id])
        if not found and id in self._unreadable and self._number(id) is not None:
            raise ConfigError(f"what is kept of the task {id} can't be read")
        return found[0] if found else None

    def _read(self, rows: Iterable[tuple[str, str, bytes]]) -> list[StoredTask]:
        found: list[StoredTask] = []
        for id, agent, value in rows:
            try:
                found.append(_decode_task(value))
            except UNREADABLE:  # whose words may hold what the task says
                self._tell(id, f"a task of {agent}")
        return found

    def _tell(self, id: str, what: str) -> None:
        if id not in self._unreadable:
            self._unreadable.add(id)
            log.error("%s can't be read, and is left as it is: %s", what, id)

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
        query = f"SELECT id, agent, value FROM tasks {where} ORDER BY created_at DESC, n DESC LIMIT ?"
        values = (*given.values(), *(state.value for state in states), limit)
        return self._read(self._db.execute(query, values))

    def places(self, states: Sequence[TaskState], limit: int) -> list[Place]:
        """``Store.load_places``."""
        query = f"""
        SELECT id, principal, agent, context_id FROM tasks WHERE state IN ({", ".join("?" * len(states))})
        ORDER BY created_at DESC, n DESC LIMIT ?
        """
        return [Place(*row) for row in self._db.execute(query, (*map(str, states), limit))]

    def events(self, task_id: str, after: int) -> list[Logged]:
        """``Store.load_events``."""
        log = self._log(task_id, after)
        if not log.whole and not self._has_failed(task_id):
            raise ConfigError(f"not all events of the task {task_id} can be read")
        return list(log.events)

    def logs(self, wanted: Sequence[tuple[str, int]]) -> list[StoredLog]:
        """``Store.load_logs``."""
        return [self._log(id, after) for id, after in wanted]

    def _log(self, task_id: str, after: int) -> StoredLog:
        number, whole, newest = self._number(task_id), True, 0
        events: dict[int, Logged] = {}
        for last, value in self._db.execute(_EVENTS, (number, number, after)):
            newest = max(newest, last)
            try:
                events |= {event.seq: event for event in _decode_events(value)}
            except UNREADABLE:
                whole = False
                self._tell(task_id, "what a task has done")
        found = tuple(events[seq] for seq in sorted(events) if seq > after)
        return StoredLog(found, max(newest, found[-1].seq) if found else newest, whole)

    def _has_failed(self, task_id: str) -> bool:
        query = "SELECT state FROM tasks WHERE n = ?"
        return self._db.execute(query, (self._number(task_id),)).fetchone() == (TaskState.FAILED,)


_ADD = "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GAIN = "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?)"
_EVENTS = """
SELECT 0, log FROM tasks WHERE n = ? AND log IS NOT NULL
UNION ALL SELECT * FROM (SELECT last, value FROM chunks WHERE n = ? AND last > ? ORDER BY last)
"""
_CHANGE = """
UPDATE tasks SET context_id = ?, state = ?, created_at = ?, value = ?
WHERE n = ? AND id = ? AND principal = ? AND agent = ?
"""
