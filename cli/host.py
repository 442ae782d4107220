"""What the gateway gives its adapters to reach an agent with."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..gateway.agentlog import AgentLogs
from ..gateway.breaker import Breaker
from ..gateway.children import Children
from ..gateway.config import Config
from ..gateway.model import Record
from ..gateway.telemetry import Tracer
from ..gateway.transport import HttpTransport, Transport
from ..registry.resolver import Resolver


class GatewayHost:
    """Implements ``ports.Host``: references in headers and environments are resolved in this process.
    ``logs``: of agents that are processes. ``on_changed`` is told the names of agents whose description
    changed."""

    def __init__(self, config: Config, tracer: Tracer, logs: AgentLogs | None = None) -> None:
        self.config = config
        self.tracer = tracer
        self.breaker = Breaker(0)  # of nobody: each agent has its own, see ``reach``
        self._http = HttpTransport(config.limits.connect_timeout, config.limits.body)
        self.transport: Transport = self._http
        self.children = Children(logs)
        self._resolver = Resolver(os.environ)
        self.on_changed: Callable[[str], None] = lambda name: None

    def reconfigure(self, config: Config) -> None:
        """Other settings hold from now on."""
        self.config = config
        self._http.restrict(config.limits.connect_timeout, config.limits.body)

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return self._resolver.headers(record)

    def environment(self, record: Record) -> dict[str, str]:
        return self._resolver.environment(record)

    def hidden(self, record: Record) -> list[str]:
        return self._resolver.hidden(record)

    async def aclose(self) -> None:
        """Every upstream is closed: let go of connections, and of who watches over children."""
        await self.transport.aclose()
        await self.children.aclose()

    def changed(self, agent: str) -> None:
        self.on_changed(agent)
