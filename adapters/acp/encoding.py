"""A task's events to a run and the events of its stream. Pure: fed event by event.

The run's ``output`` grows with the events, so a stream, its last ``run.*`` event and a later look at the run
tell the same. One message is open at a time; artifacts are parts with a name inside it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from ...gateway.lifecycle import Pieces, bare, joined
from ...gateway.model import (
    ArtifactDelta,
    Data,
    Event,
    File,
    Finished,
    InputRequest,
    InputRequired,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Place,
    Progress,
    StateChanged,
    Task,
    TaskState,
    Text,
    text_of,
)
from . import codec
from .decoding import PROMPT
from .faults import error_json
from .ids import as_uuid
from .losses import Loss, phrases
from .lost import of_event
from .wire import Json

STATUS = {
    TaskState.SUBMITTED: "created",
    TaskState.WORKING: "in-progress",
    TaskState.INPUT_REQUIRED: "awaiting",
    TaskState.AUTH_REQUIRED: "awaiting",
    TaskState.CANCELING: "cancelling",
    TaskState.COMPLETED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELED: "cancelled",
    TaskState.REJECTED: "failed",
}
STATE = {
    "created": TaskState.SUBMITTED,
    "in-progress": TaskState.WORKING,
    "awaiting": TaskState.INPUT_REQUIRED,
    "cancelling": TaskState.CANCELING,
    "completed": TaskState.COMPLETED,
    "failed": TaskState.FAILED,
    "cancelled": TaskState.CANCELED,
}


_RESTING = ("created", "awaiting")  # what happens next makes a run go on
_GROWN = {Loss.ARTIFACT_BOUNDS, Loss.ARTIFACT_ID}  # what pieces of an artifact lose
_STOPPING = StateChanged(state=TaskState.CANCELING)


def new_run(task: Task) -> Json:
    """The Run of a task that has just begun."""
    return {
        "run_id": as_uuid(task.id),
        "agent_name": task.agent,
        "session_id": as_uuid(task.context_id),
        "status": "created",
        "await_request": None,
        "output": [],
        "error": None,
        "created_at": task.created_at,
        "finished_at": None,
    }


class RunEncoder:
    """One run, from its start; ``trace_id`` goes into its error. ``telling`` False: only the Run is wanted,
    no events about it or its messages. ``apart``: long texts that came in pieces are ``LongText``, for
    ``encoded``."""

    def __init__(
        self, task: Task, trace_id: str | None = None, *, telling: bool = True, apart: bool = False
    ) -> None:
        self._agent = task.agent
        self._trace_id = trace_id
        self._telling = telling
        self._apart = apart
        self._open: Pieces | None = None  # parts of the message that is being written
        self._artifact: str | None = None  # the artifact that opened it
        self._deltas: Pieces | None = None  # those of its parts that were message deltas; None: all
        self._names: dict[str, int] = {}  # of artifacts, as a reader counts them
        self._artifacts: set[str] = set()
        self._lost: set[Loss] = set()
        self.run: Json = new_run(task)

    @property
    def losses(self) -> tuple[str, ...]:
        """What ACP had no place for so far."""
        return phrases(self._lost)

    def created(self) -> Json:
        """The first event of a stream."""
        return {"type": "run.created", "run": self.snapshot()}

    def feed(self, event: Event, at: str) -> list[Json]:
        """The ACP events of one canonical event that happened at ``at``."""
        out = self._running(event) if self.run["status"] in _RESTING else []
        if (feed := _FEEDS.get(type(event))) is not None:
            if lost := of_event(event):
                self._lost.update(lost)
            out += feed(self, event, at)
        return out

    def growing(self, place: Place) -> Pieces | None:
        """The parts of the open message, where a bare text that goes there means just one part more: whoever
        tells that adds it to them. None: the text has to be fed."""
        if self.run["status"] in _RESTING:
            return None
        name = place.artifact_id
        grows = self._deltas is None if name is None else name in self._artifacts and self._lost >= _GROWN
        return self._open if grows else None

    def more(self, event: Event) -> str | None:
        """The text, where the event adds only plain text to the message that is open: then a part of it, and
        no more, is to be told. None: the event has to be fed; nothing was taken in."""
        if self._open is None or self.run["status"] in _RESTING:
            return None
        if type(event) is MessageDelta:
            if (text := bare(event.parts)) is not None:
                self._open.more(text)
                if self._deltas is not None:
                    self._deltas.more(text)
            return text
        if type(event) is ArtifactDelta and self._only_grows(event):
            if (text := bare(event.artifact.parts)) is not None:
                self._open.more(text)
            return text
        return None

    def _only_grows(self, event: ArtifactDelta) -> bool:
        """Whether a piece of an artifact has nothing but parts to it, and no losses that are not known."""
        artifact = event.artifact
        if event.last or not event.append or event.metadata or event.extra:
            return False
        if artifact.name is not None or artifact.description is not None:
            return False
        if artifact.metadata or artifact.extra or artifact.artifact_id not in self._artifacts:
            return False
        return self._lost >= _GROWN

    def _running(self, event: Event) -> list[Json]:
        """run.in-progress, at the start and after each answer to a question."""
        if self.run["status"] == "awaiting" and (isinstance(event, InputRequired) or event == _STOPPING):
            return []
        self.run["status"] = "in-progress"
        self.run["await_request"] = None
        return self._run_event("run.in-progress")

    def _run_event(self, kind: str) -> list[Json]:
        return [{"type": kind, "run": self.snapshot()}] if self._telling else []

    def snapshot(self) -> Json:
        """The Run as it is now, not touched by what comes later."""
        self._write_parts()
        return self.run | {"output": [dict(m) for m in self.run["output"]]}

    def _write_parts(self) -> None:
        if self._open is not None:
            self.run["output"][-1]["parts"] = _apart(self._open) if self._apart else _whole(self._open)

    def _progress(self, event: Progress, _: str) -> list[Json]:
        return [{"type": "generic", "generic": _progress(event)}]

    def _state(self, event: StateChanged, _: str) -> list[Json]:
        if event.state is TaskState.CANCELING:
            self.run["status"] = "cancelling"  # ACP has no event for it
        elif event.message is not None:
            return [{"type": "generic", "generic": _said(event.state, event.message)}]
        return []

    # --- messages ----------------------------------------------------------------------------

    def _begin(self, at: str, author: str | None = None, artifact: str | None = None) -> list[Json]:
        if self._open is not None:
            return []
        self._open, self._artifact, self._deltas = Pieces(), artifact, None
        role = codec.role_by(author or self._agent)
        message: Json = {"role": role, "parts": [], "created_at": at, "completed_at": None}
        self.run["output"].append(message)
        return [{"type": "message.created", "message": dict(message)}] if self._telling else []

    def _parts(self, parts: Sequence[Part]) -> list[Json]:
        """Parts that join the open message."""
        assert self._open is not None
        for p in parts:
            self._open.add((p,))
        if not self._telling:
            return []
        return [{"type": "message.part", "part": codec.part_json(p)} for p in parts]

    def _close(self, at: str) -> list[Json]:
        if self._open is None:
            return []
        self._write_parts()
        self._open = self._artifact = None
        message = self.run["output"][-1]
        message["completed_at"] = at
        return [{"type": "message.completed", "message": dict(message)}] if self._telling else []

    def _delta(self, event: MessageDelta, at: str) -> list[Json]:
        out = self._begin(at, event.author)
        out += self._parts(event.parts)
        if self._deltas is not None:
            self._deltas.add(event.parts)
        return out

    def _done(self, event: MessageDone, at: str) -> list[Json]:
        """A message is complete. Where its parts went out as deltas they are not sent again."""
        message = event.message
        told = () if self._open is None else (self._deltas or self._open).parts
        if told and self._open is not None:
            if told != joined((), message.parts) and text_of(told) != text_of(message.parts):
                named = [p for p in self._open.parts if p not in told]
                self._open = Pieces((*message.parts, *named))
            return self._close(at)
        return self._close(at) + self._whole(message, at)

    def _whole(self, message: Message, at: str) -> list[Json]:
        return self._begin(at, message.author) + self._parts(message.parts) + self._close(at)

    def _artifact_piece(self, event: ArtifactDelta, at: str) -> list[Json]:
        artifact = event.artifact
        name = artifact.name
        parts = artifact.parts if name is None else tuple([_named(p, name) for p in artifact.parts])
        self._lost |= self._artifact_losses(event, parts)
        out = self._begin(at, artifact=artifact.artifact_id)
        assert self._open is not None
        if self._deltas is None:
            self._deltas = Pieces(self._open.parts)
        out += self._parts(parts)
        if event.last and self._artifact == artifact.artifact_id:
            out += self._close(at)
        return out

    def _artifact_losses(self, event: ArtifactDelta, parts: Sequence[Part]) -> set[Loss]:
        """A reader takes each part with a name for an artifact, and all others for the message."""
        artifact = event.artifact
        found: set[Loss] = set()
        if artifact.artifact_id in self._artifacts and not event.append:
            found.add(Loss.ARTIFACT_REPLACED)
        if len(parts) != 1 or parts[0].name is None or event.append or not event.last:
            found |= {Loss.ARTIFACT_BOUNDS, Loss.ARTIFACT_ID}
        for p in parts:
            if p.name is not None:
                count = self._names[p.name] = self._names.get(p.name, 0) + 1
                if artifact.artifact_id != (p.name if count == 1 else f"{p.name}#{count}"):
                    found.add(Loss.ARTIFACT_ID)
            if p.name != artifact.name:
                found.add(Loss.ARTIFACT_NAME)
        self._artifacts.add(artifact.artifact_id)
        return found

    # --- pauses and ends ---------------------------------------------------------------------

    def _asked(self, event: InputRequired, at: str) -> list[Json]:
        self.run |= {"status": "awaiting", "await_request": self._question(event.request, at)}
        return self._run_event("run.awaiting")

    def _question(self, request: InputRequest, at: str) -> Json:
        kept = request.extra.get("acp", {}).get("await_request")
        if kept and kept.get("type") == "message":
            return dict(kept)
        parts: list[Part] = list(request.message.parts) or [Text(text=PROMPT)]
        if request.url is not None and request.url in request.prompt:
            parts.append(File(uri=request.url, name=codec.ADDRESS, media_type="text/html"))
        elif request.url is not None:
            parts.append(Text(text=f"\n{request.url}", name=codec.ADDRESS))
        if request.schema is not None:
            parts.append(Data(data=request.schema, media_type=codec.SCHEMA_TYPE, name=codec.SCHEMA))
        role = codec.role_of(request.message, self._agent)
        message = {"role": role, "parts": [codec.part_json(p) for p in parts]}
        return {"type": "message", "message": message | {"created_at": at, "completed_at": at}}

    def _finished(self, event: Finished, at: str) -> list[Json]:
        out = self._close(at)
        status = STATUS[event.state]
        fault, message = event.fault, event.message
        if status == "failed":
            said = text_of(message.parts) if message else ""
            if fault is None:
                error: Json = {"code": "server_error", "message": said or f"{self._agent} failed"}
            else:
                error = error_json(fault, self._trace_id)
            self.run["error"] = error
            if message is not None and said == error["message"] and _bare_text(message.parts):
                message = None  # the error says it already
        if message is not None and message.parts:
            out += self._whole(message, at)
        self.run |= {"status": status, "finished_at": at}
        return out + self._run_event(f"run.{status}")


_FEEDS: Mapping[type[Event], Callable[[RunEncoder, Any, str], list[Json]]] = {
    MessageDelta: RunEncoder._delta,  # pyright: ignore[reportPrivateUsage]
    MessageDone: RunEncoder._done,  # pyright: ignore[reportPrivateUsage]
    ArtifactDelta: RunEncoder._artifact_piece,  # pyright: ignore[reportPrivateUsage]
    Progress: RunEncoder._progress,  # pyright: ignore[reportPrivateUsage]
    StateChanged: RunEncoder._state,  # pyright: ignore[reportPrivateUsage]
    InputRequired: RunEncoder._asked,  # pyright: ignore[reportPrivateUsage]
    Finished: RunEncoder._finished,  # pyright: ignore[reportPrivateUsage]
}


class LongText:
    """A text as the pieces in which it came."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = pieces


