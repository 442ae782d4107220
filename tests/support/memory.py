"""An agent in memory and a directory of such agents, for tests of the hub and the faces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import cast

import pytest

from agentgw.gateway import history, tasklog
from agentgw.gateway.config import Config
from agentgw.gateway.engine import Hub
from agentgw.gateway.model import (
    Agent,
    Event,
    Finished,
    Health,
    InputReply,
    InputRequired,
    Invocation,
    Message,
    MessageDelta,
    MessageDone,
    Record,
    Started,
    TaskRef,
    TaskState,
    Text,
    text_of,
)
from agentgw.gateway.ports import AgentView, Tell
from agentgw.gateway.store import Store
from agentgw.gateway.telemetry import Tracer
from agentgw.registry.memory import MemoryStore

Script = Callable[[Invocation], AsyncIterator[Event]]
Answers = Callable[[InputReply], AsyncIterator[Event]]


def say_at_most(size: int, patched: pytest.MonkeyPatch) -> None:
    """A task that says more bytes is ``light``."""
    for module in (history, tasklog):
        patched.setattr(module, "MOST", size)


async def echo(call: Invocation) -> AsyncIterator[Event]:
    """Echoes word by word, then as a whole; names the conversation as the gateway does."""
    yield Started(task_id="up-1", context_id=call.upstream_context or call.context_id)
    text = text_of(call.message.parts)
    for i, word in enumerate(text.split(" ")):
        yield MessageDelta(parts=(Text(text=word if i == 0 else f" {word}"),))
    yield MessageDone(message=Message(role="agent", parts=(Text(text=text),)))
    yield Finished(state=TaskState.COMPLETED)


class MemoryUpstream:
    """An upstream that plays ``script``; remembers the calls, replies and cancellations it got."""

    def __init__(
        self, script: Script = echo, answers: Answers | None = None, agent: Agent | None = None
    ) -> None:
        self.script = script
        self.answers = answers
        self.agent = agent or Agent(name="memory", description="an agent in memory")
        self.calls: list[Invocation] = []
        self.replies: list[tuple[TaskRef, InputReply]] = []
        self.canceled = asyncio.Event()
        self.on_cancel: Callable[[TaskRef], Awaitable[None]] | None = None

    async def describe(self) -> Sequence[Agent]:
        return [self.agent]

    async def invoke(self, call: Invocation, tell: Tell) -> None:
        self.calls.append(call)
        await _play(self.script(call), tell)

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply, tell: Tell) -> None:
        self.replies.append((task, reply))
        assert self.answers is not None
        await _play(self.answers(reply), tell)

    async def cancel(self, task: TaskRef) -> None:
        self.canceled.set()
        if self.on_cancel is not None:
            await self.on_cancel(task)

    async def aclose(self) -> None:
        pass


async def _play(events: AsyncIterator[Event], tell: Tell) -> None:
    async with contextlib.aclosing(cast("AsyncGenerator[Event]", events)):
        async for event in events:
            if (room := tell(event)) is not None:
                await room
            if isinstance(event, Finished | InputRequired):
                return


class MemoryDirectory:
    """The engine's view of some agents, all healthy. ``protocol`` is what their records say."""

    def __init__(self, upstreams: Mapping[str, MemoryUpstream], protocol: str = "memory") -> None:
        self._views = {
            name: AgentView(
                record=Record(name=name, protocol=protocol, url="memory://"),
                agent=upstream.agent,
                health=Health(status="ok"),
                upstream=upstream,
            )
            for name, upstream in upstreams.items()
        }

    def views(self) -> Mapping[str, AgentView]:
        return self._views

    async def described(self, name: str, timeout: float = 3.0) -> AgentView | None:
        return self._views.get(name)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


def hub(config: Config | None = None, store: Store | None = None, **upstreams: MemoryUpstream) -> Hub:
    """A hub over agents in memory, by name."""
    return Hub(MemoryDirectory(upstreams), store or MemoryStore(), Tracer(), config or Config())


def say(text: str, agent: str = "echo", **fields: object) -> Invocation:
    """A call with a text message."""
    message = Message(role="user", parts=(Text(text=text),))
    return Invocation(agent=agent, message=message, **fields)  # type: ignore[arg-type]
