"""The gateway's own A2A agent, at the bare address: one skill per registered agent, messages routed to them.

A message goes to the task's or conversation's agent, to the one its metadata names, or to the only one there
is. Otherwise the answer is a question; the name that answers it sends the first message on, in the same task.
The question is a task of the hub like any other, so it is listed, survives, and belongs to its caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec

from ....gateway.errors import InvalidRequest, NotActive, UnknownAgent
from ....gateway.lifecycle import PAUSED, TERMINAL
from ....gateway.model import (
    Data,
    InputRequest,
    Message,
    Part,
    Principal,
    Skill,
    Task,
    TaskState,
    Text,
    text_of,
)
from ....gateway.ports import AgentView, Engine
from ..card import TEXT_MODES, skill_to
from ..params import Send
from ..problems import NOT_CANCELABLE, Problem
from .heads import OWN

_METADATA = "metadata"  # of the first request, kept with the question


class Question(msgspec.Struct, frozen=True):
    """The gateway asks which agent is meant."""

    task: Task


class Route(msgspec.Struct, frozen=True):
    """Where a message goes: to an agent (``send`` is what it gets, ``new_task_id`` the id its task shall
    have), or nowhere yet."""

    send: Send
    view: AgentView | None = None
    skill: str | None = None
    new_task_id: str | None = None
    question: Question | None = None


class OwnAgent:
    """Routes messages that come to the gateway itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._choice: tuple[Sequence[AgentView], tuple[Part, ...]] = ((), ())

    async def route(self, send: Send, principal: Principal) -> Route:
        """Raises UnknownTask, UnknownAgent, NotActive, InvalidRequest."""
        message = send.message
        if message.task_id:
            task = (await self._engine.task(message.task_id, principal)).task
            if task.agent == OWN:
                return self._answered(task, send, principal)
            return Route(send, self._engine.agent(task.agent, principal), send.meta("skill"))
        named = self._named(send, principal)
        if named is not None:
            return named
        context_id = message.context_id
        known = await self._engine.context_agent(context_id, principal) if context_id else None
        if known and known != OWN:
            return Route(send, self._engine.agent(known, principal), send.meta("skill"))
        views = self._engine.agents(principal)
        if not views:
            raise InvalidRequest("no agents are registered here")
        if len(views) == 1:
            return Route(send, views[0], send.meta("skill"))
        return Route(send, question=self._ask(send, views, principal))

    def _named(self, send: Send, principal: Principal) -> Route | None:
        """The agent that the metadata names. ``agent`` wins, and ``skill`` is then the agent's own."""
        skill = send.meta("skill")
        if name := send.meta("agent"):
            return Route(send, self._engine.agent(name, principal), skill)
        if skill:
            try:
                return Route(send, self._engine.agent(skill, principal))
            except UnknownAgent:
                return None
        return None

    # --- the question ------------------------------------------------------------------------

    def _ask(
        self, send: Send, views: Sequence[AgentView], principal: Principal, asked: Task | None = None
    ) -> Question:
        """Ask (again: ``asked``) which agent is meant."""
        task_id = asked.id if asked else self._engine.homes.new()
        context_id = asked.context_id if asked else send.message.context_id or self._engine.homes.new()
        question = Message(
            role="agent",
            parts=self._parts(views),
            message_id=str(uuid4()),
            task_id=task_id,
            context_id=context_id,
        )
        task = Task(
            id=task_id,
            context_id=context_id,
            agent=OWN,
            state=TaskState.INPUT_REQUIRED,
            input=asked.input if asked else send.message,
            status_message=question,
            input_request=InputRequest(message=question),
            extra=asked.extra if asked else {"agentgw": {_METADATA: send.metadata}} if send.metadata else {},
        )
        self._engine.observe(task, principal, upstream=OWN)
        return Question(task)

    def _parts(self, views: Sequence[AgentView]) -> tuple[Part, ...]:
        """The question in words and as data; all questions between two changes share it."""
        if self._choice[0] is not views:
            lines = [f"- {v.name}: {v.description}" if v.description else f"- {v.name}" for v in views]
            agents = [{"name": v.name, "description": v.description} for v in views]
            words = "Which agent is this for? Answer with a name:\n" + "\n".join(lines)
            self._choice = views, (Text(text=words), Data(data={"agents": agents}))
        return self._choice[1]

    def _answered(self, task: Task, send: Send, principal: Principal) -> Route:
        """The client says which agent it means: its first message goes there."""
        if task.state not in PAUSED or task.input is None:
            raise NotActive(f"the task does not wait for input: it is {task.state.value}")
        if send.message.context_id and send.message.context_id != task.context_id:
            raise InvalidRequest(f"the task belongs to another context: {task.context_id}")
        try:
            view = self._engine.agent(_name_in(send), principal)
        except UnknownAgent:
            return Route(send, question=self._ask(send, self._engine.agents(principal), principal, task))
        metadata: Any = task.extra.get("agentgw", {}).get(_METADATA)
        message = msgspec.structs.replace(task.input, context_id=task.context_id, task_id=None)
        first = Send(
            message=message,
            wait=send.wait,
            history_length=send.history_length,
            modes=send.modes,
            metadata=metadata,
        )
        return Route(first, view, new_task_id=task.id)

    def cancel(self, task: Task, principal: Principal) -> Task:
        """Withdraw a question."""
        if task.state in TERMINAL:
            raise Problem(NOT_CANCELABLE, f"the task has ended: it is {task.state.value}")
        ended = msgspec.structs.replace(
            task, state=TaskState.CANCELED, input_request=None, status_message=None
        )
        self._engine.observe(ended, principal, upstream=OWN)
        return ended

    # --- the card ----------------------------------------------------------------------------

    def card(self, principal: Principal) -> dict[str, Any]:
        """The gateway's 1.0 card but for its interfaces."""
        skills = [
            Skill(id=v.name, name=v.name, description=v.description, tags=(v.record.protocol,))
            for v in self._engine.agents(principal)
        ]
        if principal.agents is not None and not principal.agents:
            return self._card([])  # who reaches nothing learns how to come in
        none = Skill(id="none", name="none", description="No agents are registered yet", tags=("gateway",))
        return self._card(skills or [none])

    def _card(self, skills: Sequence[Skill]) -> dict[str, Any]:
        return {
            "name": "agentgw",
            "description": "A gateway to the agents listed as skills; name one in metadata as `agent`.",
            "version": "1",
            "capabilities": {"streaming": True, "pushNotifications": True, "extendedAgentCard": False},
            "defaultInputModes": list(TEXT_MODES),
            "defaultOutputModes": list(TEXT_MODES),
            "skills": [skill_to(s) for s in skills],
        }


def _name_in(send: Send) -> str:
    """The agent's name in an answer: in the metadata, in data as ``agent``, or as the text."""
    if name := send.meta("agent"):
        return name
    for part in send.message.parts:
        match part:
            case Data(data={"agent": str() as name}):
                return name.strip()
            case _:
                pass
    return text_of(send.message.parts).strip().strip("`'\".").lower()
