"""A run's event stream, as an agent sends it, to canonical events. Pure: fed event by event.

Message parts are deltas of the answer; a part with a name is an artifact; a trajectory without content and
``generic`` events are progress, never part of the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from ...gateway.alike import Alike
from ...gateway.lifecycle import joined
from ...gateway.model import (
    Artifact,
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
    Started,
    TaskState,
    Text,
    text_of,
)
from . import codec
from .faults import as_error, fault_of
from .usual import (
    MessageCompleted,
    MessageCreated,
    MessagePart,
    RunCompleted,
    RunCreated,
    RunInProgress,
    author_of,
    usual,
    usual_ones,
)
from .wire import LAST_EVENTS, TERMINAL, Json, TextEvent

log = logging.getLogger("agentgw.acp")
_text = msgspec.json.Decoder(TextEvent)
_RUNS = (RunCreated, RunInProgress, RunCompleted)
PROMPT = "The agent waits for your answer."


def text_reader() -> Callable[[bytes], str]:
    """Reads the text of events (as JSON) of a stream that are nothing but a piece of plain text. Raises
    msgspec.DecodeError for any other."""
    return Alike(text_at).read


def text_at(event: bytes) -> tuple[msgspec.Raw, None]:
    """Where the text of such an event stands. Raises msgspec.DecodeError for any other."""
    return _text.decode(event).part.content, None


class RunDecoder:
    """One turn of a run. ``agent``: the gateway's name, for messages about failures. ``resumed``: the Run as
    it stood at the question; what it has said is not told again, and a message that it left open goes on.

    ``feed`` raises InvalidRequest when an event is not ACP. ``ended`` is set after the last event;
    ``seen`` counts the events fed, ``parts`` those of the message that is being written, whose text goes to
    ``place``: who tells a text by itself (``Tell.more``) counts it.
    """

    __slots__ = (
        "_agent", "_messages", "_names", "_resumed", "_started", "_unclosed", "ended", "parts", "place",
        "run_id", "seen", "session_id", "status",
    )  # fmt: skip

    def __init__(self, agent: str, *, resumed: Json | None = None) -> None:
        self._agent = agent
        self._resumed = resumed is not None
        self.place = Place()
        self.parts = 0
        self._messages = 0  # finished ones
        self._unclosed = False  # a message ended without message.completed: they can't be counted
        for message in _output_of(resumed) if resumed else ():
            self.place = Place(author=_author(message))
            if _is_open(message):
                parts = message.get("parts")
                self.parts = len(cast(list[Any], parts)) if isinstance(parts, list) else 0
            else:
                self._messages += 1
        self._names: dict[str, int] = {}
        self._started = False
        self.run_id: str | None = None
        self.session_id: str | None = None
        self.status = ""
        self.ended = False
        self.seen = 0

    def feed(self, event: Json) -> list[Event]:
        """The canonical events of one ACP event; none for a type that is not known."""
        self.seen += 1
        kind = event.get("type") if isinstance(event.get("type"), str) else None
        events: list[Event] = []
        if isinstance(run := event.get("run"), dict):
            events += self._seen_run(cast(Json, run))
        match kind:
            case "message.created":
                self._unclosed = self._unclosed or self.parts > 0
                self.place, self.parts = Place(author=_author(event.get("message"))), 0
                self._resumed = False
            case "message.part":
                self.parts += 1
                if (text := codec.bare_text(event.get("part"))) is not None:
                    events.append(MessageDelta(parts=(text,), author=self.place.author))
                else:
                    events += self._part(codec.part(event.get("part")))
            case "message.completed":
                events += self._completed(event.get("message"))
            case "generic":
                events.append(_generic(event.get("generic")))
            case "error":
                events.append(self._failed(event.get("error")))
            case _:
                pass
        self.ended = self.ended or kind in LAST_EVENTS
        return events

    def read(self, event: bytes) -> Sequence[Event] | None:
        """``feed`` of an event as JSON, in a fraction of the time, if it is a usual one; None: it was not
        fed."""
        found = usual(event)
        events: Sequence[Event] = ()
        if type(found) is MessagePart:
            self.seen += 1
            self.parts += 1
            return (MessageDelta(parts=(Text(text=found.part.content),), author=self.place.author),)
        if type(found) is MessageCompleted:
            if (message := found.message.read()) is None:
                return None
            self.parts = 0
            self._messages += 1
            events = (MessageDone(message=message),)
        elif type(found) is MessageCreated:
            self._unclosed = self._unclosed or self.parts > 0
            self.place, self.parts = Place(author=author_of(found.message.role)), 0
            self._resumed = False
        elif type(found) is RunCreated or type(found) is RunInProgress:
            run = found.run
            events = self._named(run.run_id, run.session_id, run.status)
        elif type(found) is RunCompleted:
            run = found.run
            if not self._unclosed and len(run.output) > self._messages:
                return None
            self.ended = True
            named = self._named(run.run_id, run.session_id, run.status)
            events = (*named, Finished(state=TaskState.COMPLETED))
        else:
            return None
        self.seen += 1
        return events

    def answer(self, events: Sequence[bytes]) -> Sequence[Event] | None:
        """``feed`` of all the events (as JSON) of a run that was not heard of yet, where they are usual ones
        and each piece belongs to a message that is told whole: without the pieces. None: nothing was fed."""
        if self.seen or self._resumed or (found := usual_ones(events)) is None:
            return None
        first, last, pieces = found[0], found[-1], 0
        if type(last) is not RunCompleted or not isinstance(first, _RUNS):
            return None
        if first is not last and type(first) is RunCompleted:
            return None
        told: list[Event] = [Started(task_id=first.run.run_id, context_id=first.run.session_id)]
        for event in found[1:-1]:
            if type(event) is MessagePart:
                pieces += 1
            elif type(event) is MessageCompleted:
                if (message := event.message.read()) is None:
                    return None
                told.append(MessageDone(message=message))
                pieces = 0
            elif type(event) is RunCompleted or (pieces and type(event) is MessageCreated):
                return None
        run = last.run
        if pieces or len(run.output) >= len(told):
            return None
        told.append(Finished(state=TaskState.COMPLETED))
        self.run_id, self.session_id, self.status = run.run_id, run.session_id, run.status
        self.seen, self.ended, self._started = len(found), True, True
        return told

    def texts(self, texts: Sequence[str]) -> list[MessageDelta]:
        """What ``feed`` makes of events each of which is such a piece of plain text (``text_reader``)."""
        self.seen += len(texts)
        self.parts += len(texts)
        return [MessageDelta(parts=(Text(text=text),), author=self.place.author) for text in texts]

    def whole(self, run: Json) -> list[Event]:
        """The canonical events of a Run that is read at once: what was not told yet. None but Started while
        it still works."""
        return self._seen_run(run, whole=True)

    # --- runs --------------------------------------------------------------------------------

    def _seen_run(self, run: Json, *, whole: bool = False) -> list[Event]:
        run_id, session_id = run.get("run_id"), run.get("session_id")
        if not isinstance(run_id, str):
            raise codec.wrong("run.run_id", "expected a string")
        known = session_id if isinstance(session_id, str) else None
        events: list[Event] = [*self._named(run_id, known, str(run.get("status")))]
        if self.status in TERMINAL or self.status == "awaiting":
            self.ended = True
            if (whole or self.status == "completed") and not self._unclosed:
                events += self._rest(run)
            events.append(self._end(run))
        return events

    def _named(self, run_id: str, session_id: str | None, status: str) -> Sequence[Event]:
        self.run_id, self.session_id, self.status = run_id, session_id, status
        if self._started:
            return ()
        self._started = True
        return (Started(task_id=run_id, context_id=session_id),)

    def _end(self, run: Json) -> Event:
        match self.status:
            case "completed":
                return Finished(state=TaskState.COMPLETED)
            case "cancelled":
                return Finished(state=TaskState.CANCELED)
            case "awaiting":
                return InputRequired(request=request_of(run.get("await_request")))
            case _:
                return self._failed(run.get("error"))

    def _failed(self, error: Any) -> Finished:
        fault, withheld = fault_of(as_error(error), self._agent)
        if withheld:
            log.debug("%s failed: %s", self._agent, withheld)
        return Finished(state=TaskState.FAILED, fault=fault)

    def _rest(self, run: Json) -> list[Event]:
        """What the output holds beyond what was streamed. An unfinished message stays open."""
        events: list[Event] = []
        output = run.get("output")
        if not isinstance(output, list) or len(cast(list[Any], output)) <= self._messages:
            return events
        for raw in _output_of(run)[self._messages :]:
            if not self.parts:
                self.place = Place(author=_author(raw))
            if self.parts or _is_open(raw):
                for p in codec.message(raw).parts[self.parts :]:
                    self.parts += 1
                    events += self._part(p)
            if not _is_open(raw) or self.status == "completed":
                events += self._completed(raw)
        return events

    # --- messages ----------------------------------------------------------------------------

    def _part(self, part: Part) -> list[Event]:
        if codec.is_trajectory(part):
            return [_trajectory(part)]
        if part.name is not None:
            return [self._artifact(part, part.name)]
        (clean,) = codec.compact((part,))
        return [MessageDelta(parts=(clean,), author=self.place.author)]

    def _artifact(self, part: Part, name: str) -> ArtifactDelta:
        """Each named part is an artifact of its own; ids are unique in the run."""
        count = self._names[name] = self._names.get(name, 0) + 1
        artifact_id = name if count == 1 else f"{name}#{count}"
        return ArtifactDelta(
            artifact=Artifact(artifact_id=artifact_id, name=name, parts=codec.compact((part,)))
        )

    def _completed(self, raw: Any) -> list[Event]:
        if (plain := codec.plain_answer(raw)) is not None:
            self.parts = 0
            self._messages += 1
            return [MessageDone(message=plain)]
        message = codec.message(raw)
        events: list[Event] = []
        if not self.parts and not self._resumed:  # it came whole: its artifacts were not seen as parts
            for p in message.parts:
                if p.name is not None or codec.is_trajectory(p):
                    events += self._part(p)
        self.parts = 0
        self._messages += 1
        said = [p for p in codec.compact(message.parts) if p.name is None and not codec.is_trajectory(p)]
        answer = tuple(said[:1])
        for p in said[1:]:
            answer = joined(answer, (p,))
        if answer:
            done = Message(role="agent", parts=answer, author=message.author, extra=message.extra)
            events.append(MessageDone(message=done))
        return events


def without_pieces(events: Sequence[Event]) -> list[Event]:
    """The events without the pieces of messages that are told whole after them."""
    kept: list[Event] = []
    whole = False
    for event in reversed(events):
        kind = type(event)
        whole = whole or kind is MessageDone
        if not whole or kind is not MessageDelta:
            kept.append(event)
    kept.reverse()
    return kept


def _output_of(run: Json) -> list[Json]:
    raw = run.get("output")
    items = cast(list[Any], raw) if isinstance(raw, list) else []
    return [cast(Json, item) for item in items if isinstance(item, dict)]


def _is_open(message: Json) -> bool:
    """Whether a message in a Run's output is still being written."""
    return message.get("completed_at", "") is None


