"""The hub: tasks with logs that can be joined anywhere, questions, conversations, ends of every kind."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from agentgw.gateway.config import Config, Limits
from agentgw.gateway.errors import AgentError, Draining, InvalidRequest, NotActive, UnknownAgent, UnknownTask
from agentgw.gateway.model import (
    Data,
    Event,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    MessageDelta,
    MessageDone,
    Principal,
    Started,
    TaskState,
    Text,
    text_of,
)
from agentgw.registry.memory import MemoryStore

from ..support.memory import MemoryUpstream, hub, say

ALICE, BOB = Principal(id="alice"), Principal(id="bob")


async def asks(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="up-ask", context_id="up-context")
    question = Message(role="agent", parts=(Text(text="May I?"),))
    yield InputRequired(request=InputRequest(message=question))


async def thanks(reply: InputReply) -> AsyncIterator[Event]:
    answer = f"{reply.action}: {text_of(reply.message.parts)}"
    yield MessageDone(message=Message(role="agent", parts=(Text(text=answer),)))
    yield Finished(state=TaskState.COMPLETED)


async def test_a_call_becomes_a_finished_task() -> None:
    engine = hub(echo=MemoryUpstream())
    handle = await engine.invoke(say("a b c"))
    task = await handle.settled()
    assert task.state is TaskState.COMPLETED
    assert [text_of(m.parts) for m in task.messages] == ["a b c"]
    assert (await engine.task(task.id, Principal())).task is task


async def test_subscribers_see_the_same_log_from_any_point() -> None:
    gate = asyncio.Event()

    async def slow(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        yield MessageDelta(parts=(Text(text="a"),))
        await gate.wait()
        yield MessageDelta(parts=(Text(text="b"),))
        yield Finished(state=TaskState.COMPLETED)

    handle = await hub(slow=MemoryUpstream(slow)).invoke(say("x", "slow"))
    early = handle.events()
    first = [await anext(early), await anext(early)]
    late = asyncio.create_task(_all(handle.events(after=1)))
    gate.set()
    everything = first + [e async for e in early]
    assert [e.seq for e in everything] == [1, 2, 3, 4]
    assert await late == everything[1:]
    assert await _all(handle.events()) == everything


async def _all(events: AsyncIterator[object]) -> list[object]:
    return [e async for e in events]


async def test_each_conversation_is_its_callers_own() -> None:
    agent = MemoryUpstream()
    engine = hub(echo=agent)
    for principal in (ALICE, BOB):
        await (await engine.invoke(say("1", principal=principal, context_id="ours"))).settled()
    await (await engine.invoke(say("2", principal=ALICE, context_id="ours"))).settled()
    assert [c.upstream_context for c in agent.calls] == [None, None, "ours"]
    assert await engine.context_agent("ours", ALICE) == "echo"
    assert await engine.context_agent("ours", Principal(id="eve")) is None


async def test_calls_without_context_begin_new_conversations() -> None:
    engine = hub(echo=MemoryUpstream())
    one, two = await engine.invoke(say("x")), await engine.invoke(say("x"))
    assert one.task.context_id != two.task.context_id
    await asyncio.gather(one.settled(), two.settled())


async def test_a_question_is_answered_in_the_same_task() -> None:
    agent = MemoryUpstream(asks, thanks)
    engine = hub(ask=agent)
    handle = await engine.invoke(say("x", "ask"))
    task = await handle.settled()
    assert task.state is TaskState.INPUT_REQUIRED
    assert task.input_request is not None and task.input_request.prompt == "May I?"
    assert engine.open_question("ask", task.context_id, Principal()) == task.id
    again = await engine.invoke(say("yes", "ask", task_id=task.id))
    assert again is handle
    task = await handle.settled()
    assert (task.state, text_of(task.messages[0].parts)) == (TaskState.COMPLETED, "accept: yes")
    assert agent.replies[0][0].task_id == "up-ask"
    assert engine.open_question("ask", task.context_id, Principal()) is None
    assert [e.seq async for e in handle.events()] == list(range(1, 6))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (Data(data={"action": "decline"}), "decline: "),
        (Data(data={"action": "cancel"}), "cancel: "),
        (Text(text=' {"action": "decline"}'), 'decline:  {"action": "decline"}'),
        (Text(text='{"action": "cancel"'), 'accept: {"action": "cancel"'),
        (Data(data={"action": "cancel", "field": 1}), "accept: "),
        (Data(data={"action": "dance"}), "accept: "),
    ],
)
async def test_a_question_can_be_declined(part: Data | Text, told: str) -> None:
    engine = hub(ask=MemoryUpstream(asks, thanks))
    handle = await engine.invoke(say("x", "ask"))
    task = await handle.settled()
    refusal = Message(role="user", parts=(part,))
    await engine.invoke(Invocation(agent="ask", message=refusal, task_id=task.id))
    assert text_of((await handle.settled()).messages[0].parts) == told


async def test_what_cannot_be_answered_says_why() -> None:
    engine = hub(ask=MemoryUpstream(asks, thanks), echo=MemoryUpstream())
    ended = await (await engine.invoke(say("x"))).settled()
    open_ = await (await engine.invoke(say("x", "ask", principal=ALICE))).settled()
    with pytest.raises(NotActive, match="completed"):
        await engine.invoke(say("y", task_id=ended.id))
    with pytest.raises(UnknownTask):
        await engine.invoke(say("y", task_id="nobody's"))
    with pytest.raises(UnknownTask):
        await engine.invoke(say("y", "ask", task_id=open_.id, principal=BOB))
    with pytest.raises(UnknownTask):
        await engine.invoke(say("y", "echo", task_id=open_.id, principal=ALICE))
    with pytest.raises(InvalidRequest, match=open_.context_id):
        await engine.invoke(say("y", "ask", task_id=open_.id, context_id="other", principal=ALICE))
    with pytest.raises(UnknownAgent):
        await engine.invoke(say("y", "nobody"))


async def test_crash_text_stays_inside_and_own_words_pass() -> None:
    async def crash(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        raise RuntimeError("secret /etc/passwd")

    async def refuse(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        raise AgentError("no such city", native={"protocol": "a2a", "code": -32003})

    async def silent(call: Invocation) -> AsyncIterator[Event]:
        yield Started()

    engine = hub(crash=MemoryUpstream(crash), refuse=MemoryUpstream(refuse), silent=MemoryUpstream(silent))
    faults = {}
    for name in ("crash", "refuse", "silent"):
        task = await (await engine.invoke(say("x", name))).settled()
        assert task.state is TaskState.FAILED
        faults[name] = task.fault
    assert (faults["crash"].code, faults["crash"].message) == ("upstream_failed", "crash failed")
    assert (faults["refuse"].code, faults["refuse"].message) == ("agent_error", "no such city")
    assert faults["silent"].code == "upstream_invalid"


async def test_an_agent_that_falls_silent_times_out() -> None:
    async def hangs(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await asyncio.Event().wait()

    engine = hub(Config(limits=Limits(idle_timeout=0.01)), hangs=MemoryUpstream(hangs))
    task = await (await engine.invoke(say("x", "hangs"))).settled()
    assert task.fault is not None and task.fault.code == "upstream_timeout"
    assert task.fault.data == {"limit": "idle_timeout"}


async def test_every_event_renews_the_idle_timeout() -> None:
    pauses: list[float] = []

    async def steady(call: Invocation) -> AsyncIterator[Event]:
        pauses.clear()
        yield Started()
        for _ in range(24):
            before = time.monotonic()
            await asyncio.sleep(0.05)  # the agent's own pace: longer in all than the limit
            pauses.append(time.monotonic() - before)
            yield MessageDelta(parts=(Text(text="."),))
        yield Finished(state=TaskState.COMPLETED)

    engine = hub(Config(limits=Limits(idle_timeout=1.0)), steady=MemoryUpstream(steady))
    for _ in range(10):  # a machine that stands still for longer says nothing about the limit
        task = await (await engine.invoke(say("x", "steady"))).settled()
        if task.state is TaskState.COMPLETED or max(pauses) < 0.5:
            break
    assert task.state is TaskState.COMPLETED


async def test_a_question_while_stopping_ends_the_task() -> None:
    stopped = asyncio.Event()

    async def asks_late(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up")
        await stopped.wait()
        yield InputRequired(request=InputRequest(message=Message(role="agent", parts=(Text(text="?"),))))

    async def stop(_: object) -> None:
        stopped.set()

    agent = MemoryUpstream(asks_late)
    agent.on_cancel = stop
    engine = hub(late=agent)
    handle = await engine.invoke(say("x", "late"))
    await anext(handle.events())
    await engine.cancel(handle.task.id, Principal())
    assert (await handle.ended()).state is TaskState.CANCELED


async def test_cancel_reaches_the_agent_and_everybody_sees_it() -> None:
    stopped = asyncio.Event()

    async def long(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up-long")
        await stopped.wait()
        yield Finished(state=TaskState.CANCELED)

    async def stop(_: object) -> None:
        stopped.set()

    agent = MemoryUpstream(long)
    agent.on_cancel = stop
    engine = hub(long=agent)
    handle = await engine.invoke(say("x", "long"))
    await anext(handle.events())
    watcher = asyncio.create_task(_all(handle.events()))
    await engine.cancel(handle.task.id, Principal())
    assert handle.task.state is TaskState.CANCELING
    assert (await handle.ended()).state is TaskState.CANCELED
    assert agent.canceled.is_set()
    assert (await watcher)[-1].event == Finished(state=TaskState.CANCELED)  # type: ignore[attr-defined]
    with pytest.raises(NotActive):
        await engine.cancel(handle.task.id, Principal())


async def test_tasks_are_listed_per_principal_newest_first() -> None:
    engine = hub(echo=MemoryUpstream())
    mine = [(await (await engine.invoke(say(str(i), principal=ALICE))).settled()).id for i in range(3)]
    await (await engine.invoke(say("x", principal=BOB))).settled()
    assert {t.id for t in await engine.tasks(ALICE)} == set(mine)
    assert len(await engine.tasks(Principal(id="owner", owner=True))) == 4
    assert await engine.tasks(ALICE, state=TaskState.WORKING) == []


async def test_a_new_process_knows_old_tasks_and_fails_interrupted_ones() -> None:
    store = MemoryStore()
    never = asyncio.Event()

    async def hangs(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await never.wait()

    first = hub(store=store, echo=MemoryUpstream(), hangs=MemoryUpstream(hangs))
    done = await (await first.invoke(say("a b", context_id="c"))).settled()
    running = await first.invoke(say("x", "hangs"))
    await anext(running.events())
    await first.flush()  # and the process is killed here

    agent = MemoryUpstream()
    second = hub(store=store, echo=agent)
    await second.start()
    handle = await second.task(done.id, Principal())
    assert handle.task == done
    assert [e.seq async for e in handle.events()] == [1, 2, 3, 4, 5]
    interrupted = (await second.task(running.task.id, Principal())).task
    assert interrupted.state is TaskState.FAILED
    await (await second.invoke(say("y", context_id="c"))).settled()
    assert agent.calls[0].upstream_context == "c"
    await first.aclose()


async def test_a_stopping_gateway_lets_calls_finish_and_takes_no_new_ones() -> None:
    gate = asyncio.Event()

    async def waits(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await gate.wait()
        yield Finished(state=TaskState.COMPLETED)

    engine = hub(waits=MemoryUpstream(waits))
    handle = await engine.invoke(say("x", "waits"))
    draining = asyncio.create_task(engine.drain())
    await anext(handle.events())
    with pytest.raises(Draining):
        await engine.invoke(say("y", "waits"))
    gate.set()
    await draining
    assert handle.task.state is TaskState.COMPLETED


async def test_a_relays_tasks_are_known_but_never_anothers() -> None:
    engine = hub(echo=MemoryUpstream())
    seen = await (await engine.invoke(say("x", principal=ALICE))).settled()
    theirs = msgspec.structs.replace(seen, id="relayed", context_id="up-c", state=TaskState.WORKING)
    engine.observe(theirs, ALICE, upstream="echo")
    engine.observe(msgspec.structs.replace(theirs, state=TaskState.COMPLETED), BOB, upstream="echo")
    assert (await engine.task("relayed", ALICE)).task.state is TaskState.WORKING
    with pytest.raises(UnknownTask):
        await engine.task("relayed", BOB)
    engine.observe(msgspec.structs.replace(theirs, state=TaskState.COMPLETED), ALICE, upstream="echo")
    assert (await engine.task("relayed", ALICE)).task.state is TaskState.COMPLETED
    assert await engine.context_agent("up-c", ALICE) == "echo"


async def test_of_several_answers_at_once_one_goes_on() -> None:
    asked, closing = asyncio.Event(), asyncio.Event()

    async def asks_slowly(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up")
        try:
            yield InputRequired(request=InputRequest(message=Message(role="agent", parts=(Text(text="?"),))))
        finally:
            asked.set()
            await closing.wait()

    agent = MemoryUpstream(asks_slowly, thanks)
    engine = hub(ask=agent)
    handle = await engine.invoke(say("x", "ask"))
    await asked.wait()
    answers = [
        asyncio.create_task(engine.invoke(say(str(i), "ask", task_id=handle.task.id))) for i in range(3)
    ]
    await asyncio.sleep(0)
    closing.set()
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert sum(isinstance(r, NotActive) for r in results) == 2
    assert (await handle.ended()).state is TaskState.COMPLETED
    assert len(agent.replies) == 1


async def test_an_agent_that_breaks_when_cancelled_is_cancelled_all_the_same() -> None:
    async def hangs(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up")
        await asyncio.Event().wait()

    async def breaks(_: object) -> None:
        raise ValueError("no")

    agent = MemoryUpstream(hangs)
    agent.on_cancel = breaks
    engine = hub(bad=agent)
    handle = await engine.invoke(say("x", "bad"))
    await anext(handle.events())
    await engine.cancel(handle.task.id, Principal())
    assert (await handle.ended()).state is TaskState.CANCELED


async def test_a_cancel_before_the_agent_named_the_task_still_reaches_it() -> None:
    called, gate, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow_to_name(call: Invocation) -> AsyncIterator[Event]:
        called.set()
        await gate.wait()
        yield Started(task_id="up")
        await stop.wait()
        yield Finished(state=TaskState.CANCELED)

    async def stops(_: object) -> None:
        stop.set()

    agent = MemoryUpstream(slow_to_name)
    agent.on_cancel = stops
    engine = hub(slow=agent)
    handle = await engine.invoke(say("x", "slow"))
    await called.wait()
    await engine.cancel(handle.task.id, Principal())
    gate.set()
    await agent.canceled.wait()
    agent_stops = await handle.ended()
    assert agent_stops.state is TaskState.CANCELED


async def test_a_relay_never_overwrites_another_agents_task() -> None:
    gate = asyncio.Event()

    async def waits(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        await gate.wait()
        yield Finished(state=TaskState.COMPLETED)

    engine = hub(waits=MemoryUpstream(waits), evil=MemoryUpstream())
    handle = await engine.invoke(say("x", "waits"))
    await anext(handle.events())
    forged = msgspec.structs.replace(handle.task, state=TaskState.FAILED, context_id="forged")
    for agent in ("evil", "waits"):
        engine.observe(forged, Principal(), upstream=agent)
    assert (handle.task.agent, handle.task.state) == ("waits", TaskState.WORKING)
    gate.set()
    assert (await handle.settled()).state is TaskState.COMPLETED
