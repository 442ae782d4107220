"""The state table and the fold of events into a task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.lifecycle import PAUSED, TERMINAL, TRANSITIONS, Folding, fold, may_follow
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    Fault,
    Finished,
    InputRequest,
    InputRequired,
    Message,
    MessageDelta,
    MessageDone,
    Progress,
    Started,
    StateChanged,
    Task,
    TaskState,
    Text,
    text_of,
)


def task(state: TaskState = TaskState.SUBMITTED) -> Task:
    return Task(id="t", context_id="c", agent="a", state=state)


def folded(*events: Event) -> Task:
    result = task()
    for event in events:
        result = fold(result, event, "now")
    return result


def said(*texts: str) -> Message:
    return Message(role="agent", parts=tuple(Text(text=t) for t in texts))


def artifact(text: str) -> Artifact:
    return Artifact(artifact_id="x", parts=(Text(text=text),))


def test_table_covers_every_state_and_nothing_follows_an_end() -> None:
    assert set(TRANSITIONS) == set(TaskState)
    assert all(not TRANSITIONS[s] for s in TERMINAL)
    assert not may_follow(TaskState.CANCELING, TaskState.WORKING)
    assert may_follow(TaskState.CANCELING, TaskState.COMPLETED)


def test_deltas_join_and_the_whole_message_replaces_them() -> None:
    streamed = folded(MessageDelta(parts=(Text(text="Hel"),)), MessageDelta(parts=(Text(text="lo"),)))
    assert [text_of(m.parts) for m in streamed.messages] == ["Hello"]
    done = folded(MessageDelta(parts=(Text(text="Hel"),)), MessageDone(message=said("Hello")))
    assert done.messages == (said("Hello"),)


def test_two_messages_stay_two() -> None:
    result = folded(
        MessageDelta(parts=(Text(text="a"),)), MessageDone(message=said("a")), MessageDone(message=said("b"))
    )
    assert result.messages == (said("a"), said("b"))


def test_parts_of_different_kinds_are_not_joined() -> None:
    result = folded(MessageDelta(parts=(Text(text="a"),)), MessageDelta(parts=(Data(data={"k": 1}),)))
    assert result.messages[0].parts == (Text(text="a"), Data(data={"k": 1}))


def test_artifact_chunks_append_or_replace() -> None:
    appended = folded(
        ArtifactDelta(artifact=artifact("a"), last=False), ArtifactDelta(artifact=artifact("b"), append=True)
    )
    assert text_of(appended.artifacts[0].parts) == "ab"
    replaced = folded(ArtifactDelta(artifact=artifact("a")), ArtifactDelta(artifact=artifact("b")))
    assert text_of(replaced.artifacts[0].parts) == "b"


def test_a_message_left_open_is_closed_by_the_end() -> None:
    result = folded(MessageDelta(parts=(Text(text="a"),)), Finished(state=TaskState.COMPLETED))
    assert result.messages == (said("a"),)


@pytest.mark.parametrize(
    ("kind", "state"), [("form", TaskState.INPUT_REQUIRED), ("auth", TaskState.AUTH_REQUIRED)]
)
def test_a_question_pauses_and_work_clears_it(kind: str, state: TaskState) -> None:
    request = InputRequest(message=said("?"), kind=kind)  # type: ignore[arg-type]
    paused = folded(InputRequired(request=request))
    assert (paused.state, paused.input_request) == (state, request)
    assert fold(paused, StateChanged(state=TaskState.WORKING)).input_request is None


def test_progress_starts_work_and_is_no_answer() -> None:
    result = folded(Started(task_id="u"), Progress(message="50 %"))
    assert (result.state, result.messages, result.artifacts) == (TaskState.WORKING, (), ())


EVENTS = st.sampled_from(
    [
        Started(),
        StateChanged(state=TaskState.WORKING),
        StateChanged(state=TaskState.CANCELING),
        MessageDelta(parts=(Text(text="x"),)),
        MessageDone(message=said("x")),
        MessageDelta(parts=(Text(text="y", name="n"), Data(data=1))),
        ArtifactDelta(artifact=artifact("x")),
        ArtifactDelta(artifact=artifact("x"), append=True),
        ArtifactDelta(artifact=Artifact(artifact_id="z", parts=(Data(data=1),)), append=True),
        InputRequired(request=InputRequest(message=said("?"))),
        Finished(state=TaskState.FAILED, fault=Fault(code="agent_error", message="no")),
        Finished(state=TaskState.COMPLETED, message=said("bye")),
    ]
)


@given(st.lists(EVENTS, max_size=12))
def test_every_sequence_of_events_walks_along_the_table(events: list[Event]) -> None:
    current = task()
    for event in events:
        following = fold(current, event)
        assert following.state is current.state or may_follow(current.state, following.state)
        if current.state in TERMINAL:
            assert following is current
        assert (following.input_request is not None) == (following.state in PAUSED)
        current = following


@given(st.lists(EVENTS, max_size=12), st.sets(st.integers(0, 12)))
def test_events_taken_in_at_once_give_the_same_task(events: list[Event], read_after: set[int]) -> None:
    folding = Folding(task())
    for number, event in enumerate(events):
        folding.add(event, "now")
        if number in read_after:
            assert folding.task.state is folding.state
    assert folding.task == folded(*events)
    assert folding.task is folding.task
