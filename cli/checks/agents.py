"""The agents: how they are, whether what they need is there."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator

from ...gateway.control import AgentInfo
from ...gateway.errors import ConfigError, for_operator
from ...gateway.model import Record
from ...registry import references, secrets
from .facts import Facts
from .finding import Finding

UNWELL = ("down", "needs-auth", "degraded")


def agents(facts: Facts) -> Iterator[Finding]:
    known = {record.name: record for record in facts.records} if not facts.foreign else {}
    lacking: set[str] = set()
    if facts.running is None:  # else it has an environment of its own, and has tried
        for record in known.values():
            if record.enabled and (found := _lacking(record, facts)) is not None:
                lacking.add(record.name)
                yield found
    for agent in facts.agents:
        if agent.enabled and agent.health in UNWELL and agent.name not in lacking:
            yield _unwell(agent, known.get(agent.name), facts)
    yield from _twice(list(known.values()))


def _lacking(record: Record, facts: Facts) -> Finding | None:
    """What would keep the agent from being called."""
    try:
        secrets.resolve_headers(record, facts.environ)
        environment = secrets.child_environment(record, facts.environ)
        if record.oauth is not None:
            secret = record.oauth.client_secret
            references.resolved("client_secret", secret, facts.environ, agent=record.name)
    except ConfigError as e:
        return Finding(for_operator(e), "put it where agentgw serve will find it")
    if not record.command:
        return None
    program, cwd = record.command[0], record.cwd or os.getcwd()
    if not os.path.isdir(cwd):
        return Finding(f"{record.name}: its directory {cwd} is not there", _anew(record))
    if os.path.dirname(program):
        found = shutil.which(os.path.join(cwd, program))
    else:
        found = shutil.which(program, path=environment.get("PATH"))
    if found is None:
        return Finding(f"{record.name}: there is no program {program}", f"install it, or {_anew(record)}")
    return None


def _unwell(agent: AgentInfo, record: Record | None, facts: Facts) -> Finding:
    was = "is" if facts.running is not None else "was"
    when = f" ({agent.checked_at})" if facts.running is None and agent.checked_at else ""
    why = f": {agent.detail}" if agent.detail else ""
    return Finding(f"{agent.name} {was} {agent.health}{when}{why}", _mended(agent, record))


def _mended(agent: AgentInfo, record: Record | None) -> str:
    """What to do about an agent that is not well."""
    name = agent.name
    if "environment variable" in agent.detail:
        return "set it where agentgw serve is started, and restart that"
    if "${" in agent.detail:
        return f"put it there, then: agentgw agents disable {name} and enable"
    if agent.health == "needs-auth":
        return _credentials(agent)
    if agent.health == "degraded":
        return f"look at the agent itself; agentgw agents check {name} asks it again"
    if (record is not None and record.command) or "://" not in agent.target:
        return f"agentgw agents logs {name} shows what it wrote; agentgw agents check {name} starts it again"
    forget = _gone(agent.source, name)
    return f"start it, then agentgw agents check {name}; or, if it is gone for good, {forget}"


def _credentials(agent: AgentInfo) -> str:
    if agent.login:
        return f"agentgw agents login {agent.name}"
    if agent.oauth is not None:
        return f"correct its OAuth settings (client {agent.oauth.client_id} at {agent.oauth.token_url})"
    if any(header.lower() in secrets.CREDENTIALS for header in agent.headers):
        return "the agent refuses what its header stands for: put a credential there that is good"
    header = f"agentgw agents add {agent.name} URL --replace --header 'Authorization: Bearer ${{TOKEN}}'"
    return f"agentgw agents login {agent.name}, or {header}" if agent.protocol == "mcp" else header


def _anew(record: Record) -> str:
    if record.source == "config":
        return f"correct [agents.{record.name}] in the configuration file"
    return f"agentgw agents add {record.name} --replace with what is right"


def _gone(source: str, name: str) -> str:
    if source == "config":
        return f"take [agents.{name}] out of the configuration file"
    return f"agentgw agents remove {name}"


def _twice(known: list[Record]) -> Iterator[Finding]:
    same: defaultdict[object, list[Record]] = defaultdict(list)
    for record in known:
        if record.enabled:
            how = (tuple(sorted(record.headers.items())), tuple(sorted(record.env.items())), record.oauth)
            same[(record.url, record.command, record.remote, record.cwd, how)].append(record)
    for first, *others in same.values():
        if others:
            yield Finding(
                f"{', '.join(r.name for r in (first, *others))} are the same agent under several names",
                f"{_gone(others[0].source, others[0].name)}, unless it is meant",
                wrong=False,
            )


def summary(facts: Facts) -> str:
    if facts.blind:
        return ""
    number = sum(agent.enabled for agent in facts.agents)
    return f"{number} agent{'' if number == 1 else 's'}" if number else "none yet: agentgw agents add"
