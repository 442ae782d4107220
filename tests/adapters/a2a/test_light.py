"""A task that says much is told whole to whoever asks, though it is not in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentgw.adapters.a2a.writer import Writer
from agentgw.gateway.light import is_light
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    Invocation,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Principal,
    Started,
    Task,
    TaskState,
    Text,
)

from ...support.memory import MemoryUpstream, say_at_most
from .support import gateway
from .test_relay import message

WORDS = ["much ", "is ", "said"]


async def talk(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="up")
    for n, word in enumerate(WORDS):
        yield ArtifactDelta(artifact=Artifact(artifact_id="a", parts=(Text(text=word),)), append=n > 0)
        yield MessageDelta(parts=(Text(text=word),))
    yield MessageDone(message=Message(role="agent", parts=(Text(text="much is said"),)))
    yield Finished(state=TaskState.COMPLETED)


def said(task: dict[str, Any]) -> list[str]:
    return ["".join(p["text"] for p in a["parts"]) for a in task["artifacts"]]


async def test_whoever_asks_is_told_all(monkeypatch: pytest.MonkeyPatch) -> None:
    say_at_most(4, monkeypatch)
    everything = ["much is said", "much is said"]
    async with gateway(x=MemoryUpstream(talk)) as g:
        sent = (await g.rpc("/a2a/x", "SendMessage", {"message": message()}))["result"]["task"]
        assert sorted(said(sent)) == everything
        handle = await g.hub.task(sent["id"], Principal())
        assert is_light(handle.task)
        await g.hub.flush()
        found = (await g.rpc("/a2a/x", "GetTask", {"id": sent["id"]}))["result"]
        assert (found["artifacts"], found["status"]) == (sent["artifacts"], sent["status"])
        listed = await g.rpc("/a2a/x", "ListTasks", {"includeArtifacts": True})
        assert listed["result"]["tasks"][0]["artifacts"] == sent["artifacts"]
        listed = await g.rpc("/a2a/x", "ListTasks", {})
        assert "artifacts" not in listed["result"]["tasks"][0]


@pytest.mark.parametrize("size", [1, 40_000])  # characters of a piece: few, and more than are kept
@pytest.mark.parametrize(
    ("more", "told"), [("", ["abc", ""]), ("d", ["abc", "d"]), (None, ["abc", "other"])], ids=str
)
def test_of_a_finished_message_what_was_not_sent_is_told(
    size: int, more: str | None, told: list[str]
) -> None:
    pieces = [letter * size for letter in "abc"]
    whole = "other" if more is None else "".join(pieces) + more
    happened: list[Event] = [MessageDelta(parts=(Text(text=piece),)) for piece in pieces]
    parts: tuple[Part, ...] = (Text(text=whole),)
    happened.append(MessageDone(message=Message(role="agent", parts=parts)))
    writer = Writer(Task(id="t", context_id="c", agent="a"))
    updates = [u.event for n, e in enumerate(happened, 1) for u in writer.feed(Logged(seq=n, at="", event=e))]
    artifacts = [u for u in updates if isinstance(u, ArtifactDelta)]
    texts = ["".join(p.text for p in u.artifact.parts if isinstance(p, Text)) for u in artifacts]
    assert texts == [*pieces, told[1]]
    assert artifacts[-1].append is (more is not None)
