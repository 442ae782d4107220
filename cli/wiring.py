"""Where everything is put together: the running gateway, and the embedded one of single commands."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..gateway.access import SPACE, Access, Key, read_keys
from ..gateway.agentlog import AgentLogs
from ..gateway.config import Config
from ..gateway.control import Control
from ..gateway.engine import Hub
from ..gateway.errors import GatewayError
from ..gateway.homes import Homes
from ..gateway.http.app import App, Elsewhere
from ..gateway.http.deferred import ASGI, Deferred
from ..gateway.http.doors import Doors, only_local
from ..gateway.http.server import Server
from ..gateway.metrics import Metrics
from ..gateway.plugins import build_faces, load_adapters
from ..gateway.ports import Adapter, Host
from ..gateway.rates import Rates
from ..gateway.seal import Sealer
from ..gateway.store import Store
from ..gateway.telemetry import Tracer, export_wanted
from ..registry.directory import Directory
from ..registry.logins import Lasting, Logins
from ..registry.manager import Manager
from ..registry.mirror import Mirror
from ..registry.resealing import reseal
from ..registry.tokens import Tokens
from .auditing import Auditing, Keep
from .flushing import Flusher
from .host import GatewayHost
from .reloading import Reloader

if TYPE_CHECKING:
    from ..gateway.issuer import IssuedTokens

log = logging.getLogger("agentgw")


async def _nobody_else(keys: Sequence[Key]) -> None: ...


def _rates(config: Config) -> Rates:
    limits = config.limits
    return Rates(limits.rate, limits.burst)


class Gateway:
    """All parts of one gateway, with their life in the right order. ``bind``: the address it listens on;
    ``token``: the owner's; ``private``: nobody else comes in; ``audit`` keeps lines of the audit log;
    ``lasting``: see ``registry.logins``."""

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        bind: str,
        token: str,
        private: bool = False,
        sealer: Sealer | None = None,
        homes: Homes | None = None,
        mirror: Callable[[Mapping[str, Adapter], Host], Mirror] | None = None,
        elsewhere: Elsewhere | None = None,
        rates: Rates | None = None,
        audit: Keep | None = None,
        logs: AgentLogs | None = None,
        lasting: Lasting | None = None,
    ) -> None:
        self.config = config
        self.reloader: Reloader | None = None  # of who can read the configuration again
        self._bind = bind
        self.store = store
        self.tracer = Tracer(config.tracing.sampling)
        self.metrics = Metrics()
        local = only_local(bind, config.server.public_url)
        opened = (local or config.server.allow_anonymous) and not private
        self.host = GatewayHost(config, self.tracer, logs)
        self.issued: IssuedTokens | None = None
        if config.auth.issuer and not private:
            from ..gateway.issuer import IssuedTokens  # for few, and slow to load
            from ..gateway.issuerkeys import openid_url

            self.issued = IssuedTokens(config.auth, config.server.public_url, self.host.transport)
            openid = openid_url(config.auth.issuer)
            self.access = Access(token, open=opened, local=local, issuer=self.issued, openid=openid)
        else:
            self.access = Access(token, open=opened, local=local)
        self.adapters = load_adapters()
        self.sealer = sealer or Sealer()
        self.manager: Control | None = None  # a worker has none
        self.tokens: Tokens | None = None  # nor any but the owner's
        self._logins: Logins | None = None
        if mirror is None:
            transport = self.host.transport
            allow = config.outbound.allow
            logins = Logins(store, self.sealer, transport, allow, os.environ, lasting=lasting)
            self._logins = logins
            self.tokens = Tokens(transport, os.environ, logins, self.host.changed)
            self.directory = Directory(store, self.adapters, self.host, config, tokens=self.tokens)
            manager = Manager(self.directory, store, self.adapters, self.host, self.sealer)
            manager.keys.changed = self._keys_changed
            self.manager = manager
        else:
            self.directory = mirror(self.adapters, self.host)
        self.host.on_changed = self.directory.changed
        self.hub = Hub(
            self.directory, store, self.tracer, config, self.sealer, self.host.transport, homes, self.access
        )
        self.metrics.gauge(
            "tasks_running",
            "Tasks that agents are working on.",
            lambda: self.hub.running + self.metrics.elsewhere.running,
        )
        self.on_keys: Callable[[Sequence[Key]], Awaitable[None]] = _nobody_else
        self.flusher = Flusher(self.hub, self.tracer, self.metrics, config.tracing.spans)
        self.metrics.gauge(
            "store_failing",
            "1 while tasks and spans can't be written.",
            lambda: int(bool(self.flusher.failing)),
        )
        self.faces = build_faces(self.adapters.values(), self.hub)
        self.ready = False
        self._exporter: Any = None
        self._flushing: asyncio.Task[None] | None = None
        server = config.server
        self.control = Deferred(self._control)
        front = partial(
            App,
            self.faces,
            self.control,
            Doors(bind, server.public_url, server.hosts, server.origins),
            access=self.access,
            auth=config.auth,
            ready=lambda: self.ready,
            writing=lambda: not self.flusher.failing,
            body_limit=config.limits.body,
            nesting=config.limits.nesting,
            concurrency=config.limits.concurrency,
            per_key=config.limits.per_key,
        )
        rates = rates or _rates(config)
        self.app = front(count=self.metrics.response, rates=rates, elsewhere=elsewhere)
        # For requests that other processes of the same gateway hand over: they have counted them.
        self.inner = front(inner=True)
        self.servers: list[Server] = []  # that serve them
        self._auditing = None if audit is None else Auditing(self.tracer, audit)
        self._audit(config.audit.enabled)

    def _control(self) -> ASGI:
        from ..gateway.http.control_api import build_control_app  # costs more than all other imports

        reload = None if self.reloader is None else self.reloader.reload
        return build_control_app(self.manager, self.hub, metrics=self.metrics, reload=reload)

    async def start(self, *, refresh: bool = True) -> None:
        """Open the store and begin; never waits for an agent. ``refresh``: ask all agents how they are, now
        and every minute."""
        await self.store.open()
        self.sealer.open()
        if self.manager is not None and len(self.sealer.ring()) > 1:
            await reseal(self.store, self.sealer)  # a rotation may have been cut off
        self.access.take(read_keys(await self.store.items(SPACE)))
        if self.issued is not None:
            self.issued.begin()
        if export_wanted(os.environ):
            from ..gateway.otlp import Exporter

            self._exporter = self.flusher.exporter = Exporter(__version__)
        await self.directory.start(refresh=refresh)
        await self.hub.start()
        for face in self.faces:
            face.start()
        self._flushing = asyncio.create_task(self.flusher.run(self.access.tick))
        self.ready = True

    async def reconfigure(self, config: Config, *, rates: Rates | None = None) -> None:
        """Put another configuration in place, which differs in what can change while it runs
        (``reloading.LIVE``, agents). Raises ConfigError, and nothing has changed."""
        if isinstance(self.directory, Directory):
            await self.directory.redeclare(config)
        old, limits, server = self.config, config.limits, config.server
        self.config = config
        self.host.reconfigure(config)
        self.hub.reconfigure(config)
        self.directory.rebound()
        self.store.keep(spans=config.tracing.spans, tasks=limits.tasks)
        self.flusher.kept = config.tracing.spans
        self.tracer.sample(config.tracing.sampling)
        if self._logins is not None:
            self._logins.allow = config.outbound.allow
        if self.issued is not None and self.issued.public_url != server.public_url:
            self.issued.public_url = server.public_url
            self.access.doubt_tokens()
        if (old.limits.rate, old.limits.burst) != (limits.rate, limits.burst):
            self.app.rates = rates or _rates(config)
        for app in (self.app, self.inner):
            app.doors = Doors(self._bind, server.public_url, server.hosts, server.origins)
            app.bound(limits.body, limits.nesting, limits.concurrency, limits.per_key)
        for listening in self.servers:
            listening.bound(limits.header)
        if old.audit.enabled != config.audit.enabled:
            if self._auditing is not None and old.audit.enabled and self.manager is not None:
                await self._auditing.end()
            self._audit(config.audit.enabled)

    def _audit(self, wanted: bool) -> None:
        """Have the audit log written from now on, or no more."""
        auditing = self.flusher.auditing = self._auditing if wanted else None
        if auditing is not None:
            auditing.begin()
        for app in (self.app, self.inner):
            app.audit = None if auditing is None else auditing.audit

    async def _keys_changed(self, keys: Sequence[Key]) -> None:
        """Returns when they are good, or good no more, at every door."""
        self.access.take(keys)
        await self.on_keys(keys)

    async def flush(self) -> None:
        """Write out tasks and spans now."""
        await self.flusher.flush()

    async def drain(self, hurry: asyncio.Event | None = None) -> bool:
        """Refuse what is new, end idle streams, let what runs finish within the grace period or until
        ``hurry`` is set. The rest is failed, and its clients have a second to hear of it. Whether all
        finished."""
        self.ready = False
        self.hub.draining = True
        self.app.drain()
        self.inner.drain()
        finishing = asyncio.create_task(self._finish())
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait())
        grace = self.config.limits.shutdown_grace
        await asyncio.wait((finishing, hurried), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if finishing.done():
            finishing.result()
            return True
        finishing.cancel()
        await self.hub.stop()
        for face in self.faces:
            if (cut := getattr(face, "cut", None)) is not None:  # a third party's may have none
                cut()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.app.idle(), 1)
        return False

    async def _finish(self) -> None:
        for face in self.faces:
            face.drain()
        await self.hub.drain()
        await self.app.idle()
        await self.inner.idle()

    async def aclose(self) -> None:
        """Stop everything; what was acknowledged is on disk afterwards."""
        self.ready = False
        if self._flushing is not None:
            async with self.flusher.turn:
                self._flushing.cancel()
        for face in self.faces:
            await face.aclose()
        try:
            await self.hub.aclose()
        except GatewayError as e:  # the last flush says so, too
            log.debug("%s", e.message)
        await self.directory.aclose()
        if self.issued is not None:
            await self.issued.aclose()
        if self.tokens is not None:
            self.tokens.close()
        await self.host.aclose()
        await self.flush()
        if self._exporter is not None:
            await asyncio.to_thread(self._exporter.close)
        await self.store.aclose()
