"""Calling an agent that speaks ACP."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cached_property
from types import CoroutineType
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw

from ....gateway.catchup import CatchUp
from ....gateway.errors import (
    AgentError,
    BadUpstream,
    GatewayError,
    InvalidRequest,
    NotActive,
    UnknownTask,
    Unreachable,
    Unsupported,
)
from ....gateway.model import Data, Event, InputReply, Invocation, Message, Task, TaskRef, Trace
from ....gateway.owned import may_be
from ....gateway.ports import Tell
from ....gateway.telemetry import Span
from ....gateway.transport import Reply, Stream
from ....gateway.waiting import Timer
from .. import codec
from ..decoding import RunDecoder
from ..ids import as_uuid, is_uuid
from ..losses import Loss, phrases
from ..wire import JSON_TYPE, Json
from .hearing import Hearing, object_of
from .server import Server, error_of, turn_begin

_encode = msgspec.json.Encoder().encode
TOGETHER = 0.01  # seconds in which an answer may come, event by event, to be taken for one that came at once
ANONYMOUS = "anonymous"  # whose callers have no key


def session_id(principal: str, context_id: str, owned: bool = False) -> str:
    """What ACP servers know a conversation by. ``owned``: its id was issued here to this principal; then it
    is the session's, too.

    A UUID goes through as it is for callers without a key, unless it may have been issued to somebody with
    one. Ids of those are told apart: nobody enters another's session by choosing its id.
    """
    as_it_is = owned or (principal == ANONYMOUS and not may_be(context_id))
    return as_uuid(context_id, "" if as_it_is else principal)


class ACPUpstream(Server):
    """One agent at an ACP server."""

    @cached_property
    def _patience(self) -> Timer:
        return Timer(TOGETHER)

    # --- calls -------------------------------------------------------------------------------

    def invoke(self, call: Invocation, tell: Tell) -> CoroutineType[Any, Any, None]:
        if not self.named:
            return self._found(call, tell)
        known = call.upstream_context
        if known is None or known == call.context_id or not is_uuid(known):
            known = session_id(call.principal.id, call.context_id or "", call.owned)
        said = codec.input_json(call.message)
        # Always as a stream, also when the client only wants the end: a run can be cancelled only by its id,
        # and signs of life renew the idle limit.
        body: Json = {"agent_name": self.named, "input": said.value, "session_id": known, "mode": "stream"}
        losses = said.losses
        if call.metadata or call.skill:
            body |= _metadata(call)
            losses = (*losses, *request_losses(call))
        return self._turn("/runs", [body], call.trace, losses, tell, call.streaming)

    async def _found(self, call: Invocation, tell: Tell) -> None:
        await self.remote()
        await self.invoke(call, tell)

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply, tell: Tell) -> None:
        path = f"/runs/{quote(task.task_id, safe='')}"
        # The SDK's server never answers the resumption of a run that does not wait.
        asked = await self.must_await(task.task_id, call.trace)
        message = answer_of(reply)
        answer = codec.message_json(message)
        body: Json = {"await_resume": {"type": "message", "message": answer}, "mode": "stream"}
        losses = (*phrases(codec.message_losses(message)), *request_losses(call))
        await self._turn(path, [body], call.trace, losses, tell, call.streaming, asked)

    async def rejoin(
        self, task: TaskRef, known: Task, trace: Trace, tell: Tell, *, follow: bool = True
    ) -> None:
        """Implements ``ports.Rejoins``: from the log that the server keeps of the run, else from the Run."""
        decoder, catching = RunDecoder(self.record.name), CatchUp(known)
        path = f"/runs/{quote(task.task_id, safe='')}"
        try:
            async with contextlib.aclosing(self.followed(path, trace)) as looks:
                async for found in looks:
                    news = catching.news(self._replayed(found, decoder))
                    if news and (room := tell(*news)) is not None:
                        await room
                    if decoder.ended or not follow:
                        return
        except InvalidRequest as e:
            raise BadUpstream(f"{self.record.name} sent what is not ACP ({e.message})") from e
        except AgentError as e:
            if (e.native or {}).get("status") not in (404, 410):
                raise
            raise UnknownTask(task.task_id) from e

    def _replayed(self, found: list[Raw] | Raw, decoder: RunDecoder) -> list[Event]:
        """The events of all turns that were not fed yet; ``decoder`` has ended when the last one has."""
        if isinstance(found, Raw):
            return decoder.whole(object_of(found, self.record.name))
        events: list[Event] = []
        for raw in found[decoder.seen :]:
            decoder.ended = False
            events += decoder.feed(object_of(raw, self.record.name))
        return events

    async def cancel(self, task: TaskRef) -> None:
        reply = await self.request("POST", f"/runs/{quote(task.task_id, safe='')}/cancel")
        if reply.status in (403, 404):
            raise NotActive("the run has ended or is not known any more")
        if reply.status in (405, 501):
            raise Unsupported("the agent can't cancel runs")
        self.json(reply)

    async def _turn(
        self,
        path: str,
        sent: list[Json],
        trace: Trace,
        losses: Sequence[str],
        tell: Tell,
        pieces: bool,
        resumed: Json | None = None,
    ) -> None:
        """``sent``: the one body, which is let go once the agent has begun to answer it. ``pieces``: whether
        somebody may want to see an answer grow."""
        decoder = RunDecoder(self.record.name, resumed=resumed)
        hearing = Hearing(self.record.name, decoder, tell, pieces=pieces, limit=self.host.config.limits.body)
        try:
            with Hop(self._span(path, trace, losses), decoder) as span:
                try:
                    patience = None if pieces else self._patience
                    opening = self.stream("POST", path, _encode(sent[0]), span.trace, patience)
                    async with opening as stream:
                        if stream.status >= 300:
                            raise error_of(await _whole(stream), self.record.name)
                        sent.clear()
                        if (stream.header("content-type") or "").startswith(JSON_TYPE):
                            hearing.run(self.object(await _whole(stream)))
                        else:
                            await hearing.hear(stream)
                except Unreachable:
                    if decoder.run_id is None:
                        raise
                if not decoder.ended:
                    if decoder.run_id is None:
                        raise BadUpstream(f"{self.record.name} ended its answer without a run")
                    await self._recovered(decoder, span.trace, tell)
            return
        except AgentError as e:
            if not (sent and "session_id" in sent[0] and (e.native or {}).get("status") in (404, 410)):
                raise
        # The SDK's server begins a session that it does not know; one that answers so wants a new one.
        del sent[0]["session_id"]
        await self._turn(path, sent, trace, losses, tell, pieces)

    def _span(self, path: str, trace: Trace, losses: Sequence[str]) -> Span:
        route = path if path == "/runs" else "/runs/{run_id}"
        span = self.host.tracer.start(self.template("POST", route, self.named or ""), trace)
        if losses:
            span.set("agentgw.losses", "; ".join(sorted(losses)))
        return span

    async def _recovered(self, decoder: RunDecoder, trace: Trace, tell: Tell) -> None:
        """Go on with a run that still works: from the log that the server keeps of it, else from the Run.

        The caller's idle limit bounds the wait; a server that does not know the run any more is an error.
        """
        path = f"/runs/{quote(decoder.run_id or '', safe='')}"
        async with contextlib.aclosing(self.followed(path, trace)) as looks:
            async for found in looks:
                if (events := self._fresh(found, decoder)) and (room := tell(*events)) is not None:
                    await room
                if decoder.ended:
                    return

    def _fresh(self, found: list[Raw] | Raw, decoder: RunDecoder) -> list[Event]:
        if isinstance(found, Raw):
            return decoder.whole(object_of(found, self.record.name))
        fresh = found[turn_begin(found) + decoder.seen :]
        return [event for raw in fresh for event in decoder.feed(object_of(raw, self.record.name))]


class Hop:
    """The span of a turn, which ends with the block and says what became of the run."""

    __slots__ = ("_decoder", "_span")

    def __init__(self, span: Span, decoder: RunDecoder) -> None:
        self._span = span
        self._decoder = decoder

    def __enter__(self) -> Span:
        return self._span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        decoder, span = self._decoder, self._span
        ended: str | None = error.code if isinstance(error, GatewayError) else "canceled"
        if decoder.ended:
            ended = "agent_error" if decoder.status == "failed" else None
        if decoder.run_id is not None:
            span.own["acp.run.id"] = decoder.run_id
            span.own["acp.run.status"] = decoder.status
        span.set("gen_ai.conversation.id", decoder.session_id)
        span.end(ended)


async def _whole(stream: Stream) -> Reply:
    return Reply(stream.status, stream.headers, await stream.read())


def answer_of(reply: InputReply) -> Message:
    """The answer as ACP has it: a refusal is a JSON part ``{"action": "decline"}`` or ``"cancel"``, for which
    ACP has no word of its own."""
    if reply.action == "accept":
        return reply.message
    return Message(role="user", parts=(Data(data={"action": reply.action}),))


def request_losses(call: Invocation) -> tuple[str, ...]:
    """What a call says beside its message: ACP has no field for it (see ``_metadata``)."""
    found = [Loss.SKILL] if call.skill else []
    return phrases([*found, Loss.REQUEST_METADATA] if call.metadata else found)


def _metadata(call: Invocation) -> Json:
    """Metadata and skill of the request under ``metadata``. It is not ACP's, and servers pass over it; the
    gateway's own door reads it, so nothing is lost where another gateway follows."""
    metadata = {**(call.metadata or {}), **({"skill": call.skill} if call.skill else {})}
    return {"metadata": metadata} if metadata else {}
