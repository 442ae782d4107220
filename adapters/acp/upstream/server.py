"""An ACP server over HTTP: what is asked of it, and its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote, unquote

import msgspec
from msgspec import Raw

from ....gateway.errors import (
    AgentError,
    BadUpstream,
    ConfigError,
    GatewayError,
    InvalidRequest,
    NotActive,
    UpstreamFailed,
)
from ....gateway.h1_request import Fixed, Headers
from ....gateway.model import Agent, Record, Trace
from ....gateway.ports import Host
from ....gateway.readable import UNREADABLE
from ....gateway.telemetry import Template, server_attributes, trace_headers
from ....gateway.transport import Reply, Stream
from ....gateway.waiting import Timer
from .. import manifests
from ..faults import as_error, fault_of, spoken
from ..wire import JSON_TYPE, PAGE, SERVER_ERROR, SETTLED, SSE_TYPE, EventHead, Json

DESCRIBE_TIMEOUT = 10.0  # seconds
MAX_PAGES = 100  # of the list of agents
_BODYLESS = (("accept", f"{JSON_TYPE}, {SSE_TYPE}"),)
_BODY = (*_BODYLESS, ("content-type", JSON_TYPE))  # FastAPI refuses JSON without a content type
POLL = (0.5, 5.0)  # seconds between looks at a run that is followed: first, and at most


def split_url(url: str) -> tuple[str, str | None]:
    """The server's base URL, and the agent that the URL names: ``…/agents/{name}``."""
    base = url.rstrip("/")
    head, _, name = base.rpartition("/agents/")
    return (head, unquote(name)) if head and name and "/" not in name else (base, None)


class _Events(msgspec.Struct):
    events: list[Raw] | None = None


@lru_cache(1024)
def _template(method: str, route: str, base: str, agent: str | None) -> Template:
    attributes = {"http.request.method": method, "gen_ai.agent.name": agent, **server_attributes(base)}
    return Template(f"{method} {route}", "client", attributes)