def _author(raw: Any) -> str | None:
    role = cast(Json, raw).get("role") if isinstance(raw, dict) else None
    return author_of(role) if isinstance(role, str) else None


def request_of(raw: Any) -> InputRequest:
    """A question; one that is not a message, or an empty one, gets words of ours and keeps its own form.

    The schema of the answer and an address to open are parts with a name, as the gateway itself writes them.
    """
    fields = cast(Json, raw) if isinstance(raw, dict) else {}
    kept = {"acp": {"await_request": fields}} if fields else {}
    parts: list[Part] = []
    author: str | None = None
    schema: Json | None = None
    url: str | None = None
    if isinstance(fields.get("message"), dict):
        asked = codec.message(fields["message"], "await_request.message")
        author = asked.author
        for part in codec.compact(asked.parts):
            match part:
                case Data(name=codec.SCHEMA, media_type=codec.SCHEMA_TYPE) if isinstance(part.data, dict):
                    schema = cast(Json, part.data)  # pyright: ignore[reportUnknownMemberType]
                case Text(name=codec.ADDRESS, text=found):
                    url = found.strip()
                case File(name=codec.ADDRESS, uri=str() as found):
                    url = found
                case _:
                    parts.append(part)
    if not text_of(parts) and all(isinstance(p, Text) for p in parts):
        parts = [Text(text=PROMPT)]
    message = Message(role="agent", parts=tuple(parts), author=author)
    kind = "url" if url is not None else "text" if schema is None else "form"
    return InputRequest(message=message, kind=kind, schema=schema, url=url, extra=kept)


def _trajectory(part: Part) -> Progress:
    metadata = dict(part.metadata or {})
    said = metadata.get("message") or metadata.get("tool_name")
    return Progress(message=said if isinstance(said, str) else None, data=metadata)


def _generic(raw: Any) -> Progress:
    fields = cast(Json, raw) if isinstance(raw, dict) else {}

    def number(name: str) -> float | None:
        value = fields.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    said = fields.get("message")
    return Progress(
        message=said if isinstance(said, str) else None,
        progress=number("progress"),
        total=number("total"),
        data=raw,
    )
