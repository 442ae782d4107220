"""A configuration that is read again while the gateway runs: what of it holds at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .config import Config

# Settings that are looked up when they are used, or can be put in place of others in one step. All others are
# built into what the start made.
LIVE = frozenset(
    {
        "server.hosts", "server.origins", "limits.idle_timeout", "limits.total_timeout", "limits.handover",
        "limits.shutdown_grace", "limits.nesting", "limits.concurrency", "limits.per_key", "limits.rate",
        "limits.burst", "outbound.allow", "tracing.sampling",
    }
)  # fmt: skip


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What reading the configuration again changed: settings (``limits.rate``) and agents (``agents.NAME``)
    that hold from now on, and settings that do only after a restart. ``warnings``: one line each."""

    changed: Sequence[str] = ()
    restart: Sequence[str] = ()
    warnings: Sequence[str] = ()


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
            if path in LIVE:
                live[key] = getattr(wanted, key)
                changed.append(path)
            else:
                restart.append(path)
        sections[section] = msgspec.structs.replace(old, **live)
    names = sorted(now.agents.keys() | new.agents.keys())
    changed += [f"agents.{name}" for name in names if now.agents.get(name) != new.agents.get(name)]
    config = msgspec.structs.replace(now, **sections, agents=new.agents)
    return config, Reloaded(changed=changed, restart=restart)
