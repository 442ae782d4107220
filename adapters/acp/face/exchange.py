"""One request at the door: its span, its answer, its errors in ACP's form."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from ....gateway.errors import GatewayError, InvalidRequest
from ....gateway.http.request import WATCHED_AFTER, ClientGone, EventStream, Request
from ....gateway.model import Fault, Principal, Task, TaskState
from ....gateway.ports import AgentView, Engine
from ....gateway.telemetry import Span
from .. import faults
from ..wire import Json
from .ids import Ids, Recent

log = logging.getLogger("agentgw.acp")
T = TypeVar("T")

HEARTBEAT = 15.0  # seconds: a comment on a silent stream keeps proxies from closing it
_AT = re.compile(r"(.*) - at `\$\.?(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `\$\.?(.*)`)?")


class Exchange:
    """A request under way. ``mount`` is the path prefix that the client used: ``/acp`` or empty."""

    def __init__(
        self,
        request: Request,
        engine: Engine,
        span: Span,
        mount: str,
        ids: Ids,
        seen: Recent,
        background: Callable[[str, Coroutine[Any, Any, None]], None],
    ) -> None:
        self.request = request
        self.engine = engine
        self.ids = ids
        self.seen = seen
        self.background = background  # a job that outlives the request; one at a time of each name
        self.span = span
        self.base = request.base_url + mount
        self.error: str | None = None
        self._losses: set[str] = set()

    @property
    def principal(self) -> Principal:
        return self.request.principal

    # --- reading -----------------------------------------------------------------------------

    async def body(self, kind: type[T]) -> T:
        """The request's body, whatever its content type says. Raises InvalidRequest naming the field."""
        try:
            return msgspec.json.decode(await self.request.body(), type=kind)
        except msgspec.ValidationError as e:
            raise _invalid(str(e)) from e
        except (msgspec.DecodeError, RecursionError, UnicodeError) as e:
            raise InvalidRequest("the request body is not valid JSON") from e

    async def unless_gone(self, wanted: Coroutine[Any, Any, T]) -> T:
        """What is waited for. Raises ClientGone when the client leaves before."""
        tasks: set[asyncio.Task[Any]] = {job := asyncio.create_task(wanted)}
        try:
            await asyncio.wait(tasks, timeout=WATCHED_AFTER)
            if not job.done():
                tasks.add(asyncio.create_task(self.request.disconnected()))
                await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
            if not job.done():
                raise ClientGone
            return job.result()
        finally:
            if not all(task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    # --- telling -----------------------------------------------------------------------------

    def concerns(self, agent: str, protocol: str = "") -> None:
        """Note which agent the request is about."""
        self.span.set("agentgw.agent", agent)
        self.span.set("agentgw.agent_protocol", protocol or None)
        self.span.set("gen_ai.agent.name", agent)

    def about(self, view: AgentView) -> None:
        """The same for a registered agent."""
        self.concerns(view.name, view.record.protocol)

    def saw(self, run_id: str, context_id: str | None, state: TaskState, fault: Fault | None = None) -> None:
        """Note a run and how it stands."""
        self.span.set("acp.run.id", run_id)
        self.span.set("gen_ai.conversation.id", context_id or None)
        self.span.set("agentgw.state", state.value)
        if state in (TaskState.FAILED, TaskState.REJECTED):
            self.error = fault.code if fault else "agent_error"

    def saw_task(self, task: Task) -> None:
        """The same for a task."""
        self.saw(task.id, task.context_id, task.state, task.fault)

    def lost(self, losses: Sequence[str]) -> None:
        """Note what the translation could not carry."""
        self._losses.update(losses)
        if self._losses:
            self.span.set("agentgw.losses", "; ".join(sorted(self._losses)))

    # --- answering ---------------------------------------------------------------------------

    async def run(self, status: int, run: Json | bytes, run_id: str) -> None:
        """Answer with a Run."""
        body = run if isinstance(run, bytes) else msgspec.json.encode(run)
        await self.request.respond(status, body, headers=run_header(run_id))

    async def refuse(self, error: GatewayError) -> None:
        """Answer with an error body (not wrapped)."""
        self.failed(error)
        fault = error.fault()
        body = faults.error_json(fault, self.span.trace_id)
        await self.request.json(faults.http_status(fault), body)

    def failed(self, error: GatewayError) -> None:
        """Note an error on the span; what may not be shown goes to the debug log."""
        self.error = error.code
        self.span.attributes.setdefault("agentgw.state", TaskState.FAILED.value)
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


def run_header(run_id: str) -> list[tuple[bytes, bytes]]:
    """The header that names the run."""
    return [(b"run-id", run_id.encode())]


async def live(events: AsyncIterator[T], out: EventStream, *, stay: bool = False) -> AsyncGenerator[T]:
    """Events as they come; silence is filled with comments, which both SDKs' parsers pass over. Raises
    ClientGone when the client leaves, unless it shall ``stay`` to the end."""
    gone = asyncio.create_task(out.gone.wait())
    step: asyncio.Task[Any] | None = None
    try:
        while True:
            step = step or asyncio.ensure_future(anext(events, None))
            awaited = {step} if stay else {step, gone}
            done, _ = await asyncio.wait(awaited, timeout=HEARTBEAT, return_when="FIRST_COMPLETED")
            if gone in done:
                raise ClientGone
            if step in done:
                found, step = step.result(), None
                if found is None:
                    return
                yield found
            elif not gone.done():
                await out.comment()
    finally:
        gone.cancel()
        if step is not None:
            step.cancel()
            await asyncio.wait({step})


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
