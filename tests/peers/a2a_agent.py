"""A foreign A2A agent on the official SDK, for the end-to-end tests.

The first word of a message chooses what it does.

    python a2a_agent.py --port 9101                  # JSON-RPC at /, REST at /rest; 1.0 and 0.3
    python a2a_agent.py --port 9102 --versions 0.3   # an agent from before 1.0

Needs a2a-sdk[http-server] and uvicorn.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable

# The SDK reads this at import; its own spans are not what the tests look at.
os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")

import uvicorn
from a2a.helpers import new_data_part, new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext, SimpleRequestContextBuilder
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Message,
    Part,
    TaskState,
)
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette

SECRET = "secret-crash-text"
PAUSE = 0.05
STEP = 0.02  # between two pieces of work
journal = ""
gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)  # in a test's own process
WORDS = (
    "echo",
    "message",
    "stream",
    "data",
    "file",
    "fail",
    "reject",
    "crash",
    "ask",
    "remember",
    "recall",
    "trace",
    "slow",
    "wait",
    "work",
    "giveup",
)


def blob(size: int = 1000) -> bytes:
    """The same bytes on every run, all 256 values among them."""
    return bytes((i * 167 + (i >> 8) * 31) % 256 for i in range(size))


def note(line: str) -> None:
    """A line in the journal, by which a test sees what happens here."""
    if journal:
        with open(journal, "a") as file:
            file.write(line + "\n")


async def held(token: str) -> None:
    """Where the journal says `TOKEN holds`, wait until it says `TOKEN goes on`."""

    def noted(line: str) -> bool:
        with open(journal) as file:
            return line in file.read().splitlines()

    while journal and noted(f"{token} holds") and not noted(f"{token} goes on"):  # noqa: ASYNC110
        await asyncio.sleep(STEP)


class Turn:
    """One message and the means to answer it."""

    def __init__(self, context: RequestContext, queue: EventQueue, memory: dict[str, list[str]]) -> None:
        self.context, self.queue, self.memory = context, queue, memory
        self.updater = TaskUpdater(queue, context.task_id, context.context_id)
        self.word, _, self.rest = context.get_user_input().strip().partition(" ")

    def parts(self, kind: str) -> list[Part]:
        return [part for part in self.context.message.parts if part.HasField(kind)]

    def say(self, text: str) -> Message:
        return self.updater.new_agent_message([Part(text=text)])

    async def echo(self) -> None:
        await self.updater.complete(self.say(self.rest))

    async def message(self) -> None:
        """A plain message as answer, without any task."""
        await self.queue.enqueue_event(self.say(self.rest))

    async def stream(self) -> None:
        await self.updater.start_work()
        words = self.rest.split()
        for at, word in enumerate(words):
            last = at == len(words) - 1
            piece = Part(text=word if last else word + " ")
            await self.updater.add_artifact([piece], artifact_id="words", append=at > 0, last_chunk=last)
            await asyncio.sleep(PAUSE)
        await self.updater.complete()

    async def data(self) -> None:
        """Gives back the data it got, or some of its own."""
        got = [MessageToDict(part.data) for part in self.parts("data")]
        answer = {"got": got[0]} if got else {"numbers": [1, 2.5], "nested": {"ok": True, "nothing": None}}
        await self.updater.add_artifact([new_data_part(answer)], name="data")
        await self.updater.complete()

    async def file(self) -> None:
        """Gives back the files it got, byte by byte, or one of its own."""
        made = Part(raw=blob(), filename="data.bin", media_type="application/octet-stream")
        for part in self.parts("raw") or [made]:
            await self.updater.add_artifact([part], name=part.filename)
        await self.updater.complete()

    async def fail(self) -> None:
        await self.updater.failed(self.say(self.rest))

    async def reject(self) -> None:
        await self.updater.reject(self.say(self.rest))

    async def crash(self) -> None:
        raise RuntimeError(SECRET)

    async def ask(self) -> None:
        await self.updater.requires_input(self.say("Which colour?"))

    async def remember(self) -> None:
        self.memory[self.context.context_id].append(self.rest)
        await self.updater.complete(self.say("noted"))

    async def recall(self) -> None:
        await self.updater.complete(self.say(" ".join(self.memory[self.context.context_id]) or "nothing"))

    async def trace(self) -> None:
        headers = self.context.call_context.state["headers"]
        await self.updater.complete(self.say(headers.get("traceparent", "none")))

    async def slow(self) -> None:
        await self.updater.start_work()
        await asyncio.sleep(float(self.rest or 1))
        await self.updater.complete(self.say("done"))

    async def wait(self) -> None:
        """`wait GATE`: until the gate is opened."""
        await self.updater.start_work()
        await gates[self.rest].wait()
        await self.updater.complete(self.say("done"))

    async def work(self) -> None:
        """`work TOKEN COUNT`: that many pieces; notes when it begins and how it ends."""
        token, count = self.rest.split()
        note(f"{token} started")
        try:
            await self.updater.start_work()
            for at in range(int(count)):
                last = at == int(count) - 1
                piece = Part(text=f"p{at}" if last else f"p{at} ")
                await self.updater.add_artifact([piece], artifact_id="work", append=at > 0, last_chunk=last)
                await asyncio.sleep(STEP)
                await held(token)
        except asyncio.CancelledError:
            note(f"{token} stopped")
            raise
        note(f"{token} finished")
        await self.updater.complete()

    async def giveup(self) -> None:
        """Begins, and then fails in words of its own."""
        await self.updater.start_work()
        for at in range(3):
            await self.updater.add_artifact([Part(text=f"p{at} ")], artifact_id="work", append=at > 0)
            await asyncio.sleep(STEP)
        await self.updater.failed(self.say(self.rest))

    async def reply(self) -> None:
        """The answer to the question of `ask`."""
        await self.updater.complete(self.say(f"You said {self.context.get_user_input()}"))

    async def unknown(self) -> None:
        await self.updater.reject(self.say(f"The first word must be one of {', '.join(WORDS)}"))


class Executor(AgentExecutor):
    def __init__(self) -> None:
        self.memory: dict[str, list[str]] = defaultdict(list)

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        turn = Turn(context, event_queue, self.memory)
        if context.current_task is not None:
            await turn.reply()
            return
        if turn.word not in ("message", "crash"):
            task = new_task_from_user_message(context.message)
            task.id, task.context_id = context.task_id, context.context_id
            task.status.state = TaskState.TASK_STATE_SUBMITTED
            await event_queue.enqueue_event(task)
        act: Callable[[], Awaitable[None]] = getattr(turn, turn.word) if turn.word in WORDS else turn.unknown
        await act()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class ContextOfTask(SimpleRequestContextBuilder):
    """Takes the context from the stored task where a follow-up names only the task."""

    def __init__(self, store: InMemoryTaskStore) -> None:
        super().__init__(task_store=store)
        self.store = store

    async def build(self, context, params=None, task_id=None, context_id=None, task=None):
        if task_id and not context_id and (known := await self.store.get(task_id, context)):
            context_id = known.context_id
        return await super().build(context, params, task_id, context_id, task)


def card(port: int, versions: list[str]) -> AgentCard:
    url = f"http://127.0.0.1:{port}"
    return AgentCard(
        name="Peer",
        description="Does what the first word of a message says",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=address, protocol_binding=binding, protocol_version=version)
            for version in versions
            for binding, address in (("JSONRPC", f"{url}/"), ("HTTP+JSON", f"{url}/rest"))
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain", "application/json", "application/octet-stream"],
        default_output_modes=["text/plain", "application/json", "application/octet-stream"],
        skills=[
            AgentSkill(id=word, name=word, description=f"Messages that begin with {word}", tags=["test"])
            for word in WORDS
        ],
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, default=9101)
    options.add_argument("--versions", default="1.0,0.3")
    options.add_argument("--journal", default="", help="a file for notes on what begins and ends")
    chosen = options.parse_args()
    global journal
    journal = chosen.journal
    versions = chosen.versions.split(",")
    described = card(chosen.port, versions)
    store = InMemoryTaskStore()
    handler = DefaultRequestHandler(
        agent_executor=Executor(),
        task_store=store,
        request_context_builder=ContextOfTask(store),
        agent_card=described,
        validate_input_modes=False,
    )
    old = "0.3" in versions
    app = Starlette(
        routes=[
            *create_agent_card_routes(described),
            *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=old),
            *create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=old),
        ]
    )
    uvicorn.run(app, port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
