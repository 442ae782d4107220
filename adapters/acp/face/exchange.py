"""One request at the door: its span, its answer, its errors in ACP's form."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from ....gateway.errors import GatewayError, InvalidRequest
from ....gateway.http.request import ClientGone, EventStream, Request
from ....gateway.http.wire import retry_after
from ....gateway.model import Fault, Principal, Task, TaskState
from ....gateway.ports import AgentView, Engine
from ....gateway.readable import UNREADABLE, must_be_text
from ....gateway.telemetry import Span, Template
from ....gateway.waiting import Timer, Timers, Waiting
from .. import faults
from ..wire import Json
from .ids import Ids, Recent

log = logging.getLogger("agentgw.acp")
T = TypeVar("T")

HEARTBEAT = 15.0  # seconds: a comment on a silent stream keeps proxies from closing it
_FAILED = (TaskState.FAILED, TaskState.REJECTED)
_AT = re.compile(r"(.*) - at `\$\.?(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `\$\.?(.*)`)?")


class Pages:
    """Pages of the list of agents, as they were answered: kept for as long as the list is the same object."""

    LIMIT = 16

    def __init__(self) -> None:
        self._agents: Sequence[AgentView] = ()
        self._pages: dict[tuple[int, int], bytes] = {}

    def of(self, agents: Sequence[AgentView]) -> Mapping[tuple[int, int], bytes]:
        """The pages of this list, by offset and limit."""
        return self._pages if agents is self._agents else {}

    def keep(self, agents: Sequence[AgentView], page: tuple[int, int], body: bytes) -> None:
        if agents is not self._agents or len(self._pages) >= self.LIMIT:
            self._agents, self._pages = agents, {}
        self._pages[page] = body


class House:
    """What all requests at the door share. ``background`` begins a job that outlives its request, one at a
    time of each name."""

    def __init__(self, engine: Engine, background: Callable[[str, Coroutine[Any, Any, None]], None]) -> None:
        self.engine = engine
        self.background = background
        self.ids = Ids(engine.items, engine.homes)
        self.seen = Recent()
        self.pages = Pages()
        self.timers = engine.timers
        self.waiting: set[Callable[[Exception], None]] = set()  # what ends requests that wait for an agent


class Exchange:
    """A request under way, with its server span. ``mount`` is the path prefix that the client used: ``/acp``
    or empty; ``route`` its path behind that, as a pattern. ``task`` is the one that makes it."""

    __slots__ = (
        "_losses", "engine", "error", "house", "mount", "principal", "request", "route", "span", "task",
    )  # fmt: skip

    def __init__(self, request: Request, house: House, mount: str, route: str) -> None:
        self.request = request
        self.principal: Principal = request.principal
        self.house = house
        self.engine = house.engine
        self.mount = mount
        self.route = route
        template = _template(request.method, route, mount)
        self.span: Span = self.engine.tracer.start(template, request.trace)
        self.span.principal = self.principal
        self.error: str | None = None
        task = asyncio.current_task(house.timers.loop)
        assert task is not None
        self.task: asyncio.Task[Any] = task
        self._losses: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The door's address, as the client knows it."""
        return self.request.base_url + self.mount

    # --- reading -----------------------------------------------------------------------------

    def decoded(self, body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        """The request's ``body``, whatever its content type says. Raises InvalidRequest naming the field."""
        try:
            if not body.isascii():
                must_be_text(body)
            return decoder.decode(body)
        except msgspec.ValidationError as e:
            raise _invalid(str(e)) from e
        except UNREADABLE as e:
            raise InvalidRequest("the request body is not valid JSON") from e

    async def unless_gone(self, wanted: Awaitable[T]) -> T:
        """What is waited for. Raises ClientGone when the client leaves before."""
        with self.listening():
            return await wanted

    def listening(self, *timed: tuple[Timer, Callable[[], object]]) -> Waiting:
        """Blocks that raise ClientGone when the client leaves. ``timed``: see ``Waiting``."""
        waiting = Waiting(*timed, task=self.task)
        self.request.on_gone(lambda: waiting.end(ClientGone()))
        return waiting

    # --- telling -----------------------------------------------------------------------------

    def concerns(self, agent: str, protocol: str = "") -> None:
        """Note which agent the request is about."""
        self.span.template = _template(self.request.method, self.route, self.mount, agent, protocol or None)

    def about(self, view: AgentView) -> None:
        """The same for a registered agent."""
        self.concerns(view.name, view.record.protocol)

    def saw(self, run_id: str, context_id: str | None, state: TaskState, fault: Fault | None = None) -> None:
        """Note a run and how it stands."""
        attributes = self.span.own
        attributes["acp.run.id"] = run_id
        attributes["agentgw.state"] = str(state)
        if context_id:
            attributes["gen_ai.conversation.id"] = context_id
        if state in _FAILED:
            self.error = fault.code if fault else "agent_error"

    def saw_task(self, task: Task) -> None:
        """The same for a task."""
        self.saw(task.id, task.context_id, task.state, task.fault)

    def lost(self, losses: Sequence[str]) -> None:
        """Note what the translation could not carry."""
        if losses:
            self._losses = tuple(sorted({*self._losses, *losses}))
            self.span.own["agentgw.losses"] = "; ".join(self._losses)

    # --- answering ---------------------------------------------------------------------------

    def run(self, status: int, run: Json | bytes, run_id: str) -> Awaitable[None]:
        """Answer with a Run."""
        body = run if isinstance(run, bytes) else msgspec.json.encode(run)
        return self.request.respond(status, body, headers=run_header(run_id))

    async def refuse(self, error: GatewayError) -> None:
        """Answer with an error body (not wrapped)."""
        self.failed(error)
        fault = error.fault()
        body = faults.error_json(fault, self.span.trace_id)
        await self.request.json(faults.http_status(fault), body, headers=retry_after(fault.data))

    def failed(self, error: GatewayError) -> None:
        """Note an error on the span; what may not be shown goes to the debug log."""
        self.error = error.code
        self.span.own.setdefault("agentgw.state", TaskState.FAILED.value)
        if error.detail:
            log.debug("%s: %s", error.message, error.detail)

    @contextlib.asynccontextmanager
    async def streaming(self, run_id: str | None) -> AsyncGenerator[EventStream]:
        """An event stream. An error inside becomes its last event; a client that leaves ends the block."""
        async with await self.request.events(headers=run_header(run_id) if run_id else ()) as out:
            try:
                yield out
            except ClientGone:
                pass
            except GatewayError as e:
                self.failed(e)
                error = faults.error_json(e.fault(), self.span.trace_id)
                with contextlib.suppress(ClientGone):
                    await out.send(msgspec.json.encode({"type": "error", "error": error}))


@lru_cache(1024)
def _template(
    method: str, route: str, mount: str, agent: str | None = None, protocol: str | None = None
) -> Template:
    return Template(
        f"{method} {route}",
        "server",
        {
            "http.request.method": method,
            "http.route": mount + route,
            "agentgw.client_protocol": "acp",
            "agentgw.agent": agent,
            "gen_ai.agent.name": agent,
            "agentgw.agent_protocol": protocol,
        },
    )


def run_header(run_id: str) -> list[tuple[bytes, bytes]]:
    """The header that names the run; none for an agent's own id that is not fit for one."""
    return [(b"run-id", run_id.encode())] if run_id.isascii() and run_id.isprintable() else []


class Silence:
    """Fills silence on a stream with comments, which both SDKs' parsers pass over.

    ``timed`` is for the ``Waiting`` in which it is silent; ``since``: when something was said, in the loop's
    time.
    """

    def __init__(self, out: EventStream, timers: Timers) -> None:
        self._out = out
        self._timer = timers.of(HEARTBEAT)
        self.since = timers.loop.time()
        self._saying: asyncio.Task[None] | None = None

    @property
    def timed(self) -> tuple[Timer, Callable[[], object]]:
        return self._timer, self._over

    def _over(self) -> None:
        if self._timer.restart(self._over, self.since):
            return
        if self._saying is None or self._saying.done():  # else the client takes nothing
            self._saying = asyncio.create_task(self._say())
        self._timer.start(self._over)

    async def _say(self) -> None:
        with contextlib.suppress(ClientGone):
            await self._out.comment()


def _invalid(problem: str) -> InvalidRequest:
    """msgspec's complaint with the field in front: ``input[0].parts: expected …``."""
    if missing := _MISSING.match(problem):
        name, where = missing.groups()
        field = f"{where}.{name}" if where else name
        return InvalidRequest(f"{field}: required", data={"field": field})
    if at := _AT.match(problem):
        said, field = at.groups()
        return InvalidRequest(f"{field}: {said[:1].lower()}{said[1:]}", data={"field": field})
    return InvalidRequest(f"the request body: {problem[:1].lower()}{problem[1:]}")
