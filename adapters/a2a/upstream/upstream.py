"""Calling agents that speak A2A, 1.0 or 0.3, over JSON-RPC or HTTP+JSON, as their card says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from uuid import uuid4

import msgspec

from ....gateway.errors import (
    AgentError,
    BadUpstream,
    GatewayError,
    NotActive,
    Unreachable,
    Unsupported,
    UpstreamTimeout,
)
from ....gateway.model import Agent, Event, InputReply, Invocation, Message, Record, TaskRef, Trace
from ....gateway.ports import Found, Host
from ....gateway.telemetry import Span, trace_headers
from ..card import Interface, agent_from
from ..codec import Malformed, object_at, task_from
from ..events import Item, Reader, item_from
from ..params import send_params
from ..problems import NOT_CANCELABLE, TASK_NOT_FOUND, UNSUPPORTED
from ..wire import CARD_PATH, V10, Json, Op, Version
from . import discovery, trust
from .channel import Channel, Params

NO_TRACE = Trace()
POLL_FIRST, POLL_MOST, POLL_GROWTH = 0.05, 2.0, 1.5  # seconds between looks at a task that still works


class A2AUpstream:
    """One registered A2A agent. The card is read on first use and on ``describe``."""

    def __init__(self, record: Record, host: Host) -> None:
        self._record = record
        self._host = host
        self._card: Json | None = None
        self._note = ""  # what the card's signature leaves to be said
        self._channel: Channel | None = None
        self._reading = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._record.name

    # --- the card ----------------------------------------------------------------------------

    async def describe(self) -> Sequence[Agent]:
        async with self._reading:
            await self._read()
        assert self._card is not None
        agent = agent_from(self._card)
        if self._note:
            agent = msgspec.structs.replace(agent, extra={**agent.extra, "agentgw": {"note": self._note}})
        return [agent]

    async def _read(self) -> None:
        record, host = self._record, self._host
        assert record.url is not None
        headers = host.headers(record)
        card = await discovery.fetch_card(record.name, record.url, headers, host)
        if card is None:
            raise BadUpstream(f"{record.name} has no agent card at {CARD_PATH}")
        if card != self._card or self._note:
            self._note = await trust.verify(record.name, card, record.url, headers, host)
        allow = host.config.outbound.allow
        interface, here = await discovery.choose(record.name, card, record.url, allow)
        self._card = card
        registered = Channel(record.name, interface, host.transport, headers)
        self._channel = registered if here else Channel(record.name, interface, host.transport, [], allow)

    async def _ready(self) -> Channel:
        if self._channel is None:
            async with self._reading:
                if self._channel is None:
                    await self._read()
        assert self._channel is not None
        return self._channel

    @property
    def streams(self) -> bool:
        """Whether the card says that the agent streams."""
        return ((self._card and object_at(self._card, "capabilities")) or {}).get("streaming") is True

    # --- turns -------------------------------------------------------------------------------

    def invoke(self, call: Invocation) -> AsyncIterator[Event]:
        return self._turn(
            call,
            msgspec.structs.replace(
                call.message, context_id=call.upstream_context, task_id=None, role="user"
            ),
        )

    def reply(self, task: TaskRef, call: Invocation, reply: InputReply) -> AsyncIterator[Event]:
        return self._turn(
            call,
            msgspec.structs.replace(
                reply.message,
                context_id=task.context_id or call.upstream_context,
                task_id=task.task_id,
                role="user",
            ),
        )

    async def _turn(self, call: Invocation, message: Message) -> AsyncGenerator[Event]:
        """Send, tell what comes, and look after the task until the turn is over."""
        version = (await self._ready()).interface.version
        if not message.message_id:
            message = msgspec.structs.replace(message, message_id=str(uuid4()))
        metadata = dict(call.metadata or {})
        if call.skill and "skill" not in metadata:
            metadata["skill"] = call.skill
        params = send_params(message, version, metadata=metadata or None)
        reader = Reader(self.name)
        if call.streaming and self.streams:
            source = self._streamed(params, version, call.trace)
        else:
            source = self._unary(Op.SEND, params, version, call.trace)
        try:
            async with aclosing(source) as items:
                async for item in items:
                    for event in reader.feed(item):
                        yield event
                    if reader.done:
                        return
        except (Unreachable, UpstreamTimeout):
            if not reader.task_id:  # a stream that breaks does not end its task
                raise
        if not reader.task_id:
            raise BadUpstream(f"{self.name} ended its answer without a result")
        async for event in self._followed(reader, version, call.trace):
            yield event

    async def _followed(self, reader: Reader, version: Version, trace: Trace) -> AsyncIterator[Event]:
        """Look at the task until it has ended or waits; how long that may take is the engine's business."""
        pause = POLL_FIRST
        while not reader.done:
            await asyncio.sleep(pause)
            pause = min(pause * POLL_GROWTH, POLL_MOST)
            async with aclosing(self._unary(Op.GET, {"id": reader.task_id}, version, trace)) as items:
                async for item in items:
                    for event in reader.feed(item):
                        yield event

    async def _unary(self, op: Op, params: Json, v: Version, trace: Trace) -> AsyncGenerator[Item]:
        result = await self.call(op, params, trace=trace)
        yield self._item(result, v) if op is Op.SEND else self._task(result, v)

    async def _streamed(self, params: Json, v: Version, trace: Trace) -> AsyncGenerator[Item]:
        async with aclosing(self.stream(Op.STREAM, params, trace=trace)) as results:
            async for result in results:
                yield self._item(result, v)

    def _item(self, result: msgspec.Raw, v: Version) -> Item:
        try:
            return item_from(msgspec.json.decode(result), v)
        except (Malformed, msgspec.DecodeError) as e:
            raise BadUpstream(f"{self.name} gave an answer that is not A2A", detail=str(e)) from e

    def _task(self, result: msgspec.Raw, v: Version) -> Item:
        try:
            return task_from(msgspec.json.decode(result), v)
        except (Malformed, msgspec.DecodeError) as e:
            raise BadUpstream(f"{self.name} gave an answer that is not A2A", detail=str(e)) from e

    async def cancel(self, task: TaskRef) -> None:
        try:
            await self.call(Op.CANCEL, {"id": task.task_id})
        except AgentError as e:
            code = (e.native or {}).get("code")
            if code in (NOT_CANCELABLE, TASK_NOT_FOUND):
                raise NotActive(e.message, native=e.native) from e
            if code == UNSUPPORTED:
                raise Unsupported(e.message, native=e.native) from e
            raise

    async def aclose(self) -> None:
        """The connections are the transport's."""

    # --- what the face of the same protocol uses to relay -----------------------------------

    async def interface(self) -> Interface:
        """The interface that calls go to. Its revision says in which form ``call`` and ``stream`` take
        parameters and give results (JSON-RPC's form, whatever the binding)."""
        return (await self._ready()).interface

    async def call(
        self, op: Op, params: Params, *, trace: Trace = NO_TRACE, extensions: str | None = None
    ) -> msgspec.Raw:
        """A unary operation, its result as it came."""
        channel = await self._ready()
        span = self._span(op, channel, trace)
        try:
            result = await channel.call(op, params, self._headers(channel, span, extensions))
        except GatewayError as e:
            span.end(e.code)
            raise
        except BaseException:
            span.end("canceled")
            raise
        span.end()
        return result

    async def stream(
        self, op: Op, params: Params, *, trace: Trace = NO_TRACE, extensions: str | None = None
    ) -> AsyncGenerator[msgspec.Raw]:
        """A streaming operation, its results as they come."""
        channel = await self._ready()
        span = self._span(op, channel, trace)
        error: str | None = None
        try:
            headers = self._headers(channel, span, extensions)
            async with aclosing(channel.stream(op, params, headers)) as results:
                async for result in results:
                    yield result
        except GatewayError as e:
            error = e.code
            raise
        finally:
            span.end(error)

    def _span(self, op: Op, channel: Channel, trace: Trace) -> Span:
        return self._host.tracer.start(
            op.value,
            "client",
            trace,
            {
                "a2a.method.name": op.value,
                "a2a.protocol.version": channel.interface.version,
                "gen_ai.agent.name": self.name,
                "agentgw.agent": self.name,
                "agentgw.agent_protocol": "a2a",
            },
        )

    def _headers(self, channel: Channel, span: Span, extensions: str | None) -> list[tuple[str, str]]:
        headers = trace_headers(span.trace)
        if extensions:
            old = channel.interface.version != V10
            headers.append(("x-a2a-extensions" if old else "a2a-extensions", extensions))
        return headers


async def probe(url: str, headers: list[tuple[str, str]], host: Host) -> Found | None:
    """Whether there is an A2A agent behind the URL."""
    if not url.startswith(("http://", "https://")):
        return None
    card = await discovery.found_at(url, headers, host)
    return None if card is None else Found(url=url, agents=(agent_from(card),))
