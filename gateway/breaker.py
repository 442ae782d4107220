"""The circuit breaker: an agent that can't be reached is left alone for a while, so that its callers hear so
at once and it can come back without all of them at its door.

A state machine of time and numbers only: whoever calls the agent asks ``admit`` first and says how it went.
What counts is whether the agent can be reached; what it answers is its own affair.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from enum import StrEnum

GROWTH = 2.0  # each pause in a row is so much longer
JITTER = 0.2  # of a pause, more or less: several gateways must not try at one moment


class State(StrEnum):
    CLOSED = "closed"  # calls go out
    OPEN = "open"  # calls fail at once, until the pause is over
    HALF_OPEN = "half-open"  # one call is on its way to find out


class _Event(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TOO_MANY = "too many"  # failed, and there were as many in a row as it takes
    DUE = "due"  # the pause is over, and somebody wants to call
    DROPPED = "dropped"  # who was to find out has left before it was known


_NEXT: dict[tuple[State, _Event], State] = {
    (State.CLOSED, _Event.SUCCEEDED): State.CLOSED,
    (State.CLOSED, _Event.FAILED): State.CLOSED,
    (State.CLOSED, _Event.TOO_MANY): State.OPEN,
    (State.CLOSED, _Event.DROPPED): State.CLOSED,
    (State.OPEN, _Event.DUE): State.HALF_OPEN,
    (State.OPEN, _Event.SUCCEEDED): State.CLOSED,  # of a call that went out before
    (State.OPEN, _Event.FAILED): State.OPEN,
    (State.OPEN, _Event.TOO_MANY): State.OPEN,
    (State.OPEN, _Event.DROPPED): State.OPEN,
    (State.HALF_OPEN, _Event.DUE): State.HALF_OPEN,  # the first takes too long: another may try
    (State.HALF_OPEN, _Event.SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, _Event.FAILED): State.OPEN,
    (State.HALF_OPEN, _Event.TOO_MANY): State.OPEN,
    (State.HALF_OPEN, _Event.DROPPED): State.OPEN,
}


class Breaker:
    """``limit``: failures in a row that open it (0: it never opens); ``first``, ``longest``: seconds of the
    first pause and of the longest. ``on_open`` is called with the seconds of each pause; ``on_way``: see
    ``minds``."""

    __slots__ = (
        "_clock", "_first", "_limit", "_longest", "_next", "_pauses", "_random", "failures", "on_open",
        "on_way", "state",
    )  # fmt: skip

    def __init__(
        self,
        limit: int = 5,
        first: float = 5.0,
        longest: float = 60.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.state = State.CLOSED
        self.failures = 0  # in a row; 0: all is well, and nothing has to be asked or said
        self.on_open: Callable[[float], object] | None = None
        self.on_way: Callable[[bool], object] | None = None
        self._limit = limit
        self._first = first
        self._longest = longest
        self._clock = clock
        self._random = chance
        self._pauses = 0  # in a row
        self._next = 0.0  # when the next may try

    def bound(self, limit: int, first: float, longest: float) -> None:
        """Other limits; a pause that has begun stays as long as it was."""
        self._limit, self._first, self._longest = limit, first, longest

    @property
    def wait(self) -> float:
        """Seconds until the next call may go out; 0: at once."""
        return 0.0 if self.state is State.CLOSED else max(0.0, self._next - self._clock())

    def admit(self) -> bool:
        """Whether a call may go out now. Whoever may says later how it went."""
        if self.state is State.CLOSED:
            return True
        if self.wait > 0:
            return False
        self._go(_Event.DUE)
        self._next = self._clock() + self._first
        return True

    def minds(self, transport: bool) -> None:
        """Whether it is what goes over the agent's transport that counts, as it is at first; or the calls go
        another way, of which that tells nothing."""
        if self.on_way is not None:
            self.on_way(transport)

    def hurry(self) -> None:
        """The next call may go out at once (somebody asks how the agent is)."""
        if self.state is not State.CLOSED:
            self._next = self._clock()

    def succeeded(self) -> None:
        """The agent was reached."""
        self.failures = self._pauses = 0
        self._go(_Event.SUCCEEDED)

    def failed(self) -> None:
        """The agent could not be reached."""
        self.failures += 1
        before = self.state
        self._go(_Event.TOO_MANY if self._limit and self.failures >= self._limit else _Event.FAILED)
        if self.state is State.OPEN and before is not State.OPEN:
            self._pause()

    def dropped(self) -> None:
        """Nobody knows any more whether the agent could be reached."""
        if self.state is State.HALF_OPEN:
            self.hurry()
        self._go(_Event.DROPPED)

    def _pause(self) -> None:
        pause = min(self._first * GROWTH**self._pauses, self._longest)
        pause *= 1 + JITTER * (2 * self._random() - 1)
        self._pauses = min(self._pauses + 1, 32)
        self._next = self._clock() + pause
        if self.on_open is not None:
            self.on_open(pause)

    def _go(self, event: _Event) -> None:
        self.state = _NEXT[self.state, event]
