"""One request of a client, whatever its era, as the doors behind the HTTP part see it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Raw, UnsetType

from ....gateway.durations import duration
from ....gateway.model import Principal, Task, Trace
from ....gateway.readable import UNREADABLE
from ....gateway.telemetry import Attribute, Span, Tracer
from .. import wire
from ..losses import of_answer, phrases
from ..wire import Caller, Era, Id, RpcError
from . import eras, tasks
from .reply import Reply
from .sessions import Session


class Head(msgspec.Struct, frozen=True):
    """What the gateway reads of a request's params; the arguments stay undecoded."""

    meta: dict[str, Any] | None = msgspec.field(name="_meta", default=None)
    name: Any = None
    uri: Any = None
    task_id: Any = msgspec.field(name="taskId", default=None)
    task: Any = None
    state: Any = msgspec.field(name="requestState", default=None)


_head = msgspec.json.Decoder(Head)
_fields = msgspec.json.Decoder(dict[str, Raw])
_IDLE, _TOTAL = "agentgw/idle_timeout", "agentgw/total_timeout"
_CALLS = frozenset({wire.TOOLS_CALL, wire.PROMPTS_GET, wire.RESOURCES_READ})
_NAMES = {"name": "name", "uri": "uri", "taskId": "task_id"}  # members of Head
_READ = {"_meta": "meta", **_NAMES}


def read_head(params: Raw | UnsetType) -> Head:
    """Raises RpcError (invalid params) for what is no object."""
    if isinstance(params, UnsetType):
        return Head()
    try:
        return _head.decode(params)
    except UNREADABLE:
        raise RpcError(wire.INVALID_PARAMS, "params must be an object, and _meta in it too") from None


class Exchange:
    """A request and the way to answer it. ``params`` are the client's bytes; ``session`` is None in the
    modern era; ``task`` is cancelled when nobody wants the answer any more."""

    def __init__(
        self,
        *,
        id: Id,
        method: str,
        params: Raw | UnsetType,
        head: Head,
        era: Era,
        revision: str,
        principal: Principal,
        session: Session | None,
        reply: Reply,
        task: asyncio.Task[Any] | None,
        question_timeout: float,
        granted: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self.id = id
        self.method = method
        self.params = params
        self.head = head
        self.era: Era = era
        self.revision = revision
        self.principal = principal
        self.session = session
        self.reply = reply
        self.span: Span | None = None
        self.error_type: str | None = None  # for the span
        self.canceled = False
        self._task = task
        self._caller: Caller | None = None
        named = wire.NAMED_BY.get(method)
        value = None if named is None else getattr(head, _NAMES[named])
        # The tool, prompt, resource or task that is named.
        self.name: str | None = value if isinstance(value, str) else None
        self._question_timeout = question_timeout
        self._granted = granted  # by the HTTP request's headers

    @property
    def meta(self) -> Mapping[str, Any]:
        return self.head.meta or {}

    def cancel(self) -> None:
        """Nobody wants the answer any more: whoever works for it is told so by CancelledError."""
        self.canceled = True
        if self._task is not None:
            self._task.cancel()

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
        return token if isinstance(token, int | str) and not isinstance(token, bool) else None

    @property
    def client_capabilities(self) -> dict[str, Any]:
        if self.session is not None:
            return self.session.client_capabilities
        return _object(self.meta.get(wire.META_CLIENT_CAPABILITIES))

    def arguments(self) -> dict[str, Any]:
        """The params, decoded."""
        try:
            return wire.fields(self.params)
        except ValueError:
            raise RpcError(wire.INVALID_PARAMS, "params must be an object") from None

    def members(self) -> dict[str, Any]:
        """The params' members: what names and describes the call decoded, the rest still the client's
        bytes (Raw)."""
        if isinstance(self.params, UnsetType):
            return {}
        members: dict[str, Any] = _fields.decode(self.params)  # pyright: ignore[reportAssignmentType]
        for key, name in _READ.items():
            if key in members:
                members[key] = getattr(self.head, name)
        return members

    def begin(self, tracer: Tracer, outer: Trace) -> None:
        """Start the server span. The parent stands in ``_meta``, else in the HTTP headers (``outer``)."""
        name, meta, title = self.name, self.head.meta, self.method
        if name is not None and self.method != wire.RESOURCES_READ:
            title = f"{title} {name}"
        if meta is not None and "traceparent" in meta:
            inner = {key: meta[key] for key in wire.META_TRACE if isinstance(meta.get(key), str)}
            outer = Trace(**inner) if "traceparent" in inner else outer
        attributes: dict[str, Attribute] = {
            "mcp.method.name": self.method,
            "mcp.protocol.version": self.revision,
            "jsonrpc.request.id": str(self.id),
            "network.transport": "tcp",
            "agentgw.client_protocol": "mcp",
        }
        if self.session is not None:
            attributes["mcp.session.id"] = self.session.id
        if self.method == wire.TOOLS_CALL:
            attributes["gen_ai.operation.name"] = "execute_tool"
        if name is not None and self.method == wire.TOOLS_CALL:
            attributes["gen_ai.tool.name"] = name
        elif name is not None and self.method == wire.RESOURCES_READ:
            attributes["mcp.resource.uri"] = name
        elif name is not None and wire.NAMED_BY[self.method] == "taskId":
            attributes["agentgw.task"] = name
        self.span = tracer.start(title, "server", outer, attributes)
        self.span.principal = self.principal

    def end(self) -> None:
        """It is answered: end its span."""
        if self.span is not None:
            self.span.end(self.error_type)
        self._caller = None  # it holds on to this object

    @property
    def trace(self) -> Trace:
        return Trace() if self.span is None else self.span.trace

    def set_state(self, state: str) -> None:
        """What became of the call, for the span."""
        if self.span is not None:
            self.span.set("agentgw.state", state)

    def set_task(self, id: str) -> None:
        """Which task the call is, for the span."""
        if self.span is not None:
            self.span.set("agentgw.task", id)

    def set_losses(self, task: Task) -> None:
        """What of the agent's answer the result does not carry, for the span."""
        if self.span is not None and (lost := phrases(of_answer(task))):
            self.span.set("agentgw.losses", "; ".join(lost))

    def set_agent(self, agent: str, protocol: str) -> None:
        """Whose call it is, for the span. Only what makes an agent work is a call; with the lists that
        hosts ask for all the time, ``agentgw traces`` would show little else."""
        if self.span is not None and self.method in _CALLS:
            self.span.set("agentgw.agent", agent)
            self.span.set("agentgw.agent_protocol", protocol)

    @property
    def trace_id(self) -> str | None:
        return None if self.span is None else self.span.trace_id

    def caller(self) -> Caller:
        """On whose behalf a relay sends this request on."""
        if self._caller is not None:
            return self._caller
        info = self.session.client_info if self.session else self.meta.get(wire.META_CLIENT_INFO)
        self._caller = Caller(
            self.trace,
            self.principal,
            None if self.session is None else self.session.id,
            self.client_capabilities,
            _object(info) or None,
            self.notify,
            None if self.session is None else self.ask,
            None,
            self.reply.prime,
            self.reply.hang_up,
        )
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

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Ask the client something on this call's stream (handshake era). Raises RpcError."""
        if self.session is None:
            raise RpcError(wire.METHOD_NOT_FOUND, "the client can't be asked while a call runs")
        return await self.session.ask(self.reply.send, method, params, self._question_timeout)


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
