"""The life of a task, pure: which state may follow which, and how events fold into a Task.

submitted -> working <-> input_required / auth_required -> ... -> completed | failed | canceled | rejected
                \\-> canceling -> canceled (or another end: the agent may win the race)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    InputRequired,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Progress,
    Started,
    StateChanged,
    Task,
    TaskState,
    Text,
)
from .pace import size_of_parts

S = TaskState
_SUBMITTED, _WORKING = S.SUBMITTED, S.WORKING  # to find them in their class takes longer
TERMINAL = frozenset({S.COMPLETED, S.FAILED, S.CANCELED, S.REJECTED})
PAUSED = frozenset({S.INPUT_REQUIRED, S.AUTH_REQUIRED})

PIECES = frozenset({MessageDelta, ArtifactDelta})  # events that only add to what a task says
TURNS = frozenset({StateChanged, InputRequired, Finished})  # events that may change the state of one at work
_RESTING = TERMINAL | PAUSED
_WORK = frozenset({*PIECES, MessageDone, Progress, Started})  # events of an agent at work

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
    if type(event) is Finished or type(event) is StateChanged:
        new = event.state
    elif type(event) is InputRequired:
        new = S.AUTH_REQUIRED if event.request.kind == "auth" else S.INPUT_REQUIRED
    else:
        return _WORKING if old is _SUBMITTED else old
    return new if new in TRANSITIONS[old] else old


def joined(old: tuple[Part, ...], new: tuple[Part, ...]) -> tuple[Part, ...]:
    """``old`` followed by ``new``; text that continues plain text of the same kind becomes one part."""
    pieces = Pieces(old)
    pieces.add(new)
    return pieces.parts


class Pieces:
    """Parts that grow: texts that continue one another are put together once they are read."""

    __slots__ = ("_bare", "_parts", "_texts")

    def __init__(self, parts: tuple[Part, ...] = ()) -> None:
        self._parts = list(parts)
        self._texts: list[str] = []  # what continues the last part
        self._bare = bool(parts) and bare(parts[-1:]) is not None  # whether that is text and nothing else

    def add(self, new: tuple[Part, ...]) -> None:
        if not new:
            return
        if self._bare and (text := bare(new)) is not None:
            self._texts.append(text)
            return
        last, first = self._parts[-1] if self._parts else None, new[0]
        if isinstance(last, Text) and isinstance(first, Text) and _continues(last, first):
            self._texts.append(first.text)
            new = new[1:]
        if new:
            if self._texts:
                self._join()
            self._parts.extend(new)
            self._bare = bare(new[-1:]) is not None

    def more(self, text: str) -> None:
        """``add`` of a part that is this text and nothing else."""
        if self._bare:
            self._texts.append(text)
        else:
            self.add((Text(text=text),))

    def _join(self) -> None:
        last = self._parts[-1]
        assert isinstance(last, Text)
        self._parts[-1] = msgspec.structs.replace(last, text="".join((last.text, *self._texts)))
        self._texts = []

    @property
    def parts(self) -> tuple[Part, ...]:
        if self._texts:
            self._join()
        return tuple(self._parts)

    @property
    def apart(self) -> tuple[Sequence[Part], Sequence[str]]:
        """The same without putting texts together: the parts, and what continues the last of them."""
        return self._parts, self._texts


def bare(parts: tuple[Part, ...]) -> str | None:
    """The text, if that is all that the parts are."""
    if len(parts) != 1 or type(part := parts[0]) is not Text:
        return None
    if part.media_type is not None or part.name is not None or part.metadata is not None or part.extra:
        return None
    return part.text


def _continues(last: Text, first: Text) -> bool:
    plain = not (first.extra or last.extra or first.metadata or last.metadata)
    return plain and (first.media_type, first.name) == (last.media_type, last.name)


# A message that is still being written is marked in ``extra`` so that the next delta finds it.
_OPEN = {"gateway": {"open": True}}


def is_open(message: Message) -> bool:
    """Whether a message of a task is still being written."""
    return "gateway" in message.extra


class Folding:
    """A task as its events come in. Reading it costs what came since the last reading, not each event.

    ``last``: the task at the last reading; ``stale``: whether something came since.
    """

    __slots__ = (
        "_artifacts", "_fault", "_grown", "_messages", "_open", "_request", "_said", "_updated", "last",
        "stale", "state",
    )  # fmt: skip

    def __init__(self, task: Task) -> None:
        self.last = task
        self.state = task.state
        self.stale = False
        self._updated = task.updated_at
        self._said = task.status_message
        self._request = task.input_request
        self._fault = task.fault
        self._messages: tuple[Message, ...] = task.messages
        self._open: tuple[Message, Pieces] | None = None  # the message that is being written
        self._artifacts: tuple[Artifact, ...] = task.artifacts
        self._grown: dict[str, Pieces] = {}  # artifacts that grew since the last reading

    @property
    def task(self) -> Task:
        """The task after all events so far."""
        if not self.stale:
            return self.last
        if self._open is not None:
            message, pieces = self._open
            self._messages = (*self._messages, msgspec.structs.replace(message, parts=pieces.parts))
            self._open = None
        if self._grown:
            self._artifacts = tuple(
                msgspec.structs.replace(a, parts=self._grown[a.artifact_id].parts)
                if a.artifact_id in self._grown
                else a
                for a in self._artifacts
            )
            self._grown = {}
        self.last = msgspec.structs.replace(
            self.last,
            state=self.state,
            messages=self._messages,
            artifacts=self._artifacts,
            status_message=self._said,
            input_request=self._request,
            fault=self._fault,
            updated_at=self._updated,
        )
        self.stale = False
        return self.last

    def add(self, event: Event, at: str = "") -> None:
        """Take one event in (``at``: its time). Events after the end change nothing."""
        self.grow((Logged(0, at, event),))

    def grow(self, log: Iterable[Logged]) -> None:
        """Take in these events."""
        state, at = self.state, ""
        for logged in log:
            if state in TERMINAL:
                break
            event = logged.event
            kind = type(event)
            at = logged.at or at
            if kind not in _WORK:
                self.state = state = next_state(state, event)
            elif state is _SUBMITTED:
                self.state = state = _WORKING
            self.stale = True
            if self._request is not None and state not in PAUSED:
                self._request = None
            if (folds := _FOLDS.get(kind)) is not None:
                folds(self, event)
        if at:
            self._updated = at

    def _state_changed(self, event: StateChanged) -> None:
        if event.message is not None:
            self._said = event.message

    def _asked(self, event: InputRequired) -> None:
        if self.state in PAUSED:
            self._request, self._said = event.request, event.request.message

    def _finished(self, event: Finished) -> None:
        if self._open is not None or (self._messages and is_open(self._messages[-1])):
            self._done(None)
        self._said, self._fault = event.message, event.fault

    def _write(self, event: MessageDelta) -> None:
        if self._open is None:
            message = self._take_open()
            if message is None:
                message = Message(
                    role="agent", parts=(), message_id=event.message_id, author=event.author, extra=_OPEN
                )
            self._open = message, Pieces(message.parts)
        self._open[1].add(event.parts)

    def _take_open(self) -> Message | None:
        """Take the message that is being written off the end of the task's."""
        messages = self._messages
        if not messages or not is_open(messages[-1]):
            return None
        self._messages = messages[:-1]
        return messages[-1]

    def _said_whole(self, event: MessageDone) -> None:
        self._done(event.message)

    def _done(self, message: Message | None) -> None:
        """The message being written has ended: as ``message``, or as far as it came."""
        written, self._open = self._open, None
        last = self._take_open() if written is None and self._messages else None
        if message is not None:
            ended = message
        elif written is not None:
            ended = msgspec.structs.replace(written[0], parts=written[1].parts, extra={})
        elif last is not None:
            ended = msgspec.structs.replace(last, extra={})
        else:
            return
        self._messages = (*self._messages, ended)

    def _grow(self, event: ArtifactDelta) -> None:
        new = event.artifact
        if event.append and (pieces := self._grown.get(new.artifact_id)) is not None:
            pieces.add(new.parts)
            return
        artifacts = self._artifacts
        at = next((i for i, old in enumerate(artifacts) if old.artifact_id == new.artifact_id), None)
        if at is None:
            self._artifacts = (*artifacts, new)
        elif event.append:
            self._grown[new.artifact_id] = pieces = Pieces(artifacts[at].parts)
            pieces.add(new.parts)
        else:
            self._grown.pop(new.artifact_id, None)
            self._artifacts = (*artifacts[:at], new, *artifacts[at + 1 :])


