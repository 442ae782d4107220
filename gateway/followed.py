"""A task's log as a client is told of it: pieces go out at once, where nothing has to be waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .lifecycle import PIECES
from .model import Logged


class Following:
    """For who reads a task's log: ``take`` is the taker that ``TaskHandle.events`` gets, ``written`` what is
    to be sent for each event that these give. PIECES that come while their reader waits are given to ``now``,
    which sends what they mean; or gives back what is to be sent, for the reader, where that has to wait. All
    else is what ``write`` makes of it. Each event is written once, in the log's order."""

    __slots__ = ("_held", "_now", "_write")

    def __init__(
        self, write: Callable[[Logged], Iterable[bytes]], now: Callable[[Logged], Sequence[bytes] | None]
    ) -> None:
        self._write = write
        self._now = now
        self._held: Sequence[bytes] | None = None  # of the next event, that could not be sent at once

    def take(self, logged: Logged) -> bool:
        if type(logged.event) not in PIECES:
            return False
        self._held = self._now(logged)
        return self._held is None

    def written(self, logged: Logged) -> Iterable[bytes]:
        held, self._held = self._held, None
        return self._write(logged) if held is None else held
