"""The life of a task, pure: which state may follow which, and how events fold into a Task.

submitted -> working <-> input_required / auth_required -> ... -> completed | failed | canceled | rejected
                \\-> canceling -> canceled (or another end: the agent may win the race)
"""

from __future__ import annotations

import msgspec

from .model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    InputRequired,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    StateChanged,
    Task,
    TaskState,
    Text,
)

S = TaskState
TERMINAL = frozenset({S.COMPLETED, S.FAILED, S.CANCELED, S.REJECTED})
PAUSED = frozenset({S.INPUT_REQUIRED, S.AUTH_REQUIRED})

_RUNNING = {S.WORKING, *PAUSED, S.CANCELING, *TERMINAL}
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    S.SUBMITTED: frozenset(_RUNNING),
    S.WORKING: frozenset(_RUNNING),
    S.INPUT_REQUIRED: frozenset(_RUNNING),
    S.AUTH_REQUIRED: frozenset(_RUNNING),
    S.CANCELING: frozenset({S.CANCELING, *TERMINAL}),
    **{state: frozenset[TaskState]() for state in TERMINAL},
}


def may_follow(old: TaskState, new: TaskState) -> bool:
    """Whether a task in ``old`` may go to ``new``. Nothing follows a terminal state."""
    return new in TRANSITIONS[old]


def next_state(old: TaskState, event: Event) -> TaskState:
    """The state after ``event``; an event that the table forbids leaves the state as it is."""
    match event:
        case StateChanged(state=new) | Finished(state=new):
            pass
        case InputRequired(request=request):
            new = S.AUTH_REQUIRED if request.kind == "auth" else S.INPUT_REQUIRED
        case _:
            new = S.WORKING if old is S.SUBMITTED else old
    return new if may_follow(old, new) else old


def joined(old: tuple[Part, ...], new: tuple[Part, ...]) -> tuple[Part, ...]:
    """``old`` followed by ``new``; text that continues plain text of the same kind becomes one part."""
    if not old or not new:
        return old + new
    last, first = old[-1], new[0]
    if (
        isinstance(last, Text)
        and isinstance(first, Text)
        and not (first.extra or last.extra or first.metadata or last.metadata)
        and (first.media_type, first.name) == (last.media_type, last.name)
    ):
        return (*old[:-1], msgspec.structs.replace(last, text=last.text + first.text), *new[1:])
    return old + new


def fold(task: Task, event: Event, at: str = "") -> Task:
    """The task after ``event`` (``at``: its time). Events after the end change nothing."""
    if task.state in TERMINAL:
        return task
    state = next_state(task.state, event)
    change: dict[str, object] = {"state": state, "updated_at": at or task.updated_at}
    if state not in PAUSED and task.input_request is not None:
        change["input_request"] = None
    match event:
        case StateChanged(message=message) if message is not None:
            change["status_message"] = message
        case MessageDelta():
            change["messages"] = _with_delta(task.messages, event)
        case MessageDone(message=message):
            change["messages"] = _with_done(task.messages, message)
        case ArtifactDelta():
            change["artifacts"] = _with_artifact(task.artifacts, event)
        case InputRequired(request=request) if state in PAUSED:
            change |= {"input_request": request, "status_message": request.message}
        case Finished(message=message, fault=fault):
            change |= {"messages": _closed(task.messages), "status_message": message, "fault": fault}
        case _:
            pass
    return msgspec.structs.replace(task, **change)


# A message that is still being written is marked in ``extra`` so that the next delta finds it.
_OPEN = {"gateway": {"open": True}}


def _is_open(messages: tuple[Message, ...]) -> bool:
    return bool(messages) and "gateway" in messages[-1].extra


def _with_delta(messages: tuple[Message, ...], event: MessageDelta) -> tuple[Message, ...]:
    if _is_open(messages):
        last = messages[-1]
        return (*messages[:-1], msgspec.structs.replace(last, parts=joined(last.parts, event.parts)))
    opened = Message(
        role="agent", parts=event.parts, message_id=event.message_id, author=event.author, extra=_OPEN
    )
    return (*messages, opened)


def _with_done(messages: tuple[Message, ...], message: Message) -> tuple[Message, ...]:
    return (*messages[:-1], message) if _is_open(messages) else (*messages, message)


def _closed(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if not _is_open(messages):
        return messages
    return (*messages[:-1], msgspec.structs.replace(messages[-1], extra={}))


def _with_artifact(artifacts: tuple[Artifact, ...], event: ArtifactDelta) -> tuple[Artifact, ...]:
    new = event.artifact
    for i, old in enumerate(artifacts):
        if old.artifact_id == new.artifact_id:
            if event.append:
                new = msgspec.structs.replace(old, parts=joined(old.parts, new.parts))
            return (*artifacts[:i], new, *artifacts[i + 1 :])
    return (*artifacts, new)
