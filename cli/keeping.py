"""The work behind ``agentgw keys``: check what was typed, ask the control plane, print."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from ..gateway import durations
from ..gateway.control import AddKey
from ..gateway.errors import InvalidRequest
from .find import control
from .terminal import YELLOW, WrongUse, note, print_json, table


def spec(
    name: str, agents: Sequence[str] | None, *, admin: bool, expires: str | None, rate: str | None
) -> AddKey:
    """What was typed as what to make. Raises WrongUse."""
    named = None
    if agents:
        named = [agent.strip() for given in agents for agent in given.split(",") if agent.strip()]
        if not named:
            raise WrongUse("--agents names the agents that the key reaches: --agents a,b")
    return AddKey(
        name=name,
        agents=named,
        admin=admin,
        expires_at=None if expires is None else when(expires),
        rate=None if rate is None else per_second(rate),
    )


def per_second(text: str) -> float:
    """Requests a second of "20/s", "600/m", … Raises WrongUse."""
    found = durations.rate(text)
    if found is None:
        raise WrongUse(f"--rate {text}: say 20/s, 600/m, …, or 0 for any number")
    return found


def when(text: str) -> float:
    """Seconds since 1970 of "30d", "12h", … from now, or of an ISO 8601 time (UTC unless it says otherwise).
    Raises WrongUse."""
    seconds = durations.duration(text)
    if seconds:
        return time.time() + seconds
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(f"--expires {text}: say 30d, 12h, … or a time like 2030-01-31T12:00:00Z") from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if at.timestamp() <= time.time():
        raise WrongUse(f"--expires {text} is over already")
    return at.timestamp()


async def create(spec: AddKey, as_json: bool) -> None:
    """Make it and print its secret, alone on stdout."""
    async with control() as gateway:
        first = not await gateway.list_keys()
        try:
            key = await gateway.create_key(spec)
        except InvalidRequest as e:
            raise WrongUse(e.message) from None
    for warning in key.warnings:
        note(f"warning: {warning}", style=YELLOW)
    if as_json:
        print_json(key)
        return
    print(key.secret)
    note("Clients send it as the header Authorization: Bearer …; it can't be shown again.")
    if first:
        note("This is the first key: from now on every caller needs one.", style=YELLOW)


async def list_keys(as_json: bool) -> None:
    """Print all keys."""
    async with control(reading=True) as gateway:
        keys = await gateway.list_keys()
    if as_json:
        print_json(keys)
        return
    if not keys:
        note("no keys: whoever reaches the gateway may come in; make one: agentgw keys create NAME")
        return
    rows = [
        (k.name, k.state, "all" if k.agents is None else ", ".join(k.agents), "yes" if k.admin else "",
         _rate(k.rate), k.expires_at or "", k.created_at)
        for k in keys
    ]  # fmt: skip
    print(table(("NAME", "STATE", "AGENTS", "ADMIN", "RATE", "EXPIRES", "CREATED"), rows))


def _rate(rate: float | None) -> str:
    if rate is None:
        return ""
    return durations.rate_text(rate) if rate else "any"


async def revoke(name: str, as_json: bool) -> None:
    """Revoke it and say so."""
    async with control() as gateway:
        key = await gateway.revoke_key(name)
    if as_json:
        print_json(key)
    else:
        note(f"{name} is revoked")


async def remove(name: str, as_json: bool) -> None:
    """Forget it and say so."""
    async with control() as gateway:
        await gateway.remove_key(name)
        left = await gateway.list_keys()
    if as_json:
        print_json({"name": name, "removed": True})
        return
    note(f"{name} is removed")
    if not left:
        note("There are no keys any more: a gateway on 127.0.0.1 lets everybody in.", style=YELLOW)
