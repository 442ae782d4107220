"""An ASGI application that is made when it is first wanted: Litestar takes longer to load than all else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .asgi import ASGI, Receive, Scope, Send


class Deferred:
    """``make`` runs once, in a thread; requests wait for it."""

    def __init__(self, make: Callable[[], ASGI]) -> None:
        self._make = make
        self._making: asyncio.Future[ASGI] | None = None

    def begin(self) -> asyncio.Future[Any]:
        """Make it now, in the background."""
        if self._making is None:
            self._making = asyncio.ensure_future(asyncio.to_thread(self._make))
        return self._making

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = await asyncio.shield(self.begin())
        await app(scope, receive, send)
