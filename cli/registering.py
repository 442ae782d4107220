"""The work behind ``agentgw agents``: check what was typed, ask the control plane, print."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ..gateway import names
from ..gateway.control import AddAgent, AgentInfo
from ..gateway.errors import GatewayError, InvalidRequest
from ..gateway.model import OAuth
from .find import control
from .terminal import BOLD, GREEN, RED, YELLOW, WrongUse, note, one_line, paint, print_json, table

NONE_YET = "no agents yet; add one: agentgw agents add NAME URL, or NAME -- COMMAND ARG…"
FOLLOW = 0.5  # seconds between looks at a log that is followed
FRESH = timedelta(minutes=5)  # a running gateway asks every minute
_HEADER = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:(.*)", re.DOTALL)
_NAME_TAKEN = {"reason": "name_taken"}
_HEALTH = {"ok": GREEN, "degraded": YELLOW, "needs-auth": YELLOW, "down": RED}


def spec(
    name: str | None,
    url: str | None,
    *,
    command: Sequence[str] | None,
    protocol: str,
    headers: Sequence[str],
    remote: str | None,
    every: bool,
    env: Sequence[str],
    cwd: str | None,
    description: str | None,
    replace: bool,
    oauth: OAuth | None = None,
) -> AddAgent:
    """What was typed as what to register. ``command`` None: no ``--`` was there. Raises WrongUse."""
    if every:
        if url is not None or command is not None or remote is not None:
            raise WrongUse("--all takes one URL and no name: agentgw agents add URL --all")
        name, url = None, name
    _check_target(name, url, command)
    if command is None and (env or cwd is not None):
        raise WrongUse("--env and --cwd are for a command: agentgw agents add NAME -- COMMAND ARG…")
    if command is not None and (headers or remote or oauth):
        raise WrongUse("--header, --remote and --oauth-… are for a URL: agentgw agents add NAME URL")
    return AddAgent(
        name=name,
        url=url,
        command=tuple(command or ()),
        protocol=protocol,
        remote=remote,
        all=every,
        headers=_headers(headers),
        env=_environment(env),
        cwd=_directory(cwd) if command is not None else None,
        description=description,
        replace=replace,
        oauth=oauth,
    )


def oauth(
    token_url: str | None,
    client_id: str,
    client_secret: str,
    *,
    scope: str,
    audience: str,
    resource: str,
    post: bool,
) -> OAuth | None:
    """The client credentials that were typed; None where none were. Raises WrongUse."""
    if token_url is None:
        if client_id or client_secret or scope or audience or resource or post:
            raise WrongUse("--oauth-… go with --oauth-token-url URL")
        return None
    return OAuth(
        token_url=token_url,
        client_id=client_id,
        client_secret=client_secret,
        scope=scope,
        audience=audience,
        resource=resource,
        method="client_secret_post" if post else "client_secret_basic",
    )


def _check_target(name: str | None, url: str | None, command: Sequence[str] | None) -> None:
    if url is None and not command:
        if name is not None and "://" in name:
            raise WrongUse("give the agent a name: agentgw agents add NAME URL (or take them all: URL --all)")
        raise WrongUse("say where the agent is: agentgw agents add NAME URL, or NAME -- COMMAND ARG…")
    if url is not None and command is not None:
        raise WrongUse("give a URL or a command, not both")
    if url is not None and not re.match(r"https?://[^\s/]", url):
        raise WrongUse(f"{url} is no URL: it begins with http:// or https://; a command stands after --")
    if name is not None and not names.is_valid(name):
        raise WrongUse(names.complaint(name))


def _headers(values: Sequence[str]) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for value in values:
        match = _HEADER.fullmatch(value)
        if match is None or any(c in match[2] for c in "\r\n\0"):
            raise WrongUse("a header is written 'Name: value'")
        headers[match[1]] = match[2].strip()
    return headers


def _environment(values: Sequence[str]) -> Mapping[str, str]:
    env: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not key or not equals:
            raise WrongUse("--env is written NAME=VALUE")
        env[key] = text
    return env


def _directory(cwd: str | None) -> str:
    """A command runs where it was registered, wherever the gateway is started later."""
    directory = os.path.abspath(os.path.expanduser(cwd or "."))
    if not os.path.isdir(directory):
        raise WrongUse(f"--cwd {cwd}: there is no such directory")
    return directory


async def add(wanted: AddAgent, as_json: bool) -> None:
    """Register, and say what was registered. Raises WrongUse for what can't be registered as it was typed."""
    async with control() as here:
        try:
            added = await here.add_agent(wanted)
        except InvalidRequest as e:
            if _NAME_TAKEN.items() <= (e.data or {}).items():
                raise  # typed well, but there is one already
            raise WrongUse(e.message) from e
    for warning in added.warnings:
        note(f"warning: {warning}", style=YELLOW)
    if as_json:
        print_json(added.agents if wanted.all or len(added.agents) != 1 else added.agents[0])
        return
    for agent in added.agents:
        print(f"added {agent.name} ({agent.protocol}): {summary(agent)}")


def summary(agent: AgentInfo) -> str:
    """How an agent is, in one line."""
    count = len(agent.skills)
    skills = f"{count} skill{'' if count == 1 else 's'}"
    health = paint(agent.health, _HEALTH.get(agent.health), sys.stdout)
    return f"{skills}, health {health}" + (f" ({one_line(agent.detail)})" if agent.detail else "")