class Server:
    """The server of one agent. ``record.remote``, or the end of the URL, is the agent's name there."""

    def __init__(self, record: Record, host: Host) -> None:
        self.record = record
        self.host = host
        self.base, named = split_url(record.url or "")
        self.named = record.remote or named
        self._own: list[tuple[str, str]] | None = None  # the agent's headers in the two that follow
        self._bodyless = self._body = Fixed(())

    def template(self, method: str, route: str, agent: str | None = None) -> Template:
        """Of the spans of such requests, and what they say of the agent."""
        return _template(method, route, self.base, agent)

    # --- what is there -----------------------------------------------------------------------

    async def describe(self) -> Sequence[Agent]:
        if self.named is not None:
            reply = await self.get(f"/agents/{quote(self.named, safe='')}")
            if reply.status == 404:
                raise BadUpstream(f"no agent {self.named!r} is there")
            return [self._agent(self.json(reply))]
        return await self._list()

    async def _list(self) -> list[Agent]:
        """All pages. The SDK's server does not page: it answers everything to every request."""
        found: dict[str, Agent] = {}
        for _ in range(MAX_PAGES):
            body = self.object(await self.get(f"/agents?limit={PAGE}&offset={len(found)}"))
            raw = body.get("agents")
            if not isinstance(raw, list):
                raise BadUpstream(f"{self.record.name}'s list of agents is not ACP's")
            page = [self._agent(a) for a in cast(list[Any], raw)]
            fresh = {a.name: a for a in page if a.name not in found}
            found |= fresh
            if len(page) != PAGE or not fresh:
                break
        return list(found.values())

    def _agent(self, raw: Any) -> Agent:
        try:
            return manifests.agent(raw)
        except InvalidRequest as e:
            raise BadUpstream(f"{self.record.name}'s manifest is not ACP's ({e.message})") from e

    async def remote(self) -> str:
        """The agent's name at the server. Raises ConfigError where several could be meant."""
        if self.named is None:
            names = [a.name for a in await self._list()]
            if len(names) != 1:
                there = ", ".join(sorted(names)) or "none"
                raise ConfigError(f"{self.record.name}: several agents could be meant, name one ({there})")
            self.named = names[0]
        return self.named

    # --- runs ------------------------------------------------------------------------------------

    async def must_await(self, run_id: str, trace: Trace) -> Json:
        """The Run, which waits for an answer. Raises NotActive if it does not."""
        run = self.object(await self.get(f"/runs/{quote(run_id, safe='')}", trace))
        status = run.get("status")
        if status != "awaiting":
            raise NotActive(f"the run does not wait for input: it is {status}")
        return run

    async def followed(self, path: str, trace: Trace) -> AsyncGenerator[list[Raw] | Raw]:
        """Looks at a run again and again, for as long as the caller listens: all its events, or the Run where
        the server keeps no events."""
        wait, longest = POLL
        keeps_log = True
        while True:
            reply = await self.get(f"{path}/events" if keeps_log else path, trace)
            if keeps_log and reply.status in (404, 405, 501):
                keeps_log = False
                continue
            self.object(reply)  # or it raises what is wrong
            yield _events_in(reply, self.record.name) if keeps_log else Raw(reply.body)
            await asyncio.sleep(wait)
            wait = min(wait * 2, longest)

    async def settled(self, run_id: str, trace: Trace) -> Reply:
        """The Run, once it has ended or waits for an answer."""
        wait, longest = POLL
        while True:
            await asyncio.sleep(wait)
            wait = min(wait * 2, longest)
            reply = await self.get(f"/runs/{quote(run_id, safe='')}", trace)
            status = self.object(reply).get("status")
            if isinstance(status, str) and status in SETTLED:
                return reply

    # --- HTTP --------------------------------------------------------------------------------

    def _headers(self, trace: Trace, *, body: bool) -> Headers:
        """Those of every request, with the agent's as they are now, and the trace's."""
        own = self.host.headers(self.record)
        if own is not self._own:
            self._bodyless, self._body = Fixed([*_BODYLESS, *own]), Fixed([*_BODY, *own])
            self._own = own
        return [self._body if body else self._bodyless, *trace_headers(trace)]

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        trace: Trace | None = None,
        timeout: float | None = DESCRIBE_TIMEOUT,
    ) -> Reply:
        """One request as it is; the answer with whatever status it has. ``timeout`` in seconds."""
        headers = self._headers(trace or Trace(), body=body is not None)
        url = self.base + path
        return await self.host.transport.request(method, url, headers=headers, body=body, timeout=timeout)

    def stream(
        self, method: str, path: str, body: bytes, trace: Trace, patience: Timer | None = None
    ) -> AbstractAsyncContextManager[Stream]:
        """The same, with the answer as it comes; ``patience``: see ``Transport``."""
        headers, url = self._headers(trace, body=True), self.base + path
        return self.host.transport.stream(method, url, headers=headers, body=body, patience=patience)

    def opened(self, path: str, body: bytes, trace: Trace) -> Coroutine[Any, Any, Stream]:
        """The same for a POST, to be closed by who gets it."""
        headers = self._headers(trace, body=True)
        return self.host.transport.opened("POST", self.base + path, headers=headers, body=body)

    async def get(self, path: str, trace: Trace | None = None) -> Reply:
        return await self.request("GET", path, trace=trace)

    def json(self, reply: Reply) -> Any:
        if reply.status >= 300:
            raise error_of(reply, self.record.name)
        try:
            return msgspec.json.decode(reply.body)
        except UNREADABLE as e:
            raise BadUpstream(f"{self.record.name}'s answer is not JSON", detail=str(e)) from e

    def object(self, reply: Reply) -> Json:
        body = self.json(reply)
        if not isinstance(body, dict):
            raise BadUpstream(f"{self.record.name}'s answer is not an object")
        return cast(Json, body)

    async def aclose(self) -> None:
        """Nothing is held: connections are the transport's."""


def error_of(reply: Reply, agent: str) -> GatewayError:
    """An HTTP error of an ACP server. Words of ``invalid_input``, ``not_found`` and their like pass; those of
    a crash (5xx, ``server_error``) do not."""
    try:
        error = as_error(msgspec.json.decode(reply.body))
    except UNREADABLE:
        error = None
    withheld = reply.body[:2000].decode("utf-8", "replace")
    native = {
        "protocol": "acp",
        "code": error.code if error else SERVER_ERROR,
        "status": reply.status,
    }
    if reply.status in (401, 403) and (error is None or error.code == SERVER_ERROR):
        return BadUpstream(f"{agent} refuses access (HTTP {reply.status})", native=native, detail=withheld)
    if reply.status >= 500:
        return UpstreamFailed(agent, native=native, detail=withheld)
    if error is None:
        return BadUpstream(f"{agent} answered with HTTP {reply.status}", native=native, detail=withheld)
    fault, _ = fault_of(error, agent)
    if fault.code == "upstream_failed":
        return UpstreamFailed(agent, native=native, detail=withheld)
    return AgentError(spoken(error.message), data=error.data, native=native)


def _events_in(reply: Reply, agent: str) -> list[Raw]:
    try:
        return msgspec.json.decode(reply.body, type=_Events).events or []
    except UNREADABLE as e:
        raise BadUpstream(f"{agent}'s list of events is not ACP's", detail=str(e)) from e


def turn_begin(events: Sequence[Raw]) -> int:
    """Where the last turn begins in a run's log: after the question that it answers."""
    kinds = [msgspec.json.decode(e, type=EventHead).type for e in events[:-1]]
    return len(kinds) - kinds[::-1].index("run.awaiting") if "run.awaiting" in kinds else 0
