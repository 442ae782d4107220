"""How many requests may be under way at once: of all, and of one key.

Streams that only listen (a GET, or a request that its door says so of) have as many places of their own: a
thousand idle listeners keep no call from being served, and have a bound all the same.
"""

from __future__ import annotations

from math import inf

from ..errors import Busy, KeyBusy

CALL, LISTENER = 0, 1


class Places:
    """``limit`` places of each kind, of which one key takes ``per_key`` at most.

    The fewer are free, the fewer a key may have: ``per_key / (limit - per_key)`` times as many as are, or as
    many, where that is less. Alone a key so comes to ``per_key``; of several a part stays free for the next
    one, which a fixed number would not leave.
    """

    __slots__ = ("_held", "_limit", "_per_key", "_share", "_taken")

    def __init__(self, limit: int, per_key: int) -> None:
        self._taken = [0, 0]
        self.bound(limit, per_key)
        self._held: tuple[dict[str, int], dict[str, int]] = {}, {}  # by principal; nobody who has none

    def bound(self, limit: int, per_key: int) -> None:
        """Other limits from now on; what is taken stays so."""
        self._limit = limit
        self._per_key = per_key
        self._share = inf if per_key >= limit else max(1.0, per_key / (limit - per_key))

    def take(self, method: str, who: str) -> int:
        """Take a place for a request of this HTTP method; its kind, to give back. ``who``: the principal
        whose it is, "" for one that has no bound of its own. Raises Busy, KeyBusy."""
        kind = LISTENER if method == "GET" or method == "HEAD" else CALL
        taken = self._taken[kind]
        free = self._limit - taken
        if who:
            held = self._held[kind]
            count = held.get(who, 0)
            if count and (count >= self._per_key or count >= self._share * free):
                raise KeyBusy
            if free <= 0:
                raise Busy
            held[who] = count + 1
        elif free <= 0:
            raise Busy
        self._taken[kind] = taken + 1
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
