"""Registering agents and looking at them: the rules behind ``agentgw agents`` and the admin API."""

from __future__ import annotations

import asyncio
import math
import os.path
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..gateway import names
from ..gateway.agentlog import Lines
from ..gateway.breaker import Breaker, State
from ..gateway.control import (
    AddAgent,
    Added,
    AddKey,
    AgentInfo,
    KeyInfo,
    LoginAsked,
    LoginBegun,
    NameTaken,
    NewKey,
    Rotated,
    UnknownTrace,
)
from ..gateway.errors import ConfigError, InvalidRequest, NeedsAuth, UnknownAgent, Unreachable
from ..gateway.model import Record
from ..gateway.ports import Adapter, AgentView, Host
from ..gateway.seal import Sealer, stamp
from ..gateway.store import Store
from . import discovery, secrets, traces
from .authorized import authorized
from .directory import Directory, Trial
from .discovery import Detected
from .keys import Keys
from .resealing import reseal
from .signin import SignIn

RESEALING = 3600.0  # seconds that a former key opens at least while the store is sealed anew
LAST_WORDS = 10  # lines of a command's stderr that are shown when it does not answer
TOGETHER = 8  # agents of one URL that are tried at the same time


class Manager:
    """Implements ``gateway.control.Control`` on the directory and the store."""

    def __init__(
        self,
        directory: Directory,
        store: Store,
        adapters: Mapping[str, Adapter],
        host: Host,
        sealer: Sealer | None = None,
    ) -> None:
        self._sealer = sealer or Sealer()
        self._directory = directory
        self._store = store
        self._adapters = adapters
        self._host = host
        self.keys = Keys(store)

    # --- looking -----------------------------------------------------------------------------

    async def list_agents(self) -> Sequence[AgentInfo]:
        return [self._info(record.name) for record in self._directory.records()]

    async def show_agent(self, name: str) -> AgentInfo:
        return self._info(name)

    async def check_agent(self, name: str) -> AgentInfo:
        await self._directory.check(name)
        return self._info(name)

    # --- logging in ----------------------------------------------------------------------------

    def _signin(self) -> SignIn:
        tokens = self._directory.tokens
        if tokens is None:
            raise ConfigError("nobody can log in here")
        return SignIn(self._host.transport, self._sealer, tokens.logins, tokens.logins.allow)

    def _record(self, name: str) -> Record:
        record = self._directory.record(name)
        if record is None:
            raise UnknownAgent(name)
        return record

    async def begin_login(self, name: str, asked: LoginAsked) -> LoginBegun:
        return await self._signin().begin(self._record(name), asked)

    async def finish_login(self, name: str, pending: str, answer: Mapping[str, str]) -> AgentInfo:
        login = await self._signin().finish(self._record(name), pending, answer)
        await self._directory.logged(name, login)
        return self._info(name)

    async def logout(self, name: str) -> AgentInfo:
        self._record(name)
        signin, tokens = self._signin(), self._directory.tokens
        login = tokens.logins.of(name) if tokens is not None else None
        if login is None:
            raise InvalidRequest(f"nobody is logged in to {name}")
        await signin.revoke(login)
        await self._directory.logged(name, None)
        return self._info(name)

    async def rotate_seal(self, keep: float) -> Rotated:
        self._sealer.rotate(max(keep, RESEALING))
        resealed = await reseal(self._store, self._sealer)
        if keep < RESEALING:
            self._sealer.shorten(keep)
        former = [stamp(key.until) for key in self._sealer.ring() if key.until is not None]
        return Rotated(resealed=resealed, former=former)

    async def agent_logs(self, name: str, lines: int = 200, after: str | None = None) -> Lines:
        view = self._directory.get(name)
        if view is None:
            raise UnknownAgent(name)
        if not view.record.command:
            raise InvalidRequest(f"{name} is reached by its URL: what it writes is kept where it runs")
        log = self._host.children.logs.of(name)
        if after is None:
            return await asyncio.to_thread(log.tail, lines)
        return await asyncio.to_thread(log.after, after)

    async def traces(self, limit: int = 50) -> Sequence[dict[str, Any]]:
        return await self._store.traces(limit)

    async def trace(self, trace_id: str) -> dict[str, Any]:
        spans = await self._store.trace(trace_id.lower())
        if not spans:
            raise UnknownTrace(trace_id)
        first = spans[0]
        row = next(iter(traces.listing(spans, 1)), None)
        unnamed = {
            "trace_id": first["trace_id"], "agent": "", "client_protocol": "", "agent_protocol": "",
            "state": "", "started_at": traces.stamp(first["start"]), "duration_ms": first["duration_ms"],
        }  # fmt: skip
        return {**(row or unnamed), "spans": list(spans)}

    def _info(self, name: str) -> AgentInfo:
        view = self._directory.get(name)
        if view is None:
            raise UnknownAgent(name)
        return info(view, self._directory.breaker(name))

    # --- changing ----------------------------------------------------------------------------

    async def set_enabled(self, name: str, enabled: bool) -> AgentInfo:
        view = self._directory.get(name)
        if view is None:
            raise UnknownAgent(name)
        self._directory.writable(name)
        if view.record.enabled != enabled:
            await self._directory.put(msgspec.structs.replace(view.record, enabled=enabled))
        return self._info(name)

    async def remove_agent(self, name: str) -> None:
        await self._directory.remove(name)
        await asyncio.to_thread(self._host.children.logs.of(name).forget)

    # --- keys --------------------------------------------------------------------------------

    async def list_keys(self) -> Sequence[KeyInfo]:
        return await self.keys.list()

    async def create_key(self, spec: AddKey) -> NewKey:
        new = await self.keys.create(spec)
        missing = [name for name in new.agents or () if self._directory.get(name) is None]
        said = [f"there is no agent named {name} yet" for name in missing]
        return msgspec.structs.replace(new, warnings=said)

    async def revoke_key(self, name: str) -> KeyInfo:
        return await self.keys.revoke(name)

    async def remove_key(self, name: str) -> None:
        await self.keys.remove(name)

    # --- adding ------------------------------------------------------------------------------

    async def add_agent(self, spec: AddAgent) -> Added:
        self._check(spec)
        if spec.command:
            return await self._add_command(spec)
        if spec.protocol != "auto":
            return await self._add_declared(spec, self._adapter(spec.protocol))
        headers, host = await self._way(_draft(spec))
        found = await discovery.detect(spec.url or "", headers, self._adapters, host, remote=spec.remote)
        return await self._add_found(spec, found)

    async def _way(self, draft: Record) -> tuple[list[tuple[str, str]], Host]:
        """What probes need: headers, and the way out with the token that the agent wants. Raises ConfigError
        and NeedsAuth for credentials that can't be had."""
        bearer = self._directory.bearer(draft)
        if bearer is not None:
            await bearer.get()
        return self._host.headers(draft), authorized(self._host, draft, bearer)

    def _check(self, spec: AddAgent) -> None:
        """What can be said without asking anybody. Raises InvalidRequest."""
        if bool(spec.url) == bool(spec.command):
            raise InvalidRequest("say where the agent is: either a URL or a command")
        if spec.all and (spec.command or spec.remote):
            raise InvalidRequest("--all goes with a URL alone: it takes every agent there")
        if not spec.all:
            if not spec.name:
                raise InvalidRequest("the agent needs a name")
            self._free(spec.name, spec.replace)
        if spec.command and (spec.headers or spec.remote):
            raise InvalidRequest("headers and a remote agent go with a URL, not with a command")
        if spec.command and spec.oauth is not None:
            raise InvalidRequest("OAuth goes with a URL, not with a command")
        if spec.url and (spec.env or spec.cwd):
            raise InvalidRequest("environment and directory go with a command, not with a URL")
        if spec.cwd and not os.path.isabs(spec.cwd):
            raise InvalidRequest(f"the directory {spec.cwd!r} must be given from the root")
        if spec.url:
            discovery.normalized(spec.url)
        secrets.check_headers(spec.headers)
        secrets.check_env(spec.env)
        if spec.oauth is not None:
            secrets.check_oauth(spec.oauth, spec.headers)

    def _free(self, name: str, replace: bool) -> None:
        if not names.is_valid(name):
            raise InvalidRequest(names.complaint(name))
        self._directory.writable(name)
        if not replace and self._directory.get(name) is not None:
            raise NameTaken(name)

    def _adapter(self, protocol: str) -> Adapter:
        adapter = self._adapters.get(protocol)
        if adapter is None or adapter.upstream is None:
            known = ", ".join(sorted(a.id for a in self._adapters.values() if a.upstream is not None))
            raise InvalidRequest(f"the protocol {protocol!r} is not known; there are auto, {known}")
        return adapter

    async def _add_command(self, spec: AddAgent) -> Added:
        """A command that does not answer is registered only where its protocol was given, as a URL is."""
        protocol = "mcp" if spec.protocol == "auto" else spec.protocol
        if not self._adapter(protocol).stdio:
            raise InvalidRequest(f"an agent that speaks {protocol} can't be a command: give its URL")
        trial = await self._directory.trial(_draft(spec, protocol=protocol))
        if spec.protocol == "auto" and trial.outcome.health.status == "down":
            await self._directory.discard(trial)
            raise await self._mute(trial)
        return await self._register([trial], spec.replace)

    async def _mute(self, trial: Trial) -> Unreachable:
        """The error of a command that does not answer; its last words are for whoever runs the gateway."""
        error = Unreachable(
            f"the command does not answer as an MCP server ({trial.outcome.health.detail}); "
            "with --protocol mcp it is registered all the same"
        )
        log = self._host.children.logs.of(trial.record.name)
        words = await asyncio.to_thread(log.last_words, LAST_WORDS)
        if words:
            error.operator = f"{error.message}; the last that it wrote on stderr: {' | '.join(words)}"
        return error

    async def _add_declared(self, spec: AddAgent, adapter: Adapter) -> Added:
        """The protocol was given: what does not answer now is registered and down."""
        try:
            headers, host = await self._way(_draft(spec))
            found = await discovery.probe(adapter, spec.url or "", headers, host, spec.remote)
        except (Unreachable, ConfigError, NeedsAuth):
            if spec.all:
                raise
            url = discovery.normalized(spec.url or "")
            trial = await self._directory.trial(_draft(spec, protocol=adapter.id, url=url))
            return await self._register([trial], spec.replace)
        return await self._add_found(spec, found)

    async def _add_found(self, spec: AddAgent, found: Detected) -> Added:
        warnings: list[str] = []
        if found.others and spec.protocol == "auto":
            warnings.append(
                f"{found.url} answers as {found.protocol} and as {', '.join(found.others)}; "
                f"{found.protocol} is used (say --protocol for another)"
            )
        if not spec.all:
            remote = found.only(spec.remote)
            drafts = [_draft(spec, protocol=found.protocol, url=found.url, remote=remote)]
        else:
            if found.refusal is not None:
                raise discovery.wants_credentials(found.url)
            drafts = [
                _draft(spec, protocol=found.protocol, url=found.url, remote=remote, name=name)
                for name, remote in _named([agent.name for agent in found.agents])
            ]
            for draft in drafts:
                self._free(draft.name, spec.replace)
        gate = asyncio.Semaphore(TOGETHER)

        async def tried(draft: Record) -> Trial:
            async with gate:
                return await self._directory.trial(draft)

        trials = await asyncio.gather(*(tried(draft) for draft in drafts))
        return await self._register(trials, spec.replace, warnings)

    async def _register(self, trials: Sequence[Trial], replace: bool, warnings: Sequence[str] = ()) -> Added:
        said = list(warnings)
        for at, trial in enumerate(trials):
            try:
                self._free(trial.record.name, replace)  # it may have been taken while the agent was asked
                await self._directory.put(trial.record, trial)
            except BaseException:
                await asyncio.gather(*(self._directory.discard(t) for t in trials[at:]))
                raise
            health = trial.outcome.health
            if health.status not in ("ok", "degraded") and health.detail not in said:
                said.append(f"{trial.record.name} is {health.status}: {health.detail}")
        return Added(agents=[self._info(t.record.name) for t in trials], warnings=said)


