"""Which conversations have an open question. Bounded: the oldest questions are forgotten first, and can still
be answered by those who name their task."""

from __future__ import annotations

Where = tuple[str, str, str]  # principal, agent, conversation


class Asking:
    """Open questions by task and by conversation. ``limit``: how many are remembered."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._where: dict[str, Where] = {}  # by task
        self._tasks: dict[Where, set[str]] = {}

    def put(self, task_id: str, where: Where) -> None:
        """The task waits for an answer."""
        self.drop(task_id)
        self._where[task_id] = where
        self._tasks.setdefault(where, set()).add(task_id)
        if len(self._where) > self.limit:
            self.drop(next(iter(self._where)))

    def drop(self, task_id: str) -> None:
        """It does not (any more)."""
        where = self._where.pop(task_id, None)
        if where is not None:
            tasks = self._tasks[where]
            tasks.discard(task_id)
            if not tasks:
                del self._tasks[where]

    def sole(self, where: Where) -> str | None:
        """The one task of a conversation that waits; None if none or several do."""
        tasks = self._tasks.get(where, ())
        return next(iter(tasks)) if len(tasks) == 1 else None
