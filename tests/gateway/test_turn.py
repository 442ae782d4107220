"""What an agent tells in one go: several events that came together."""

from contextlib import aclosing

import pytest

from agentgw.gateway.lifecycle import fold
from agentgw.gateway.model import (
    Event,
    Finished,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    MessageDelta,
    MessageDone,
    Progress,
    Started,
    Task,
    TaskState,
    Text,
)
from agentgw.gateway.pace import BACKLOG
from agentgw.gateway.ports import Tell

from ..support.memory import MemoryUpstream, hub, say

DONE = Finished(state=TaskState.COMPLETED)


def piece(text: str) -> MessageDelta:
    return MessageDelta(parts=(Text(text=text),))


class Teller(MemoryUpstream):
    """Tells each of ``goes`` at once; ``rooms``: whether there was room after each."""

    def __init__(self, *goes: tuple[Event, ...]) -> None:
        super().__init__()
        self.goes = goes
        self.rooms: list[bool] = []

    async def invoke(self, call: Invocation, tell: Tell) -> None:
        for events in self.goes:
            room = tell(*events)
            self.rooms.append(room is None)
            if room is not None:
                await room


async def test_what_comes_together_is_logged_one_by_one_in_its_order() -> None:
    said = Message(role="agent", parts=(Text(text="ab"),))
    together = (Started(task_id="t", context_id="c"), piece("a"), piece("b"), MessageDone(message=said), DONE)
    handle = await hub(x=Teller(together)).invoke(say("hi", "x"))
    task = await handle.settled()
    log = await handle.log()
    assert [logged.event for logged in log] == list(together)
    assert [logged.seq for logged in log] == [1, 2, 3, 4, 5]
    assert (task.state, task.messages) == (TaskState.COMPLETED, (said,))
    assert [logged.event async for logged in handle.events()] == list(together)


QUESTION = InputRequired(request=InputRequest(message=Message(role="agent", parts=(Text(text="which?"),))))


@pytest.mark.parametrize("last", [DONE, QUESTION], ids=["end", "question"])
async def test_nothing_counts_that_comes_with_the_last_event_but_after_it(last: Event) -> None:
    teller = Teller((Started(), piece("a"), last, piece("b")), (piece("c"),))
    handle = await hub(x=teller).invoke(say("hi", "x"))
    await handle.settled()
    assert [logged.event for logged in await handle.log()] == [Started(), piece("a"), last]


async def test_who_waits_sees_what_one_by_one_would_have_made() -> None:
    events = (Started(), piece("a"), Progress(message="half"), piece("b"), DONE)
    whole = await (await hub(x=Teller(events)).invoke(say("hi", "x"))).settled()
    single = await (await hub(x=Teller(*((event,) for event in events))).invoke(say("hi", "x"))).settled()
    folded = Task(id="", context_id="", agent="x")
    for event in events:
        folded = fold(folded, event)
    assert whole.messages == single.messages == folded.messages
    assert whole.state is single.state is folded.state is TaskState.COMPLETED


async def test_a_small_event_behind_a_large_one_hides_nothing_from_the_pace() -> None:
    large = piece("x" * (BACKLOG // 4))
    teller = Teller((Started(),), *[(large, Progress(progress=0.5))] * 6, (DONE,))
    handle = await hub(x=teller).invoke(say("hi", "x"))
    async with aclosing(handle.events()) as events:
        read = [logged.event async for logged in events]
    assert read == [Started(), *[large, Progress(progress=0.5)] * 6, DONE]
    assert False in teller.rooms
