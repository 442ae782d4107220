"""A run that says much is told whole to whoever asks, though it is not in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentgw.adapters.acp.encoding import LongText, RunEncoder, encoded
from agentgw.adapters.acp.face import runs
from agentgw.gateway.light import is_light
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    Invocation,
    Principal,
    Started,
    Task,
    TaskState,
    Text,
)

from ...support.memory import MemoryUpstream, say_at_most
from .conftest import Gateway

WORDS = ['many "words" \\ é\n' * 9000, "and ", "more"]


def talking() -> list[Event]:
    pieces = [
        ArtifactDelta(
            artifact=Artifact(artifact_id="a", parts=(Text(text=word),)),
            append=n > 0,
            last=n == len(WORDS) - 1,
        )
        for n, word in enumerate(WORDS)
    ]
    return [Started(task_id="up"), *pieces, Finished(state=TaskState.COMPLETED)]


async def talk(call: Invocation) -> AsyncIterator[Event]:
    for event in talking():
        yield event


async def test_whoever_asks_is_told_all(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    say_at_most(4, monkeypatch)
    monkeypatch.setattr("agentgw.adapters.acp.encoding._LONG", 4)
    gateway.add("x", MemoryUpstream(talk))
    events = await gateway.stream("x", "go")
    run = events[-1]["run"]
    (spoken,) = run["output"]
    assert [p["content"] for p in spoken["parts"]] == ["".join(WORDS)]
    (completed,) = [e["message"] for e in events if e["type"] == "message.completed"]
    assert completed == spoken
    handle = await gateway.hub.task(run["run_id"], Principal())
    assert is_light(handle.task)
    await gateway.hub.flush()
    assert (await gateway.http.get(f"/runs/{run['run_id']}")).json() == run


def test_long_texts_are_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgw.adapters.acp.encoding._LONG", 4)
    task = Task(id="3ae0439a-30b3-40aa-bab1-c6df7ffb2f85", context_id="c", agent="a")
    apart, together = RunEncoder(task, apart=True), RunEncoder(task)
    for event in talking():
        found, wanted = apart.feed(event, "now"), together.feed(event, "now")
        assert [json.loads(b"".join(encoded(e))) for e in found] == wanted
    (part,) = apart.run["output"][0]["parts"]
    assert isinstance(part["content"], LongText)


def test_what_is_written_at_once_is_bounded() -> None:
    said: list[dict[str, Any]] = [{"type": "x", "long": LongText(["y" * 1000] * 1000)}] * 2
    pieces = list(runs._written(said))  # pyright: ignore[reportPrivateUsage]
    assert max(map(len, pieces)) <= runs._PIECE + 1000  # pyright: ignore[reportPrivateUsage]
    first, second, rest = b"".join(pieces).split(b"\n\n")
    assert first == second
    assert json.loads(first.removeprefix(b"data: ")) == {"type": "x", "long": "y" * 1_000_000}
    assert rest == b""
