"""A task as a Run that is looked at. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...gateway.lifecycle import bare
from ...gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    InputRequired,
    Logged,
    MessageDone,
    Started,
    Task,
    TaskState,
    Translated,
)
from . import codec
from .encoding import STATUS, RunEncoder, new_run
from .losses import Loss, phrases
from .lost import of_event
from .wire import Json

_COMPLETED = TaskState.COMPLETED


def run_json(task: Task, log: Sequence[Logged], trace_id: str | None = None) -> Translated[Json]:
    """The Run of a task with its event log as far as it has come.

    Without a log (a task that only passed by, or whose log is gone) the task itself tells what it holds.
    """
    if (plain := _plain(task, log)) is not None:
        return plain
    encoder = RunEncoder(task, trace_id, telling=False)
    for logged in log:
        encoder.feed(logged.event, logged.at)
    if not log:
        for event in _told(task):
            encoder.feed(event, task.updated_at)
    run = encoder.snapshot() | {"status": STATUS[task.state]}
    return Translated(value=run, losses=encoder.losses)


def _plain(task: Task, log: Sequence[Logged]) -> Translated[Json] | None:
    """The same of a task that has said one plain text and ended, as most do, in a fraction of the time; None
    for any other."""
    if len(log) != 3 or task.state is not _COMPLETED or type(log[0].event) is not Started:
        return None
    event, at, end = log[1].event, log[1].at, log[2].event
    if type(end) is not Finished or end.message is not None:
        return None
    author, closed, lost = None, at, of_event(end)
    if type(event) is MessageDone:
        text, author = bare(event.message.parts), event.message.author
        lost = {*lost, *of_event(event)}
    elif type(event) is ArtifactDelta:
        text, closed = bare(event.artifact.parts), at if event.last else log[2].at
        lost = {*lost, *of_event(event), *_of_artifact(event.artifact)}
    else:
        return None
    if text is None:
        return None
    message: Json = {
        "role": codec.role_by(author or task.agent),
        "parts": [{"content_type": codec.TEXT_TYPE, "content": text}],
        "created_at": at,
        "completed_at": closed,
    }
    run = new_run(task)
    run["status"], run["output"], run["finished_at"] = "completed", [message], log[2].at
    return Translated(value=run, losses=phrases(lost))


def _of_artifact(artifact: Artifact) -> Collection[Loss]:
    """What one of plain text loses as an artifact: text has no name, and nothing says whose it is."""
    lost = (Loss.ARTIFACT_BOUNDS, Loss.ARTIFACT_ID)
    return lost if artifact.name is None else (*lost, Loss.ARTIFACT_NAME)


def _told(task: Task) -> list[Event]:
    events: list[Event] = [MessageDone(message=m) for m in task.messages]
    events += [ArtifactDelta(artifact=a) for a in task.artifacts]
    if task.input_request is not None:
        events.append(InputRequired(request=task.input_request))
    elif STATUS[task.state] in ("completed", "failed", "cancelled"):
        events.append(Finished(state=task.state, message=task.status_message, fault=task.fault))
    return events