_FOLDS: Mapping[type[Event], Callable[[Folding, Any], None]] = {
    MessageDelta: Folding._write,  # pyright: ignore[reportPrivateUsage]
    ArtifactDelta: Folding._grow,  # pyright: ignore[reportPrivateUsage]
    MessageDone: Folding._said_whole,  # pyright: ignore[reportPrivateUsage]
    StateChanged: Folding._state_changed,  # pyright: ignore[reportPrivateUsage]
    InputRequired: Folding._asked,  # pyright: ignore[reportPrivateUsage]
    Finished: Folding._finished,  # pyright: ignore[reportPrivateUsage]
}


class Advance(NamedTuple):
    """What whole events make of a task: it, the ``log`` of them, the ``size`` of what they say, and the
    ``started`` among them."""

    task: Task
    log: list[Logged]
    size: int
    started: Started | None


def advanced(task: Task, events: Sequence[Event], at: str, seq: int) -> Advance | None:
    """The task after ``events`` of an agent at work, of which none is a piece of something, as ``Folding``
    has it, in a third of the time. They happened ``at`` that time, after event number ``seq``. None: they are
    not all so simple, or something follows the end."""
    state, messages, artifacts = task.state, task.messages, task.artifacts
    said, fault = task.status_message, task.fault
    if not events or state in _RESTING or (messages and is_open(messages[-1])):
        return None
    if state is _SUBMITTED:
        state = _WORKING
    log: list[Logged] = []
    started: Started | None = None
    size = 0
    last = events[-1]
    for event in events:
        seq += 1
        log.append(Logged(seq, at, event))
        if type(event) is MessageDone:
            message = event.message
            if "gateway" in message.extra:  # see ``is_open``
                return None
            messages = (*messages, message)
            size += size_of_parts(message.parts)
        elif type(event) is ArtifactDelta:
            artifact = event.artifact
            if artifacts and _among(artifacts, artifact):
                return None
            artifacts = (*artifacts, artifact)
            size += size_of_parts(artifact.parts)
        elif type(event) is Started and started is None:
            started = event
        elif type(event) is Finished and event is last and event.state in TERMINAL:
            state, said, fault = event.state, event.message, event.fault
        else:
            return None
    task = msgspec.structs.replace(
        task,
        state=state,
        messages=messages,
        artifacts=artifacts,
        status_message=said,
        fault=fault,
        updated_at=at,
    )
    return Advance(task, log, size, started)


def _among(artifacts: tuple[Artifact, ...], new: Artifact) -> bool:
    return any(old.artifact_id == new.artifact_id for old in artifacts)


def fold(task: Task, event: Event, at: str = "") -> Task:
    """The task after ``event`` (``at``: its time). Events after the end change nothing."""
    folding = Folding(task)
    folding.add(event, at)
    return folding.task
