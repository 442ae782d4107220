"""Connections to agents: opened, kept for the next request, never too many.

A connection belongs to a route: an origin, the address where it is reached, the proxy on the way. How many
are in use at once is bounded per route and in all; more requests wait for a free one, as long as they
would wait for a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from .dial import Dialer, Route
from .errors import Unconnected, Unreachable
from .h1 import Connection
from .h1_request import head_of, target_of
from .proxies import Proxies

IDLE = 4.0  # seconds that a connection is kept: many servers close after 5
FRESH = 1.5  # the same for what can't be sent again if the agent is just closing it: some close after 2
KEPT = 64  # per route
PER_ROUTE, TOTAL = 1024, 2048  # in use at once
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


class _Lane:
    """What goes on on one route."""

    def __init__(self, route: Route, places: int) -> None:
        self.route = route
        self.places = asyncio.Semaphore(places)
        self.users = 0  # requests on it or waiting for it
        self.kept: list[Connection] = []


class Pool:
    """``connect_timeout``: seconds for a free place, then for a connection."""

    def __init__(self, connect_timeout: float, per_route: int, total: int) -> None:
        self._connect_timeout = connect_timeout
        self._per_route = per_route
        self._places = asyncio.Semaphore(total)
        self._dialer = Dialer(connect_timeout)
        self._proxies = Proxies()
        self._lanes: dict[Route, _Lane] = {}
        self._busy: dict[Connection, _Lane] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def open(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        address: str | None,
    ) -> Connection:
        """Send a request, wait for the head of the answer. Whoever gets the connection gives it to
        ``release``. Raises Unreachable, BadUpstream; cancelled, it closes the connection."""
        target = target_of(url)
        route = Route(target.scheme, target.host, target.port, address, self._proxies.of(target))
        proxied = route.proxy is not None and not route.tunnelled
        known = route.proxy.authorization if proxied and route.proxy else None
        head = head_of(method, target, headers, None if body is None else len(body), proxied, known)
        lane = await self._enter(route)
        try:
            return await self._sent(lane, method, head, body or b"")
        except BaseException:
            self._leave(lane)
            raise

    async def _sent(self, lane: _Lane, method: str, head: bytes, body: bytes) -> Connection:
        if (kept := self._kept(lane, IDLE if method in _REPEATABLE else FRESH)) is not None:
            try:
                return await self._send(lane, kept, method, head, body)
            except Unreachable:
                # The agent was closing it while the request was on its way.
                if kept.answered or method not in _REPEATABLE:
                    raise
        fresh = await self._dialer.dial(lane.route)
        return await self._send(lane, fresh, method, head, body)

    async def _send(
        self, lane: _Lane, connection: Connection, method: str, head: bytes, body: bytes
    ) -> Connection:
        self._busy[connection] = lane
        try:
            await connection.send(method, head, body)
        except BaseException:
            del self._busy[connection]
            connection.close()
            raise
        return connection

    def release(self, connection: Connection) -> None:
        """Keep the connection if its answer was read to the end, else close it."""
        lane = self._busy.pop(connection)
        if connection.reusable and len(lane.kept) < KEPT and not self._closed:
            connection.idle_since = time.monotonic()
            lane.kept.append(connection)
            if self._sweeping is None:
                self._sweeping = asyncio.get_running_loop().call_later(IDLE, self._sweep)
        else:
            connection.close()
        self._leave(lane)

    async def aclose(self) -> None:
        """Close all connections, those in use too; none is kept any more."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for lane in self._lanes.values():
            while lane.kept:
                lane.kept.pop().close()
        for connection in self._busy:
            connection.close()
        await asyncio.sleep(0)  # the loop lets go of them

    # --- places ------------------------------------------------------------------------------

    async def _enter(self, route: Route) -> _Lane:
        """Take a place on the route. Raises Unconnected when none gets free in time."""
        lane = self._lanes.get(route)
        if lane is None:
            lane = self._lanes[route] = _Lane(route, self._per_route)
        lane.users += 1
        try:
            if lane.places.locked() or self._places.locked():
                async with asyncio.timeout(self._connect_timeout):
                    await self._take(lane)
            else:
                await self._take(lane)
        except BaseException as e:
            self._forget(lane)
            if isinstance(e, TimeoutError):
                message = "the agent can't be reached: too many requests to it are under way"
                raise Unconnected(message) from e
            raise
        return lane

    async def _take(self, lane: _Lane) -> None:
        await lane.places.acquire()
        try:
            await self._places.acquire()
        except BaseException:
            lane.places.release()
            raise

    def _leave(self, lane: _Lane) -> None:
        self._places.release()
        lane.places.release()
        self._forget(lane)

    def _forget(self, lane: _Lane) -> None:
        lane.users -= 1
        if not lane.users and not lane.kept:
            del self._lanes[lane.route]

    # --- kept connections --------------------------------------------------------------------

    def _kept(self, lane: _Lane, seconds: float) -> Connection | None:
        """The one used last, if that is not longer ago."""
        oldest = time.monotonic() - seconds
        while lane.kept and lane.kept[-1].idle_since > oldest:
            connection = lane.kept.pop()
            if connection.reusable and connection.quiet:
                return connection
            connection.close()
        return None

    def _sweep(self) -> None:
        """Close what nobody used in time, as long as anything is kept."""
        self._sweeping = None
        oldest = time.monotonic() - IDLE
        for lane in list(self._lanes.values()):
            old = [c for c in lane.kept if c.idle_since <= oldest or not c.reusable]
            for connection in old:
                lane.kept.remove(connection)
                connection.close()
            if not lane.users and not lane.kept:
                del self._lanes[lane.route]
        if any(lane.kept for lane in self._lanes.values()):
            self._sweeping = asyncio.get_running_loop().call_later(IDLE, self._sweep)
