"""A turn that has begun: that is told together with what the server answers, if it answers soon."""

from __future__ import annotations

from collections.abc import Awaitable

from ....gateway.model import Event, Place, Started
from ....gateway.ports import Tell
from ....gateway.waiting import Timer


class Begun(Tell):
    """``tell`` with ``started`` before the first event, or after the time of ``patience``."""

    __slots__ = ("_patience", "_started", "_tell")

    def __init__(self, tell: Tell, started: Started, patience: Timer) -> None:
        self._tell = tell
        self._started: Started | None = started
        self._patience = patience
        patience.start(self.now)

    def now(self) -> None:
        """Tell it, unless that has been done."""
        if self._started is not None:
            self()

    def __call__(self, *events: Event) -> Awaitable[None] | None:
        started, self._started = self._started, None
        if started is None:
            return self._tell(*events)
        self._patience.stop(self.now)
        return self._tell(started, *events)

    def more(self, text: str, place: Place) -> Awaitable[None] | None:
        self.now()
        return self._tell.more(text, place)
