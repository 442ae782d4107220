"""The running gateway: is there one, is it well, is it this version?"""

from __future__ import annotations

from collections.abc import Iterator

from .facts import Facts, Running
from .finding import Finding


def gateway(facts: Facts) -> Iterator[Finding]:
    if facts.unanswered:
        yield Finding(facts.unanswered, "start it there, correct AGENTGW_URL, or unset it")
    elif facts.running is not None:
        yield from _well(facts, facts.running)
    elif facts.locked:
        yield from _silent(facts)
    elif facts.port:
        port = facts.config.server.port
        yield Finding(
            f"no gateway is running, and port {port} is taken by {facts.port}",
            "stop that, or agentgw serve --port with another",
        )
    else:
        killed = " (the last one did not end by itself)" if facts.owner is not None else ""
        yield Finding(f"no gateway is running{killed}", "agentgw serve", wrong=False)


def _well(facts: Facts, running: Running) -> Iterator[Finding]:
    if running.info is None:
        yield Finding(
            f"the gateway at {running.url} does not say how it is: {running.refused}",
            "set AGENTGW_TOKEN to an admin key of it; if it is of an older version, restart it",
        )
    elif running.info.version != facts.version:
        yield Finding(
            f"the gateway at {running.url} is version {running.info.version}, this command {facts.version}",
            "restart it with the version that is installed: agentgw serve",
        )
    if running.ready.get("status") != "ready":
        yield Finding(
            f"the gateway at {running.url} takes no calls", "wait: it starts or stops; its log says which"
        )
    if running.ready.get("store") == "failing":
        yield Finding(
            "the gateway can't write its data",
            f"its log says why; make room on the disk of {facts.home}: what waits is written then",
        )


def _silent(facts: Facts) -> Iterator[Finding]:
    who = str(facts.holder or "another process")
    if facts.holder is not None and facts.holder.name == "agentgw serve":
        yield Finding(
            f"{who} has {facts.home} and does not answer",
            f"wait if it was just started, else look at its log and end it: kill {facts.holder.pid}",
        )
    else:
        yield Finding(f"{who} uses {facts.home} at the moment", "wait for it", wrong=False)


def summary(facts: Facts) -> str:
    running = facts.running
    if running is None:
        return ""
    mine = facts.owner is not None and facts.owner.url.rstrip("/") == running.url
    process = f", process {facts.owner.pid}" if mine and facts.owner is not None else ""
    return f"{running.url}{process}, version {running.info.version if running.info else 'unknown'}"
