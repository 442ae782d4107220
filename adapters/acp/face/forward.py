"""Passing a request on to an agent that speaks ACP, and its answer back: at once, or event by event.

A stream that breaks is taken up again from the log that the agent's server keeps of the run. When the client
leaves, the reading goes on: the record must learn how the run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from urllib.parse import quote

import msgspec

from ....gateway import sse
from ....gateway.errors import GatewayError, Unreachable, UpstreamTimeout
from ....gateway.http.request import ClientGone
from ....gateway.model import Trace
from ....gateway.telemetry import Attribute
from ....gateway.transport import Reply, Stream
from ..upstream.server import error_of, turn_begin
from ..upstream.upstream import ACPUpstream
from ..wire import JSON_TYPE, LAST_EVENTS, SETTLED, EventHead, Mode, RunHead
from .exchange import Exchange, live
from .passage import Passage


class Limits:
    """How long one call may take: ``idle`` seconds without a sign of life, ``total`` in all. The caller may
    grant less than the agent is allowed. ``agent``: its name, for the error."""

    def __init__(self, x: Exchange, upstream: ACPUpstream) -> None:
        idle, total = x.request.timeouts
        self._idle = min(upstream.idle_timeout, idle or upstream.idle_timeout)
        self.total = min(upstream.total_timeout, total or upstream.total_timeout)
        self._agent = upstream.record.name
        self._end = asyncio.get_running_loop().time() + self.total

    @contextlib.asynccontextmanager
    async def waiting(self, *, idle: bool = True) -> AsyncGenerator[None]:
        """For the next sign of life. Raises UpstreamTimeout."""
        now = asyncio.get_running_loop().time()
        until = min(now + self._idle, self._end) if idle else self._end
        try:
            async with asyncio.timeout_at(until):
                yield
        except TimeoutError:
            limit = "total_timeout" if until == self._end else "idle_timeout"
            raise UpstreamTimeout(f"{self._agent} did not answer in time", data={"limit": limit}) from None


async def forward(
    x: Exchange, upstream: ACPUpstream, path: str, body: bytes, mode: Mode, passage: Passage
) -> None:
    """Send ``body`` to the agent, and its answer to the client."""
    limits = Limits(x, upstream)
    with hop(x, upstream, f"POST {path if path == '/runs' else '/runs/{run_id}'}") as trace:
        if mode == "stream":
            await _streamed(x, upstream, path, body, trace, passage, limits)
            return
        async with limits.waiting(idle=False):
            reply = await upstream.request("POST", path, body, trace=trace, timeout=None)
            run = passage.run(answered(reply, passage.agent))
            status = msgspec.json.decode(run, type=RunHead).status
            if mode == "sync" and status not in SETTLED:
                # A run that still works is no answer.
                reply = await upstream.settled(passage.run_id, trace)
                run = passage.run(answered(reply, passage.agent))
    await x.run(reply.status, run, passage.run_id)
    if mode == "async" and status not in SETTLED:
        x.background(passage.run_id, follow(x, upstream, passage))


async def follow(x: Exchange, upstream: ACPUpstream, passage: Passage) -> None:
    """Ask after a run that nobody reads until it has settled, for the record, and for whoever watches it
    through another door."""
    with contextlib.suppress(GatewayError):
        async with Limits(x, upstream).waiting(idle=False):
            reply = await upstream.settled(passage.run_id, x.span.trace)
        passage.run(reply.body)


def answered(reply: Reply, agent: str) -> bytes:
    """An answer's body. Raises what an error status means."""
    if reply.status >= 300:
        raise error_of(reply, agent)
    return reply.body


@contextlib.contextmanager
def hop(x: Exchange, upstream: ACPUpstream, name: str) -> Generator[Trace]:
    """The client span of one request to the agent; yields the context to send along."""
    attributes: dict[str, Attribute] = {"http.request.method": name.partition(" ")[0], **upstream.address}
    span = x.engine.tracer.start(name, "client", x.span.trace, attributes)
    error: str | None = "canceled"
    try:
        yield span.trace
        error = None
    except GatewayError as e:
        error = e.code
        raise
    finally:
        span.end(error)


async def _streamed(
    x: Exchange,
    upstream: ACPUpstream,
    path: str,
    body: bytes,
    trace: Trace,
    passage: Passage,
    limits: Limits,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with limits.waiting():
            stream = await stack.enter_async_context(upstream.stream("POST", path, body, trace))
        if stream.status >= 300:
            raise error_of(Reply(stream.status, stream.headers, await stream.read()), passage.agent)
        passage.run_id = passage.run_id or stream.header("run-id") or ""
        whole: bytes | None = None
        if (stream.header("content-type") or "").startswith(JSON_TYPE):
            async with limits.waiting():
                whole = await stream.read()
            passage.run(whole)
        out = await stack.enter_async_context(x.streaming(passage.run_id or None))
        items = await stack.enter_async_context(
            contextlib.aclosing(_events(upstream, _read(stream, whole, limits), trace, passage, limits))
        )
        async for data in live(items, out, stay=True):
            with contextlib.suppress(ClientGone):
                await out.send(data)


async def _events(
    upstream: ACPUpstream,
    first: AsyncGenerator[bytes],
    trace: Trace,
    passage: Passage,
    limits: Limits,
) -> AsyncGenerator[bytes]:
    """All events of a turn, as the client gets them, up to the last one."""
    seen = 0
    try:
        async with contextlib.aclosing(first) as items:
            async for raw in items:
                seen += 1
                kind, data = passage.event(raw)
                yield data
                if kind in LAST_EVENTS:
                    return
    except Unreachable:
        pass  # the connection broke; the run may go on
    if not passage.run_id:
        raise Unreachable(f"the connection to {passage.agent} broke; the run may go on")
    followed = upstream.followed(f"/runs/{quote(passage.run_id, safe='')}", trace)
    async with contextlib.aclosing(followed):
        while True:
            async with limits.waiting():
                fresh, seen = await _fresh(followed, seen)
            for raw in fresh:
                kind, data = passage.event(raw)
                yield data
                if kind in LAST_EVENTS:
                    return


async def _read(stream: Stream, whole: bytes | None, limits: Limits) -> AsyncGenerator[bytes]:
    """The events of an answer. A Run in place of a stream is its last event, unless it still works."""
    if whole is not None:
        if msgspec.json.decode(whole, type=RunHead).status in SETTLED:
            yield _event_of(whole)
        return
    reader = sse.Decoder()
    chunks = stream.chunks()
    while True:
        async with limits.waiting():
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        for item in reader.feed(chunk):
            yield item.data


async def _fresh(
    followed: AsyncGenerator[list[msgspec.Raw] | msgspec.Raw], seen: int
) -> tuple[list[bytes], int]:
    """Looks at the run until it has events after the first ``seen`` of its turn, or, where the server keeps
    none, until it has settled."""
    async for found in followed:
        if isinstance(found, list):
            fresh = found[turn_begin(found) + seen :]
            if fresh:
                return [bytes(raw) for raw in fresh], seen + len(fresh)
        elif msgspec.json.decode(found, type=RunHead).status in SETTLED:
            return [_event_of(found)], seen
    raise AssertionError("it never ends")


def _event_of(run: bytes | msgspec.Raw) -> bytes:
    """The event that says what a Run says."""
    head = msgspec.json.decode(run, type=RunHead)
    return msgspec.json.encode(EventHead(type=f"run.{head.status}", run=msgspec.Raw(run)))
