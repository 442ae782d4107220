"""A server's tasks, followed to their end: a tool's call that is answered with a task has not ended yet.

2025-11-25, basic/utilities/tasks (asked for with ``params.task``, polled, its result fetched by a request
that waits and on which the server asks); 2026-07-28, the extension ``io.modelcontextprotocol/tasks`` (the
server decides; polling brings result, error and questions, ``tasks/update`` the answers).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

import msgspec

from ....gateway.errors import BadUpstream, GatewayError
from ....gateway.model import TaskState
from ....gateway.readable import UNREADABLE
from .. import wire
from ..wire import Caller, Catalog, RpcError
from .link import log

POLL = 1.0  # seconds between two looks, unless the server names another time
MIN_POLL, MAX_POLL = 0.05, 30.0
_LONGEST = 1e15  # milliseconds that are believed
ENDED = frozenset({"completed", "failed", "cancelled"})


STATES = {
    "input_required": TaskState.INPUT_REQUIRED,
    "completed": TaskState.COMPLETED,
    "failed": TaskState.FAILED,
    "cancelled": TaskState.CANCELED,
}


class SeenTask(msgspec.Struct, frozen=True):
    """What the record keeps of a server's task."""

    id: str = msgspec.field(name="taskId")
    status: str = ""
    ttl: Any = None  # 2025-11-25
    ttlMs: Any = None  # the extension

    @property
    def state(self) -> TaskState:
        return STATES.get(self.status, TaskState.WORKING)

    @property
    def kept(self) -> float:
        """For how many seconds from its beginning the server keeps it; 0: it does not say."""
        value = self.ttl if self.ttlMs is None else self.ttlMs
        return value / 1000 if isinstance(value, int | float) and 0 < value < _LONGEST else 0.0


class Cancelled(Exception):
    """The server says that the task was cancelled."""


class Server(Protocol):
    """The way to the server (see ``McpUpstream``)."""

    async def request(
        self, method: str, params: dict[str, Any] | None, *, caller: Caller, losses: tuple[str, ...] = ()
    ) -> msgspec.Raw: ...


class Created(msgspec.Struct, frozen=True):
    """A task as a server names it in place of a result."""

    id: str
    modern: bool
    poll: float


class _Peek(msgspec.Struct, frozen=True):
    type: str = msgspec.field(name="resultType", default="complete")
    task: Any = None


_peek = msgspec.json.Decoder(_Peek)
_mentions = re.compile(rb'"task"|\\u').search  # cheaper than decoding what is none


def created(result: msgspec.Raw) -> Created | None:
    """The task that a tools/call was answered with; None for any other result."""
    if not _mentions(result):
        return None
    try:
        peek = _peek.decode(result)
    except UNREADABLE:
        return None
    fields = wire.fields(result) if peek.type == "task" else _object(peek.task)
    task_id = fields.get("taskId")
    return Created(task_id, peek.type == "task", _poll(fields)) if isinstance(task_id, str) else None


def support(tool: Mapping[str, Any] | None) -> str:
    """Whether a tool of the handshake era runs as a task: ``forbidden``, ``optional`` or ``required``."""
    said = _object((tool or {}).get("execution")).get("taskSupport")
    return said if said in ("optional", "required") else "forbidden"


def wants_task(catalog: Catalog, tool: str, preferred: bool) -> bool:
    """Whether to ask a handshake server for a task: where it must be, or may be and is ``preferred``."""
    return has_tasks(catalog.capabilities) and support(catalog.tool(tool)) in (
        ("optional", "required") if preferred else ("required",)
    )


def has_tasks(capabilities: Mapping[str, Any]) -> bool:
    """Whether a handshake server runs tool calls as tasks (2025-11-25: ``tasks.requests.tools.call``)."""
    requests = _object(_object(capabilities.get("tasks")).get("requests"))
    return "call" in _object(requests.get("tools"))


def _poll(fields: Mapping[str, Any]) -> float:
    value = fields.get("pollIntervalMs", fields.get("pollInterval"))
    seconds = value / 1000 if isinstance(value, int | float) and not isinstance(value, bool) else POLL
    return min(max(seconds, MIN_POLL), MAX_POLL)


class Following:
    """One task. ``told(text)`` is called with what the server says of its state; ``ask`` puts a question
    (method, params) and returns the answer."""

    def __init__(
        self,
        agent: str,
        server: Server,
        task: Created,
        caller: Caller,
        told: Callable[[str], None],
        ask: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]],
    ) -> None:
        self._agent = agent
        self._server = server
        self._task = task
        self._caller = caller
        self._told = told
        self._ask = ask
        self._said: Any = None
        self._answered: set[str] = set()

    async def result(self) -> msgspec.Raw:
        """The tool's result, as if it had come at once. Raises RpcError, GatewayError, Cancelled."""
        poll = self._task.poll
        while True:
            fields = await self._look()
            status = fields.get("status")
            self._say(fields.get("statusMessage"))
            if not self._task.modern and (status in ENDED or status == "input_required"):
                if status == "cancelled":
                    raise Cancelled
                return await self._send("tasks/result")
            if status in ENDED:
                return self._ended(status, fields)
            if status == "input_required":
                await self._answer(fields)
            await asyncio.sleep(poll)
            poll = _poll({"pollInterval": poll * 1000, **fields})

    async def cancel(self) -> None:
        """Ask the server to stop. It may have ended already."""
        try:
            await self._send("tasks/cancel")
        except (RpcError, GatewayError) as e:
            log.debug("%s: cancelling a task: %s", self._agent, e)

    async def _look(self) -> dict[str, Any]:
        try:
            return wire.fields(await self._send("tasks/get"))
        except ValueError as e:
            raise BadUpstream(f"{self._agent} answered tasks/get with something else", detail=str(e)) from e

    async def _send(self, method: str, **params: Any) -> msgspec.Raw:
        return await self._server.request(method, {"taskId": self._task.id, **params}, caller=self._caller)

    def _say(self, message: Any) -> None:
        if isinstance(message, str) and message and message != self._said:
            self._told(message)
        self._said = message

    def _ended(self, status: str, fields: Mapping[str, Any]) -> msgspec.Raw:
        if status == "cancelled":
            raise Cancelled
        if status == "completed":
            return msgspec.Raw(wire.encode(fields.get("result") or {}))
        error = _object(fields.get("error"))
        code = error.get("code")
        raise RpcError(
            code if isinstance(code, int) else wire.INTERNAL_ERROR,
            str(error.get("message") or "the task failed"),
            error.get("data", msgspec.UNSET),
        )

    async def _answer(self, fields: Mapping[str, Any]) -> None:
        """Put the questions that are new, one after the other, and send each answer."""
        for key, request in _object(fields.get("inputRequests")).items():
            if key in self._answered:
                continue
            question = _object(request)
            try:
                answer = await self._ask(str(question.get("method")), _object(question.get("params")))
            except RpcError:
                await self.cancel()  # it would wait for ever
                raise
            self._answered.add(key)
            await self._send("tasks/update", inputResponses={key: answer})


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
