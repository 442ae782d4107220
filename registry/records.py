"""Records of the configuration file, and whose a kept description is."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec

from ..gateway.config import AgentEntry, OAuthEntry
from ..gateway.model import Agent, OAuth, Record
from . import references, secrets

log = logging.getLogger("agentgw.registry")


def of_file(name: str, entry: AgentEntry, *, quiet: bool = False) -> Record:
    """The record of an agent that the configuration file declares; a secret in clear is warned of, unless
    that was done before (``quiet``)."""
    for doubt in () if quiet else doubts(name, entry):
        log.warning("%s", doubt)
    return Record(
        name=name,
        protocol="mcp" if entry.command and entry.protocol == "auto" else entry.protocol,
        url=entry.url or None,
        command=entry.command,
        remote=entry.remote or None,
        headers=entry.headers,
        env=entry.env,
        cwd=entry.cwd or None,
        enabled=entry.enabled,
        description=entry.description or None,
        idle_timeout=entry.idle_timeout,
        total_timeout=entry.total_timeout,
        source="config",
        oauth=_oauth(entry.oauth) if entry.oauth.token_url else None,
    )


def _oauth(entry: OAuthEntry) -> OAuth:
    return OAuth(**msgspec.structs.asdict(entry))


def doubts(name: str, entry: AgentEntry) -> Iterator[str]:
    """What of an agent in the configuration file is hardly meant so, one line each: secrets in clear,
    references that are none."""
    for header, value in entry.headers.items():
        if secrets.is_exposed(header, value):
            yield f"the configuration file's agent {name}: {secrets.exposed(header)}"
    for key, value in {**entry.headers, **entry.env}.items():
        if references.miswritten(value):
            yield f"the configuration file's agent {name}: {secrets.miswritten(key)}"
    if entry.oauth.token_url and not references.PATTERN.fullmatch(entry.oauth.client_secret):
        yield f"the configuration file's agent {name} holds its OAuth client secret in clear"


def reaches_same(old: Record, new: Record) -> bool:
    """Whether only what people read has changed."""
    return msgspec.structs.replace(old, description=new.description) == new


def target(record: Record) -> list[str | None]:
    """What a record reaches, as plain JSON."""
    return [record.protocol, record.remote, record.url, *record.command]


def labelled(agent: Agent, record: Record) -> Agent:
    """A description to keep, with whose it is: the name may stand for another agent by the next start."""
    return msgspec.structs.replace(agent, extra={**agent.extra, "agentgw": {"target": target(record)}})


def meant(agent: Agent | None, record: Record) -> Agent | None:
    """A kept description, if it is of the agent that the record reaches now."""
    if agent is None or agent.extra.get("agentgw", {}).get("target") != target(record):
        return None
    extra = {key: value for key, value in agent.extra.items() if key != "agentgw"}
    return msgspec.structs.replace(agent, extra=extra)