_LONG = 256 * 1024  # characters of a text that is not put together
_PLACE = secrets.token_hex(16)  # stands for one while all else is encoded
_encode = msgspec.json.Encoder().encode


def _whole(pieces: Pieces) -> list[Json]:
    return [codec.part_json(p) for p in pieces.parts]


def _apart(pieces: Pieces) -> list[Json]:
    parts, texts = pieces.apart
    if sum(map(len, texts)) <= _LONG:
        return _whole(pieces)
    last = parts[-1]
    assert isinstance(last, Text)
    form = codec.part_json(last)
    if form.get("content") != last.text:
        return _whole(pieces)
    return [*(codec.part_json(p) for p in parts[:-1]), {**form, "content": LongText([last.text, *texts])}]


def encoded(event: Json) -> Iterator[bytes]:
    """An event as JSON, in pieces."""
    long: list[LongText] = []

    def place(value: Any) -> str:
        long.append(value)
        return _PLACE

    rest = msgspec.json.encode(event, enc_hook=place).split(b'"%b"' % _PLACE.encode())
    yield rest[0]
    for text, after in zip(long, rest[1:], strict=True):
        yield b'"'
        for piece in text.pieces:
            yield _encode(piece)[1:-1]
        yield b'"' + after


def _named(part: Part, name: str) -> Part:
    """An artifact's part. Text has no name: pieces of it follow one another."""
    return part if part.name or isinstance(part, Text) else replace(part, name=name)


def _bare_text(parts: Sequence[Part]) -> bool:
    return all(isinstance(p, Text) and p.name is None for p in parts)


def _progress(event: Progress) -> Json:
    data: Any = event.data
    if isinstance(data, dict):
        return dict(data)  # pyright: ignore[reportUnknownArgumentType]
    fields = {"message": event.message, "progress": event.progress, "total": event.total, "data": data}
    return {k: v for k, v in fields.items() if v is not None}


def _said(state: TaskState, message: Message) -> Json:
    """What an agent says about its state: text, and whatever else it sent along."""
    said: Json = {"state": state.value, "message": text_of(message.parts)}
    others = [codec.part_json(p) for p in message.parts if not isinstance(p, Text)]
    return said | ({"parts": others} if others else {})
