"""Waiting that somebody else may end: limits of time, a client that leaves.

Calls are many and their limits of few lengths, so each length has one timer of the loop for all of them: a
timer of its own would cost a call 2.5 µs, a place in such a queue costs 0.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from itertools import takewhile
from types import TracebackType
from typing import Any, Self

KEPT = 64  # lengths: callers may choose any
_EARLY = 0.001  # seconds: loops count in milliseconds

Callback = Callable[[], object]


class Timer:
    """All that shall happen ``seconds`` after its start, unless it is stopped before."""

    __slots__ = ("_due", "_handle", "_late", "_loop", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: dict[Callback, float] = {}  # in order: what starts last is due last
        self._handle: asyncio.TimerHandle | None = None
        self._late: dict[Callback, asyncio.TimerHandle] = {}  # those out of that order

    def start(self, callback: Callback) -> None:
        """Call it when the time has passed. Started again, it waits from now on."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        if self._late:
            self.stop(callback)
        self._due.pop(callback, None)
        self._due[callback] = due = loop.time() + self.seconds
        if self._handle is None:
            self._handle = loop.call_at(due, self._look, loop)

    def restart(self, callback: Callback, since: float) -> bool:
        """For a ``callback`` that is called, and knows that the time has begun anew, ``since`` the loop said
        that: it is called again when it has passed since then. False: it has."""
        return self.later(callback, since + self.seconds)

    def later(self, callback: Callback, due: float) -> bool:
        """For a ``callback`` that is called too early: it is called again when it is ``due``, in the loop's
        time. False: it is."""
        loop = self._loop
        assert loop is not None
        if due <= loop.time() + _EARLY:
            return False
        self._late[callback] = loop.call_at(due, self._call, callback)
        return True

    def _call(self, callback: Callback) -> None:
        del self._late[callback]
        callback()

    def stop(self, callback: Callback) -> None:
        """Forget it."""
        self._due.pop(callback, None)
        if self._late and (handle := self._late.pop(callback, None)) is not None:
            handle.cancel()

    @property
    def idle(self) -> bool:
        """Whether nothing is waited for."""
        return not (self._due or self._late)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = None
        now = loop.time() + _EARLY
        for callback, _ in list(takewhile(lambda item: item[1] <= now, self._due.items())):
            if self._due.get(callback, now + 1) <= now:  # else one before it has stopped it
                del self._due[callback]
                callback()
        if self._due and self._handle is None:
            self._handle = loop.call_at(next(iter(self._due.values())), self._look, loop)


class Timers(dict[float, Timer]):
    """One timer of each length, all for one event loop."""

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop in which they run (to ask asyncio for it costs a system call)."""
        return asyncio.get_running_loop()

    of = dict[float, Timer].__getitem__
    """The timer of this length."""

    def __missing__(self, seconds: float) -> Timer:
        if len(self) >= KEPT:
            for length in [length for length, timer in self.items() if timer.idle]:
                del self[length]
        made = self[seconds] = Timer(seconds)
        return made


class Waiting:
    """A block of the current task that ``end`` leaves with an error. May be entered again and again, by this
    task alone.

    ``timed``: what is to be called when the task has been inside for so long; it counts anew each time.
    ``task``: the current one, if it is known.
    """

    __slots__ = ("_cancelled", "_cancelling", "_error", "_inside", "_task", "timed")

    def __init__(self, *timed: tuple[Timer, Callback], task: asyncio.Task[Any] | None = None) -> None:
        task = task or asyncio.current_task()
        assert task is not None
        self.timed: tuple[tuple[Timer, Callback], ...] = timed
        self._task = task
        self._error: Exception | None = None
        self._inside = self._cancelled = False

    def end(self, error: Exception) -> None:
        """Leave the block with ``error``: at once, or as soon as it is entered."""
        if self._error is None:
            self._error = error
            if self._inside:
                self._cancelled = self._task.cancel()

    def __enter__(self) -> Self:
        if self._error is not None:
            raise self._taken()
        self._inside = True
        self._cancelling = self._task.cancelling()
        for timer, callback in self.timed:
            timer.start(callback)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False
        for timer, callback in self.timed:
            timer.stop(callback)
        if self._cancelled:
            self._cancelled = False
            ours = self._task.uncancel() <= self._cancelling  # else somebody wants the task itself to end
            if ours and kind is asyncio.CancelledError and self._error is not None:
                raise self._taken() from None

    def _taken(self) -> Exception:
        """The error, to be raised. One like it stays: what was raised holds the frames that it left, which
        hold this object, and so would go only when the collector comes."""
        error = self._error
        assert error is not None
        again = self._error = type(error).__new__(type(error), *error.args)
        again.__dict__.update(error.__dict__)
        return error
