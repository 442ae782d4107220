"""What passes between an ACP client and an ACP agent: Runs and events, rewritten and recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from ....gateway.errors import BadUpstream
from ....gateway.model import Fault, Task, TaskState
from ....gateway.readable import UNREADABLE, must_be_text
from .. import rewrite
from ..decoding import request_of
from ..encoding import STATE
from ..faults import as_error, error_json, fault_of
from ..ids import as_uuid
from ..wire import SERVER_ERROR, RunHead
from .exchange import Exchange

RELAYED: Mapping[str, Mapping[str, Any]] = {"acp": {"relayed": True}}


def is_relayed(task: Task) -> bool:
    """Whether the task's id is a run id of its agent."""
    return bool(task.extra.get("acp", {}).get("relayed"))


class Passage:
    """What passes between one client and one agent: rewrites Runs and records them.

    ``context``: the gateway's name of the conversation, where the agent may have another for it. ``run_id``:
    the run, once it is known. ``noted``: whether the conversation is recorded, too.
    """

    def __init__(
        self, x: Exchange, agent: str, context: str | None, run_id: str = "", *, noted: bool
    ) -> None:
        self._x = x
        self.agent = agent
        self._context = context
        self._noted = noted
        self.run_id = run_id
        self.status = ""  # of the Run, as it passed last

    def run(self, raw: bytes) -> bytes:
        """A Run for the client."""
        try:
            must_be_text(raw)
            return bytes(rewrite.run(raw, self._change))
        except UNREADABLE as e:
            raise BadUpstream(f"{self.agent} answered with what is no run", detail=str(e)) from e

    def knows(self, members: Collection[str]) -> bool:
        """Whether all that is changed in a Run is among these."""
        return self._context is None or "session_id" in members

    def changed(self, run: RunHead) -> Mapping[str, Any]:
        """A Run passes that says this of itself: what is to stand in it instead."""
        return self._change(run)

    def event(self, raw: bytes) -> tuple[str, bytes]:
        """An event's type, and the event for the client."""
        try:
            must_be_text(raw)
            kind, data = rewrite.event(raw, self._change)
            if kind == "error":
                return kind, self._crash_event(data)
        except UNREADABLE as e:
            raise BadUpstream(f"{self.agent} sent an event that is not ACP", detail=str(e)) from e
        return kind, data

    def _change(self, run: RunHead) -> Mapping[str, Any]:
        self.run_id, self.status = run.run_id, run.status
        changes: dict[str, Any] = {}
        if run.agent_name != self.agent:
            changes["agent_name"] = self.agent
        if self._context is not None and run.session_id != self._context:
            shown = as_uuid(self._context)
            if run.session_id != shown:
                changes["session_id"] = shown
        fault: Fault | None = None
        if run.status == "failed":
            fault, withheld = fault_of(run.error, self.agent)
            if withheld:
                self._x.engine.sanitize(self.agent, withheld)
            if run.error is None or run.error.code == SERVER_ERROR or run.error.message != fault.message:
                changes["error"] = error_json(fault, self._x.span.trace_id)
        self._record(run, fault)
        return changes

    def _crash_event(self, raw: bytes) -> bytes:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        fault, withheld = fault_of(as_error(fields.get("error")), self.agent)
        if withheld:
            self._x.engine.sanitize(self.agent, withheld)
        self._x.error = fault.code
        return rewrite.replaced(raw, "error", error_json(fault, self._x.span.trace_id))

    def _record(self, run: RunHead, fault: Fault | None) -> None:
        state = STATE.get(run.status, TaskState.WORKING)
        context_id = self._context or run.session_id or ""
        task = Task(
            id=run.run_id,
            context_id=context_id,
            agent=self.agent,
            state=state,
            input_request=request_of(run.await_request) if run.status == "awaiting" else None,
            fault=fault,
            created_at=run.created_at or "",
            extra=RELAYED,
        )
        theirs = run.session_id if self._noted else ""
        self._x.engine.observe(task, self._x.principal, upstream=self.agent, context=theirs)
        if not self._x.span.end_ns:  # the request is still under way
            self._x.saw_task(task)
