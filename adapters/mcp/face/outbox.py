"""Long-lived streams: messages that belong to no call in particular."""

from __future__ import annotations

import asyncio

KEEP_ALIVE = 15.0  # seconds of silence after which a comment keeps proxies from closing a connection
_LIMIT = 1000  # messages that wait for a slow client; past it the oldest are lost


class Outbox:
    """Messages for one open stream of a client, in order. ``next`` waits for one; None ends the stream."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, message: bytes) -> None:
        if self._queue.qsize() >= _LIMIT:
            self._queue.get_nowait()
        self._queue.put_nowait(message)

    def end(self) -> None:
        self._queue.put_nowait(None)

    async def next(self) -> bytes | None:
        return await self._queue.get()
