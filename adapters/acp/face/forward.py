"""Passing a request on to an agent that speaks ACP, and its answer back: at once, or event by event.

A stream that breaks is taken up again from the log that the agent's server keeps of the run. When the client
leaves, the reading goes on: the record must learn how the run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import msgspec

from ....gateway import sse
from ....gateway.errors import AgentError, GatewayError, Unreachable, UpstreamError
from ....gateway.http.request import ClientGone, EventStream
from ....gateway.limits import CallLimits, allowed
from ....gateway.model import Trace
from ....gateway.transport import Reply, Stream
from .. import rewrite
from ..upstream.hearing import events_in
from ..upstream.server import error_of, turn_begin
from ..upstream.upstream import ACPUpstream
from ..wire import JSON_TYPE, LAST_EVENTS, SETTLED, EventHead, Mode, RunHead
from .exchange import Exchange, Silence
from .large import passes
from .passage import Passage

Timeouts = tuple[float | None, float | None]
_head = msgspec.json.Decoder(RunHead)


async def forward(
    x: Exchange, upstream: ACPUpstream, path: str, body: bytes, mode: Mode, passage: Passage
) -> None:
    """Send ``body`` to the agent, and its answer to the client."""
    timeouts = x.request.timeouts
    limits = _limits(x, upstream, timeouts, x.task, renewing=mode == "stream")
    x.house.waiting.add(limits.end)
    try:
        with Hop(x, upstream, "POST", path if path == "/runs" else "/runs/{run_id}") as trace:
            if mode == "stream":
                await _streamed(x, upstream, path, body, trace, passage, limits)
                _follow_on(x, upstream, passage, timeouts)
                return
            with limits:
                answer = await upstream.opened(path, body, trace)
                try:
                    said = answer.whole()
                    if said is None:
                        if await passes(answer, x, passage, limits):
                            return
                        said = await answer.read()
                finally:
                    answer.close()
                reply = Reply(answer.status, answer.headers, said)
                run = passage.run(answered(reply, passage.agent))
                settled = passage.status in SETTLED
                if mode == "sync" and not settled:
                    # A run that still works is no answer.
                    reply = await upstream.settled(passage.run_id, trace)
                    run = passage.run(answered(reply, passage.agent))
    except GatewayError:
        _follow_on(x, upstream, passage, timeouts)
        raise
    finally:
        x.house.waiting.discard(limits.end)
        limits.close()
    await x.run(202 if reply.status == 202 else 200, run, passage.run_id)
    _follow_on(x, upstream, passage, timeouts)


def _follow_on(x: Exchange, upstream: ACPUpstream, passage: Passage, timeouts: Timeouts) -> None:
    """Follow a run that the client hears no more of, if it still works."""
    if passage.status and passage.status not in SETTLED:
        x.house.background(passage.run_id, follow(x, upstream, passage, timeouts))


def _limits(
    x: Exchange,
    upstream: ACPUpstream,
    timeouts: Timeouts,
    task: asyncio.Task[Any] | None = None,
    *,
    renewing: bool = False,
) -> CallLimits:
    """``timeouts``: see ``Request``. ``task``: the one that waits, if it is known. ``renewing``: whether
    signs of life can be seen; else only the total counts."""
    record, configured = upstream.record, upstream.host.config.limits
    idle, total = allowed(record, configured, timeouts)
    return CallLimits(x.house.timers, record.name, idle if renewing else None, total, task)


async def follow(x: Exchange, upstream: ACPUpstream, passage: Passage, timeouts: Timeouts) -> None:
    """Ask after a run that nobody reads until it has settled, for the record, and for whoever watches it
    through another door. An agent that fails meanwhile is asked again; what it says no to is not."""
    limits = _limits(x, upstream, timeouts)
    try:
        with contextlib.suppress(GatewayError), limits:
            while passage.status not in SETTLED:
                try:
                    passage.run((await upstream.settled(passage.run_id, x.span.trace)).body)
                except UpstreamError as e:
                    if isinstance(e, AgentError):
                        raise
    finally:
        limits.close()


def answered(reply: Reply, agent: str) -> bytes:
    """An answer's body. Raises what an error status means."""
    if reply.status >= 300:
        raise error_of(reply, agent)
    return reply.body


