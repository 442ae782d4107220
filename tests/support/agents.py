"""A made-up protocol, for tests of the directory and the control plane: agents answer from a table."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from agentgw.gateway.breaker import Breaker
from agentgw.gateway.children import Children
from agentgw.gateway.config import Config
from agentgw.gateway.errors import GatewayError, Unreachable
from agentgw.gateway.model import Agent, Record, Skill
from agentgw.gateway.ports import Adapter, Found, Host
from agentgw.gateway.telemetry import Tracer
from agentgw.gateway.transport import HttpTransport
from agentgw.registry import secrets
from agentgw.registry.directory import Directory
from agentgw.registry.manager import Manager
from agentgw.registry.memory import MemoryStore

from .memory import MemoryUpstream

Answer = Sequence[Agent] | GatewayError | Callable[[], Awaitable[Sequence[Agent]]]


class World:
    """What is out there: URL (or command line) to what answers. ``asked`` counts descriptions given."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: dict[str, int] = {}
        self.headers: dict[str, list[tuple[str, str]]] = {}

    def put(self, target: str, *names: str, conversational: bool = True, **fields: object) -> None:
        """Agents of these names answer at ``target``."""
        skill = Skill(id="run", name="Run")
        self.answers[target] = [
            Agent(name=name, skills=(skill,), conversational=conversational, **fields)  # type: ignore[arg-type]
            for name in names
        ]

    async def answer(self, target: str) -> Sequence[Agent]:
        self.asked[target] = self.asked.get(target, 0) + 1
        answer = self.answers.get(target, Unreachable("the agent can't be reached"))
        if isinstance(answer, GatewayError):
            raise answer
        return await answer() if callable(answer) else answer


class WorldUpstream(MemoryUpstream):
    """Describes itself as the world says."""

    def __init__(self, record: Record, host: Host, world: World) -> None:
        super().__init__()
        self.record = record
        self.closed = asyncio.Event()
        self._host = host
        self._world = world

    async def describe(self) -> Sequence[Agent]:
        self._world.headers[self.record.target] = self._host.headers(self.record)
        return await self._world.answer(self.record.target)

    async def aclose(self) -> None:
        self.closed.set()


class FakeHost:
    """``ports.Host`` without a way out. Variables come from ``environ``."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.config = Config()
        self.tracer = Tracer()
        self.transport = HttpTransport()
        self.breaker = Breaker(0)
        self.children = Children()
        self.environ = os.environ if environ is None else environ

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return secrets.resolve_headers(record, self.environ)

    def hidden(self, record: Record) -> list[str]:
        return []

    def environment(self, record: Record) -> dict[str, str]:
        return secrets.child_environment(record, self.environ)

    def changed(self, agent: str) -> None:
        pass


def adapter(id: str, world: World, *, rank: int = 100, stdio: bool = False, probes: bool = True) -> Adapter:
    """An adapter of protocol ``id`` for the agents of ``world``."""

    async def probe(url: str, headers: list[tuple[str, str]], host: Host) -> Found | None:
        try:
            return Found(url, tuple(await world.answer(url)))
        except Unreachable:
            return None

    return Adapter(
        id=id,
        title=id.upper(),
        rank=rank,
        stdio=stdio,
        upstream=lambda record, host: WorldUpstream(record, host, world),
        probe=probe if probes else None,
    )


def registry(
    *adapters: Adapter,
    store: MemoryStore | None = None,
    config: Config | None = None,
    environ: Mapping[str, str] | None = None,
    **options: float,
) -> tuple[Manager, Directory]:
    """A manager and its directory (to be started) over a host without a way out."""
    by_id = {a.id: a for a in adapters}
    store = store or MemoryStore()
    config = config or Config()
    host: Host = FakeHost(environ)  # type: ignore[assignment]
    directory = Directory(store, by_id, host, config, **options)
    return Manager(directory, store, by_id, host), directory
