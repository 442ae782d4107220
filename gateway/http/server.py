"""Where clients connect: the sockets, the connections on them, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any

from .app import App
from .connection import Connection, Home
from .incoming import Incoming

UNSENT = 128 * 1024  # bytes that a client has not been sent yet and that the kernel takes all the same
SWEEP = 5.0  # seconds between looks for connections that are idle, or take nothing, for too long


class Server:
    """Serves ``app`` on a listening socket. ``limit``: bytes of a request's head."""

    def __init__(self, app: App, limit: int) -> None:
        self._app = app
        self._home = Home(self._handle, limit)
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def start(self, listener: socket.socket) -> None:
        """Take connections from now on."""
        loop = asyncio.get_running_loop()
        local = listener.family == getattr(socket, "AF_UNIX", None)
        if not local and hasattr(socket, "TCP_NOTSENT_LOWAT"):  # its connections take it over
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        create = loop.create_unix_server if local else loop.create_server
        self._server = await create(lambda: Connection(self._home), sock=listener, backlog=2048)
        self._sweep()

    def bound(self, limit: int) -> None:
        """Another limit for the heads that come on connections from now on."""
        self._home.limit = limit

    def _handle(self, incoming: Incoming) -> Coroutine[Any, Any, None]:
        return self._app.serve(incoming, incoming.head, incoming.too_large)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._home.connections):
            connection.sweep(now)
        self._sweeping = loop.call_later(SWEEP, self._sweep)

    async def aclose(self, grace: float = 1.0) -> None:
        """Take no more connections, and no more requests on those there are; answers under way have ``grace``
        seconds, and so has what was answered to get out."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._server is not None:
            self._server.close()
        self._home.closing = True
        for connection in list(self._home.connections):
            connection.retire()
        tasks = list(self._home.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self._home.connections):
            connection.end()
        if self._home.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._home.emptied.wait(), grace)
        for connection in list(self._home.connections):
            connection.cut()
        await asyncio.sleep(0)  # the loop lets go of them
