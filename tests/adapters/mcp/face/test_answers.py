import base64

import jsonschema
import msgspec
import pytest

from agentgw.adapters.mcp.face import answers, tools
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Fault,
    File,
    InputRequest,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Progress,
    StateChanged,
    Task,
    TaskState,
    Text,
)

LATEST = "2026-07-28"


def said(*parts: Part) -> Message:
    return Message(role="agent", parts=parts)


def task(state: TaskState = TaskState.COMPLETED, **fields: object) -> Task:
    return Task(id="t1", context_id="c1", agent="echo", state=state, **fields)  # type: ignore[arg-type]


def test_each_kind_of_part_has_its_block_and_bytes_are_identical() -> None:
    data = bytes(range(256))
    parts: tuple[Part, ...] = (
        Text(text="hi"),
        File(content=data, media_type="image/png"),
        File(content=data, media_type="audio/wav"),
        File(content=data, media_type="application/pdf", name="a b.pdf"),
        File(uri="https://example.com/x.csv", media_type="text/csv", name="x.csv"),
    )
    content = answers.result(task(messages=(said(*parts),)), LATEST)["content"]
    assert [block["type"] for block in content] == ["text", "image", "audio", "resource", "resource_link"]
    for encoded in (content[1]["data"], content[2]["data"], content[3]["resource"]["blob"]):
        assert base64.b64decode(encoded) == data
    assert content[3]["resource"]["mimeType"] == "application/pdf"
    assert content[4] == {
        "type": "resource_link", "uri": "https://example.com/x.csv", "name": "x.csv", "mimeType": "text/csv",
    }  # fmt: skip


def test_structured_content_fits_the_schema_and_names_everything() -> None:
    artifact = Artifact(artifact_id="a1", name="report", parts=(Text(text="x"), File(content=b"12345")))
    result = answers.result(task(messages=(said(Data(data={"n": 1})),), artifacts=(artifact,)), LATEST)
    structured = result["structuredContent"]
    jsonschema.validate(structured, tools.OUTPUT_SCHEMA)
    assert structured == {
        "state": "completed",
        "task_id": "t1",
        "context_id": "c1",
        "data": {"n": 1},
        "artifacts": [
            {
                "artifact_id": "a1",
                "name": "report",
                "parts": [{"type": "text", "text": "x"}, {"type": "file", "size": 5}],
            }
        ],
    }
    assert "isError" not in result


def test_several_data_parts_are_an_array() -> None:
    result = answers.result(task(messages=(said(Data(data=1), Data(data=[2])),)), LATEST)
    assert result["structuredContent"]["data"] == [1, [2]]


def test_an_answer_without_data_says_so() -> None:
    structured = answers.result(task(messages=(said(Text(text="hi")),)), LATEST)["structuredContent"]
    assert structured == {
        "state": "completed",
        "task_id": "t1",
        "context_id": "c1",
        "data": None,
        "artifacts": [],
    }
    jsonschema.validate(structured, tools.OUTPUT_SCHEMA)


def test_a_failure_after_part_of_the_answer_tells_why() -> None:
    fault = Fault(code="agent_error", message="no more")
    failed = task(TaskState.FAILED, messages=(said(Text(text="one")),), fault=fault)
    assert [block["text"] for block in answers.result(failed, LATEST)["content"]] == ["one", "no more"]


def test_a_question_says_how_to_answer() -> None:
    request = InputRequest(message=said(Text(text="Which year?")), kind="form", schema={"type": "integer"})
    asking = task(TaskState.INPUT_REQUIRED, input_request=request, status_message=request.message)
    result = answers.result(asking, LATEST)
    text = "\n".join(block["text"] for block in result["content"])
    assert "Which year?" in text
    assert 'task_id "t1"' in text
    assert '{"type":"integer"}' in text
    assert result["structuredContent"]["state"] == "input_required"
    assert result["structuredContent"]["input_request"]["prompt"] == "Which year?"
    assert "isError" not in result


def test_failures_are_errors_with_their_words() -> None:
    own = task(
        TaskState.FAILED,
        status_message=said(Text(text="no data")),
        fault=Fault(code="agent_error", message="no data"),
    )
    assert answers.result(own, LATEST)["content"] == [{"type": "text", "text": "no data"}]
    crash = task(TaskState.REJECTED, fault=Fault(code="upstream_failed", message="echo failed"))
    result = answers.result(crash, LATEST)
    assert result["isError"] is True
    assert result["content"] == [{"type": "text", "text": "echo failed"}]
    assert result["structuredContent"]["error"] == {"code": "upstream_failed", "message": "echo failed"}


def test_words_of_a_working_agent_are_no_answer() -> None:
    working = task(TaskState.WORKING, status_message=said(Text(text="half way")))
    (block,) = answers.result(working, LATEST)["content"]
    assert "half way" not in block["text"]
    assert 'task_id "t1"' in block["text"]


def test_older_revisions_get_blocks_that_they_know() -> None:
    parts = (File(uri="https://x/y", name="y"), File(content=b"1", media_type="audio/wav"))
    content = answers.result(task(messages=(said(*parts),)), "2024-11-05")["content"]
    assert [block["type"] for block in content] == ["text", "resource"]


def test_progress_is_told_once() -> None:
    narrator = answers.Narrator()
    events = [
        StateChanged(state=TaskState.WORKING, message=said(Text(text="thinking"))),
        MessageDelta(parts=(Text(text="a"),)),
        MessageDelta(parts=(Text(text="b"),)),
        MessageDone(message=said(Text(text="ab"))),
        MessageDone(message=said(Text(text="whole"))),
        ArtifactDelta(artifact=Artifact(artifact_id="1", parts=(Text(text="c"),)), append=True),
        Progress(message="50 %", progress=0.5),
        Progress(data={"step": 1}),
        StateChanged(state=TaskState.WORKING),
    ]
    told = [narrator.feed(event) for event in events]
    assert told == ["thinking", "a", "b", None, "whole", "c", "50 %", '{"step":1}', None]


def test_results_are_json() -> None:
    msgspec.json.encode(answers.result(task(messages=(said(Text(text="x")),)), LATEST))


TEXTS = (
    Text(text="hi"),
    Text(text=""),
    Text(text="hi", media_type="text/html"),
    Text(text="hi", name="n"),
    Text(text="hi", metadata={"a": 1}),
    Text(text="hi", extra={"mcp": {"annotations": {"priority": 1}}}),
    Data(data=1),
)


@pytest.mark.parametrize("state", [TaskState.COMPLETED, TaskState.CANCELED])
@pytest.mark.parametrize("part", TEXTS, ids=range(len(TEXTS)))
def test_a_plain_answer_is_what_any_answer_is(state: TaskState, part: Part) -> None:
    """A remark makes it go the long way."""
    artifact = Artifact(artifact_id="a1", parts=(part,))
    for given in (
        task(state, messages=(said(part),)),
        task(state, messages=(said(part), said(part))),
        task(state, messages=(said(part, part),)),
        task(state, messages=(said(part),), artifacts=(artifact,)),
        task(state, messages=(said(part),), status_message=said(part)),
        task(state, messages=(said(part),), fault=Fault(code="internal", message="odd")),
        task(state, status_message=said(part)),
    ):
        found = answers.result(given, LATEST)
        long = answers.result(given, LATEST, note="x")
        assert long["content"].pop() == {"type": "text", "text": "x"}
        assert found == long