class Hop:
    """The client span of one request to the agent; gives the context to send along. (A generator's block
    would cost as much as the span.)"""

    __slots__ = ("_span",)

    def __init__(self, x: Exchange, upstream: ACPUpstream, method: str, route: str) -> None:
        self._span = x.engine.tracer.start(upstream.template(method, route), x.span.trace)

    def __enter__(self) -> Trace:
        return self._span.trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._span.end()
        else:
            self._span.end(error.code if isinstance(error, GatewayError) else "canceled")


async def _streamed(
    x: Exchange,
    upstream: ACPUpstream,
    path: str,
    body: bytes,
    trace: Trace,
    passage: Passage,
    limits: CallLimits,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        with limits:
            stream = await stack.enter_async_context(upstream.stream("POST", path, body, trace))
        if stream.status >= 300:
            with limits:
                refusal = await stream.read()
            raise error_of(Reply(stream.status, stream.headers, refusal), passage.agent)
        passage.run_id = passage.run_id or stream.header("run-id") or ""
        whole: bytes | None = None
        if (stream.header("content-type") or "").startswith(JSON_TYPE):
            with limits:
                whole = await stream.read()
            passage.run(whole)
        out = await stack.enter_async_context(x.streaming(passage.run_id or None))
        limits.timed += (Silence(out, x.house.timers).timed,)
        turn = _Turn(out, passage, limits, x.engine.config.limits.body)
        if whole is None:
            ended = await turn.copy(stream)
        else:  # a Run in place of a stream is its last event, unless it still works
            ended = passage.status in SETTLED and await turn.give([_event_of(whole)])
        if not ended:
            await turn.resume(upstream, trace)


class _Turn:
    """The events of one turn on their way to the client, up to the last one. ``largest``: bytes of one."""

    def __init__(self, out: EventStream, passage: Passage, limits: CallLimits, largest: int) -> None:
        self._out = out
        self._largest = largest
        self._passage = passage
        self._limits = limits
        self._seen = 0

    async def give(self, events: Sequence[bytes | msgspec.Raw]) -> bool:
        """Give events to the client, who may have left; whether the turn has ended."""
        passed: list[bytes] = []
        try:
            for raw in events:
                self._seen += 1
                kind, data = self._passage.event(bytes(raw))
                passed.append(sse.encode(data))
                if kind in LAST_EVENTS:
                    return True
            return False
        finally:
            if passed:
                with contextlib.suppress(ClientGone):
                    await self._out.write(b"".join(passed))

    async def copy(self, stream: Stream) -> bool:
        """Give what the agent streams; whether the turn has ended, or the stream broke and the run may go
        on."""
        reader, chunks = sse.Decoder(self._largest), stream.chunks()
        stream.offer(
            sse.taker(reader, lambda data: data if rewrite.only_passes(data) else None, self._passed)
        )
        try:
            while True:
                with self._limits:
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return False
                events = events_in(reader, chunk, self._passage.agent)
                if await self.give([item.data for item in events]):
                    stream.settle()
                    return True
        except Unreachable:
            return False

    def _passed(self, events: Sequence[bytes]) -> bool:
        """Give to the client at once what says nothing but content; whether it did."""
        if not self._out.write_now(sse.together(events)):
            return False
        self._seen += len(events)
        self._limits.renew()
        return True

    async def resume(self, upstream: ACPUpstream, trace: Trace) -> None:
        """Go on from the log that the agent's server keeps of the run, or, where it keeps none, with the Run
        once it has settled. Raises Unreachable where nobody knows the run's id."""
        if not self._passage.run_id:
            raise Unreachable(f"the connection to {self._passage.agent} broke; the run may go on")
        followed = upstream.followed(f"/runs/{quote(self._passage.run_id, safe='')}", trace)
        async with contextlib.aclosing(followed):
            while True:
                with self._limits:
                    fresh = await self._fresh(followed)
                if await self.give(fresh):
                    return

    async def _fresh(
        self, followed: AsyncGenerator[list[msgspec.Raw] | msgspec.Raw]
    ) -> Sequence[bytes | msgspec.Raw]:
        """Looks at the run until it has news."""
        async for found in followed:
            if isinstance(found, list):
                if fresh := found[turn_begin(found) + self._seen :]:
                    return fresh
            elif self._passage.run(bytes(found)) and self._passage.status in SETTLED:
                return [_event_of(found)]
        raise AssertionError("it never ends")


def _event_of(run: bytes | msgspec.Raw) -> bytes:
    """The event that says what a Run says."""
    head = _head.decode(run)
    return msgspec.json.encode(EventHead(type=f"run.{head.status}", run=msgspec.Raw(run)))
