"""Finding out what is behind a URL: which protocol it speaks, and which agents are there.

Every adapter that can probe does so at the same time. Where several get an answer (the gateway's own
endpoint answers all), the most telling one counts: agents that converse before bare tools, then exactly one
agent before several, then the adapter of lower rank, then by its id. An answer counts before a refusal.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

import msgspec

from ..gateway.errors import AgentError, CallerError, GatewayError, InvalidRequest, Unreachable
from ..gateway.model import Agent
from ..gateway.ports import Adapter, Found, Host
from .health import needs_auth

log = logging.getLogger("agentgw.registry")

TIMEOUT = 15.0  # seconds for all probes together
GRACE = 2.0  # seconds that the others have once one has answered
Headers = list[tuple[str, str]]


class Detected(msgspec.Struct, frozen=True):
    """What is behind a URL: the adapter's id, the URL to register and the agents there (none when it only
    refused). ``remote``: the agent that the URL itself named. ``others``: protocols that were answered too.
    ``refusal``: it speaks ``protocol`` but refuses,
    e.g. for want of credentials."""

    protocol: str
    url: str
    agents: tuple[Agent, ...] = ()
    remote: str | None = None
    others: tuple[str, ...] = ()
    refusal: GatewayError | None = None

    def only(self, remote: str | None) -> str | None:
        """The ``remote`` to register: as asked, or as the URL named it; None where the URL has one agent.
        Raises InvalidRequest, listing the names, where that is not clear."""
        remote = remote or self.remote
        names = [agent.name for agent in self.agents]
        if remote is not None:
            if names and remote not in names:
                raise InvalidRequest(
                    f"there is no agent {remote!r} at {self.url}; there {_are(names)}", data={"agents": names}
                )
            return remote
        if len(names) > 1:
            raise InvalidRequest(
                f"there are several agents at {self.url}: {', '.join(names)}; use --remote NAME or --all",
                data={"agents": names},
            )
        return None


def normalized(url: str) -> str:
    """A URL as people paste it, made whole: without blanks, quotes, a sentence's punctuation or a fragment;
    ``http://`` before a bare loopback address, ``https://`` before any other. Raises InvalidRequest."""
    text = url.strip().lstrip("<('\"`").rstrip(">)'\"`,;. ")
    if "://" not in text:
        host = re.split(r"[/:?#]", text.removeprefix("["))[0] if not text.startswith("[") else "::1"
        text = f"{'http' if _is_loopback(host) else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidRequest(f"{url!r} is not a URL") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or re.search(r"\s", text):
        raise InvalidRequest(f"{url!r} is not a URL that begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest(
            "the URL holds a user name or password: give it as --header 'Authorization: Basic ${NAME}'"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port is None else f"{host}:{port}"
    return urlunsplit((parts.scheme.lower(), netloc, parts.path, parts.query, ""))


def named_agent(url: str) -> tuple[str, str] | None:
    """Base URL and name where the URL ends in ``/agents/{name}``; else None."""
    match = re.fullmatch(r"(https?://[^?]*?)/agents/([^/?]+)/?", url)
    return (match[1], match[2]) if match else None


async def detect(
    url: str,
    headers: Headers,
    adapters: Mapping[str, Adapter],
    host: Host,
    *,
    remote: str | None = None,
    timeout: float = TIMEOUT,
) -> Detected:
    """Ask every adapter. ``remote``: prefer an answer that has this agent. Where the URL ends in
    ``/agents/{name}`` its base is asked too, and counts if that agent is there and nothing answers at the
    URL itself. Raises InvalidRequest for no URL, Unreachable when nothing answers."""
    url = normalized(url)
    probes = [(a, url) for a in adapters.values() if a.probe is not None]
    named = named_agent(url) if remote is None else None
    if named is not None:
        probes += [(a, named[0]) for a in adapters.values() if a.probe is not None]
    answers = await _ask(probes, headers, host, timeout)
    found = [(a, at, r) for (a, at), r in zip(probes, answers, strict=True) if isinstance(r, Found)]
    name = named[1] if named else None
    here = [(a, r) for a, at, r in found if at == url]
    there = [(a, r) for a, at, r in found if at != url and _has(r, name)]
    if here or there:
        return _best(here or there, remote, name)
    refused = [(a, r) for (a, at), r in zip(probes, answers, strict=True) if at == url and _refuses(r)]
    if len(refused) == 1 and isinstance(refused[0][1], GatewayError):
        return Detected(refused[0][0].id, url, refusal=refused[0][1])
    known = ", ".join(a.id for a, at in probes if at == url)
    if refused:
        raise wants_credentials(url)
    raise Unreachable(
        f"nothing at {url} answers as {known or 'any protocol'}: is it running, and is this its address?"
    )


async def probe(adapter: Adapter, url: str, headers: Headers, host: Host, remote: str | None) -> Detected:
    """Ask one adapter. Where it can't probe, or gets no answer at the URL, Unreachable is raised; a refusal
    is returned."""
    url = normalized(url)
    targets = [(adapter, url)] if adapter.probe is not None else []
    named = named_agent(url) if remote is None and targets else None
    if named is not None:
        targets.append((adapter, named[0]))
    answers = await _ask(targets, headers, host, TIMEOUT)
    first = answers[0] if answers else None
    name = named[1] if named else None
    if isinstance(first, Found):
        return _best([(adapter, first)], remote, name)
    for answer in answers[1:]:
        if isinstance(answer, Found) and _has(answer, name):
            return _best([(adapter, answer)], None, name)
    if isinstance(first, GatewayError) and _refuses(first):
        return Detected(adapter.id, url, refusal=first)
    raise Unreachable(f"{url} does not answer as {adapter.id} now")


async def _ask(
    probes: Sequence[tuple[Adapter, str]], headers: Headers, host: Host, timeout: float
) -> list[Found | GatewayError | None]:
    """Every probe's outcome; None also for one that took too long."""
    jobs = [asyncio.create_task(_probed(adapter, url, headers, host)) for adapter, url in probes]
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    pending = set(jobs)
    try:
        while pending and (left := end - loop.time()) > 0:
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(job.result(), Found) for job in done):
                end = min(end, loop.time() + GRACE)
    finally:
        for job in pending:
            job.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    return [job.result() if job.done() and not job.cancelled() else None for job in jobs]


