"""The directory of agents: an immutable snapshot in memory, which the doors read, and what keeps it fresh.

Stored records and those of the configuration file make one list; the file's win. Descriptions and health
come in off the request's path: at start, every minute, and when an agent says that it changed. The last
known health is kept for commands that look while no gateway runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from ..gateway.breaker import Breaker
from ..gateway.config import Config
from ..gateway.errors import GatewayError, InvalidRequest, UnknownAgent, Unreachable, for_operator
from ..gateway.model import Agent, Health, Record
from ..gateway.ports import Adapter, AgentView, Host, Upstream
from ..gateway.store import Store
from . import discovery, health, records
from .authorized import authorized
from .bearer import Bearer
from .lasthealth import LastHealth
from .listeners import Listeners
from .logins import Login
from .tokens import Tokens
from .upstreams import Broken, Jobs, Upstreams, close

log = logging.getLogger("agentgw.registry")

EVERY = 60.0  # seconds between two checks of all agents
DEBOUNCE = 0.2  # seconds: an agent that says "changed" many times is asked once
AT_ONCE = 16  # checks that run side by side


class Trial(msgspec.Struct, frozen=True):
    """A record that has been tried out and is not registered yet."""

    record: Record
    upstream: Upstream
    outcome: health.Outcome


class Directory:
    """All registered agents. ``every`` and ``debounce`` in seconds."""

    def __init__(
        self,
        store: Store,
        adapters: Mapping[str, Adapter],
        host: Host,
        config: Config,
        *,
        every: float = EVERY,
        debounce: float = DEBOUNCE,
        tokens: Tokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._store = store
        self._adapters = adapters
        self._host = host
        self._config = config
        self._every = every
        self._debounce = debounce
        self._upstreams = Upstreams(adapters, host, config.limits.shutdown_grace, tokens)
        self._registered: dict[str, Record] = {}  # as declared; "auto" stays "auto" here
        self._entries: dict[str, AgentView] = {}
        self._views: Mapping[str, AgentView] | None = None  # None: to be made when it is asked for
        self._jobs = Jobs()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._fresh = False
        self._asked: set[str] = set()  # since the start
        self._last = LastHealth(store)
        self._due: set[str] = set()
        self._listeners = Listeners()

    # --- life --------------------------------------------------------------------------------

    async def start(self, *, refresh: bool = True) -> None:
        """Read what is registered; begin to refresh in the background, or, told not to, take the health as it
        was last known. Never waits for an agent. Raises ConfigError when the store can't be read."""
        self._registered = {r.name: r for r in await self._store.records()}
        for name, entry in self._config.agents.items():
            self._registered[name] = records.of_file(name, entry)
        if self._tokens is not None:
            await self._tokens.logins.load()
        descriptions = await self._store.descriptions()
        await self._last.load()
        for name, record in self._registered.items():
            record = self._with_login(record)
            agent = records.meant(descriptions.get(name), record)
            last = Health() if refresh else self._last.of(name, record.target)
            self._entries[name] = AgentView(record, agent, last, self._make(record))
        self._swap()
        self._fresh = refresh
        if refresh:
            self._jobs.start("refresh", self._refreshing)

    def rebound(self) -> None:
        """The limits in the host's settings have changed: those of the ways to agents do, too."""
        self._upstreams.rebound()

    async def aclose(self) -> None:
        """Stop refreshing and close every upstream."""
        await self._jobs.aclose()
        entries, self._entries = self._entries, {}
        self._swap()
        for name, entry in entries.items():
            await self._last.note(name, self._registered[name].target, entry.health, time=True)
        await self._upstreams.aclose()
        await asyncio.gather(*(close(entry.upstream) for entry in entries.values()))

    # --- reading -----------------------------------------------------------------------------

    def views(self) -> Mapping[str, AgentView]:
        """The enabled agents, in the order of their names: one snapshot, never changed, replaced when
        something changes. A check that finds an agent as it was is no change: ``get`` knows its time."""
        if self._views is None:
            shown = {name: self._entries[name] for name in sorted(self._entries)}
            self._views = MappingProxyType({n: entry for n, entry in shown.items() if entry.record.enabled})
        return self._views

    def get(self, name: str) -> AgentView | None:
        """An agent, disabled ones too."""
        return self._entries.get(name)

    def breaker(self, name: str) -> Breaker | None:
        """The circuit breaker of an agent; None where it can't be called at all."""
        entry = self._entries.get(name)
        return None if entry is None else self._upstreams.breaker(entry.upstream)

    @property
    def tokens(self) -> Tokens | None:
        """Where agents' tokens come from; None where no agent has any."""
        return self._tokens

    def record(self, name: str) -> Record | None:
        """An agent's record."""
        entry = self._entries.get(name)
        return entry.record if entry else None

    def records(self) -> Sequence[Record]:
        """All registered agents by name, disabled ones too."""
        return [self._entries[name].record for name in sorted(self._entries)]

    async def described(self, name: str, timeout: float = 3.0) -> AgentView | None:
        """The enabled agent; one that was never described nor asked since the start, or whose protocol is to
        be found out, is waited for, at most ``timeout`` seconds. None for an unknown one."""
        view = self.views().get(name)
        if view is None or name in self._asked:
            return view
        if view.agent is not None and view.record.protocol != "auto":
            return view
        with contextlib.suppress(TimeoutError, GatewayError):
            async with asyncio.timeout(timeout):
                await self.check(name)
        return self.views().get(name)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, on the loop and soon, when agents or their descriptions changed; several changes at
        one time are one call. Returns the way to unsubscribe."""
        return self._listeners.add(callback)

    # --- changing ----------------------------------------------------------------------------

    def writable(self, name: str) -> None:
        """Raises InvalidRequest for an agent that the configuration file declares."""
        if name in self._config.agents:
            raise InvalidRequest(
                f"{name} is declared in the configuration file: change it there", data={"agent": name}
            )

    async def redeclare(self, config: Config) -> None:
        """Take over the agents that another configuration declares: new and changed ones are there, those
        that it declares no more are gone, or as they are registered, when it returns. Calls under way have
        time to end. Raises ConfigError when the store can't be read, and nothing has changed."""
        stored = {record.name: record for record in await self._store.records()}
        descriptions = await self._store.descriptions()
        declared = {name: records.of_file(name, entry) for name, entry in config.agents.items()}
        before, self._config = self._config.agents, config
        for name in before.keys() | declared.keys():
            record = declared.get(name) or stored.get(name)
            if record is None:
                self._drop(name)
            elif record != self._registered.get(name):
                self._replace(record, records.meant(descriptions.get(name), record))
        self._swap()

    def _replace(self, record: Record, known: Agent | None) -> None:
        self._registered[record.name] = record
        record = self._with_login(record)
        old = self._entries.get(record.name)
        if old is not None and records.reaches_same(old.record, record):
            self._entries[record.name] = msgspec.structs.replace(old, record=record)
            return
        self._drop(record.name)
        self._registered[record.name] = record
        self._entries[record.name] = AgentView(record, known, Health(), self._make(record))
        if self._fresh and record.enabled:
            self._check_soon(record.name)

    def _drop(self, name: str) -> None:
        """Forget an agent in memory; its calls have time to end."""
        self._registered.pop(name, None)
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._jobs.forget(f"check {name}")
            self._asked.discard(name)
            self._upstreams.retire(entry.upstream, at_once=False)

    async def trial(self, record: Record) -> Trial:
        """Try a record out without registering it; then ``put`` it or ``discard`` it."""
        record = self._with_login(record)
        upstream = self._make(record)
        return Trial(record, upstream, await health.ask(record, upstream, known=False))

    async def discard(self, trial: Trial) -> None:
        """Close what a trial opened."""
        await close(trial.upstream)

    async def put(self, record: Record, trial: Trial | None = None) -> None:
        """Add or replace; durable, and visible at every door, when it returns. ``trial`` of the same record
        brings its description along. Raises InvalidRequest for an agent of the file, ConfigError."""
        self.writable(record.name)
        await self._store.put_record(msgspec.structs.replace(record, login=False))
        record = self._with_login(record)
        if self._tokens is not None and not record.login:
            await self._tokens.logins.forget(record.name)
        old = self._entries.get(record.name)
        if trial is not None:
            self._asked.add(record.name)
            entry = AgentView(record, trial.outcome.agent, trial.outcome.health, trial.upstream)
        elif old is not None and records.reaches_same(old.record, record):
            entry = msgspec.structs.replace(old, record=record)
        else:
            self._asked.discard(record.name)
            same = old is not None and records.target(old.record) == records.target(record)
            entry = AgentView(record, old.agent if old and same else None, Health(), self._make(record))
        if old is not None and old.upstream is not entry.upstream:
            self._jobs.forget(f"check {record.name}")
            self._upstreams.retire(old.upstream, at_once=not record.enabled)
        self._entries[record.name] = entry
        self._registered[record.name] = record
        self._swap()
        await self._last.note(record.name, record.target, entry.health)
        if trial is not None and trial.outcome.agent is not None:
            await self._remember(record.name, trial.outcome.agent)
        elif self._fresh and record.enabled and entry.health.checked_at is None:
            self._check_soon(record.name)

    async def remove(self, name: str) -> None:
        """Remove; durable when it returns. Raises UnknownAgent, InvalidRequest for an agent of the file."""
        self.writable(name)
        if name not in self._entries:
            raise UnknownAgent(name)
        await self._store.remove_record(name)
        await self._last.forget(name)
        if self._tokens is not None:
            await self._tokens.logins.forget(name)
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._jobs.forget(f"check {name}")
            self._asked.discard(name)
            self._upstreams.retire(entry.upstream, at_once=True)
            self._swap()

    async def logged(self, name: str, login: Login | None) -> Health:
        """Somebody has logged in to an agent, or out of it (None); its health with that. Durable, and good
        for every call, when it returns. Raises UnknownAgent."""
        entry = self._entries.get(name)
        if entry is None or self._tokens is None:
            raise UnknownAgent(name)
        if login is None:
            await self._tokens.logins.forget(name)
        else:
            await self._tokens.logins.keep(name, login)
        self._tokens.forget(name)
        record = self._with_login(entry.record)
        if record != entry.record:
            self._jobs.forget(f"check {name}")
            self._entries[name] = msgspec.structs.replace(entry, record=record, upstream=self._make(record))
            self._upstreams.retire(entry.upstream, at_once=False)
            self._swap()
        return await self.check(name)

    def _with_login(self, record: Record) -> Record:
        login = self._tokens is not None and self._tokens.logins.is_in(record)
        return record if record.login == login else msgspec.structs.replace(record, login=login)

    # --- keeping fresh -----------------------------------------------------------------------

    def changed(self, name: str) -> None:
        """The agent says that its description changed: ask it soon, once for many such calls."""
        if name in self._entries and name not in self._due:
            self._due.add(name)
            asyncio.get_running_loop().call_later(self._debounce, self._ask_again, name)

    def _ask_again(self, name: str) -> None:
        running = self._jobs.running(f"check {name}")
        if running is not None:  # it may have asked before the change
            running.add_done_callback(lambda _: self._ask_again(name))
            return
        self._due.discard(name)
        if name in self._entries:
            self._check_soon(name)

    async def check(self, name: str) -> Health:
        """Speak the agent's protocol to it now (joins a check under way), also when its circuit is open.
        Raises UnknownAgent."""
        if name not in self._entries:
            raise UnknownAgent(name)
        if (breaker := self.breaker(name)) is not None:
            breaker.hurry()
        await asyncio.wait([self._check_soon(name)])
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownAgent(name)
        return entry.health

    def _check_soon(self, name: str) -> asyncio.Task[Any]:
        return self._jobs.start(f"check {name}", lambda: self._check(name))

    async def _refreshing(self) -> None:
        """Ask all agents at once, then one after the other, spread over the time between two checks: many
        agents must not make every minute a slow second."""
        pause = 0.0
        while True:
            names = list(self.views())
            for name in names:
                await asyncio.sleep(pause)
                await self._gate.acquire()
                if name in self._entries:
                    self._check_soon(name).add_done_callback(lambda _: self._gate.release())
                else:
                    self._gate.release()
            if not names:
                await asyncio.sleep(self._every)
            pause = self._every / max(len(names), 1)

    async def _check(self, name: str) -> None:
        await self._checked(name)
        if name in self._entries:
            self._asked.add(name)

    async def _checked(self, name: str) -> None:
        entry = self._entries.get(name)
        if entry is not None and entry.record.protocol == "auto":
            entry = await self._detected(entry)
        if entry is None:
            return
        outcome = await health.ask(entry.record, entry.upstream, known=entry.agent is not None)
        current = self._entries.get(name)
        if current is None or current.upstream is not entry.upstream:
            return  # removed or replaced meanwhile
        described = outcome.agent is not None and outcome.agent != current.agent
        agent = outcome.agent if described else current.agent
        self._entries[name] = msgspec.structs.replace(current, agent=agent, health=outcome.health)
        if described or not health.alike(outcome.health, current.health):
            self._swap(notify=described)
        await self._last.note(name, self._registered[name].target, outcome.health)
        if described and agent is not None:
            await self._remember(name, agent)

    async def _detected(self, entry: AgentView) -> AgentView | None:
        """An agent of the file without a protocol, once the URL has said which; else None, and down."""
        record = entry.record
        try:
            headers, host = self._host.headers(record), authorized(self._host, record, self.bearer(record))
            found = await discovery.detect(
                record.url or "", headers, self._adapters, host, remote=record.remote
            )
            record = msgspec.structs.replace(
                record, protocol=found.protocol, url=found.url, remote=found.only(record.remote)
            )
            new = AgentView(record, entry.agent, entry.health, self._make(record))
        except GatewayError as e:
            status = "needs-auth" if health.needs_auth(e) else "down"
            new = msgspec.structs.replace(
                entry, health=msgspec.structs.replace(health.down(for_operator(e)), status=status)
            )
        if self._entries.get(record.name) is not entry:
            return None
        self._entries[record.name] = new
        self._swap(notify=new.upstream is not entry.upstream)
        await self._last.note(record.name, self._registered[record.name].target, new.health)
        return None if new.upstream is entry.upstream else new

    async def _remember(self, name: str, agent: Agent) -> None:
        try:
            await self._store.put_description(name, records.labelled(agent, self._registered[name]))
        except GatewayError as e:
            log.warning("%s", e.message)

    # --- the snapshot ------------------------------------------------------------------------

    def bearer(self, record: Record) -> Bearer | None:
        """The token that a record's agent wants, registered or not; None if it wants none."""
        return None if self._tokens is None else self._tokens.bearer(self._with_login(record))

    def _make(self, record: Record) -> Upstream:
        if record.protocol == "auto":
            return Broken(lambda: self._unanswered(record))
        return self._upstreams.make(record)

    def _unanswered(self, record: Record) -> GatewayError:
        """Why an agent of the file without a protocol can't be called: its headers can't be made, else it
        did not answer."""
        try:
            self._host.headers(record)
        except GatewayError as e:
            return e
        return Unreachable(f"{record.name} has not answered yet")

    def _swap(self, *, notify: bool = True) -> None:
        self._views = None
        if notify:
            self._listeners.changed()
