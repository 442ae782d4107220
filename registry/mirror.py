"""The directory in a worker process: what the owner's directory shows, with upstreams of the worker's own.

The owner asks agents how they are and reads their descriptions; it tells each worker what has changed
(``Telling``), and a worker answers when its doors show it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import msgspec

from ..gateway.config import Config
from ..gateway.errors import GatewayError, Unreachable
from ..gateway.model import Agent, Health, Record
from ..gateway.ports import Adapter, AgentView, Host, Remembers, Upstream, Wakes
from . import records
from .listeners import Listeners
from .tokens import Bearers
from .upstreams import Broken, Upstreams, close

EVERY = 60.0  # seconds between two looks at the processes that a worker has of agents


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """An enabled agent, as the owner's directory has it."""

    record: Record
    agent: Agent | None
    health: Health


class News(msgspec.Struct, frozen=True, array_like=True):
    """What has changed: agents that are new or another, and the names of those that are no more."""

    agents: list[Seen] = []
    gone: list[str] = []


class Telling:
    """What one worker was told of the owner's directory."""

    def __init__(self) -> None:
        self._told: Mapping[str, AgentView] = {}

    def knows(self, views: Mapping[str, AgentView]) -> bool:
        """Whether these are the views that it was told of last."""
        return self._told is views

    def news(self, views: Mapping[str, AgentView]) -> News | None:
        """What to tell it now; None if it knows all."""
        told, self._told = self._told, views
        if told is views:
            return None
        changed = [Seen(v.record, v.agent, v.health) for n, v in views.items() if told.get(n) is not v]
        gone = [name for name in told if name not in views]
        return News(changed, gone) if changed or gone else None


class Mirror:
    """Implements the engine's ``Directory``. ``look(name)`` has the owner look at an agent: done once this
    mirror shows what it found; ``said(name)`` tells the owner that an agent says it has changed."""

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        host: Host,
        config: Config,
        look: Callable[[str], Awaitable[None]],
        said: Callable[[str], None],
        bearers: Bearers | None = None,
    ) -> None:
        self.changed = said
        self._look = look
        self._upstreams = Upstreams(adapters, host, config.limits.shutdown_grace, bearers)
        self._views: Mapping[str, AgentView] = MappingProxyType({})
        self._listeners = Listeners()
        self._waking: asyncio.Task[None] | None = None

    async def start(self, *, refresh: bool = True) -> None:
        """Nothing is there until the owner tells. The owner sees how agents are, but not the processes that
        this one has of them: those are looked after here."""
        self._waking = asyncio.create_task(self._keep_waking())

    async def _keep_waking(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            for view in list(self._views.values()):
                if view.record.command and isinstance(view.upstream, Wakes):
                    with contextlib.suppress(GatewayError):
                        await view.upstream.wake()

    def rebound(self) -> None:
        """The limits in the host's settings have changed: those of the ways to agents do, too."""
        self._upstreams.rebound()

    async def aclose(self) -> None:
        """Close every upstream."""
        if self._waking is not None:
            self._waking.cancel()
        views, self._views = self._views, MappingProxyType({})
        await self._upstreams.aclose()
        await asyncio.gather(*(close(view.upstream) for view in views.values()))

    def views(self) -> Mapping[str, AgentView]:
        """The enabled agents by name: one snapshot, never changed, replaced when something changes."""
        return self._views

    async def described(self, name: str, timeout: float = 3.0) -> AgentView | None:
        """The agent; one that was never described, or whose protocol is to be found out, is waited for, at
        most ``timeout`` seconds. None for an unknown one."""
        view = self._views.get(name)
        if view is None or (view.agent is not None and view.record.protocol != "auto"):
            return view
        with contextlib.suppress(TimeoutError, GatewayError):
            async with asyncio.timeout(timeout):
                await self._look(name)
        return self._views.get(name)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, on the loop and soon, when agents or their descriptions changed. Returns the way to
        unsubscribe."""
        return self._listeners.add(callback)

    def take(self, news: News) -> None:
        """The owner tells what has changed."""
        views = dict(self._views)
        notify = bool(news.gone)
        for name in news.gone:
            if (old := views.pop(name, None)) is not None:
                self._upstreams.retire(old.upstream, at_once=True)
        for seen in news.agents:
            old = views.get(seen.record.name)
            views[seen.record.name] = new = self._view(seen, old)
            notify = notify or old is None or (old.record, old.agent) != (new.record, new.agent)
        self._views = MappingProxyType(views)
        if notify:
            self._listeners.changed()

    def _view(self, seen: Seen, old: AgentView | None) -> AgentView:
        if old is not None and records.reaches_same(old.record, seen.record):
            if old.agent != seen.agent and isinstance(old.upstream, Remembers):
                old.upstream.outdated()
            return AgentView(seen.record, seen.agent, seen.health, old.upstream)
        if old is not None:
            self._upstreams.retire(old.upstream, at_once=False)
        return AgentView(seen.record, seen.agent, seen.health, self._make(seen.record))

    def _make(self, record: Record) -> Upstream:
        if record.protocol == "auto":
            return Broken(lambda: Unreachable(f"{record.name} has not answered yet"))
        return self._upstreams.make(record)
