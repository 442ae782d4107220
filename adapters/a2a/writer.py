"""A task's event log → items for a client. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from ...gateway.lifecycle import bare
from ...gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
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
    text_of,
)
from .codec import message_artifact
from .events import StatusEvent, Update

_encode = msgspec.json.Encoder().encode
_TOGETHER = 64 * 1024  # characters that are hashed at once


class Writer:
    """Feed a task's logged events, get the items for a client. ``task``: the snapshot that the client has
    got already; the events are those after it. ``growing``: the artifact that is the message being written,
    if one is."""

    __slots__ = ("_messages", "_open", "_sent", "_task", "growing")

    def __init__(self, task: Task) -> None:
        self._task = task
        self._open: Message | None = None  # the message that is being written, as it began
        self.growing: str | None = None
        self._sent = _Sent()  # of it
        self._messages = len(task.messages)
        if task.messages and "gateway" in task.messages[-1].extra:
            self._opened(task.messages[-1])
            self._sent.add(task.messages[-1].parts)

    def grown(self, text: str) -> None:
        """Bare text was added to the artifact that is ``growing``, and is sent."""
        sent = self._sent
        sent.texts.append(text)
        sent.waiting += len(text)
        if sent.waiting > _TOGETHER:
            sent.take()

    def more(self, event: Event) -> tuple[str, str] | None:
        """The artifact and the text, where the event adds only bare text to the message that is being
        written. None: it has to be fed; nothing was taken in."""
        name = self.growing
        if name is None or type(event) is not MessageDelta or (text := bare(event.parts)) is None:
            return None
        self.grown(text)
        return name, text

    def feed(self, logged: Logged) -> Iterator[Update]:
        """The updates that a logged event means for a client."""
        event = logged.event
        match event:
            case MessageDelta():
                yield self._update(self._delta(event))
            case MessageDone(message=message):
                yield self._update(self._message_done(message))
            case ArtifactDelta():
                yield self._update(event)
            case Progress():
                yield self._update(self._progress(event, logged.seq), logged.at)
            case StateChanged(state=TaskState.CANCELING | TaskState.SUBMITTED, message=None):
                pass
            case StateChanged() | InputRequired() | Finished():
                yield self._update(self._completed(event, logged.seq), logged.at)
            case Started():
                pass

    def _update(self, event: StatusEvent | ArtifactDelta, at: str = "") -> Update:
        return Update(self._task.id, self._task.context_id, event, at)

    def _opened(self, message: Message) -> None:
        self._open = message
        self.growing = message_artifact(message, self._messages).artifact_id

    def _delta(self, event: MessageDelta) -> ArtifactDelta:
        first = self._open is None
        if self._open is None:
            self._messages += 1
            self._opened(Message(role="agent", parts=(), message_id=event.message_id))
        assert self._open is not None
        self._sent.add(event.parts)
        begun = message_artifact(self._open, self._messages)
        artifact = msgspec.structs.replace(begun, parts=event.parts)
        return ArtifactDelta(artifact=artifact, append=not first, last=False)

    def _message_done(self, message: Message) -> ArtifactDelta:
        """The whole message, or, after its pieces, only what they did not hold."""
        opened, self._open, self.growing = self._open, None, None
        told, self._sent = self._sent, _Sent()
        if opened is None:
            self._messages += 1
            return ArtifactDelta(artifact=message_artifact(message, self._messages))
        name = message_artifact(opened, self._messages).artifact_id
        whole = text_of(message.parts)
        others = tuple(p for p in message.parts if not isinstance(p, Text) and not told.holds(p))
        if not told.begins(whole):
            artifact = msgspec.structs.replace(message_artifact(message, 0), artifact_id=name)
            return ArtifactDelta(artifact=artifact)
        rest: list[Part] = list(others)
        if len(whole) > told.length or not rest:
            rest.insert(0, Text(text=whole[told.length :]))
        return ArtifactDelta(artifact=Artifact(artifact_id=name, parts=tuple(rest)), append=True)

    def _progress(self, event: Progress, seq: int) -> StateChanged:
        parts: list[Part] = []
        if event.message:
            parts.append(Text(text=event.message))
        if event.data is not None:
            parts.append(Data(data=event.data))
        numbers = {"progress": event.progress, "total": event.total}
        metadata = {k: n for k, n in numbers.items() if n is not None} or None
        message = Message(role="agent", parts=tuple(parts)) if parts else None
        return StateChanged(
            state=TaskState.WORKING,
            message=None if message is None else self._addressed(message, seq),
            metadata=metadata,
        )

    def _completed(self, event: StatusEvent, seq: int) -> StatusEvent:
        """The status with all that A2A requires of its message: an id, and the ids of its task."""
        if isinstance(event, InputRequired):
            request = event.request
            return InputRequired(
                request=msgspec.structs.replace(request, message=self._addressed(request.message, seq))
            )
        message = event.message
        if message is None and isinstance(event, Finished) and event.fault is not None:
            message = Message(role="agent", parts=(Text(text=event.fault.message),))
        if message is None:
            return event
        return msgspec.structs.replace(event, message=self._addressed(message, seq))

    def _addressed(self, message: Message, seq: int) -> Message:
        return msgspec.structs.replace(
            message,
            role="agent",
            message_id=message.message_id or f"{self._task.id}-{seq}",
            task_id=self._task.id,
            context_id=self._task.context_id,
        )


_NOTHING: frozenset[bytes] = frozenset()


class _Sent:
    """What was sent of a message, without keeping much of it: the length and a hash of its text, and hashes
    of its other parts."""

    __slots__ = ("_hash", "_hashed", "_others", "texts", "waiting")

    def __init__(self) -> None:
        self._hash: blake2b | None = None  # most streams need none
        self._hashed = 0  # the length of what is in it
        self.texts: list[str] = []  # that are not in the hash yet
        self.waiting = 0  # their length
        self._others = _NOTHING

    @property
    def length(self) -> int:
        return self._hashed + self.waiting

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Text):
                self.texts.append(part.text)
                self.waiting += len(part.text)
            else:
                self._others |= {_hash(part)}
        if self.waiting > _TOGETHER:
            self.take()

    def take(self) -> blake2b:
        """Put into the hash what waits."""
        if self._hash is None:
            self._hash = blake2b(digest_size=16)
        self._hash.update("".join(self.texts).encode(errors="surrogatepass"))
        self._hashed += self.waiting
        self.texts, self.waiting = [], 0
        return self._hash

    def holds(self, part: Part) -> bool:
        """Whether this part, which is no text, is among it."""
        return _hash(part) in self._others

    def begins(self, text: str) -> bool:
        """Whether the text begins with its own."""
        begin = blake2b(text[: self.length].encode(errors="surrogatepass"), digest_size=16)
        return begin.digest() == self.take().digest()


def _hash(part: Part) -> bytes:
    return blake2b(_encode(part), digest_size=16).digest()
