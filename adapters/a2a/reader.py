"""An agent's items → canonical events, and what two snapshots of a task differ in. Pure."""

from __future__ import annotations

import msgspec

from ...gateway.catchup import artifact_news
from ...gateway.lifecycle import Pieces, bare
from ...gateway.light import MOST, said
from ...gateway.model import (
    Artifact,
    ArtifactDelta,
    Event,
    Finished,
    Message,
    MessageDone,
    Place,
    Started,
    StateChanged,
    Task,
    TaskState,
)
from .events import Item, StatusEvent, Update, status_event
from .heard import Heard


def updates_between(old: Task, new: Task, heard: Heard | None = None) -> list[Update]:
    """What a client that has seen the task as ``old`` must be told to know it as ``new``. ``heard``: what it
    knows of the artifacts, where ``old`` does not hold that."""
    known = {a.artifact_id: a for a in old.artifacts}
    news = [
        heard.news(a) if heard is not None else artifact_news(known.get(a.artifact_id), a)
        for a in new.artifacts
    ]
    updates = [Update(new.id, new.context_id, delta) for delta in news if delta is not None]
    if (old.state, old.status_message) != (new.state, new.status_message):
        event = status_event(new.state, new.status_message)
        updates.append(Update(new.id, new.context_id, event, new.updated_at))
    return updates


class Reader:
    """Feed an agent's items, get canonical events. After ``done`` the turn is over.

    Snapshots may come again (polling): what was told already is not told twice, nor what ``known`` holds, the
    task as another reader has told it.
    """

    __slots__ = (
        "_agent", "_artifacts", "_grown", "_heard", "_size", "_started", "_state", "context_id", "done",
        "task_id",
    )  # fmt: skip

    def __init__(self, agent: str, known: Task | None = None) -> None:
        self._agent = agent
        self._started = False
        # As far as they were told, but for what has grown.
        self._artifacts: dict[str, Artifact] = {a.artifact_id: a for a in known.artifacts} if known else {}
        self._grown: dict[str, Pieces] = {}
        self._size = sum(said(ArtifactDelta(artifact=a)) for a in self._artifacts.values())
        self._heard: Heard | None = None  # in place of them, once they say much
        self._state = (known.state, known.status_message) if known else None
        self.task_id = ""
        self.context_id = ""
        self.done = False

    def feed(self, item: Item) -> list[Event]:
        """The events that ``item`` means; none after the end."""
        if self.done:
            return []
        match item:
            case Message():
                return self._message(item)
            case Task():
                return self._task(item)
            case Update(event=event):
                begin = self._begin(item.task_id, item.context_id)
                told = self._artifact(event) if isinstance(event, ArtifactDelta) else self._status(event)
                return [*begin, *told]

    def _begin(self, task_id: str, context_id: str) -> list[Event]:
        if self._started:
            return []
        self._started = True
        self.task_id, self.context_id = task_id, context_id
        return [Started(task_id=task_id or None, context_id=context_id or None)]

    def _message(self, message: Message) -> list[Event]:
        begin = self._begin(message.task_id or "", message.context_id or "")
        self.done = True
        return [*begin, MessageDone(message=message), Finished(state=TaskState.COMPLETED)]

    def _task(self, task: Task) -> list[Event]:
        events = self._begin(task.id, task.context_id)
        for artifact in task.artifacts:
            if self._heard is not None:
                delta = self._heard.news(artifact)
            else:
                delta = artifact_news(self._told(artifact.artifact_id), artifact)
            if delta is not None:
                self._keep(artifact)
                events.append(delta)
        return [*events, *self._status(status_event(task.state, task.status_message))]

    def more(self, text: str, place: Place) -> bool:
        """``piece`` of ``place.event(text)``, where the artifact has grown before. False: it was not fed."""
        grown = self._grown.get(place.artifact_id or "")
        if grown is None or self._size > MOST - len(text):
            return False
        grown.more(text)
        self._size += len(text)
        return True

    def piece(self, event: ArtifactDelta) -> None:
        """``feed`` of an update that says this, once the turn has begun and before it is done: ``event`` is
        what it means."""
        artifact = event.artifact
        grown = self._grown.get(artifact.artifact_id) if event.append else None
        if grown is not None and (text := bare(artifact.parts)) is not None:
            grown.more(text)
            self._size += len(text)
            if self._size > MOST:
                self._let_go()
        else:
            self._artifact(event)

    def _artifact(self, event: ArtifactDelta) -> list[Event]:
        name = event.artifact.artifact_id
        if self._heard is not None:
            self._heard.add(event)
            return [event]
        old = self._artifacts.get(name)
        if not event.append or old is None:
            self._keep(event.artifact)
            return [event]
        grown = self._grown.get(name)
        if grown is None:
            grown = self._grown[name] = Pieces(old.parts)
        grown.add(event.artifact.parts)
        self._count(event)
        return [event]

    def _keep(self, artifact: Artifact) -> None:
        event = ArtifactDelta(artifact=artifact)
        if self._heard is not None:
            self._heard.add(event)
            return
        self._artifacts[artifact.artifact_id] = artifact
        self._grown.pop(artifact.artifact_id, None)
        self._count(event)

    def _count(self, event: ArtifactDelta) -> None:
        self._size += said(event)
        if self._size > MOST:
            self._let_go()

    def _let_go(self) -> None:
        """Of what was told."""
        self._heard = Heard([told for name in self._artifacts if (told := self._told(name)) is not None])
        self._artifacts, self._grown = {}, {}

    def _told(self, name: str) -> Artifact | None:
        """The artifact as the client has it."""
        if (grown := self._grown.pop(name, None)) is not None:
            self._artifacts[name] = msgspec.structs.replace(self._artifacts[name], parts=grown.parts)
        return self._artifacts.get(name)

    def _status(self, event: StatusEvent) -> list[Event]:
        if isinstance(event, StateChanged):
            news = (event.state, event.message)
            if news == self._state or (event.state is TaskState.SUBMITTED and event.message is None):
                return []
            self._state = news
            return [event]
        self.done = True
        if isinstance(event, Finished) and event.fault is not None and event.message is None:
            fault = msgspec.structs.replace(event.fault, message=f"{self._agent} failed")
            event = msgspec.structs.replace(event, fault=fault)
        return [event]
