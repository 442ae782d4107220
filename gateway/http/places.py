"""How many requests may be under way at once.

Streams that only listen (a GET, or a request that its door says so of) have as many places of their own: a
thousand idle listeners keep no call from being served, and have a bound all the same.
"""

from __future__ import annotations

from ..errors import Busy

CALL, LISTENER = 0, 1


class Places:
    """``limit`` places of each kind."""

    __slots__ = ("_taken", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = [0, 0]

    def take(self, method: str) -> int:
        """Take a place for a request of this HTTP method; its kind, to give back. Raises Busy."""
        kind = LISTENER if method == "GET" or method == "HEAD" else CALL
        if self._taken[kind] >= self.limit:
            raise Busy
        self._taken[kind] += 1
        return kind

    def listens(self, kind: int) -> int:
        """Change a place for a listener's; its kind. Raises Busy."""
        if kind == CALL:
            kind = self.take("GET")
            self._taken[CALL] -= 1
        return kind

    def give_back(self, kind: int) -> None:
        """The request has ended."""
        self._taken[kind] -= 1
