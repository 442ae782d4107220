"""A task's log as a client is told of it: pieces go out at once, where nothing has to be waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from .lifecycle import PIECES
from .model import Logged
from .ports import TaskHandle


async def followed(
    handle: TaskHandle,
    after: int,
    write: Callable[[Logged], Iterable[bytes]],
    now: Callable[[Logged], Sequence[bytes] | None],
) -> AsyncGenerator[Iterable[bytes]]:
    """What ``write`` makes of the log's events (see ``TaskHandle.events``), in their order. PIECES that come
    while its reader waits are given to ``now``, which sends what they mean; or gives back what is to be sent,
    for the reader, where that has to wait."""
    held: Sequence[bytes] | None = None  # of the next event, that could not be sent at once

    def take(logged: Logged) -> bool:
        nonlocal held
        if type(logged.event) not in PIECES:
            return False
        held = now(logged)
        return held is None

    async with aclosing(handle.events(after, take)) as log:
        async for logged in log:
            written, held = write(logged) if held is None else held, None
            yield written
