"""An agent's stream in memory: pieces come as they are cut, offered to a taker first, or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise


def cut(whole: bytes, at: Sequence[int]) -> list[bytes]:
    """In pieces: cut at these places, modulo its length."""
    edges = [0, *sorted({place % (len(whole) + 1) for place in at}), len(whole)]
    return [whole[start:end] for start, end in pairwise(edges) if end > start]


class Offered:
    """Implements ``transport.Stream``. ``offering``: whether there are takers at all; ``took``: how many
    pieces they took."""

    status = 200
    headers = (("content-type", "text/event-stream"),)
    complete = False

    def __init__(self, pieces: Sequence[bytes], *, offering: bool) -> None:
        self._pieces = pieces
        self._offering = offering
        self._taker: Callable[[bytes], bool] | None = None
        self.took = 0

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def offer(self, taker: Callable[[bytes], bool]) -> None:
        self._taker = taker if self._offering else None

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if self._taker is not None and self._taker(piece):
                self.took += 1
            else:
                yield piece

    async def beginning(self) -> bytes | None:
        return None

    async def read(self, limit: int | None = None) -> bytes:
        return b"".join(self._pieces)

    def settle(self) -> None: ...

    def close(self) -> None:
        """Nothing is behind it."""
