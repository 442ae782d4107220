"""Making the upstreams of records, and closing them when their record has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from ..gateway.breaker import Breaker
from ..gateway.errors import ConfigError, GatewayError, for_operator
from ..gateway.model import Agent, InputReply, Invocation, Record, TaskRef
from ..gateway.ports import Adapter, Bounded, Host, Tell, Upstream
from ..gateway.reach import AgentHost
from .authorized import authorized
from .tokens import Bearers, NoTokens

log = logging.getLogger("agentgw.registry")


class Broken:
    """Stands where an upstream should be and can't: every use raises the error that says why."""

    def __init__(self, error: Callable[[], GatewayError]) -> None:
        self._error = error

    async def describe(self) -> Sequence[Agent]:
        raise self._error()

    async def invoke(self, call: Invocation, tell: Tell) -> None:
        self._refuse()

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply, tell: Tell) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise self._error()

    async def cancel(self, task: TaskRef) -> None:
        raise self._error()

    async def aclose(self) -> None:
        pass


class Upstreams:
    """Makes upstreams. ``grace``: seconds that calls under way have when their record was replaced."""

    def __init__(
        self, adapters: Mapping[str, Adapter], host: Host, grace: float, bearers: Bearers | None = None
    ) -> None:
        self._bearers = bearers or NoTokens()
        self._adapters = adapters
        self._host = host
        self._grace = grace
        self._closing: dict[asyncio.Task[None], Upstream] = {}
        self._hosts: WeakKeyDictionary[Upstream, AgentHost] = WeakKeyDictionary()

    def make(self, record: Record) -> Upstream:
        """The record's upstream; cheap, nothing is connected. Never raises: see ``Broken``."""
        adapter = self._adapters.get(record.protocol)
        if adapter is None or adapter.upstream is None:
            return Broken(lambda: ConfigError(f"{record.name}: {self.unknown(record.protocol)}"))
        host = AgentHost(self._host, record)
        try:
            upstream = adapter.upstream(record, authorized(host, record, self._bearers.bearer(record)))
        except GatewayError as e:
            message, operator = e.message, for_operator(e)
            return Broken(lambda: ConfigError(message, operator=operator))
        self._hosts[upstream] = host
        return upstream

    def breaker(self, upstream: Upstream) -> Breaker | None:
        """The circuit breaker of an upstream that was made here; None for one that is ``Broken``."""
        host = self._hosts.get(upstream)
        return None if host is None else host.breaker

    def rebound(self) -> None:
        """Limits or ``outbound`` in the host's settings have changed."""
        self._grace = self._host.config.limits.shutdown_grace
        for upstream, host in list(self._hosts.items()):
            host.rebound()
            if isinstance(upstream, Bounded):
                upstream.rebound()

    def unknown(self, protocol: str) -> str:
        """What to say of a protocol that no adapter calls agents over."""
        known = sorted(a.id for a in self._adapters.values() if a.upstream is not None)
        return f"no adapter for the protocol {protocol!r} is installed; there are {', '.join(known)}"

    def retire(self, upstream: Upstream, *, at_once: bool) -> None:
        """Close an upstream in the background: at once, or when its calls had time to end."""
        job = asyncio.create_task(self._retired(upstream, 0 if at_once else self._grace))
        self._closing[job] = upstream
        job.add_done_callback(lambda done: self._closing.pop(done, None))

    async def _retired(self, upstream: Upstream, wait: float) -> None:
        await asyncio.sleep(wait)
        await close(upstream)

    async def aclose(self) -> None:
        """Close all that still waits for it, now."""
        closing = list(self._closing.items())
        for job, _ in closing:
            job.cancel()
        await asyncio.gather(*(job for job, _ in closing), return_exceptions=True)
        await asyncio.gather(*(close(upstream) for _, upstream in closing))


async def close(upstream: Upstream) -> None:
    """Close one; what goes wrong is only logged."""
    try:
        await upstream.aclose()
    except Exception:
        log.exception("closing the connection to an agent failed")


class Jobs:
    """Background work, one job per key at a time; all of it ends with ``aclose``."""

    def __init__(self) -> None:
        self._jobs: dict[str, asyncio.Task[Any]] = {}

    def start(self, key: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        """The job under ``key``: the one that runs, else a new one."""
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = asyncio.create_task(work())
            job.add_done_callback(lambda done: self._ended(key, done))
        return job

    def running(self, key: str) -> asyncio.Task[Any] | None:
        """The job under ``key`` that has not ended."""
        return self._jobs.get(key)

    def _ended(self, key: str, job: asyncio.Task[Any]) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("%s failed", key, exc_info=error)

    def forget(self, key: str) -> None:
        """Cancel the job under ``key``, so that a new one can start."""
        job = self._jobs.pop(key, None)
        if job is not None:
            job.cancel()

    async def aclose(self) -> None:
        """Cancel all jobs and wait for their end."""
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
