"""Calling agents that speak A2A, 1.0 or 0.3, over JSON-RPC, HTTP+JSON or gRPC, as their card says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Collection, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from ....gateway.errors import (
    AgentError,
    BadUpstream,
    GatewayError,
    NotActive,
    UnknownSkill,
    UnknownTask,
    Unreachable,
    Unsupported,
    UpstreamTimeout,
)
from ....gateway.ids import new_id
from ....gateway.model import (
    Agent,
    ArtifactDelta,
    Data,
    InputReply,
    Invocation,
    Message,
    Place,
    Record,
    Task,
    TaskRef,
    Trace,
)
from ....gateway.ports import Credentialed, Found, Host, Tell
from ....gateway.reach import Guard
from ....gateway.readable import UNREADABLE
from ....gateway.telemetry import Span, Template, server_attributes, trace_headers
from ..card import Interface, agent_from
from ..codec import Malformed, object_at, objects_at, text_at
from ..events import Item, Update, is_settled
from ..growth import piece_reader, place_at
from ..losses import of_message
from ..params import send_params
from ..plain import item_at, task_at
from ..problems import NOT_CANCELABLE, TASK_NOT_FOUND, UNSUPPORTED
from ..reader import Reader
from ..wire import CARD_PATH, V10, Json, Op, Version
from . import discovery, trust
from .channel import Activated, Channel, Headers, OnLarge, Params, Taker, Way

if TYPE_CHECKING:
    from ..grpc.channel import GrpcChannel

NO_TRACE = Trace()
POLL_FIRST, POLL_MOST, POLL_GROWTH = 0.05, 2.0, 1.5  # seconds between looks at a task that still works
REJOINS = 8  # times that the connection may break in a row: about ten seconds


class A2AUpstream:
    """One registered A2A agent. The card is read on first use and on ``describe``."""

    def __init__(self, record: Record, host: Host) -> None:
        self._record = record
        self._host = host
        self._fetched: discovery.Fetched | None = None  # the card, once all of it has been heeded
        self._card: Json | None = None
        self._agent: Agent | None = None  # what the card says
        self._note = ""  # what the card's signature leaves to be said
        self._channel: Way | None = None
        self._here = True  # whether that leads to the registered origin
        self.streams = False  # whether the card says that the agent streams
        self.required_extensions: Sequence[str] = ()  # those that the card says a client must support
        self._over_grpc: GrpcChannel | None = None
        self._reading = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._record.name

    # --- the card ----------------------------------------------------------------------------

    async def describe(self) -> Sequence[Agent]:
        async with self._reading:
            await self._read()
        assert self._card is not None and self._channel is not None
        await self._channel.reach()
        agent = self._agent = self._agent or agent_from(self._card)
        if self._note:
            agent = msgspec.structs.replace(agent, extra={**agent.extra, "agentgw": {"note": self._note}})
        return [agent]

    async def _read(self) -> None:
        record, host = self._record, self._host
        assert record.url is not None
        headers = host.headers(record)
        before, self._fetched = self._fetched, None
        found = await discovery.fetch_card(record.name, record.url, headers, host, before)
        if found is None:
            raise BadUpstream(f"{record.name} has no agent card at {CARD_PATH}")
        if found is before and self._channel is not None:
            self._fetched = before
            return
        card = found.card
        if card != self._card or self._note:
            self._note = await trust.verify(record.name, card, record.url, headers, host)
        allow = host.config.outbound.allow
        interface, self._here = await discovery.choose(record.name, card, record.url, allow)
        self._channel = self._opened(interface)
        self._card, self._agent = card, None
        try:
            self._heed(object_at(card, "capabilities") or {})
        except Malformed as e:
            raise BadUpstream(f"{record.name}'s agent card is not A2A's: {e}") from e
        if self._here and not self._note:  # else it is looked into each time
            self._fetched = found

    def _heed(self, capabilities: Json) -> None:
        """Raises Malformed."""
        self.streams = capabilities.get("streaming") is True
        required = [e for e in objects_at(capabilities, "extensions") if e.get("required") is True]
        self.required_extensions = [uri for e in required if (uri := text_at(e, "uri"))]

    def rebound(self) -> None:
        """See ``ports.Bounded``. Calls under way go on as they began."""
        if self._channel is not None:
            self._channel = self._opened(self._channel.interface)

    def _opened(self, interface: Interface) -> Way:
        """A way to the agent; over gRPC the one that is open, while it is the same. An interface that lies
        elsewhere gets no credentials."""
        host, limits = self._host, self._host.config.limits
        allow = None if self._here else host.config.outbound.allow
        credentials = self._credentials if allow is None else _no_credentials
        host.breaker.minds(transport=interface.binding != "GRPC")
        if interface.binding != "GRPC":
            return Channel(self.name, interface, host.transport, credentials, allow, limits.body)
        from ..grpc.optional import grpc

        grpc()  # raises ConfigError that says what to install
        from ..grpc.channel import GrpcChannel

        before = self._over_grpc
        if before is not None:
            if before.interface == interface and before.bounds == (limits, allow):
                return before
            before.close()
        tokens = host.transport if allow is None and isinstance(host.transport, Credentialed) else None
        guard = Guard(self.name, host.breaker, limits.per_agent)
        opened = GrpcChannel(self.name, interface, credentials, limits, guard, allow, tokens)
        self._over_grpc = opened
        return opened

    def _credentials(self) -> Headers:
        return self._host.headers(self._record)

    async def _ready(self) -> Way:
        if self._channel is None:
            async with self._reading:
                if self._channel is None:
                    await self._read()
        assert self._channel is not None
        return self._channel

    # --- turns -------------------------------------------------------------------------------

    async def invoke(self, call: Invocation, tell: Tell) -> None:
        message = msgspec.structs.replace(
            call.message,
            message_id=call.message.message_id or new_id(),
            context_id=call.upstream_context,
            task_id=None,
            role="user",
        )
        await self._turn(call, message, tell)

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply, tell: Tell) -> None:
        """A refusal is the data part ``{"action": "decline"}`` (or ``cancel``): A2A has no word for one."""
        parts = reply.message.parts
        if reply.action != "accept" and not any(isinstance(p, Data) for p in parts):
            parts = (Data(data={"action": reply.action}), *parts)
        message = msgspec.structs.replace(
            reply.message,
            parts=parts,
            message_id=reply.message.message_id or new_id(),
            context_id=task.context_id or call.upstream_context,
            task_id=task.task_id,
            role="user",
        )
        await self._turn(call, message, tell)

    async def _turn(self, call: Invocation, message: Message, tell: Tell) -> None:
        """Send, tell what comes, and look after the task until the turn is over."""
        version = (await self._ready()).interface.version
        if call.skill and not message.task_id:
            self._check_skill(call.skill)
        reader = Reader(self.name)
        try:
            await self._send(call, message, version, reader, tell)
        except (Unreachable, UpstreamTimeout):
            if not reader.task_id:  # a stream that breaks does not end its task
                raise
        if reader.done:
            return
        if not reader.task_id:
            raise BadUpstream(f"{self.name} ended its answer without a result")
        async with aclosing(self.rejoined(reader.task_id, call.trace)) as items:
            async for item in items:
                if (events := reader.feed(item)) and (room := tell(*events)) is not None:
                    await room

    def _check_skill(self, skill: str) -> None:
        """Raises UnknownSkill. A card that has an extended form need not name all skills."""
        card = self._card or {}
        capabilities = object_at(card, "capabilities") or {}
        extended = capabilities.get("extendedAgentCard"), card.get("supportsAuthenticatedExtendedCard")
        names = {text_at(s, key) for s in objects_at(card, "skills") for key in ("id", "name")} - {None}
        if names and skill not in names and True not in extended:
            ids = ", ".join(text_at(s, "id") or "" for s in objects_at(card, "skills"))
            raise UnknownSkill(f"{self.name} has no skill {skill!r}; it has: {ids}"[:1000])

    async def _send(self, call: Invocation, message: Message, v: Version, reader: Reader, tell: Tell) -> None:
        """Send a message; tell what the agent says at once, or as long as it streams."""
        metadata = dict(call.metadata or {})
        if call.skill and "skill" not in metadata:
            metadata["skill"] = call.skill
        modes = tuple(call.extra.get("a2a", {}).get("acceptedOutputModes", ()))
        params = send_params(message, v, metadata=metadata or None, modes=modes)
        losses = of_message(message)
        if not (call.streaming and self.streams):
            result = await self.call(Op.SEND, params, trace=call.trace, losses=losses)
            if events := reader.feed(self.item(result, v)):
                tell(*events)
            return
        room: Awaitable[None] | None = None

        def take(events: list[ArtifactDelta]) -> bool:
            nonlocal room
            if room is not None or not reader.task_id or reader.done:
                return False
            for event in events:
                reader.piece(event)
            room = tell(*events)
            return True

        def more(text: str, place: Place) -> bool:
            nonlocal room
            if room is not None or not reader.task_id or reader.done or not reader.more(text, place):
                return False
            room = tell.more(text, place)
            return True

        stream = self.stream(
            Op.STREAM,
            params,
            trace=call.trace,
            losses=losses,
            taker=Taker(piece_reader(), take, place_at, more) if v == V10 else None,
        )
        async with aclosing(stream) as results:
            async for result in results:
                if room is not None:
                    await room
                    room = None
                if (events := reader.feed(self.item(result, v))) and (full := tell(*events)) is not None:
                    await full
                if reader.done:
                    return

    async def rejoin(
        self, task: TaskRef, known: Task, trace: Trace, tell: Tell, *, follow: bool = True
    ) -> None:
        """Implements ``ports.Rejoins``."""
        reader = Reader(self.name, known)
        try:
            if not follow:
                version = (await self._ready()).interface.version
                tell(*reader.feed(await self._snapshot(task.task_id, version, trace)))
                return
            async with aclosing(self.rejoined(task.task_id, trace)) as items:
                async for item in items:
                    if (events := reader.feed(item)) and (room := tell(*events)) is not None:
                        await room
        except AgentError as e:
            if (e.native or {}).get("code") != TASK_NOT_FOUND:
                raise
            raise UnknownTask(task.task_id) from e

    async def rejoined(self, task_id: str, trace: Trace) -> AsyncGenerator[Item]:
        """A task that nobody follows any more (its stream broke, or there never was one): as it is now, then
        what happens to it until it has ended or waits for input. Watched where the agent lets one, else
        looked at again and again. The connection may break a few times in a row. How long all of it may
        take is the caller's business."""
        version = (await self._ready()).interface.version
        # A 0.3 agent tells a new watcher nothing of what was before.
        watching, misses, pause = self.streams and version == V10, 0, POLL_FIRST
        while True:
            try:
                async with aclosing(self._looked(task_id, watching, version, trace)) as items:
                    async for item in items:
                        misses = 0
                        yield item
                        if is_settled(item):
                            return
            except (Unreachable, UpstreamTimeout):
                misses += 1
                if misses > REJOINS:
                    raise
            except GatewayError:
                if not watching:
                    raise
                watching = False  # it may just have ended: then it can't be watched any more
                continue
            await asyncio.sleep(pause)
            pause = min(pause * POLL_GROWTH, POLL_MOST)

    async def _looked(self, task_id: str, watching: bool, v: Version, trace: Trace) -> AsyncGenerator[Item]:
        if not watching:
            yield await self._snapshot(task_id, v, trace)
            return
        async with aclosing(self.stream(Op.SUBSCRIBE, {"id": task_id}, trace=trace)) as results:
            async for result in results:
                item = self.item(result, v)
                if isinstance(item, Update) and isinstance(item.event, ArtifactDelta):
                    # Servers tell a new watcher again of pieces that the task it began with held already.
                    item = await self._snapshot(task_id, v, trace)
                yield item

    async def _snapshot(self, task_id: str, v: Version, trace: Trace) -> Task:
        return self.task(await self.call(Op.GET, {"id": task_id}, trace=trace), v)

    def item(self, result: msgspec.Raw, v: Version) -> Item:
        """What the agent said. Raises BadUpstream."""
        try:
            return item_at(result, v)
        except (Malformed, *UNREADABLE) as e:
            raise BadUpstream(f"{self.name} gave an answer that is not A2A", detail=str(e)) from e

    def task(self, result: msgspec.Raw, v: Version) -> Task:
        """The task that the agent said. Raises BadUpstream."""
        try:
            return task_at(result, v)
        except (Malformed, *UNREADABLE) as e:
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

    def outdated(self) -> None:
        self._channel = None

    async def aclose(self) -> None:
        """The connections are the transport's, but for those of gRPC."""
        if self._over_grpc is not None:
            self._over_grpc.close()

    # --- what the face of the same protocol uses to relay -----------------------------------

    async def interface(self) -> Interface:
        """The interface that calls go to. Its revision says in which form ``call`` and ``stream`` take
        parameters and give results (JSON-RPC's form, whatever the binding)."""
        return (await self._ready()).interface

    @property
    def known(self) -> Interface | None:
        """The same, where the card has been read."""
        return None if self._channel is None else self._channel.interface

    async def verify(self, card: Json) -> None:
        """Verify a card of the agent's. Raises BadUpstream when its signature does not hold."""
        record, headers = self._record, self._host.headers(self._record)
        await trust.verify(record.name, card, record.url or "", headers, self._host)

    async def call(
        self,
        op: Op,
        params: Params,
        *,
        trace: Trace = NO_TRACE,
        extensions: str | None = None,
        activated: Activated | None = None,
        losses: Collection[str] = (),
        on_large: OnLarge | None = None,
    ) -> msgspec.Raw:
        """A unary operation, its result as it came. ``extensions``: the ones that the client asks for;
        ``activated`` is told the ones that were used; ``losses``: what the parameters do not carry;
        ``on_large``: see ``Way``."""
        channel = self._channel or await self._ready()
        span = self._span(op, channel.interface, trace, losses)
        try:
            headers = _headers(channel, span, extensions)
            result = await channel.call(op, params, headers, activated, on_large)
        except GatewayError as e:
            span.end(e.code)
            raise
        except BaseException:
            span.end("canceled")
            raise
        span.end()
        return result

    async def stream(
        self,
        op: Op,
        params: Params,
        *,
        trace: Trace = NO_TRACE,
        extensions: str | None = None,
        activated: Activated | None = None,
        losses: Collection[str] = (),
        taker: Taker | None = None,
    ) -> AsyncGenerator[msgspec.Raw]:
        """A streaming operation, its results as they come, but for those that ``taker`` takes (see
        ``Way``)."""
        channel = self._channel or await self._ready()
        span = self._span(op, channel.interface, trace, losses)
        error: str | None = None
        try:
            headers = _headers(channel, span, extensions)
            async with aclosing(channel.stream(op, params, headers, activated, taker)) as results:
                async for result in results:
                    yield result
        except GatewayError as e:
            error = e.code
            raise
        finally:
            span.end(error)

    def _span(self, op: Op, where: Interface, trace: Trace, losses: Collection[str]) -> Span:
        template = _template(op, self.name, where.version, where.url)
        span = self._host.tracer.start(template, trace)
        if losses:
            span.own["agentgw.losses"] = "; ".join(sorted(losses))
        return span


@lru_cache(1024)
def _template(op: Op, agent: str, version: str, url: str) -> Template:
    return Template(
        str(op),
        "client",
        {
            "a2a.method.name": str(op),
            "a2a.protocol.version": version,
            "gen_ai.agent.name": agent,
            "agentgw.agent": agent,
            "agentgw.agent_protocol": "a2a",
            **server_attributes(url),
        },
    )


def _no_credentials() -> Headers:
    return ()


def _headers(channel: Way, span: Span, extensions: str | None) -> list[tuple[str, str]]:
    headers = trace_headers(span)
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
