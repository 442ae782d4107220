"""Connections to agents: opened, kept for the next request, never too many.

A connection belongs to a route: an origin, the address where it is reached, the proxy on the way. How many
are in use at once is bounded per route and in all; more requests wait for a free one, as long as they
would wait for a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import NamedTuple

from .dial import Dialer, Route
from .errors import NoRoom, Unreachable
from .h1 import PEER, Connection
from .h1_request import Headers, Target, head_of, target_of
from .proxies import Proxies
from .waiting import Timer

IDLE = 4.0  # seconds that a connection is kept: many servers close after 5
FRESH = 1.5  # the same for what can't be sent again if the agent is just closing it: some close after 2
KEPT = 256  # per route
PER_ROUTE, TOTAL = 1024, 2048  # in use at once
WAYS = 4096  # URLs whose way is remembered
SETTLE = 0.5  # seconds that an answer whose content has come has to come to its end
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


class _Way(NamedTuple):
    """How a URL is reached; ``proxied``: in the form for a proxy, with ``authorization`` for it."""

    target: Target
    route: Route
    proxied: bool
    authorization: str | None


class _Lane:
    """What goes on on one route. ``taken``: connections in use; ``users``: requests on it or that wait."""

    __slots__ = ("kept", "route", "taken", "users")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.taken = self.users = 0
        self.kept: deque[Connection] = deque()  # the one used last is the last


class Pool:
    """``connect_timeout``: seconds for a free place, then for a connection."""

    def __init__(self, connect_timeout: float, per_route: int, total: int) -> None:
        self._connect_timeout = connect_timeout
        self._per_route = per_route
        self._total = total
        self._taken = 0
        self._idle = 0  # kept ones, on all routes
        self._waiting: deque[tuple[_Lane, asyncio.Future[None]]] = deque()
        self._dialer = Dialer(connect_timeout)
        self._proxies = Proxies()
        self._ways: dict[tuple[str, str | None], _Way] = {}
        self._lanes: dict[Route, _Lane] = {}
        self._busy: dict[Connection, _Lane] = {}
        self._settling: dict[Connection, tuple[_Lane, asyncio.TimerHandle]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    def restrict(self, connect_timeout: float) -> None:
        """Another time for connections from now on."""
        self._connect_timeout = self._dialer.timeout = connect_timeout

    async def open(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | None,
        address: str | None,
        peer: str = PEER,
        patience: Timer | None = None,
    ) -> Connection:
        """Send a request, wait for the head of the answer. Whoever gets the connection gives it to
        ``release``. ``peer``: what errors call the other side; ``patience``: see ``Connection.begin``.
        Raises Unreachable, BadUpstream; cancelled, it closes the connection."""
        way = self._ways.get((url, address)) or self._way(url, address)
        length = None if body is None else len(body)
        head = head_of(method, way.target, headers, length, way.proxied, way.authorization)
        lane = self._lanes.get(way.route)
        if lane is None:
            lane = self._lanes[way.route] = _Lane(way.route)
        lane.users += 1
        if lane.taken >= self._per_route or self._taken >= self._total:
            await self._turn(lane, peer)
        else:
            lane.taken += 1
            self._taken += 1
        try:
            kept = self._kept(lane, IDLE if method in _REPEATABLE else FRESH)
            if kept is None:
                return await self._dialled(lane, method, head, body or b"", peer, patience)
            self._busy[kept] = lane
            kept.peer = peer
            try:
                await kept.begin(method, head, body or b"", patience)
                return kept
            except BaseException as e:
                self._drop(kept)
                # Perhaps the agent was closing it while the request was on its way.
                if kept.answered or method not in _REPEATABLE or not isinstance(e, Unreachable):
                    raise
            return await self._dialled(lane, method, head, body or b"", peer, patience)
        except BaseException:
            self._leave(lane)
            raise

    def _way(self, url: str, address: str | None) -> _Way:
        target = target_of(url)
        route = Route(target.scheme, target.host, target.port, address, self._proxies.of(target))
        proxied = route.proxy is not None and not route.tunnelled
        way = _Way(target, route, proxied, route.proxy.authorization if proxied and route.proxy else None)
        if len(self._ways) >= WAYS:
            self._ways.clear()
        self._ways[url, address] = way
        return way

    async def _dialled(
        self, lane: _Lane, method: str, head: bytes, body: bytes, peer: str, patience: Timer | None
    ) -> Connection:
        """Send a request on a connection of its own."""
        connection = await self._dialer.dial(lane.route, peer)
        self._busy[connection] = lane
        connection.peer = peer
        try:
            await connection.begin(method, head, body, patience)
            return connection
        except BaseException:
            self._drop(connection)
            raise

    def _drop(self, connection: Connection) -> None:
        del self._busy[connection]
        connection.close()

    def release(self, connection: Connection) -> None:
        """Keep the connection if its answer was read to the end, else close it; soon, if the reader has said
        that only the end is missing."""
        lane = self._busy.pop(connection)
        if connection.over and connection.settles and not self._closed:
            timer = asyncio.get_running_loop().call_later(SETTLE, connection.close)
            self._settling[connection] = lane, timer
            connection.on_end = self._settled
            lane.users += 1
        else:
            self._keep(lane, connection)
        self._leave(lane)

    def _settled(self, connection: Connection) -> None:
        lane, timer = self._settling.pop(connection)
        timer.cancel()
        self._keep(lane, connection)
        self._forget(lane)

    def _keep(self, lane: _Lane, connection: Connection) -> None:
        if connection.reusable and not self._closed:
            connection.idle_since = time.monotonic()
            lane.kept.append(connection)
            self._idle += 1
            if len(lane.kept) > KEPT or self._idle > self._total:
                self._make_room(lane)
            if self._sweeping is None:
                self._sweeping = asyncio.get_running_loop().call_later(IDLE, self._sweep)
        else:
            connection.close()

    def _make_room(self, lane: _Lane) -> None:
        """Close the oldest that is kept, of this route or of all: what a burst has left must not stand in the
        way of what is used."""
        if len(lane.kept) <= KEPT:
            lanes = [one for one in self._lanes.values() if one.kept]
            lane = min(lanes, key=lambda one: one.kept[0].idle_since)
        self._idle -= 1
        lane.kept.popleft().close()
        if not (lane.users or lane.kept):
            del self._lanes[lane.route]

    async def aclose(self) -> None:
        """Close all connections, those in use too; none is kept any more."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for lane in self._lanes.values():
            while lane.kept:
                lane.kept.pop().close()
        for connection in [*self._busy, *self._settling]:
            connection.close()
        await asyncio.sleep(0)  # the loop lets go of them

    # --- places ------------------------------------------------------------------------------

    def _full(self, lane: _Lane) -> bool:
        return lane.taken >= self._per_route or self._taken >= self._total

    async def _turn(self, lane: _Lane, peer: str) -> None:
        """Wait for a place on the route, and take it. Raises NoRoom when none gets free in time."""
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((lane, free))
        try:
            async with asyncio.timeout(self._connect_timeout):
                await free
        except BaseException as e:
            if free.done() and not free.cancelled():  # it had got one
                self._leave(lane)
            else:
                self._waiting.remove((lane, free))
                self._forget(lane)
            if isinstance(e, TimeoutError):
                message = f"{peer} can't be reached: too many requests to it are under way"
                raise NoRoom(message) from e
            raise

    def _leave(self, lane: _Lane) -> None:
        """Give the place back, to whoever has waited longest for one that is free now."""
        self._taken -= 1
        lane.taken -= 1
        if self._waiting:
            for waiting in self._waiting:
                if not self._full(waiting[0]):
                    self._waiting.remove(waiting)
                    waiting[0].taken += 1
                    self._taken += 1
                    waiting[1].set_result(None)
                    break
        lane.users -= 1
        if not (lane.users or lane.kept):
            del self._lanes[lane.route]

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
            self._idle -= 1
            if connection.quiet:
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
            self._idle -= len(old)
            if not lane.users and not lane.kept:
                del self._lanes[lane.route]
        if any(lane.kept for lane in self._lanes.values()):
            self._sweeping = asyncio.get_running_loop().call_later(IDLE, self._sweep)
