"""One operation of a client, whichever binding brought it, and the span around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Set
from functools import lru_cache
from types import TracebackType
from typing import Any

import msgspec

from ....gateway.errors import GatewayError, InvalidRequest
from ....gateway.http.request import JSON, ClientGone, Request
from ....gateway.model import Principal, Task
from ....gateway.ports import Engine
from ....gateway.readable import UNREADABLE
from ....gateway.telemetry import LENGTH, Attribute, Span, Template
from ..codec import Malformed
from ..problems import INVALID_PARAMS, Problem, problem_of
from ..wire import V10, Json, Op, Version
from .heads import Said

A2A_JSON = "application/a2a+json"


PassOn = Callable[[AsyncIterator[bytes]], Awaitable[None]]
_NONE: frozenset[str] = frozenset()  # an empty set of its own takes 216 bytes


class Call:
    """An operation on ``agent`` (see ``Said``); as a block, with its server span: whatever is
    raised in it leaves it as a ``Problem`` (or as ``ClientGone``), and the span ends once.

    ``raw`` are the parameters as they came, in the form of JSON-RPC of ``version``; ``base_url`` is how the
    client reaches the gateway; ``extensions`` the ones it asks for (as in the header). ``answered``: headers
    for the answer. ``losses``: what A2A had no place for, so far. ``pass_on``: answers with a result that
    comes in pieces; None: the binding can't. ``now`` sends results of a stream at once, where nothing has to
    be waited for: else it is False, and none was sent. ``framed`` is a result in event-stream form, which
    ``write_now`` sends in the same way. All three only while a stream runs, where the binding has them."""

    __slots__ = (
        "_params", "_request", "agent", "answered", "attributes", "base_url", "extensions", "framed",
        "losses", "now", "op", "pass_on", "principal", "raw", "span", "version", "write_now",
    )  # fmt: skip

    def __init__(
        self, engine: Engine, op: Op, version: Version, head: Said, raw: msgspec.Raw, request: Request
    ) -> None:
        self.op = op
        self.version: Version = version
        self.agent = head.agent
        self.raw = raw
        self.base_url = request.base_url
        self.principal: Principal = request.principal
        self.extensions = head.extensions
        self.answered: list[tuple[bytes, bytes]] = []
        self.losses = _NONE
        self.pass_on: PassOn | None = None
        self.now: Callable[[Sequence[bytes]], bool] | None = None
        self.framed: Callable[[bytes], bytes] | None = None
        self.write_now: Callable[[bytes], bool] | None = None
        self._request = request
        self._params: dict[str, Any] | None = None
        self.attributes: dict[str, Attribute] = {}  # the span's own
        template = _template(op, version, head.agent[:LENGTH])
        self.span: Span = engine.tracer.start(template, request.trace, self.attributes)
        self.span.principal = self.principal

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pass_on = None  # it holds the call: the collector would have to find the two
        if self.losses:
            self.attributes["agentgw.losses"] = "; ".join(sorted(self.losses))
        if error is None or isinstance(error, ClientGone):
            self.attributes.setdefault("agentgw.state", "completed")
            self.span.end()
            return
        self.attributes.setdefault("agentgw.state", "failed")
        if isinstance(error, Malformed | GatewayError | Problem):
            problem = as_problem(error, self.span.trace_id)
            self.span.end(problem.kind)
            raise problem from error
        self.span.end("canceled" if isinstance(error, asyncio.CancelledError) else "internal")

    @property
    def media_type(self) -> str:
        """What the client calls A2A's JSON: ``application/a2a+json`` (since 1.0.1) for those who use it, else
        what every client understands."""
        asked = f"{self._request.header(b'accept')} {self._request.header(b'content-type')}"
        return A2A_JSON if A2A_JSON in asked else JSON

    @property
    def timeouts(self) -> tuple[float | None, float | None]:
        """What the caller grants it: idle and total seconds. Raises InvalidRequest."""
        return self._request.timeouts

    def activated(self, extensions: str) -> None:
        """The agent says which extensions it used: the client is told."""
        name = b"a2a-extensions" if self.version == V10 else b"x-a2a-extensions"
        self.answered = [(name, extensions.encode("latin-1", "replace"))]

    @property
    def params(self) -> Json:
        """The parameters, decoded on first use. Raises Malformed."""
        if self._params is None:
            try:
                value: Any = msgspec.json.decode(self.raw) if bytes(self.raw) else {}
            except UNREADABLE as e:
                raise Malformed("params are not valid JSON") from e
            if not isinstance(value, dict):
                raise Malformed("params must be an object")
            self._params = value  # pyright: ignore[reportUnknownMemberType]
        return self._params  # pyright: ignore[reportReturnType, reportUnknownMemberType, reportUnknownVariableType]

    def saw(self, task: Task) -> None:
        """Note on the span which task it is about, as it is now."""
        attributes = self.attributes
        attributes["a2a.task.state"] = attributes["agentgw.state"] = str(task.state)
        if task.id:
            attributes["a2a.task.id"] = task.id
        if task.context_id:
            attributes["gen_ai.conversation.id"] = task.context_id

    def lost(self, losses: Set[str]) -> None:
        """Note what A2A had no place for."""
        if losses:
            self.losses |= losses

    def goes_to(self, agent: str, protocol: str) -> None:
        """Note on the span which agent serves it."""
        self.span.template = _template(self.op, self.version, agent, agent, protocol)


@lru_cache(1024)
def _template(
    op: Op, version: Version, agent: str, served_by: str | None = None, protocol: str = "a2a"
) -> Template:
    return Template(
        str(op),
        "server",
        {
            "a2a.method.name": str(op),
            "a2a.protocol.version": version,
            "agentgw.agent": agent,
            "agentgw.client_protocol": "a2a",
            "agentgw.agent_protocol": protocol,
            "gen_ai.agent.name": served_by,
        },
    )


def as_problem(error: Malformed | GatewayError | Problem, trace_id: str) -> Problem:
    """What went wrong, as A2A says it."""
    match error:
        case Malformed():
            return Problem(INVALID_PARAMS, f"invalid parameters: {error}", hub=InvalidRequest.code)
        case GatewayError():
            return problem_of(error, trace_id)
        case Problem():
            return error
