"""What goes on for callers whose key has ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence

import pytest

from agentgw.gateway import calloff, pickup
from agentgw.gateway.access import Access, Key
from agentgw.gateway.config import Config
from agentgw.gateway.engine import Hub
from agentgw.gateway.errors import ConfigError, GatewayError, NotActive
from agentgw.gateway.link import Cut
from agentgw.gateway.model import (
    Event,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    Principal,
    Started,
    Task,
    TaskRef,
    TaskState,
)
from agentgw.gateway.store import Place
from agentgw.gateway.telemetry import Tracer
from agentgw.registry.memory import MemoryStore

from ..support.memory import MemoryDirectory, MemoryUpstream, say

ANN, BOB = Principal(id="key:ann"), Principal(id="key:bob")


def key(id: str, *, revoked: bool = False, expires_at: float | None = None) -> Key:
    revoked_at = 1.0 if revoked else None
    return Key(name=id, id=id, hash=id.encode().hex(), revoked_at=revoked_at, expires_at=expires_at)


async def works(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id=f"up-{call.task_id}")
    await asyncio.Event().wait()


async def asks(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id=f"up-{call.task_id}")
    yield InputRequired(request=InputRequest(message=Message(role="agent", parts=())))


class Scene:
    """A hub before two agents, in its first or a later process."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.told: list[str] = []
        self.agents = {"works": MemoryUpstream(works), "asks": MemoryUpstream(asks)}
        for agent in self.agents.values():
            agent.on_cancel = self.cancel
        self.access = Access("")
        self.hub = Hub(
            MemoryDirectory(self.agents), self.store, Tracer(), Config(), access=self.access
        )  # fmt: skip

    async def cancel(self, task: TaskRef) -> None:
        self.told.append(task.task_id)

    def keys(self, *keys: Key) -> None:
        self.access.take(keys)
        self.access.tick()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calloff, "PATIENCE", 0.2)
    monkeypatch.setattr("agentgw.gateway.engine.CANCEL_GRACE", 0.2)


@pytest.mark.parametrize("end", ["revoked", "removed", "expired"])
@pytest.mark.parametrize("agent", ["works", "asks"])
async def test_a_task_is_cancelled_with_the_key_that_began_it(
    agent: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    scene.keys(key("ann", expires_at=1e12), key("bob"))
    hers, his, other = [
        await scene.hub.invoke(say("x", agent, principal=who)) for who in (ANN, BOB, Principal())
    ]
    for handle in (hers, his, other):
        await anext(handle.events())
        await handle.begun()
    if end == "expired":
        monkeypatch.setattr("time.time", lambda: 2e12)
        scene.access.tick()
    else:
        scene.keys(key("bob"), *([key("ann", revoked=True)] if end == "revoked" else []))
    assert (await hers.ended()).state is TaskState.CANCELED
    assert scene.told == [f"up-{hers.id}"]
    going_on = TaskState.WORKING if agent == "works" else TaskState.INPUT_REQUIRED
    assert (his.task.state, other.task.state) == (going_on, going_on)
    await scene.hub.aclose()


async def test_a_task_that_an_agent_keeps_is_cancelled_there() -> None:
    scene = Scene()
    scene.keys(key("ann"), key("bob"))
    for id, who in (("hers", ANN), ("his", BOB)):
        task = Task(id=id, context_id="", agent="works", state=TaskState.WORKING)
        scene.hub.observe(task, who, upstream="works")
    done = Task(id="done", context_id="", agent="works", state=TaskState.COMPLETED)
    scene.hub.observe(done, ANN, upstream="works")
    scene.keys(key("bob"))
    hers = await scene.hub.task("hers", ANN)
    while hers.task.state is TaskState.WORKING:
        await hers.changed()
    states = {task.id: task.state for task in await scene.hub.tasks(Principal(owner=True))}
    assert states == {"hers": TaskState.CANCELED, "his": TaskState.WORKING, "done": TaskState.COMPLETED}
    assert scene.told == ["hers"]
    await scene.hub.aclose()


async def test_an_agent_that_does_not_stop_is_not_said_to_have() -> None:
    scene = Scene()
    refused = asyncio.Event()

    async def refuse(task: TaskRef) -> None:
        refused.set()
        raise NotActive("it has ended")

    scene.agents["works"].on_cancel = refuse
    scene.keys(key("ann"))
    scene.hub.observe(
        Task(id="hers", context_id="", agent="works", state=TaskState.WORKING), ANN, upstream="works"
    )
    scene.keys()
    await refused.wait()
    assert (await scene.hub.task("hers", ANN)).task.state is TaskState.WORKING
    await scene.hub.aclose()


class Failing(MemoryStore):
    """Raises these, one after the other, when it is asked which tasks there are."""

    def __init__(self, *errors: GatewayError) -> None:
        super().__init__()
        self.errors = list(errors)

    async def load_places(self, states: Sequence[TaskState], limit: int) -> Sequence[Place]:
        if self.errors:
            raise self.errors.pop(0)
        return await super().load_places(states, limit)


async def test_a_store_that_can_not_be_read_now_keeps_no_task_from_being_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pickup, "READ_FIRST", 0.0)
    store = Failing()
    scene = Scene(store)
    scene.keys(key("ann"))
    handle = await scene.hub.invoke(say("x", "works", principal=ANN))
    await handle.begun()
    store.errors += [ConfigError("the disk is away")] * 3
    scene.keys()
    assert (await handle.ended()).state is TaskState.CANCELED
    await scene.hub.aclose()


async def test_the_end_of_the_process_that_has_the_store_is_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker ends with it, and says nothing of what it was about to read."""
    store = Failing()
    scene = Scene(store)
    scene.keys(key("ann"))
    await scene.hub.start()
    store.errors += [Cut(), Cut()]
    scene.keys()
    while store.errors:  # noqa: ASYNC110 - in the background, which tells nobody
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)  # what came of it
    await scene.hub.aclose()
    gc.collect()  # a task whose exception nobody took says so when it goes
    assert caplog.records == []


async def test_the_next_process_cancels_what_a_key_left_that_ended_meanwhile() -> None:
    first = Scene()
    first.keys(key("ann"))
    handle = await first.hub.invoke(say("x", "asks", principal=ANN))
    await handle.settled()
    await first.hub.aclose()
    second = Scene(first.store)
    await second.hub.start()
    second.keys()
    again = await second.hub.task(handle.task.id, ANN)
    assert (await again.ended()).state is TaskState.CANCELED
    await second.hub.aclose()


async def test_a_key_that_was_good_for_a_moment_has_ended() -> None:
    """Made and revoked before anybody looked at which keys there are; it may have been used."""
    access = Access("")
    access.take([key("ann")])
    assert not access.keys_ended()
    access.take([key("ann"), key("bob")])
    access.take([key("ann")])
    assert access.keys_ended()
    assert not access.keys_ended()


async def test_a_new_key_ends_nothing() -> None:
    scene = Scene()
    scene.keys()
    handle = await scene.hub.invoke(say("x", "asks"))
    await handle.settled()
    scene.keys(key("ann"))
    await scene.hub.aclose()
    assert handle.task.state is TaskState.INPUT_REQUIRED and scene.told == []
