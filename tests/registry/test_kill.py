"""What a process that is killed leaves behind."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from agentgw.gateway.errors import UnknownTask
from agentgw.gateway.lifecycle import PAUSED, TERMINAL
from agentgw.gateway.model import Principal, TaskState, text_of
from agentgw.registry.sqlite import SqliteStore

from ..support.memory import MemoryUpstream, hub

# Three calls are acknowledged: one whose answer has begun when all is written, one that has ended by then,
# and one that comes after.
VICTIM = """
import asyncio, sys
from pathlib import Path
from agentgw.gateway.model import Finished, MessageDelta, Started, TaskState, Text, text_of
from agentgw.registry.sqlite import SqliteStore
from tests.support.memory import MemoryUpstream, hub, say

async def answers(call):
    yield Started()
    yield MessageDelta(parts=(Text(text="begun"),))
    if text_of(call.message.parts) == "quick":
        yield Finished(state=TaskState.COMPLETED)
    await asyncio.Event().wait()

async def victim():
    store = SqliteStore(Path(sys.argv[1]), spans=1)
    await store.open()
    engine = hub(None, store, echo=MemoryUpstream(answers))
    await engine.start()

    async def called(text):
        handle = await engine.invoke(say(text, "echo"))
        async for logged in handle.events():
            if logged.seq == 2:
                break
        return handle

    slow, quick = await called("slow"), await called("quick")
    await quick.settled()
    await engine.flush()
    late = await called("late")
    print(slow.id, quick.id, late.id, flush=True)
    await asyncio.Event().wait()

asyncio.run(victim())
"""


async def test_no_task_of_a_killed_process_works_for_ever(tmp_path: Path) -> None:
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, str(tmp_path), stdout=PIPE, cwd=Path(__file__).parents[2]
    )
    assert victim.stdout is not None
    slow, quick, late = (await victim.stdout.readline()).decode().split()
    victim.kill()
    await victim.wait()
    store = SqliteStore(tmp_path, spans=1)
    await store.open()
    try:
        engine = hub(None, store, echo=MemoryUpstream())
        await engine.start()
        failed = (await engine.task(slow, Principal())).task
        assert failed.state is TaskState.FAILED
        assert failed.fault is not None and failed.fault.message.startswith("the gateway was restarted, and ")
        assert text_of(failed.messages[0].parts) == "begun"
        assert [e.seq async for e in (await engine.task(slow, Principal())).events()] == [1, 2, 3]
        assert (await engine.task(quick, Principal())).state is TaskState.COMPLETED
        assert [e.seq async for e in (await engine.task(quick, Principal())).events()] == [1, 2, 3]
        with pytest.raises(UnknownTask):  # it came after the last writing
            await engine.task(late, Principal())
        working = [state for state in TaskState if state not in TERMINAL and state not in PAUSED]
        async with asyncio.timeout(60):
            while await store.load_tasks(states=working):  # what was picked up is written in the background
                await engine.flush()
        await engine.aclose()
    finally:
        await store.aclose()
