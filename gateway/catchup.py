"""What two snapshots of a task differ in, as the events that lead from the one to the other. Pure."""

from __future__ import annotations

import msgspec

from .lifecycle import Folding, is_open, joined
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
    Started,
    Task,
    Text,
)


class CatchUp:
    """Feed all events of a task from its beginning, told anew; get those that ``known`` does not hold yet.

    ``known``: the task as far as it was told before. What is new may come in another order: artifacts first.
    Of progress there is nothing to compare: what was told before the first call is not told again.
    """

    def __init__(self, known: Task) -> None:
        self._told = Folding(known)
        self._found = Folding(Task(id=known.id, context_id=known.context_id, agent=known.agent))
        self._begun = False

    def news(self, events: list[Event]) -> list[Event]:
        """What is new in the next of the events. An end or a question counts only as the last of them: it
        has been answered else."""
        others = [e for e in events if not isinstance(e, Finished | InputRequired)]
        end = events[-1:] if len(others) < len(events) and events[-1] not in others else []
        for event in others:
            self._found.add(event)
        news = [e for e in others if isinstance(e, Started) or (self._begun and not _compared(e))]
        self._begun = True
        news += events_between(self._told.task, self._found.task)
        for event in news:
            self._told.add(event)
        return [*news, *end]


def _compared(event: Event) -> bool:
    return isinstance(event, MessageDelta | MessageDone | ArtifactDelta)


def events_between(old: Task, new: Task) -> list[Event]:
    """What must be told of artifacts and messages to whoever has seen ``old``, to have ``new``."""
    known = {a.artifact_id: a for a in old.artifacts}
    deltas = (artifact_news(known.get(a.artifact_id), a) for a in new.artifacts)
    events: list[Event] = [delta for delta in deltas if delta is not None]
    for at, message in enumerate(new.messages):
        before = old.messages[at] if at < len(old.messages) else None
        if before is None or is_open(before):
            events += _message_news(before, message)
    return events


def _message_news(old: Message | None, new: Message) -> list[Event]:
    """A message that has grown, or has ended. One that begins otherwise than it did is told at its end."""
    events: list[Event] = []
    rest = _rest(old.parts if old else (), new.parts)
    if rest:
        events.append(MessageDelta(parts=rest, author=new.author, message_id=new.message_id))
    if not is_open(new):
        events.append(MessageDone(message=new))
    return events


def artifact_news(old: Artifact | None, new: Artifact) -> ArtifactDelta | None:
    """What a client that has seen ``old`` must be told to have ``new``: what was joined on, all of it, or
    nothing. How text is cut into parts does not count."""
    if old is None:
        return ArtifactDelta(artifact=new)
    rest = _rest(old.parts, new.parts)
    if rest is None:
        return ArtifactDelta(artifact=new)
    if not rest:
        same = (old.name, old.description, old.metadata) == (new.name, new.description, new.metadata)
        return None if same else ArtifactDelta(artifact=new)
    if not old.parts:
        return ArtifactDelta(artifact=new)
    return ArtifactDelta(artifact=msgspec.structs.replace(new, parts=rest), append=True)


def _rest(old: tuple[Part, ...], new: tuple[Part, ...]) -> tuple[Part, ...] | None:
    """What ``new`` has beyond ``old``; None where it does not begin as ``old`` does."""
    before, after = _whole(old), _whole(new)
    n = len(before) - 1
    if n < 0:
        return after
    if len(after) <= n or before[:n] != after[:n]:
        return None
    rest = _continuation(before[n], after[n])
    return None if rest is None else (*rest, *after[n + 1 :])


def _whole(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    whole: tuple[Part, ...] = ()
    for part in parts:
        whole = joined(whole, (part,))
    return whole


def _continuation(old: Part, new: Part) -> tuple[Part, ...] | None:
    if old == new:
        return ()
    if not isinstance(old, Text) or not isinstance(new, Text) or not new.text.startswith(old.text):
        return None
    if msgspec.structs.replace(old, text=new.text) != new:
        return None
    return (msgspec.structs.replace(new, text=new.text[len(old.text) :]),)
