"""Long-lived streams: messages that belong to no call in particular."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from ....gateway.http.request import ClientGone, Request

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


async def serve(request: Request, outbox: Outbox, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Answer ``request`` with the messages of ``outbox`` as they come, until it ends or the client leaves."""
    stream = await request.events(headers=headers)
    with contextlib.suppress(ClientGone):
        async with stream:
            gone = asyncio.create_task(stream.gone.wait())
            message = asyncio.create_task(outbox.next())
            try:
                await stream.comment()  # so that the client sees at once that it is connected
                while not gone.done():
                    await asyncio.wait(
                        (message, gone), timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not message.done():
                        await stream.comment()
                        continue
                    if (ready := message.result()) is None:
                        return
                    message = asyncio.create_task(outbox.next())
                    await stream.send(ready, event="message")
            finally:
                gone.cancel()
                message.cancel()