async def _probed(adapter: Adapter, url: str, headers: Headers, host: Host) -> Found | GatewayError | None:
    assert adapter.probe is not None
    try:
        return await adapter.probe(url, headers, host)
    except GatewayError as e:
        log.debug("probing %s as %s: %s %s", url, adapter.id, e.message, e.detail)
        return e
    except Exception:
        log.exception("probing as %s failed", adapter.id)
        return None


def wants_credentials(url: str) -> Unreachable:
    """The error that says how to go on where a URL answers nobody without credentials."""
    return Unreachable(
        f"{url} asks for credentials: add --header 'Authorization: Bearer ${{NAME}}', or say --protocol",
        native={"status": 401},
    )


def _refuses(answer: Found | GatewayError | None) -> bool:
    """Whether it speaks the protocol and says no."""
    return isinstance(answer, GatewayError) and (
        needs_auth(answer) or isinstance(answer, AgentError | CallerError)
    )


def _best(found: Sequence[tuple[Adapter, Found]], remote: str | None, named: str | None) -> Detected:
    """The most telling answer. ``named``: the agent that the URL ends in, taken where the answer has it."""

    def order(item: tuple[Adapter, Found]) -> tuple[bool, bool, bool, int, str]:
        adapter, answer = item
        names = {agent.name for agent in answer.agents}
        return (
            remote is not None and remote not in names,
            not any(agent.conversational for agent in answer.agents),
            len(answer.agents) != 1,
            adapter.rank,
            adapter.id,
        )

    ordered = sorted(found, key=order)
    adapter, answer = ordered[0]
    return Detected(
        adapter.id,
        answer.url,
        answer.agents,
        remote=named if _has(answer, named) else None,
        others=tuple(a.id for a, _ in ordered[1:]),
    )


def _has(found: Found, name: str | None) -> bool:
    return any(agent.name == name for agent in found.agents)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _are(names: Sequence[str]) -> str:
    return f"{'is' if len(names) == 1 else 'are'} {', '.join(names)}"
