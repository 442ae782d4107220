"""What is written for calls as the store keeps it: rows of bytes, which one process can make and another
write without reading them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import msgspec

from ..gateway.store import Batch, Store
from . import segments

_encode = msgspec.json.Encoder().encode


class TaskRow(msgspec.Struct, array_like=True, gc=False):
    """A task: what is searched, all of it as ``value``, and as ``log`` its events that the batch has (empty:
    none), the newest of which is number ``last``."""

    id: str
    principal: str
    agent: str
    context_id: str
    state: str
    created_at: str
    value: bytes
    log: bytes = b""
    last: int = 0


class Rows(msgspec.Struct, array_like=True):
    """A ``Batch``. ``chunks``: (task id, number of the newest event, events) of tasks that are not among
    ``tasks``; ``contexts`` of how many changes; ``spans``: segments, each with their number."""

    tasks: list[TaskRow]
    chunks: list[tuple[str, int, bytes]]
    changes: int
    contexts: bytes
    spans: list[tuple[int, bytes]]

    @property
    def sizes(self) -> list[int]:
        """The bytes that each task takes."""
        return [len(row.value) for row in self.tasks]


class RowStore(Store):
    """A store that can also be given rows."""

    @abstractmethod
    async def write(self, made: Callable[[], Rows]) -> None:
        """``save``, of the rows that ``made`` gives, in the thread that writes them."""


def rows_of(batch: Batch) -> Rows:
    """The batch in rows. Raises UnicodeEncodeError for what is no Unicode."""
    logs = {id: (events[-1].seq, _encode(events)) for id, events in batch.events if events}
    tasks: list[TaskRow] = []
    for stored in batch.tasks:
        task = stored.task
        last, log = logs.pop(task.id, (0, b""))
        tasks.append(
            TaskRow(
                task.id,
                stored.principal,
                task.agent,
                task.context_id,
                str(task.state),
                task.created_at,
                _encode(stored),
                log,
                last,
            )
        )
    chunks = [(id, last, log) for id, (last, log) in logs.items()]
    contexts = _encode(batch.contexts) if batch.contexts else b""
    return Rows(tasks, chunks, len(batch.contexts), contexts, _segments(batch))


def _segments(batch: Batch) -> list[tuple[int, bytes]]:
    spans = batch.spans
    some: list[Sequence[segments.Span]] = [
        spans[at : at + segments.SIZE] for at in range(0, len(spans), segments.SIZE)
    ]
    return [(len(these), segments.encode(these)) for these in some]
