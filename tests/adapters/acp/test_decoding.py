"""A run's stream, as servers send it, in canonical terms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentgw.adapters.acp.decoding import RunDecoder, without_pieces
from agentgw.gateway.errors import InvalidRequest
from agentgw.gateway.lifecycle import fold
from agentgw.gateway.model import (
    Event,
    Finished,
    Message,
    MessageDelta,
    MessageDone,
    Progress,
    Started,
    Task,
    TaskState,
    Text,
)

from . import golden

RUN = "3ae0439a-30b3-40aa-bab1-c6df7ffb2f85"


def decoded(events: list[Any], decoder: RunDecoder) -> list[Event]:
    return [canonical for event in events for canonical in decoder.feed(event)]


@pytest.mark.parametrize("path", golden.cases("decoding"), ids=lambda p: p.stem)
def test_stream(path: Path) -> None:
    given, wanted = golden.read(path)
    decoder = RunDecoder("painter")
    assert [json.loads(msgspec.json.encode(e)) for e in decoded(given, decoder)] == wanted
    assert decoder.ended


def run(status: str, **fields: Any) -> dict[str, Any]:
    return {"run_id": RUN, "session_id": None, "status": status, "output": [], **fields}


def test_a_run_that_still_works_is_not_the_end() -> None:
    decoder = RunDecoder("painter")
    assert decoder.whole(run("in-progress")) == [Started(task_id=RUN)]
    assert not decoder.ended


def test_a_run_read_at_once_gives_its_whole_output() -> None:
    output = [{"role": "agent/x", "parts": [{"content": "a"}], "completed_at": "2026-01-01T00:00:00Z"}]
    events = RunDecoder("painter").whole(run("completed", output=output))
    assert [type(e) for e in events] == [Started, MessageDone, Finished]


def test_a_resumed_turn_ends_the_message_of_the_one_before() -> None:
    """The SDK leaves a message open over a question; its completion names all parts."""
    first = RunDecoder("painter")
    named = {"name": "a.txt", "content_type": "text/plain", "content": "file"}
    said = {"content_type": "text/plain", "content": "so far"}
    created = {"type": "message.created", "message": {"role": "agent/x", "parts": []}}
    decoded([created, {"type": "message.part", "part": said}, {"type": "message.part", "part": named}], first)
    whole = {"role": "agent/x", "parts": [said, named]}
    second = RunDecoder("painter", resumed=run("awaiting", output=[{**whole, "completed_at": None}]))
    (done,) = decoded([{"type": "message.completed", "message": whole}], second)
    assert isinstance(done, MessageDone) and done.message.parts == (Text(text="so far"),)


def test_what_is_not_known_is_passed_over() -> None:
    decoder = RunDecoder("painter")
    assert decoder.feed({"type": "run.paused-for-tea"}) == []
    assert decoder.feed({}) == []
    part = {"type": "message.part", "part": {"content_type": "text/plain", "content": "a", "new": 1}}
    (delta,) = decoder.feed(part)
    assert isinstance(delta, MessageDelta)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message.part", "part": {"content": 5}},
        {"type": "message.part"},
        {"type": "message.completed", "message": {"role": "user"}},
        {"type": "run.created", "run": {}},
    ],
)
def test_what_is_not_acp_is_an_error(event: Any) -> None:
    with pytest.raises(InvalidRequest):
        RunDecoder("painter").feed(event)


def test_a_cancelled_run_is_canceled() -> None:
    events = RunDecoder("painter").feed({"type": "run.cancelled", "run": run("cancelled")})
    assert events[-1] == Finished(state=TaskState.CANCELED)


def test_pieces_that_are_told_whole_change_nothing() -> None:
    def piece(text: str) -> MessageDelta:
        return MessageDelta(parts=(Text(text=text),))

    def whole(text: str) -> MessageDone:
        return MessageDone(message=Message(role="agent", parts=(Text(text=text),)))

    events: list[Event] = [
        Started(task_id="r"), piece("a"), Progress(message="half"), piece("b"), whole("ab"), piece("c"),
        whole("c"), piece("d"), Finished(state=TaskState.CANCELED),
    ]  # fmt: skip
    kept = without_pieces(events)
    assert kept == [events[0], events[2], whole("ab"), whole("c"), piece("d"), events[-1]]
    tasks = [Task(id="t", context_id="c", agent="x")] * 2
    for n, told in enumerate((events, kept)):
        for event in told:
            tasks[n] = fold(tasks[n], event)
    assert tasks[0] == tasks[1]


def sdk_message(role: str, *parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts), **fields}


PLAIN = {"content_type": "text/plain", "content": "x"}


@pytest.mark.parametrize(
    "message",
    [
        sdk_message("agent/a", PLAIN),
        sdk_message("agent", PLAIN, created_at="2026-01-01T00:00:00Z", completed_at=None),
        sdk_message("agent/a b", PLAIN),
        sdk_message("agent/", PLAIN),
        sdk_message("user", PLAIN),
        sdk_message("agent/a", PLAIN | {"name": None, "content_encoding": "plain", "metadata": None}),
        sdk_message("agent/a", PLAIN | {"name": "n"}),
        sdk_message("agent/a", PLAIN | {"content": ""}),
        sdk_message("agent/a", PLAIN, PLAIN),
        sdk_message("agent/a", PLAIN | {"content_type": "text/csv"}),
    ],
)
def test_one_plain_text_is_read_as_any_message_is(message: dict[str, Any], monkeypatch: Any) -> None:
    """The short way for what most agents say is no other way."""
    event = {"type": "message.completed", "message": message}
    short = RunDecoder("echo").feed(event)
    monkeypatch.setattr("agentgw.adapters.acp.codec.plain_answer", lambda raw: None)
    assert short == RunDecoder("echo").feed(event)
