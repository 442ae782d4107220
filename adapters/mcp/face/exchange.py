"""One request of a client, whatever its era, as the doors behind the HTTP part see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ....gateway.durations import duration
from ....gateway.http.request import Request
from ....gateway.model import Record, Task, Trace
from ....gateway.ports import AgentView, Engine
from ....gateway.telemetry import LENGTH, Attribute, Span, Template, Tracer
from .. import wire
from ..losses import of_answer, phrases
from ..wire import Caller, Era, Id, RpcError
from . import eras, tasks
from .kinds import READ, Called, Kind
from .reply import Reply
from .sessions import Session

_fields = msgspec.json.Decoder(dict[str, Raw])
_IDLE, _TOTAL = "agentgw/idle_timeout", "agentgw/total_timeout"
_CALLS = frozenset({wire.TOOLS_CALL, wire.PROMPTS_GET, wire.RESOURCES_READ})
_NO_TRACE = Trace()


class Exchange:
    """A request, which came with the HTTP ``request``, and the way to answer it. ``params`` are the client's,
    as far as they have been read; ``session`` is None in the modern era. The task in which it is made works
    for the answer, and is cancelled when nobody wants that any more."""

    def __init__(
        self,
        engine: Engine,
        request: Request,
        kind: Kind,
        id: Id,
        params: Called | Raw | UnsetType,
        session: Session | None,
        reply: Reply,
    ) -> None:
        self.id = id
        self.kind = kind
        self.method = kind.method
        self.params = params
        self.head = kind.head
        self.meta = kind.meta
        self.name = kind.name
        self.era: Era = kind.era
        self.revision = kind.revision if session is None else session.revision
        self.principal = request.principal
        self.session = session
        self.client_capabilities = kind.capabilities if session is None else session.client_capabilities
        self.reply = reply
        self.span: Span | None = None
        self.found: Any = None  # where the tool that is named leads, once its door has looked
        self.error_type: str | None = None  # for the span
        self.canceled = False
        self.task = asyncio.current_task(engine.timers.loop)
        self._caller: Caller | None = None
        self._view: AgentView | None = None  # whose call the span says it is
        self._question_timeout = engine.config.limits.question
        self._granted = request.timeouts  # by the HTTP request's headers

    def cancel(self) -> None:
        """Nobody wants the answer any more: whoever works for it is told so by CancelledError."""
        self.canceled = True
        if self.task is not None:
            self.task.cancel()

    @property
    def log_level(self) -> str | None:
        """The least level of log messages that the client asked for."""
        level = self.session.log_level if self.session is not None else self.meta.get(wire.META_LOG_LEVEL)
        return level if isinstance(level, str) else None

    @property
    def wants_task(self) -> bool:
        """Whether a call may (modern) or shall (2025-11-25) be answered with a task."""
        if self.era == "modern":
            return tasks.known(self.client_capabilities)
        return self.revision >= tasks.SINCE and isinstance(self.head.task, dict)

    @property
    def timeouts(self) -> tuple[float | None, float | None]:
        """What the client grants this call: idle and total seconds; None: what the agent is allowed anyway.
        Raises RpcError for what is no duration."""
        idle, total = self._granted
        if _IDLE not in self.meta and _TOTAL not in self.meta:
            return self._granted
        return self._granted_in(_IDLE) or idle, self._granted_in(_TOTAL) or total

    def _granted_in(self, key: str) -> float | None:
        text = self.meta.get(key)
        seconds = duration(text) if isinstance(text, str) else None
        if text is not None and not seconds:
            raise RpcError(wire.INVALID_PARAMS, f'_meta["{key}"] must be a duration like "30s" or "5m"')
        return seconds

    @property
    def progress_token(self) -> int | str | None:
        token = self.meta.get("progressToken")
        if token is None:
            return None
        return token if isinstance(token, int | str) and not isinstance(token, bool) else None

    def arguments(self) -> dict[str, Any]:
        """The params, decoded."""
        try:
            if isinstance(self.params, Called):
                return {key: _plain(value) for key, value in self.members().items()}
            return wire.fields(self.params)
        except ValueError:
            raise RpcError(wire.INVALID_PARAMS, "params must be an object") from None

    def members(self) -> dict[str, Any]:
        """The params' members: what names and describes the call decoded, the rest still the client's
        bytes (Raw)."""
        params = self.params
        if isinstance(params, UnsetType):
            return {}
        if isinstance(params, Called):
            members: dict[str, Any] = {"name": params.name}
            if params.arguments is not UNSET:
                members["arguments"] = params.arguments
            if params.meta is not UNSET:
                members["_meta"] = self.head.meta
            return members
        members = _fields.decode(params)  # pyright: ignore[reportAssignmentType]
        for key, name in READ.items():
            if key in members:
                members[key] = getattr(self.head, name)
        return members

    def begin(self, tracer: Tracer, outer: Trace, view: AgentView | None) -> None:
        """Start the server span. The parent stands in ``_meta``, else in the HTTP headers (``outer``).
        ``view``: the agent at this address, if it is one's."""
        name, meta, method = self.name, self.meta, self.method
        if method == wire.PING:
            return  # no hop worth a span
        if "traceparent" in meta:
            inner = {key: meta[key] for key in wire.META_TRACE if isinstance(meta.get(key), str)}
            outer = Trace(**inner) if "traceparent" in inner else outer
        own: dict[str, Attribute] = {"jsonrpc.request.id": str(self.id)}
        if self.session is not None:
            own["mcp.session.id"] = self.session.id
        if name is not None and method == wire.RESOURCES_READ:
            own["mcp.resource.uri"] = name
        elif name is not None and wire.NAMED_BY[method] == "taskId":
            own["agentgw.task"] = name
        self._view = view
        self.span = tracer.start(self._template(view), outer, own)
        self.span.principal = self.principal

    def end(self) -> None:
        """There is an answer, or will be none: its span ends, and nobody is kept waiting any more."""
        if self.span is not None:
            self.span.end(self.error_type)
        if self.session is not None:
            self.session.running.pop(self.id, None)
        self.reply.unwatch()
        self._caller = None  # it holds on to this object

    @property
    def trace(self) -> Trace:
        return _NO_TRACE if self.span is None else self.span.trace

    def set_state(self, state: str) -> None:
        """What became of the call, for the span."""
        if self.span is not None:
            self.span.own["agentgw.state"] = state

    def set_task(self, id: str) -> None:
        """Which task the call is, for the span."""
        if self.span is not None:
            self.span.set("agentgw.task", id)

    def set_losses(self, task: Task) -> None:
        """What of the agent's answer the result does not carry, for the span."""
        if self.span is not None and (lost := phrases(of_answer(task))):
            self.span.set("agentgw.losses", "; ".join(lost))

    def set_agent(self, view: AgentView) -> None:
        """Whose call it is, for the span. Only what makes an agent work is a call; with the lists that
        hosts ask for all the time, ``agentgw traces`` would show little else."""
        if view is not self._view and self.span is not None and self.method in _CALLS:
            self._view = view
            self.span.template = self._template(view)

    def _template(self, view: AgentView | None) -> Template:
        kept, record = self.kind.spans, None if view is None else view.record
        if kept is not None and kept[1] is record and kept[2] == self.revision:
            return kept[0]
        template = self._template_for(record)
        self.kind.spans = template, record, self.revision
        return template

    def _template_for(self, record: Record | None) -> Template:
        named = self.name if self.method != wire.RESOURCES_READ else None
        if named is not None:
            named = named[:LENGTH]  # no more of it is kept
        if record is None or self.method not in _CALLS:
            return _template(self.method[:LENGTH], named, self.revision)
        return _template(self.method, named, self.revision, record.name, record.protocol)

    @property
    def trace_id(self) -> str | None:
        return None if self.span is None else self.span.trace_id

    def caller(self) -> Caller:
        """On whose behalf a relay sends this request on."""
        if self._caller is not None:
            return self._caller
        session, reply = self.session, self.reply
        trace = _NO_TRACE if self.span is None else self.span.trace
        if session is None:
            info, id, ask = self.kind.info, None, None
        else:
            info, id, ask = session.client_info or None, session.id, self.ask
        self._caller = Caller(
            trace, self.principal, id, self.client_capabilities, info, self.notify, ask, None, reply.prime,
            reply.hang_up, None, reply.send_now,
        )  # fmt: skip
        return self._caller

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Pass on what a server sends while the call runs, before the result. What belongs to no call
        (list_changed, resource updates) reaches clients on their own streams."""
        if method == wire.LOG:
            if self.era == "modern" and self.log_level is None:
                return  # 2026-07-28, server/utilities/logging: only for who asked
            if not eras.loud_enough(params, self.log_level):
                return
        elif method in wire.LIST_CHANGED or method == wire.RESOURCE_UPDATED:
            if self.session is not None:
                self.session.tell(method, params)
            return
        await self.reply.send(wire.encode_notification(method, params))

    async def pass_on(self, pieces: AsyncGenerator[bytes]) -> bool:
        """A large result: see ``Caller.on_large``. One that may be a task is looked into."""
        if self.wants_task or not self.reply.can_pass:
            return False
        try:
            await self.reply.pass_on(wire.result_before(self.id), pieces)
        finally:
            if self.span is not None and self.reply.passes:
                self.span.set("agentgw.passed_in_pieces", True)
        return True

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Ask the client something on this call's stream (handshake era). Raises RpcError."""
        if self.session is None:
            raise RpcError(wire.METHOD_NOT_FOUND, "the client can't be asked while a call runs")
        return await self.session.ask(self.reply.send, method, params, self._question_timeout)


@lru_cache(1024)
def _template(
    method: str, name: str | None, revision: str, agent: str | None = None, protocol: str | None = None
) -> Template:
    tool = method == wire.TOOLS_CALL
    return Template(
        method if name is None else f"{method} {name}",
        "server",
        {
            "mcp.method.name": method,
            "mcp.protocol.version": revision,
            "network.transport": "tcp",
            "agentgw.client_protocol": "mcp",
            "gen_ai.operation.name": "execute_tool" if tool else None,
            "gen_ai.tool.name": name if tool else None,
            "agentgw.agent": agent,
            "agentgw.agent_protocol": protocol,
        },
    )


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, Raw) else value
