"""Calling an agent that speaks ACP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit

import msgspec

from ....gateway import sse
from ....gateway.errors import (
    AgentError,
    BadUpstream,
    ConfigError,
    GatewayError,
    InvalidRequest,
    NotActive,
    Unreachable,
    Unsupported,
    UpstreamFailed,
)
from ....gateway.model import Agent, Event, InputReply, Invocation, Record, TaskRef, Trace
from ....gateway.ports import Host
from ....gateway.telemetry import Span, trace_headers
from ....gateway.transport import Reply, Stream
from .. import codec, manifests
from ..decoding import RunDecoder
from ..encoding import as_uuid, is_uuid
from ..faults import as_error, fault_of, spoken
from ..wire import JSON_TYPE, PAGE, SERVER_ERROR, SSE_TYPE, Json

log = logging.getLogger("agentgw.acp")

DESCRIBE_TIMEOUT = 10.0  # seconds
POLL = (0.5, 5.0)  # seconds between looks at a run whose stream broke: first, and at most


def split_url(url: str) -> tuple[str, str | None]:
    """The server's base URL, and the agent that the URL names: ``…/agents/{name}``."""
    base = url.rstrip("/")
    head, _, name = base.rpartition("/agents/")
    return (head, unquote(name)) if head and name and "/" not in name else (base, None)


def session_id(principal: str, context_id: str) -> str:
    """What ACP servers know a conversation by.

    A UUID goes through as it is for callers without a key. Ids of callers with one are told apart: nobody
    enters another's session by choosing its id.
    """
    return as_uuid(context_id, "" if principal == "anonymous" else principal)


