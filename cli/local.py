"""The control plane in this process, for when no gateway runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator

from ..gateway.agentlog import logs_in
from ..gateway.config import Config
from ..gateway.control import Control
from ..gateway.plugins import load_adapters
from ..gateway.seal import Sealer
from ..gateway.telemetry import Tracer
from ..registry.directory import Directory
from ..registry.logins import Logins
from ..registry.manager import Manager
from ..registry.reading import ReadingStore
from ..registry.sqlite import SqliteStore
from ..registry.tokens import Tokens
from . import owner
from .auditing import audit_file, recorded
from .configuration import load
from .host import GatewayHost


@contextlib.asynccontextmanager
async def local_control(config: Config | None = None, *, reading: bool = False) -> AsyncGenerator[Control]:
    """Registry and traces in the data directory, under its lock (waited for at most 30 s). ``reading``: as
    they stand, without the lock; nothing is written, and nothing can be changed. ``config`` None: what the
    environment says."""
    config = config or load()
    store = (ReadingStore if reading else SqliteStore)(
        owner.home(),
        spans=config.tracing.spans,
        tasks=config.limits.tasks,
        holder=f"agentgw (pid {os.getpid()})",
    )
    host = GatewayHost(config, Tracer(0), logs_in(owner.home()))
    adapters = load_adapters()
    sealer = Sealer(owner.home())
    logins = Logins(store, sealer, host.transport, config.outbound.allow, os.environ)
    tokens = Tokens(host.transport, os.environ, logins, host.changed)
    directory = Directory(store, adapters, host, config, tokens=tokens)
    await store.open()
    try:
        sealer.open(make=not reading)
        await directory.start(refresh=False)
        try:
            manager = Manager(directory, store, adapters, host, sealer)
            audited = config.audit.enabled and not reading
            yield recorded(manager, audit_file(config, owner.home()).write) if audited else manager
        finally:
            await directory.aclose()
            tokens.close()
    finally:
        await host.aclose()
        await store.aclose()
