"""The control plane's port: what the admin API and the command line ask for.

``registry.manager.Manager`` implements it. The admin API serves it as JSON under ``/api``; the command line
calls it over that API where a gateway runs, and in its own process where none does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from .agentlog import Lines
from .errors import InvalidRequest
from .model import OAuth, Skill


class NameTaken(InvalidRequest):
    """An agent of this name is registered already (``data``: ``{"name", "reason": "name_taken"}``)."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is an agent named {name} already: choose another name, or say --replace",
            data={"name": name, "reason": "name_taken"},
        )


class GatewayInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A running gateway: its version, and those settings of ``server`` and ``auth`` that say who can call
    it."""

    version: str
    host: str
    public_url: str = ""
    hosts: Sequence[str] = ()
    allow_anonymous: bool = False
    issuer: str = ""


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A registered agent as ``agents list --json`` prints it. Never holds a secret: header and environment
    values are shown as they were registered only where they are references, else as ``***``. ``circuit``:
    closed, open or half-open; where it is not closed, ``health`` is down and ``detail`` says for how long."""

    name: str
    protocol: str
    target: str
    enabled: bool
    health: str
    description: str
    skills: Sequence[Skill] = ()
    detail: str = ""
    checked_at: str | None = None
    source: str = "store"
    remote: str | None = None
    version: str | None = None
    headers: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    circuit: str = "closed"
    oauth: OAuth | None = None
    login: bool = False


class AddAgent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``agents add`` asks for. ``all``: every agent behind ``url``, each under its own name."""

    name: str | None = None
    url: str | None = None
    command: Sequence[str] = ()
    protocol: str = "auto"
    remote: str | None = None
    all: bool = False
    headers: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    cwd: str | None = None
    description: str | None = None
    oauth: OAuth | None = None
    replace: bool = False


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """The agents that were registered, and what the user should know (one line each)."""

    agents: Sequence[AgentInfo]
    warnings: Sequence[str] = ()


class LoginAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``agents login`` asks for. ``redirect_uri``: where the browser comes back to, on this machine.
    ``client_id`` "": the gateway registers itself; ``client_secret``: a reference. ``scope`` "": what the
    agent asks for."""

    redirect_uri: str
    client_id: str = ""
    client_secret: str = ""
    scope: str = ""


class LoginBegun(msgspec.Struct, frozen=True, kw_only=True):
    """The URL for the user's browser at the authorization server ``issuer``; ``state`` comes back with it.
    ``pending`` is handed back as it is."""

    url: str
    state: str
    issuer: str
    pending: str


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """What ``seal rotate`` did: ``resealed`` items of the store; ``former``: until when each former key opens
    (UTC, ISO 8601), newest first."""

    resealed: int
    former: Sequence[str] = ()


class AddKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``keys create`` asks for. ``agents`` None: all; ``expires_at``: seconds since 1970, or None;
    ``rate``: requests a second that it may make, 0: any number, None: as many as ``limits.rate`` says."""

    name: str
    agents: Sequence[str] | None = None
    admin: bool = False
    expires_at: float | None = None
    rate: float | None = None


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A client key as ``keys list --json`` prints it. ``state``: active, expired or revoked; times as
    ISO 8601 in UTC; ``rate`` as in ``AddKey``."""

    name: str
    id: str
    agents: Sequence[str] | None
    admin: bool
    state: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    rate: float | None = None


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was just made. ``secret`` is what clients send as bearer token; nobody can show it again.
    ``warnings``: what the user should know, one line each."""

    name: str
    id: str
    secret: str
    agents: Sequence[str] | None
    admin: bool
    expires_at: str | None = None
    rate: float | None = None
    warnings: Sequence[str] = ()


class UnknownKey(InvalidRequest):
    """There is no key of this name (``data``: ``{"name", "reason": "unknown_key"}``)."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no key named {name}: agentgw keys list shows them",
            data={"name": name, "reason": "unknown_key"},
        )


class UnknownTrace(InvalidRequest):
    """No trace, or more than one, begins like this (``data``: ``{"reason": "unknown_trace"}``)."""

    def __init__(self, trace_id: str) -> None:
        super().__init__(
            f"no one trace begins with {trace_id!r}: agentgw traces lists the last ones",
            data={"reason": "unknown_trace"},
        )


class Control(Protocol):
    """Registry, keys and traces. Raises GatewayError: UnknownAgent, InvalidRequest (NameTaken; also: the
    agent is read-only, several agents are behind the URL), UpstreamError (nothing answered), ConfigError (a
    variable that a header refers to is not set)."""

    async def list_agents(self) -> Sequence[AgentInfo]:
        """All registered agents, disabled ones too, by name."""
        ...

    async def show_agent(self, name: str) -> AgentInfo: ...

    async def add_agent(self, spec: AddAgent) -> Added:
        """Probe (``auto``: at most 15 s, then an error), register, describe. Durable when it returns."""
        ...

    async def check_agent(self, name: str) -> AgentInfo:
        """Speak the agent's protocol to it now; the result holds the new health."""
        ...

    async def set_enabled(self, name: str, enabled: bool) -> AgentInfo: ...

    async def remove_agent(self, name: str) -> None: ...

    async def begin_login(self, name: str, asked: LoginAsked) -> LoginBegun:
        """Find out where to log in to an agent. Raises BadUpstream, which says what its servers lack."""
        ...

    async def finish_login(self, name: str, pending: str, answer: Mapping[str, str]) -> AgentInfo:
        """Take what came back to the redirect URI (its query). Durable when it returns."""
        ...

    async def logout(self, name: str) -> AgentInfo:
        """Forget the agent's tokens, at its authorization server too where that listens."""
        ...

    async def rotate_seal(self, keep: float) -> Rotated:
        """Seal with a new key; the former one opens for ``keep`` seconds more. Durable when it returns."""
        ...

    async def list_keys(self) -> Sequence[KeyInfo]:
        """All keys, expired and revoked ones too, by name."""
        ...

    async def create_key(self, spec: AddKey) -> NewKey:
        """Durable, and good at every door, when it returns. A name whose key is expired or revoked may be
        taken again. Raises InvalidRequest."""
        ...

    async def revoke_key(self, name: str) -> KeyInfo:
        """Nobody comes in with it any more when it returns; it stays in the list. Raises UnknownKey."""
        ...

    async def remove_key(self, name: str) -> None:
        """Revoke and forget. Without any key, callers need none where the gateway is open. Raises
        UnknownKey."""
        ...

    async def agent_logs(self, name: str, lines: int = 200, after: str | None = None) -> Lines:
        """What a process wrote on stderr: the last ``lines``, or those ``after`` what ``next`` said before.
        Raises InvalidRequest for an agent that is none."""
        ...

    async def traces(self, limit: int = 50) -> Sequence[dict[str, Any]]: ...

    async def trace(self, trace_id: str) -> dict[str, Any]:
        """One call with its ``spans``. Raises UnknownTrace."""
        ...
