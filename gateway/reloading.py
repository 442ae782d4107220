"""A configuration that is read again while the gateway runs: what of it holds at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .config import Config, Server
from .http.doors import only_local

# Settings that are looked up when they are used, or can be put in place of others in one step.
LIVE = frozenset(
    {
        "server.public_url", "server.hosts", "server.origins", "limits.connect_timeout",
        "limits.idle_timeout", "limits.total_timeout", "limits.handover", "limits.question",
        "limits.shutdown_grace", "limits.retries", "limits.circuit_failures", "limits.circuit_pause",
        "limits.circuit_longest",
        "limits.body", "limits.header", "limits.nesting", "limits.concurrency", "limits.per_agent",
        "limits.per_key", "limits.rate", "limits.burst", "limits.tasks", "outbound.allow", "tracing.sampling",
        "tracing.spans", "audit.enabled", "audit.file", "audit.size", "audit.kept",
    }
)  # fmt: skip
# Settings that the start builds in: what is listened on, how many processes there are, who may come in.
RESTART = frozenset(
    {
        "server.host", "server.port", "server.workers", "server.grpc_port", "server.grpc_url",
        "server.allow_anonymous", "server.remote_commands", "tracing.payloads", "auth.issuer",
        "auth.audience", "auth.jwks_url", "auth.algorithms", "auth.leeway", "auth.admin_scope", "auth.scopes",
    }
)  # fmt: skip


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What reading the configuration again changed: settings (``limits.rate``) and agents (``agents.NAME``)
    that hold from now on, and settings that do only after a restart. ``warnings``: one line each."""

    changed: Sequence[str] = ()
    restart: Sequence[str] = ()
    warnings: Sequence[str] = ()


def _opens(now: Server, new: Server) -> bool:
    """Whether another ``public_url`` also says another thing about who can call: the start has decided by it
    whether a key is wanted."""
    return only_local(now.host, now.public_url) != only_local(now.host, new.public_url)


def merged(now: Config, new: Config) -> tuple[Config, Reloaded]:
    """The configuration that holds once ``new`` was read: ``now``, but for what can change while it runs."""
    changed: list[str] = []
    restart: list[str] = []
    sections: dict[str, Any] = {}
    for section in Config.__struct_fields__:
        if section == "agents":
            continue
        old, wanted = getattr(now, section), getattr(new, section)
        live: dict[str, Any] = {}
        for key in wanted.__struct_fields__:
            path = f"{section}.{key}"
            if getattr(old, key) == getattr(wanted, key):
                continue
            if path in LIVE and not (path == "server.public_url" and _opens(now.server, new.server)):
                live[key] = getattr(wanted, key)
                changed.append(path)
            else:
                restart.append(path)
        sections[section] = msgspec.structs.replace(old, **live)
    names = sorted(now.agents.keys() | new.agents.keys())
    changed += [f"agents.{name}" for name in names if now.agents.get(name) != new.agents.get(name)]
    config = msgspec.structs.replace(now, **sections, agents=new.agents)
    warnings: list[str] = []
    if now.server.grpc_port and now.limits.body < new.limits.body:
        warnings.append("limits.body: gRPC clients may send more only after a restart")
    return config, Reloaded(changed=changed, restart=restart, warnings=warnings)
