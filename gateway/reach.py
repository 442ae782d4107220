"""The way to one agent: its name in what goes wrong, its circuit breaker, and what may be tried again.

A request is sent again only where the agent can't have seen it (no connection came about), or where it only
reads. A pause lies between, random and growing; who waits for an answer bounds it all.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from .breaker import Breaker, State
from .children import Children
from .config import Config
from .errors import CircuitOpen, GatewayError, NoRoom, Unconnected, Unreachable
from .h1 import Connection
from .h1_request import Headers
from .model import Record
from .ports import Host
from .telemetry import Tracer
from .transport import Answer, HttpTransport, Stream, Transport
from .waiting import Timer

AGAIN = 0.1  # seconds before a second try, give or take half of it; twice that before a third
RESTARTS, RESTART_PAUSE = 3, 1.0  # of a process: times in a row, then seconds between
_CLOSED = State.CLOSED  # to find it in its class takes longer
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_Asked = tuple[str, str, Headers, bytes | None, str | None, str, Timer | None]


class AgentTransport(HttpTransport):
    """The connections of ``shared``, on the way to ``agent``. ``most``: requests that may wait for the head
    of its answer at once."""

    def __init__(
        self, shared: HttpTransport, agent: str, breaker: Breaker, retries: int, most: int = 1_000_000
    ) -> None:
        self._limit = shared._limit
        self._pool = shared._pool
        self._peer = agent
        self.breaker = breaker
        self._retries = retries
        self._most = most
        self._waiting = 0

    def bound(self, retries: int, most: int, limit: int) -> None:
        """Other limits for requests from now on; ``limit``: see ``HttpTransport``."""
        self._retries, self._most, self._limit = retries, most, limit

    async def aclose(self) -> None:
        """The connections are everybody's."""

    async def opened(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        address: str | None = None,
        patience: Timer | None = None,
    ) -> Stream:
        breaker = self.breaker
        if breaker.state is not _CLOSED and not breaker.admit():
            raise CircuitOpen(self._peer, breaker.wait)
        if self._waiting >= self._most:
            raise too_many(self._peer)
        self._waiting += 1
        try:
            connection = await self._pool.open(method, url, headers, body, address, self._peer, patience)
        except Unreachable as e:
            connection = await self._again(e, (method, url, headers, body, address, self._peer, patience))
        except BaseException:
            if breaker.failures:
                breaker.dropped()
            raise
        finally:
            self._waiting -= 1
        if breaker.failures:
            breaker.succeeded()
        return Answer(connection, self._pool, self._limit)

    async def _again(self, error: Unreachable, asked: _Asked) -> Connection:
        """What can be got once it has failed with ``error``; else this or a later one is raised. ``asked``:
        see ``Pool.open``."""
        breaker = self.breaker
        for attempt in range(self._retries):
            if breaker.state is not State.CLOSED or not _repeatable(error, asked[0]):
                break
            try:
                await asyncio.sleep(pause_before(attempt))
                return await self._pool.open(*asked)
            except Unreachable as e:
                error = e
        if not isinstance(error, NoRoom):
            breaker.failed()
        elif breaker.failures:
            breaker.dropped()
        raise error


def pause_before(attempt: int) -> float:
    """Seconds before a request is tried again; ``attempt``: how many times it has been so far."""
    return AGAIN * 2**attempt * (0.5 + random.random())


class Guard(AbstractContextManager[None]):
    """The circuit breaker of one agent, and how many may wait for it to begin its answer, for calls that go
    another way than over its transport: each is a block, which ends once the answer has begun. It raises
    CircuitOpen, or NoRoom, before anything is sent; what it is left with says whether the agent was reached.
    """

    def __init__(self, agent: str, breaker: Breaker, most: int) -> None:
        self._agent = agent
        self._breaker = breaker
        self._most = most
        self._waiting = 0

    def __enter__(self) -> None:
        if self._waiting >= self._most:
            raise too_many(self._agent)
        if self._breaker.state is not State.CLOSED and not self._breaker.admit():
            raise CircuitOpen(self._agent, self._breaker.wait)
        self._waiting += 1

    @property
    def patient(self) -> bool:
        """Whether the agent was well so far: what could not connect may try again."""
        return self._breaker.state is State.CLOSED

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        self._waiting -= 1
        if isinstance(error, Unreachable):
            self._breaker.failed()
        elif self._breaker.failures:
            # An agent's own error is an answer; who is cancelled knows nothing.
            answered = error is None or isinstance(error, GatewayError)
            (self._breaker.succeeded if answered else self._breaker.dropped)()


def too_many(agent: str) -> NoRoom:
    """What to raise where ``limits.per_agent`` is reached."""
    return NoRoom(f"{agent} has too many requests under way; try again in a moment", data={"retry_after": 1})


def _repeatable(error: Unreachable, method: str) -> bool:
    """Whether it can help, and can do no harm, to ask again. What has waited for its time to run out, or is
    refused for a reason that stays, is not asked again."""
    if isinstance(error, NoRoom) or isinstance(error.__cause__, TimeoutError | ssl.SSLError):
        return False
    return isinstance(error, Unconnected) or method in _READS


class AgentHost:
    """``ports.Host`` for the upstream of one agent."""

    def __init__(self, host: Host, record: Record) -> None:
        self._host = host
        self._agent = record.name
        self.tracer: Tracer = host.tracer
        self.children: Children = host.children
        self.headers = host.headers
        limits = host.config.limits
        self._process = bool(record.command)
        self.breaker = Breaker(*self._patience)
        self.breaker.on_open = self._opened
        self.breaker.on_way = self._way
        shared = host.transport
        own = isinstance(shared, HttpTransport)
        self.transport: Transport = (
            AgentTransport(shared, record.name, self.breaker, limits.retries, limits.per_agent)
            if own
            else shared
        )

    @property
    def config(self) -> Config:
        return self._host.config

    @property
    def _patience(self) -> tuple[int, float, float]:
        """See ``Breaker``."""
        limits = self._host.config.limits
        if self._process:
            return RESTARTS, RESTART_PAUSE, limits.circuit_longest
        return limits.circuit_failures, limits.circuit_pause, limits.circuit_longest

    def rebound(self) -> None:
        """The settings have changed."""
        limits = self._host.config.limits
        self.breaker.bound(*self._patience)
        if isinstance(self.transport, AgentTransport):
            self.transport.bound(limits.retries, limits.per_agent, limits.body)

    def environment(self, record: Record) -> dict[str, str]:
        return self._host.environment(record)

    def hidden(self, record: Record) -> Sequence[str]:
        return self._host.hidden(record)

    def changed(self, agent: str) -> None:
        self._host.changed(agent)

    def _way(self, transport: bool) -> None:
        if isinstance(self.transport, AgentTransport):
            self.transport.breaker = self.breaker if transport else Breaker(0)

    def _opened(self, pause: float) -> None:
        """Have it looked at now, so that listings say so, and again when it may be tried: that look is the
        try, unless a call comes first."""
        later: Callable[..., object] = asyncio.get_running_loop().call_later
        self.changed(self._agent)
        later(pause, self.changed, self._agent)