class ACPUpstream:
    """One agent at an ACP server. ``record.remote``, or the end of the URL, is its name there."""

    def __init__(self, record: Record, host: Host) -> None:
        self._record = record
        self._host = host
        self.base, named = split_url(record.url or "")
        self._remote = record.remote or named
        server = urlsplit(self.base)
        port = server.port or (443 if server.scheme == "https" else 80)
        self.server = {"server.address": server.hostname or "", "server.port": port}

    @property
    def idle_timeout(self) -> float:
        """Seconds without a sign of life."""
        return self._record.idle_timeout or self._host.config.limits.idle_timeout

    @property
    def total_timeout(self) -> float:
        """Seconds for a whole answer."""
        return self._record.total_timeout or self._host.config.limits.total_timeout

    # --- what is there -----------------------------------------------------------------------

    async def describe(self) -> Sequence[Agent]:
        if self._remote is not None:
            reply = await self._get(f"/agents/{quote(self._remote, safe='')}")
            if reply.status == 404:
                raise BadUpstream(f"no agent {self._remote!r} is there")
            return [self._agent(self._json(reply))]
        return await self._list()

    async def _list(self) -> list[Agent]:
        """All pages. The SDK's server does not page: it answers everything to every request."""
        found: dict[str, Agent] = {}
        while True:
            body = self._json(await self._get(f"/agents?limit={PAGE}&offset={len(found)}"))
            raw = cast(Json, body).get("agents") if isinstance(body, dict) else None
            if not isinstance(raw, list):
                raise BadUpstream("its list of agents is not ACP's")
            page = [self._agent(a) for a in cast(list[Any], raw)]
            fresh = {a.name: a for a in page if a.name not in found}
            found |= fresh
            if len(page) != PAGE or not fresh:
                return list(found.values())

    def _agent(self, raw: Any) -> Agent:
        try:
            return manifests.agent(raw)
        except InvalidRequest as e:
            raise BadUpstream(f"its manifest is not ACP's ({e.message})") from e

    async def remote(self) -> str:
        """The agent's name at the server. Raises ConfigError where several could be meant."""
        if self._remote is None:
            names = [a.name for a in await self._list()]
            if len(names) != 1:
                there = ", ".join(sorted(names)) or "none"
                raise ConfigError(f"{self._record.name}: several agents could be meant, name one ({there})")
            self._remote = names[0]
        return self._remote

    # --- calls -------------------------------------------------------------------------------

    async def invoke(self, call: Invocation) -> AsyncIterator[Event]:
        known = call.upstream_context
        if known is None or known == call.context_id or not is_uuid(known):
            known = session_id(call.principal.id, call.context_id or "")
        body: Json = {
            "agent_name": await self.remote(),
            "input": codec.input_json(call.message),
            "session_id": known,
            "mode": "stream" if call.streaming else "sync",
        }
        turn = self._turn("/runs", body, call, RunDecoder(self._record.name))
        async with contextlib.aclosing(turn) as events:
            async for event in events:
                yield event

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply) -> AsyncIterator[Event]:
        path = f"/runs/{quote(task.task_id, safe='')}"
        # The SDK's server never answers the resumption of a run that does not wait.
        await self.must_await(task.task_id, call.trace)
        answer = codec.message_json(reply.message)
        body: Json = {"await_resume": {"type": "message", "message": answer}, "mode": "stream"}
        decoder = RunDecoder(self._record.name, resumed=True)
        async with contextlib.aclosing(self._turn(path, body, call, decoder)) as events:
            async for event in events:
                yield event

    async def must_await(self, run_id: str, trace: Trace) -> None:
        """Raises NotActive unless the run waits for an answer."""
        run = self._json(await self._get(f"/runs/{quote(run_id, safe='')}", trace))
        status = cast(Json, run).get("status") if isinstance(run, dict) else None
        if status != "awaiting":
            raise NotActive(f"the run does not wait for input: it is {status}")

    async def cancel(self, task: TaskRef) -> None:
        reply = await self.request("POST", f"/runs/{quote(task.task_id, safe='')}/cancel")
        if reply.status in (403, 404):
            raise NotActive("the run has ended or is not known any more")
        if reply.status in (405, 501):
            raise Unsupported("the agent can't cancel runs")
        self._json(reply)

    async def _turn(
        self, path: str, body: Json, call: Invocation, decoder: RunDecoder
    ) -> AsyncGenerator[Event]:
        span = self._host.tracer.start(
            f"POST {path if path == '/runs' else '/runs/{run_id}'}",
            "client",
            call.trace,
            {"http.request.method": "POST", "gen_ai.agent.name": self._remote or "", **self.server},
        )
        error: str | None = "canceled"  # unless it comes to an end: the caller may stop listening
        try:
            async for event in self._events(path, msgspec.json.encode(body), span, decoder):
                yield event
        except GatewayError as e:
            error = e.code
            raise
        finally:
            if decoder.ended:
                error = "agent_error" if decoder.status == "failed" else None
            span.set("acp.run.id", decoder.run_id)
            span.set("acp.run.status", decoder.status or None)
            span.set("gen_ai.conversation.id", decoder.session_id)
            span.end(error)

    async def _events(self, path: str, body: bytes, span: Span, decoder: RunDecoder) -> AsyncGenerator[Event]:
        try:
            async with self.stream("POST", path, body, span.trace) as stream:
                if stream.status >= 300 or (stream.header("content-type") or "").startswith(JSON_TYPE):
                    reply = Reply(stream.status, stream.headers, await stream.read())
                    for event in decoder.whole(cast(Json, self._json(reply))):
                        yield event
                else:
                    async for event in self._streamed(stream, decoder):
                        yield event
            if decoder.ended:
                return
            if decoder.run_id is None:
                raise BadUpstream(f"{self._record.name} ended its answer without a run")
        except InvalidRequest as e:
            raise BadUpstream(f"{self._record.name} sent what is not ACP ({e.message})") from e
        except Unreachable:
            if decoder.run_id is None:
                raise
        async for event in self._recovered(decoder, span.trace):
            yield event

    async def _streamed(self, stream: Stream, decoder: RunDecoder) -> AsyncGenerator[Event]:
        reader = sse.Decoder()
        async for chunk in stream.chunks():
            for item in reader.feed(chunk):
                for event in decoder.feed(_object(item.data, self._record.name)):
                    yield event
                if decoder.ended:
                    return

    async def _recovered(self, decoder: RunDecoder, trace: Trace) -> AsyncGenerator[Event]:
        """Go on with a run whose stream broke, from the log that the server keeps of it.

        The caller's idle limit bounds the wait; a server that does not know the run any more is an error.
        """
        path = f"/runs/{quote(decoder.run_id or '', safe='')}/events"
        wait, longest = POLL
        while True:
            body = self._json(await self._get(path, trace))
            raw = cast(Json, body).get("events") if isinstance(body, dict) else None
            events = cast(list[Json], raw) if isinstance(raw, list) else []
            for item in events[_turn_begin(events) + decoder.seen :]:
                for event in decoder.feed(item):
                    yield event
                if decoder.ended:
                    return
            await asyncio.sleep(wait)
            wait = min(wait * 2, longest)

    # --- HTTP --------------------------------------------------------------------------------

    def _headers(self, trace: Trace, *, body: bool) -> list[tuple[str, str]]:
        # FastAPI refuses JSON without a content type.
        own = [("accept", f"{JSON_TYPE}, {SSE_TYPE}"), *([("content-type", JSON_TYPE)] if body else [])]
        return [*own, *trace_headers(trace), *self._host.headers(self._record)]

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
        return await self._host.transport.request(method, url, headers=headers, body=body, timeout=timeout)

    def stream(
        self, method: str, path: str, body: bytes, trace: Trace
    ) -> AbstractAsyncContextManager[Stream]:
        """The same, with the answer as it comes."""
        headers = self._headers(trace, body=True)
        return self._host.transport.stream(method, self.base + path, headers=headers, body=body)

    async def _get(self, path: str, trace: Trace | None = None) -> Reply:
        return await self.request("GET", path, trace=trace)

    def _json(self, reply: Reply) -> Any:
        if reply.status >= 300:
            raise error_of(reply, self._record.name)
        try:
            return msgspec.json.decode(reply.body)
        except (msgspec.DecodeError, RecursionError) as e:
            raise BadUpstream("its answer is not JSON", detail=str(e)) from e

    async def aclose(self) -> None:
        """Nothing is held: connections are the transport's."""


def error_of(reply: Reply, agent: str) -> GatewayError:
    """An HTTP error of an ACP server. Words of ``invalid_input``, ``not_found`` and their like pass; those of
    a crash (5xx, ``server_error``) do not."""
    try:
        error = as_error(msgspec.json.decode(reply.body))
    except (msgspec.DecodeError, RecursionError):
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


def _object(data: bytes, agent: str) -> Json:
    try:
        value: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as e:
        raise BadUpstream(f"{agent} sent an event that is not JSON", detail=str(e)) from e
    if not isinstance(value, dict):
        raise BadUpstream(f"{agent} sent an event that is not an object")
    return cast(Json, value)


def _turn_begin(events: Sequence[Json]) -> int:
    """Where the last turn begins in a run's log: after the question that it answers."""
    asked = [i for i, e in enumerate(events[:-1]) if e.get("type") == "run.awaiting"]
    return asked[-1] + 1 if asked else 0