async def list_agents(as_json: bool) -> None:
    async with control(reading=True) as here:
        agents = await here.list_agents()
    if as_json:
        print_json(agents)
    elif agents:
        print(listing(agents))
        if (since := stale(agents)) is not None:
            note(f"health is as it was at {since}; agentgw agents check asks now")
    else:
        note(NONE_YET)


def stale(agents: Sequence[AgentInfo], at: datetime | None = None) -> str | None:
    """Since when the oldest health shown is known, where that is long ago at ``at`` (None: now): no gateway
    runs that would ask again."""
    times = [a.checked_at for a in agents if a.enabled and a.checked_at is not None]
    if not times:
        return None
    oldest = datetime.fromisoformat(min(times))
    return min(times) if (at or datetime.now(UTC)) - oldest > FRESH else None


def _health(agent: AgentInfo) -> str:
    if not agent.enabled:
        return "disabled"
    return agent.health if agent.circuit == "closed" else f"{agent.health} ({one_line(agent.detail)})"


def listing(agents: Sequence[AgentInfo]) -> str:
    """The agents as a table."""
    rows = [(a.name, a.protocol, _health(a), str(len(a.skills)), a.target) for a in agents]
    return table(("NAME", "PROTOCOL", "HEALTH", "SKILLS", "TARGET"), rows)


async def show(name: str, as_json: bool) -> None:
    async with control(reading=True) as here:
        agent = await here.show_agent(name)
    if as_json:
        print_json(agent)
    else:
        print(sheet(agent))


def sheet(agent: AgentInfo) -> str:
    """One agent, a line for each thing known of it, then its skills."""
    health = agent.health + (f": {agent.detail}" if agent.detail else "")
    if agent.checked_at:
        health += f" (checked {agent.checked_at})"
    secrets = {
        **{f"header {k}": v for k, v in agent.headers.items()},
        **{f"env {k}": v for k, v in agent.env.items()},
    }
    fields = {
        "protocol": agent.protocol,
        "target": agent.target,
        "remote": agent.remote,
        **secrets,
        "oauth": _oauth_line(agent.oauth),
        "login": "yes" if agent.login else None,
        "enabled": "yes" if agent.enabled else "no",
        "health": health,
        "version": agent.version,
        "source": "the configuration file (read-only here)" if agent.source == "config" else None,
        "description": agent.description,
    }
    lines = [paint(agent.name, BOLD, sys.stdout)]
    lines += [f"  {key + ':':13} {one_line(value)}" for key, value in fields.items() if value]
    if agent.skills:
        lines.append("  skills:")
        size = min(max(len(skill.id) for skill in agent.skills), 40)
        for skill in agent.skills:
            about = one_line(skill.description or (skill.name if skill.name != skill.id else ""))
            lines.append(f"    {one_line(skill.id):{size}}  {about}".rstrip())
    return "\n".join(lines)


def _oauth_line(oauth: OAuth | None) -> str | None:
    if oauth is None:
        return None
    return f"{oauth.client_id} with {oauth.client_secret} at {oauth.token_url}"


async def check(name: str | None, as_json: bool) -> int:
    """Probe one or all; 1 when one that is enabled is not well."""
    async with control() as here:
        if name is not None:
            checked = [await here.check_agent(name)]
        else:
            agents = await here.list_agents()
            results = await asyncio.gather(
                *(here.check_agent(a.name) for a in agents), return_exceptions=True
            )
            checked = [
                _unchecked(agent, result) if isinstance(result, BaseException) else result
                for agent, result in zip(agents, results, strict=True)
            ]
    if as_json:
        print_json(checked[0] if name is not None else checked)
    else:
        for agent in checked:
            print(f"{agent.name} ({agent.protocol}): {summary(agent)}")
        if not checked:
            note(NONE_YET)
    return int(any(a.enabled and a.health not in ("ok", "degraded") for a in checked))


async def logs(name: str, lines: int, follow: bool, as_json: bool) -> None:
    """Print what an agent wrote on stderr; with ``follow`` until Ctrl-C."""
    if follow and as_json:
        raise WrongUse("--json prints one document: leave out --follow")
    async with control(reading=True) as here:
        found = await here.agent_logs(name, lines)
        if as_json:
            print_json({"agent": name, "lines": found.lines})
            return
        while True:
            for line in found.lines:
                print(one_line(line), flush=follow)
            if not follow:
                return
            await asyncio.sleep(FOLLOW)
            found = await here.agent_logs(name, after=found.next)


def _unchecked(agent: AgentInfo, error: BaseException) -> AgentInfo:
    """An agent whose check itself was refused, e.g. because it was removed meanwhile."""
    import msgspec

    if not isinstance(error, GatewayError):
        raise error
    return msgspec.structs.replace(agent, health="unknown", detail=error.message)


async def set_enabled(name: str, enabled: bool, as_json: bool) -> None:
    async with control() as here:
        agent = await here.set_enabled(name, enabled)
    if as_json:
        print_json(agent)
    else:
        print(f"{name} is {'enabled' if enabled else 'disabled'}")


async def remove(name: str, as_json: bool) -> None:
    async with control() as here:
        await here.remove_agent(name)
    if as_json:
        print_json({"name": name, "removed": True})
    else:
        print(f"removed {name}")
