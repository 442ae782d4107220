"""Speaking to an agent to see how it is, and putting the outcome in words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from ..gateway.errors import (
    AgentError,
    BadUpstream,
    CallerError,
    ConfigError,
    Forbidden,
    GatewayError,
    Unauthenticated,
    UpstreamFailed,
    for_operator,
)
from ..gateway.model import Agent, Health, Record
from ..gateway.ports import Upstream

log = logging.getLogger("agentgw.registry")

TIMEOUT = 15.0  # seconds for an agent to describe itself


class Outcome(msgspec.Struct, frozen=True):
    """What a check found: the description (None: none was given now) and the health."""

    agent: Agent | None
    health: Health


async def ask(record: Record, upstream: Upstream, *, known: bool, timeout: float = TIMEOUT) -> Outcome:
    """Have the agent describe itself; never raises for what is wrong with it.

    ``known``: a description from before stands, so an agent that answers amiss is degraded, not down.
    """
    try:
        async with asyncio.timeout(timeout):
            found = await upstream.describe()
    except TimeoutError:
        return _outcome("down", f"no answer within {timeout:g} s")
    except GatewayError as e:
        if e.detail:
            log.debug("checking %s: %s: %s", record.name, e.message, e.detail)
        return _outcome(_status(e, known), for_operator(e))
    except Exception:
        log.exception("checking %s failed", record.name)
        return _outcome("down", "the check failed")
    agent = pick(found, record.remote)
    if agent is None:
        wanted = f"{record.remote!r} is not among its agents" if record.remote else "it describes no agent"
        return _outcome("degraded" if known else "down", wanted)
    said = agent.extra.get("agentgw", {})
    partly = said.get("degraded")
    return _outcome("degraded" if partly else "ok", str(partly or said.get("note") or ""), agent)


def needs_auth(error: GatewayError) -> bool:
    """Whether the agent wants credentials, or others: Unauthenticated or Forbidden raised by an upstream, or
    any error whose ``native`` says HTTP 401 or 403 (as ``status``, or as ``code`` of the protocol http)."""
    native = error.native or {}
    status = native.get("code") if native.get("protocol") == "http" else native.get("status")
    return isinstance(error, Unauthenticated | Forbidden) or status in (401, 403)


def pick(found: Sequence[Agent], remote: str | None) -> Agent | None:
    """The agent meant by ``remote``; the only one (or first) without it. A lone agent is itself whatever
    it is called: a card's title is no address."""
    if remote is not None and len(found) > 1:
        return next((agent for agent in found if agent.name == remote), None)
    return found[0] if found else None


def now() -> str:
    """UTC ISO 8601 in seconds, ending in Z."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def down(detail: str) -> Health:
    """Health of what can't be called."""
    return Health(status="down", detail=detail, checked_at=now())


def alike(one: Health, other: Health) -> bool:
    """Whether two checks found the same, at whatever time."""
    return (one.status, one.detail) == (other.status, other.detail)


def _status(error: GatewayError, known: bool) -> str:
    if needs_auth(error):
        return "needs-auth"
    answers = isinstance(error, AgentError | BadUpstream | UpstreamFailed | CallerError)
    return "degraded" if answers and known and not isinstance(error, ConfigError) else "down"


def _outcome(status: str, detail: str, agent: Agent | None = None) -> Outcome:
    health = msgspec.convert({"status": status, "detail": detail, "checked_at": now()}, Health)
    return Outcome(agent, health)
