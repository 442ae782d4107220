"""A task's events as an ACP stream, and the Run that they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentgw.adapters.acp.encoding import RunEncoder, run_json
from agentgw.adapters.acp.ids import as_uuid, is_uuid
from agentgw.gateway.lifecycle import fold
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    Logged,
    Message,
    MessageDelta,
    Started,
    Task,
    TaskState,
    Text,
)

from . import golden

TASK = Task(
    id="0b22d138-1da3-4f39-8065-c0f30294c588",
    context_id="6cf01b6d-b98c-4538-ad58-09da3f249910",
    agent="painter",
    created_at="2026-01-01T00:00:00.000Z",
)


def logged(events: list[Any]) -> list[Logged]:
    decoded = [msgspec.convert(e, Event) for e in events]
    return [Logged(seq=i, at=f"2026-01-01T00:00:0{i}.000Z", event=e) for i, e in enumerate(decoded, 1)]


def encoded(log: list[Logged]) -> list[dict[str, Any]]:
    encoder = RunEncoder(TASK, "t" * 32)
    return [encoder.created(), *(e for entry in log for e in encoder.feed(entry.event, entry.at))]


@pytest.mark.parametrize("path", golden.cases("encoding"), ids=lambda p: p.stem)
def test_stream(path: Path) -> None:
    given, wanted = golden.read(path)
    assert encoded(logged(given)) == wanted


@pytest.mark.parametrize("path", golden.cases("encoding"), ids=lambda p: p.stem)
def test_the_run_looked_at_later_is_the_one_that_was_streamed(path: Path) -> None:
    log = logged(golden.read(path)[0])
    task = TASK
    for entry in log:
        task = fold(task, entry.event, entry.at)
    assert run_json(task, log, "t" * 32).value == encoded(log)[-1]["run"]


def test_a_stream_sent_in_pieces_says_each_thing_once() -> None:
    for path in golden.cases("encoding"):
        events = encoded(logged(golden.read(path)[0]))
        pieces = [e["part"].get("content") for e in events if e["type"] == "message.part"]
        output = [p.get("content") for m in events[-1]["run"]["output"] for p in m["parts"]]
        assert "".join(filter(None, pieces)) == "".join(filter(None, output)), path.stem


def test_a_task_without_a_log_tells_what_it_holds() -> None:
    task = TASK
    for event in (
        Started(),
        MessageDelta(parts=(Text(text="said"),)),
        ArtifactDelta(artifact=Artifact(artifact_id="a", parts=(Text(text="made"),))),
        Finished(state=TaskState.COMPLETED, message=Message(role="agent", parts=(Text(text="done"),))),
    ):
        task = fold(task, event, "2026-01-01T00:00:01.000Z")
    run = run_json(task, []).value
    assert run["status"] == "completed"
    assert [p["content"] for m in run["output"] for p in m["parts"]] == ["said", "made", "done"]


def test_a_run_being_stopped_says_so() -> None:
    log = logged([{"type": "started"}, {"type": "state", "state": "canceling"}])
    task = fold(fold(TASK, log[0].event), log[1].event)
    assert run_json(task, log).value["status"] == "cancelling"


def test_long_streams_are_not_encoded_again_and_again() -> None:
    """One part in, one part out: the work does not grow with what was said before."""
    encoder = RunEncoder(TASK)
    for _ in range(2000):
        (*_, event) = encoder.feed(MessageDelta(parts=(Text(text="x" * 100),)), "")
        assert event["part"]["content"] == "x" * 100
    assert len(encoder.snapshot()["output"][0]["parts"]) == 1


def test_ids_that_are_no_uuids_get_a_lasting_one() -> None:
    assert as_uuid(TASK.id.upper()) == TASK.id
    assert is_uuid(as_uuid("ctx-1")) and as_uuid("ctx-1") == as_uuid("ctx-1") != as_uuid("ctx-2")
    assert as_uuid(TASK.id, "alice") != as_uuid(TASK.id, "bob")