def info(view: AgentView, breaker: Breaker | None = None) -> AgentInfo:
    """An agent as listings show it, without a secret in it."""
    record, agent, health = view.record, view.agent, view.health
    circuit = State.CLOSED if breaker is None else breaker.state
    if breaker is not None and circuit is not State.CLOSED:
        wait = math.ceil(breaker.wait)
        when = f"next try in {wait} s" if wait else "next try with the next call"
        health = msgspec.structs.replace(health, status="down", detail=f"circuit {circuit}, {when}")
    return AgentInfo(
        name=record.name,
        protocol=record.protocol,
        target=record.target,
        enabled=record.enabled,
        health=health.status,
        description=view.description,
        skills=agent.skills if agent else (),
        detail=health.detail,
        checked_at=health.checked_at,
        source=record.source,
        remote=record.remote,
        version=agent.version if agent else None,
        headers=secrets.redact(record.headers),
        env=secrets.redact(record.env),
        circuit=circuit.value,
        oauth=None if record.oauth is None else secrets.redact_oauth(record.oauth),
        login=record.login,
    )


def _draft(
    spec: AddAgent,
    *,
    protocol: str | None = None,
    url: str | None = None,
    remote: str | None = None,
    name: str | None = None,
) -> Record:
    """The record that ``spec`` asks for, with what was found out."""
    return Record(
        name=name or spec.name or "new",
        protocol=protocol or spec.protocol,
        url=url or spec.url,
        command=tuple(spec.command),
        remote=remote or spec.remote,
        headers=spec.headers,
        env=spec.env,
        cwd=spec.cwd,
        description=spec.description,
        oauth=spec.oauth,
    )


def _named(remotes: Sequence[str]) -> list[tuple[str, str]]:
    """A valid name of its own for each of several agents: (name, remote)."""
    named: dict[str, str] = {}
    for remote in remotes:
        base = name = names.fitted(remote)
        count = 1
        while name in named:
            count += 1
            name = f"{base[:60]}-{count}"
        named[name] = remote
    return list(named.items())
