"""A task's events as an ACP stream, and the Run that they add up to."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentgw.adapters.acp.encoding import RunEncoder
from agentgw.adapters.acp.ids import as_uuid, is_uuid
from agentgw.adapters.acp.run import run_json
from agentgw.gateway.lifecycle import fold
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    Extra,
    Finished,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Progress,
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


OF_MCP: Extra = {"mcp": {"x": 1}}
PARTS: list[Part] = [
    Text(text="hi"), Text(text=""), Text(text="hi", name="n"), Text(text="hi", media_type="text/html"),
    Text(text="hi", metadata={"a": 1}), Text(text="hi", extra=OF_MCP), Data(data={"a": 1}),
]  # fmt: skip
MESSAGES = [
    *(Message(role="agent", parts=(part,)) for part in PARTS),
    Message(role="agent", parts=()),
    Message(role="agent", parts=(PARTS[0], PARTS[0])),
    Message(role="agent", parts=(PARTS[0],), author="me"),
    Message(role="agent", parts=(PARTS[0],), message_id="m"),
    Message(role="agent", parts=(PARTS[0],), metadata={"a": 1}),
    Message(role="agent", parts=(PARTS[0],), extra=OF_MCP),
]
ARTIFACTS = [
    *(Artifact(artifact_id="a", parts=(part,)) for part in PARTS),
    Artifact(artifact_id="a", parts=(PARTS[0], PARTS[0])),
    Artifact(artifact_id="a", name="n", parts=(PARTS[0],)),
    Artifact(artifact_id="a", description="d", parts=(PARTS[0],)),
    Artifact(artifact_id="a", metadata={"a": 1}, parts=(PARTS[0],)),
    Artifact(artifact_id="a", extra=OF_MCP, parts=(PARTS[0],)),
]
SAYS: list[Event] = [
    *(MessageDone(message=message) for message in MESSAGES),
    *(ArtifactDelta(artifact=artifact) for artifact in ARTIFACTS),
    ArtifactDelta(artifact=ARTIFACTS[0], append=True, last=False),
    ArtifactDelta(artifact=ARTIFACTS[0], last=False),
    ArtifactDelta(artifact=ARTIFACTS[0], metadata={"a": 1}),
    ArtifactDelta(artifact=ARTIFACTS[0], extra=OF_MCP),
    MessageDelta(parts=(PARTS[0],)),
    Progress(message="p"),
]
ENDS = [
    Finished(state=TaskState.COMPLETED),
    Finished(state=TaskState.COMPLETED, message=MESSAGES[0]),
    Finished(state=TaskState.COMPLETED, metadata={"a": 1}),
    Finished(state=TaskState.COMPLETED, extra=OF_MCP),
    Finished(state=TaskState.FAILED),
    Finished(state=TaskState.CANCELED),
]


@pytest.mark.parametrize("at", range(len(SAYS)))
def test_a_plain_answer_is_the_run_that_its_events_add_up_to(at: int) -> None:
    for first, end in itertools.product((Started(task_id="t"), Progress(message="p"), SAYS[0]), ENDS):
        events: list[Event] = [first, SAYS[at], end]
        log = [Logged(n, f"2026-01-01T00:00:0{n}.000Z", event) for n, event in enumerate(events, 1)]
        task, encoder = TASK, RunEncoder(TASK)
        for entry in log:
            task = fold(task, entry.event, entry.at)
            encoder.feed(entry.event, entry.at)
        found = run_json(task, log)
        assert found.value == encoder.snapshot()
        assert found.losses == encoder.losses
