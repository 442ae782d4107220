"""An agent's answer: as one JSON document, and as it streams to the terminal."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..gateway.lifecycle import TERMINAL
from ..gateway.model import (
    ArtifactDelta,
    Data,
    Event,
    File,
    Finished,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Progress,
    StateChanged,
    Task,
    TaskState,
    Text,
    text_of,
)
from .terminal import StatusLine, note, one_line, printable

S = TaskState


def pieces(task: Task) -> list[Sequence[Part]]:
    """The answer's parts, piece by piece: messages, artifacts, the final status message."""
    found: list[Sequence[Part]] = [m.parts for m in task.messages]
    found += [a.parts for a in task.artifacts]
    if task.state in TERMINAL and task.status_message is not None:
        found.append(task.status_message.parts)
    return found


def document(task: Task, trace_id: str | None) -> dict[str, Any]:
    """The answer as ``call --json`` prints it. File bytes are base64."""
    answer = pieces(task)
    text = ""
    for piece in answer:
        more = text_of(list(piece))
        text += "\n" + more if text and more and not text.endswith("\n") else more
    return {
        "agent": task.agent,
        "task_id": task.id,
        "context_id": task.context_id,
        "state": task.state,
        "text": text,
        "parts": [part for piece in answer for part in piece],
        "artifacts": task.artifacts,
        "input_request": _question(task),
        "error": _fault(task),
        "trace_id": trace_id,
    }


def _question(task: Task) -> dict[str, Any] | None:
    asked = task.input_request
    if asked is None:
        return None
    return {
        "kind": asked.kind,
        "prompt": asked.prompt,
        "parts": asked.message.parts,
        "schema": asked.schema,
        "url": asked.url,
    }


def _fault(task: Task) -> dict[str, Any] | None:
    if task.fault is None:
        return None
    return {"code": task.fault.code, "message": task.fault.message, "data": task.fault.data}


def failure(task: Task) -> str:
    """Why a task that did not complete ended, in one line."""
    words = task.fault.message if task.fault else ""
    if not words and task.status_message is not None:
        words = text_of(task.status_message.parts)
    words = words or f"the task is {task.state}"
    return words if words.startswith(task.agent) else f"{task.agent}: {words}"


class Printer:
    """Prints a turn's events: the answer on stdout, all else on stderr. ``output``: where files go."""

    def __init__(self, output: str | None = None) -> None:
        self.status = StatusLine()
        self._output = Path(output) if output is not None else None
        self._column = False  # whether stdout stands in the middle of a line
        self._source: str | None = None  # what the text on the current line belongs to
        self._open: list[Part] = []  # what was printed of the message being written

    def event(self, event: Event) -> None:
        """Print one event."""
        match event:
            case MessageDelta(parts=parts):
                self._open += parts
                self._parts(parts, "message")
            case MessageDone(message=message):
                self._parts(_unsaid(message, self._open), "message")
                self._open = []
                self._source = None
            case ArtifactDelta(artifact=artifact, last=last):
                self._parts(artifact.parts, artifact.artifact_id)
                self._source = None if last else self._source
            case Progress() | StateChanged():
                self.status.show(_progress(event))
            case Finished(state=S.COMPLETED, message=message) if message is not None:
                self._parts(message.parts, "status")
            case _:
                pass

    def end(self) -> None:
        """Close the last line."""
        self.status.clear()
        self._break()
        self._source = None

    def _parts(self, parts: Sequence[Part], source: str) -> None:
        for part in parts:
            if isinstance(part, Text):
                self._text(part.text, source)
            elif isinstance(part, Data):
                self._line(msgspec.json.format(msgspec.json.encode(part.data), indent=2).decode())
            else:
                self._file(part)

    def _text(self, text: str, source: str) -> None:
        if not text:
            return
        self.status.clear()
        if source != self._source:
            self._break()
            self._source = source
        sys.stdout.write(_shown(text))
        sys.stdout.flush()
        self._column = not text.endswith("\n")

    def _line(self, text: str) -> None:
        self.status.clear()
        self._break()
        sys.stdout.write(_shown(text) + "\n")
        sys.stdout.flush()

    def _break(self) -> None:
        if self._column:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._column = False

    def _file(self, file: File) -> None:
        self.status.clear()
        self._break()
        media_type = file.media_type or "application/octet-stream"
        if file.content is None:
            note(f"{one_line(file.name or 'file')} ({media_type}): {one_line(file.uri or '')}")
            return
        label = f"{one_line(file.name or _nameless(file))} ({media_type}, {size(len(file.content))})"
        if self._output is None:
            note(f"{label}; --output DIR saves it")
        else:
            note(f"{label} saved as {save(self._output, file)}")


def save(directory: Path, file: File) -> Path:
    """Write a file's bytes under its own name into ``directory``, beside what is there already."""
    directory.mkdir(parents=True, exist_ok=True)
    # The agent chose the name: nothing of it may lead out of the directory or hide the file.
    name = one_line((file.name or "").replace("\\", "/").rpartition("/")[2]).lstrip(".") or _nameless(file)
    stem, dot, suffix = name.rpartition(".")
    stem, suffix = (stem, dot + suffix) if stem else (name, "")
    for number in range(1, 10_000):
        path = directory / (name if number == 1 else f"{stem}-{number}{suffix}")
        try:
            with path.open("xb") as target:
                target.write(file.content or b"")
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"too many files named {name} in {directory}")


def _nameless(file: File) -> str:
    return "file" + (mimetypes.guess_extension(file.media_type or "") or "")


def _shown(text: str) -> str:
    """Text as stdout gets it: untouched, but harmless where that is a terminal."""
    return printable(text) if sys.stdout.isatty() else text


def _unsaid(message: Message, said: Sequence[Part]) -> Sequence[Part]:
    """The parts of a finished message that were not printed as deltas."""
    before, whole = text_of(list(said)), text_of(message.parts)
    others = sum(not isinstance(part, Text) for part in said)
    rest = [part for part in message.parts if not isinstance(part, Text)][others:]
    if not said:
        return message.parts
    if whole.startswith(before) and len(whole) > len(before):
        return [Text(text=whole[len(before) :]), *rest]
    return rest


def _progress(event: Progress | StateChanged) -> str:
    if isinstance(event, StateChanged):
        return text_of(event.message.parts) if event.message else f"{event.state}…"
    share = ""
    if event.progress is not None:
        share = f"{event.progress / event.total:.0%}" if event.total else f"{event.progress:g}"
    return " ".join(filter(None, (share, event.message))) or "working…"


def size(count: int) -> str:
    """A number of bytes for people."""
    if count < 1024:
        return f"{count} bytes"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"
