"""A result that is too large to be held: what must be known of it is read as it passes. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from ....gateway.documents import EACH, Path, Shape
from ....gateway.model import Message, Task, TaskState
from ....gateway.readable import UNREADABLE
from ..codec import STATE_OF
from ..wire import V10, Op, Version

_MESSAGE: Shape = {b"contextId": None}
_STATUS: Shape = {b"state": None, b"message": _MESSAGE}
_TASK: Shape = {b"id": None, b"contextId": None, b"status": _STATUS}
_HISTORY: Shape = {b"history": {EACH: _MESSAGE}}

_encode = msgspec.json.Encoder().encode


class LargeResult:
    """A result of ``op`` in the form of ``version``. ``ours``: what the client calls the conversation; None:
    as the agent does. ``shape`` and ``change`` are for ``documents.Passing``."""

    def __init__(self, op: Op, version: Version, ours: str | None) -> None:
        self._states = STATE_OF[version]
        self._ours = None if ours is None else _encode(ours)
        task = _TASK if ours is None else {**_TASK, **_HISTORY}
        wrapped = op is Op.SEND and version == V10
        self.shape: Shape = {b"task": task, b"message": _MESSAGE} if wrapped else task
        self._theirs: bytes | None = None
        self._id = ""
        self._context = ""
        self._state: TaskState | None = None

    @property
    def found(self) -> Task | Message | None:
        """What it is, without its content, and with the agent's name of the conversation; None while nobody
        can tell."""
        if self._id and self._state is not None:
            return Task(id=self._id, context_id=self._context, agent="", state=self._state)
        return Message(role="agent", parts=(), context_id=self._context) if self._context else None

    def change(self, path: Path, value: bytes) -> bytes | None:
        """See ``Passing``: the conversation gets the client's name."""
        match path[-1]:
            case b"id":
                self._id = _text(value)
            case b"state":
                self._state = self._states.get(_text(value), TaskState.WORKING)
            case _:
                return self._named(path, value)
        return None

    def _named(self, path: Path, value: bytes) -> bytes | None:
        if self._theirs is None and (name := _text(value)):
            self._theirs, self._context = value, name
        return self._ours if value == self._theirs else None


def _text(value: bytes) -> str:
    """Raises ValueError for what is neither text nor null."""
    try:
        found: Any = msgspec.json.decode(value)
    except UNREADABLE as e:
        raise ValueError("a name in it can't be read") from e
    if not isinstance(found, str | None):
        raise ValueError("a name in it is no text")
    return found or ""
