"""What a client is told of a task that it follows: each event of the task's log once, in its order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ....gateway.lifecycle import PIECES
from ....gateway.model import Logged, MessageDelta, Place, Task
from ..growth import TextUpdates, update_json
from ..losses import Loss, of_event
from ..writer import Writer
from .call import Call


class Updates:
    """For a client that was told ``task``. ``take`` and ``more`` are the takers that ``TaskHandle.events``
    gets, which send at once what needs no waiting; ``written`` gives what is to be sent for each event that
    these do not take."""

    __slots__ = ("_call", "_held", "_pieces", "_told", "_writer")

    def __init__(self, call: Call, task: Task) -> None:
        self._call = call
        self._writer = Writer(task)
        self._pieces = TextUpdates(task.id, task.context_id, call.version, call.framed)
        self._told: Place | None = None  # where a text went that was looked at for what is lost of it
        self._held: Sequence[bytes] | None = None  # of the next event, that could not be sent at once

    def written(self, logged: Logged) -> Iterable[bytes]:
        held, self._held = self._held, None
        return self._results(logged) if held is None else held

    def take(self, logged: Logged) -> bool:
        if type(logged.event) not in PIECES:
            return False
        self._held = self._now(logged)
        return self._held is None

    def more(self, text: str, place: Place) -> bool:
        name, write_now = self._writer.growing, self._call.write_now
        if name is None or place.artifact_id is not None or write_now is None:
            return False
        if not write_now(self._pieces.event(name, text)):
            return False
        self._writer.grown(text)
        if place is not self._told:
            self._told = place
            self._call.lost(of_event(place.event(text)))
        return True

    def _results(self, logged: Logged) -> list[bytes]:
        call = self._call
        call.lost(of_event(logged.event))
        return [update_json(update, call.version) for update in self._writer.feed(logged)]

    def _now(self, logged: Logged) -> list[bytes] | None:
        """Send what a piece means; or give back what is to be sent, where that has to wait."""
        call, event = self._call, logged.event
        if call.write_now is None or call.now is None:
            return self._results(logged)
        if (text := self._writer.more(event)) is not None:
            if type(event) is MessageDelta and event.author is not None:
                call.lost({Loss.AUTHOR})
            return None if call.write_now(self._pieces.event(*text)) else [self._pieces.json(*text)]
        found = self._results(logged)
        return None if call.now(found) else found
