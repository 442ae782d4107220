"""How many requests may be under way at once.

Streams that only listen (a GET, or a request that its door says so of) have as many places of their own: a
thousand idle listeners keep no call from being served, and have a bound all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from ..errors import Busy
from .request import Request


class Places:
    """``limit`` places for calls, and as many for listeners."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = {"call": 0, "listener": 0}

    @contextlib.contextmanager
    def taken(self, request: Request) -> Generator[None]:
        """A place for the time of the block. Raises Busy when none is free, also from ``request.listens``,
        which moves the request to a listener's place."""
        kind = "listener" if request.method in ("GET", "HEAD") else "call"
        self._take(kind)

        def listens() -> None:
            nonlocal kind
            if kind == "call":
                self._take("listener")
                self._taken["call"] -= 1
                kind = "listener"

        request.listens = listens
        try:
            yield
        finally:
            self._taken[kind] -= 1

    def _take(self, kind: str) -> None:
        if self._taken[kind] >= self._limit:
            raise Busy
        self._taken[kind] += 1
