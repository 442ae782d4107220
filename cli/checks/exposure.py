"""Who can call the gateway, and who may."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ...gateway.http.doors import is_loopback, only_local
from .facts import Facts
from .finding import Finding

EVERYWHERE = ("0.0.0.0", "::")


def exposure(facts: Facts) -> Iterator[Finding]:
    if facts.blind:
        return
    here = facts.reached
    local = only_local(here.host, here.public_url)
    if not (local or here.issuer or facts.keys or facts.keys is None):
        yield from _open(facts)
    if facts.keys and facts.keys == facts.ended and not here.issuer:
        yield Finding(
            "all keys have ended: nobody but the owner may come in", "agentgw keys create NAME", wrong=False
        )
    if here.host in EVERYWHERE and not here.public_url and not here.hosts:
        yield Finding(
            f"it listens on {here.host}, and may be called by the names of this machine's loopback alone",
            "set server.public_url, or server.hosts to the names that clients call it by",
        )
    parts = urlsplit(here.public_url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield Finding(
            f"{here.public_url} is not encrypted: keys and what is said can be read on the way",
            "put it behind a proxy that speaks TLS, with an https:// public_url",
            wrong=False,
        )


def _open(facts: Facts) -> Iterator[Finding]:
    here = facts.reached
    where = f"listens on {here.host}" if not is_loopback(here.host) else f"can be called at {here.public_url}"
    if here.allow_anonymous:
        yield Finding(
            f"the gateway {where} without keys: whoever reaches it may call every agent",
            "agentgw keys create NAME, unless --allow-anonymous is meant",
            wrong=False,
        )
    elif facts.running is None:
        yield Finding(
            f"a gateway that {where} does not start without a key",
            "agentgw keys create NAME, or serve --allow-anonymous, or 127.0.0.1 alone",
        )


def summary(facts: Facts) -> str:
    if facts.blind:
        return ""
    here = facts.reached
    local = only_local(here.host, here.public_url)
    who = "this machine alone" if local else f"whoever reaches {here.public_url or here.host}"
    wants = "a key or a token" if here.issuer else "a key" if facts.keys else "nothing"
    return f"{who} can call, and needs {'a credential' if facts.keys is None else wants}"
