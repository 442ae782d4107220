"""A task's log on its way to a client: at once where that goes, each event once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from agentgw.gateway.followed import Following
from agentgw.gateway.model import (
    Event,
    Finished,
    Invocation,
    Logged,
    MessageDelta,
    Progress,
    Started,
    TaskState,
    Text,
)

from ..support.memory import MemoryUpstream, hub, say

SAID = [
    *(MessageDelta(parts=(Text(text=text),)) for text in "abc"),
    Progress(message="p"),
    *(MessageDelta(parts=(Text(text=text),)) for text in "de"),
]


async def rested() -> None:
    """Everything that can go on has gone on."""
    for _ in range(2000):
        await asyncio.sleep(0)


@pytest.mark.parametrize("refused", [(), ("b",), ("a", "b", "e"), ("c", "d")], ids=["none", "b", "abe", "cd"])
async def test_each_event_is_written_once_and_in_order(refused: Sequence[str]) -> None:
    go = asyncio.Queue[None]()

    async def agent(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        for event in SAID:
            await go.get()
            yield event
        yield Finished(state=TaskState.COMPLETED)

    wrote: list[int] = []
    got: list[tuple[str, bytes]] = []

    def write(logged: Logged) -> list[bytes]:
        wrote.append(logged.seq)
        match logged.event:
            case MessageDelta(parts=(Text(text=text),)):
                return [text.encode()]
            case event:
                return [type(event).__name__.encode()]

    def now(logged: Logged) -> Sequence[bytes] | None:
        written = write(logged)
        if written[0].decode() in refused:
            return written
        got.append(("now", written[0]))
        return None

    handle = await hub(agent=MemoryUpstream(agent)).invoke(say("x", "agent"))

    async def follow() -> None:
        reader = Following(write, now)
        async for logged in handle.events(1, reader.take):
            got.extend(("later", piece) for piece in reader.written(logged))

    following = asyncio.create_task(follow())
    for _ in SAID:
        await rested()
        go.put_nowait(None)
    async with asyncio.timeout(60):
        await following
    assert wrote == list(range(2, 2 + len(SAID) + 1))
    assert [said for _, said in got] == [b"a", b"b", b"c", b"Progress", b"d", b"e", b"Finished"]
    late = {said.decode() for how, said in got if how == "later"}
    assert late == {*refused, "Progress", "Finished"}
