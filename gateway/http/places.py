"""How many requests may be under way at once: of all, and of one key.

Streams that only listen (a GET, or a request that its door says so of) have as many places of their own: a
thousand idle listeners keep no call from being served, and have a bound all the same.
"""

from __future__ import annotations

from ..errors import Busy, KeyBusy

CALL, LISTENER = 0, 1


class Places:
    """``limit`` places of each kind, of which one key takes ``per_key`` at most."""

    __slots__ = ("_held", "_taken", "limit", "per_key")

    def __init__(self, limit: int, per_key: int) -> None:
        self.limit = limit
        self.per_key = per_key
        self._taken = [0, 0]
        self._held: tuple[dict[str, int], dict[str, int]] = {}, {}  # by principal; nobody who has none

    def take(self, method: str, who: str) -> int:
        """Take a place for a request of this HTTP method; its kind, to give back. ``who``: the principal
        whose it is, "" for one that has no bound of its own. Raises Busy, KeyBusy."""
        kind = LISTENER if method == "GET" or method == "HEAD" else CALL
        if who:
            held = self._held[kind]
            count = held.get(who, 0)
            if count >= self.per_key:
                raise KeyBusy
            if self._taken[kind] >= self.limit:
                raise Busy
            held[who] = count + 1
        elif self._taken[kind] >= self.limit:
            raise Busy
        self._taken[kind] += 1
        return kind

    def listens(self, kind: int, who: str) -> int:
        """Change a place for a listener's; its kind. Raises Busy, KeyBusy."""
        if kind == CALL:
            self.take("GET", who)
            self.give_back(CALL, who)
        return LISTENER

    def give_back(self, kind: int, who: str) -> None:
        """The request has ended."""
        self._taken[kind] -= 1
        if who:
            held = self._held[kind]
            if held[who] > 1:
                held[who] -= 1
            else:
                del held[who]
