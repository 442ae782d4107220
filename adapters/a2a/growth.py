"""Results of a stream that make an artifact grow, as most do, by themselves: A2A 1.0 as ``plain`` reads and
writes it. Pure.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import UNSET, Raw

from ...gateway.alike import Alike
from ...gateway.model import Artifact, ArtifactDelta, Place, Text
from ...gateway.sse import escaped
from .events import Update, item_to
from .plain import Wire, WireArtifact, WireArtifactUpdate, WirePart
from .wire import V10, Version

_encode = msgspec.json.Encoder().encode
_MISSES = 3  # results in a row of another form: who writes so is not tried any more
Framed = Callable[[bytes], bytes]


class WireGrowth(Wire, frozen=True):
    """A result of a stream that adds to an artifact, or tells it anew, and says nothing else."""

    artifact_update: WireArtifactUpdate


class WireTextPart(Wire, frozen=True):
    text: Raw  # a string


class WireTextArtifact(Wire, frozen=True):
    artifact_id: str
    parts: tuple[WireTextPart]


class WireTextUpdate(Wire, frozen=True):
    artifact: WireTextArtifact
    append: bool
    task_id: str | None = None
    context_id: str | None = None


class WireTextGrowth(Wire, frozen=True):
    """What nearly all results of a stream are: bare text that continues an artifact."""

    artifact_update: WireTextUpdate


class TextGrowth(msgspec.Struct, frozen=True, gc=False):
    """Such a result, read."""

    task_id: str | None
    context_id: str | None
    artifact_id: str
    text: str


Growth = WireArtifactUpdate | TextGrowth
_growth = msgspec.json.Decoder(WireGrowth)
_text_growth = msgspec.json.Decoder(WireTextGrowth)


# --- reading -----------------------------------------------------------------------------------


def growth_at(result: bytes | Raw) -> WireArtifactUpdate:
    """What an agent of 1.0 said, where that is a change of an artifact, not yet read, though it can be.
    Raises msgspec.DecodeError for anything else."""
    update = _growth.decode(result).artifact_update
    for part in update.artifact.parts or ():
        if part.text is None:
            part.read()
    return update


def growth_reader() -> Callable[[bytes], tuple[bytes, Growth]]:
    """``growth_at`` for what an agent says on a stream: what is read, as it came and read."""
    alike = Alike(_text_growth_at)
    missed = 0  # in a row

    def read(result: bytes) -> tuple[bytes, Growth]:
        nonlocal missed
        if missed == _MISSES:
            return result, growth_at(result)
        try:
            text = alike.read(result)
        except msgspec.ValidationError:
            missed += 1
            return result, growth_at(result)
        missed = 0
        return result, TextGrowth(*alike.rest, text)

    return read


def piece_reader() -> Callable[[bytes], ArtifactDelta]:
    """Reads what an agent of 1.0 says on a stream, where that is a change of an artifact. Raises
    msgspec.DecodeError for anything else."""
    alike = Alike(_text_growth_at)

    def read(result: bytes) -> ArtifactDelta:
        try:
            text = alike.read(result)
        except msgspec.ValidationError:
            return piece(growth_at(result))
        return _text_delta(alike.rest[2], text)

    return read


def _text_growth_at(result: bytes) -> tuple[Raw, tuple[str | None, str | None, str]]:
    """The text, encoded; the task, the conversation and the artifact that it continues. Raises
    msgspec.DecodeError."""
    update = _text_growth.decode(result).artifact_update
    if not update.append:
        raise msgspec.ValidationError("it does not continue an artifact")
    artifact = update.artifact
    return artifact.parts[0].text, (update.task_id, update.context_id, artifact.artifact_id)


def place_at(result: bytes) -> tuple[Raw, Place]:
    """The text, encoded, and where it goes, of a result that is bare text which continues an artifact. Raises
    msgspec.DecodeError for any other."""
    text, (_, _, artifact_id) = _text_growth_at(result)
    return text, Place(artifact_id=artifact_id)


def piece(update: WireArtifactUpdate) -> ArtifactDelta:
    """What it says, read."""
    text = _continuing(update)
    if text is not None:
        return _text_delta(update.artifact.artifact_id or "", text)
    event = update.read().event
    assert isinstance(event, ArtifactDelta)
    return event


def grown(updates: Sequence[Growth]) -> Iterator[ArtifactDelta]:
    """What they say of one task, read. Bare text that continues bare text is put together: folded it is the
    same."""
    id: str | None = None
    texts: list[str] = []
    for update in updates:
        if isinstance(update, TextGrowth):
            name, text = update.artifact_id, update.text
        else:
            name, text = update.artifact.artifact_id, _continuing(update)
        if texts and (text is None or name != id):
            yield _text_delta(id or "", "".join(texts))
            texts = []
        if text is not None:
            id = name
            texts.append(text)
        elif isinstance(update, WireArtifactUpdate):
            yield piece(update)
    if texts:
        yield _text_delta(id or "", "".join(texts))


def _continuing(update: WireArtifactUpdate) -> str | None:
    """The text, if that is all there is to it."""
    artifact = update.artifact
    if update.append is not True or update.last_chunk is not UNSET or update.metadata is not None:
        return None
    if artifact.parts is None or len(artifact.parts) != 1:
        return None
    part = artifact.parts[0]
    return part.text if part == WirePart(text=part.text) and artifact == _bare(artifact) else None


def _bare(artifact: WireArtifact) -> WireArtifact:
    return WireArtifact(artifact_id=artifact.artifact_id, parts=artifact.parts)


def _text_delta(id: str, text: str) -> ArtifactDelta:
    artifact = Artifact(artifact_id=id, parts=(Text(text=text),))
    return ArtifactDelta(artifact=artifact, append=True, last=False)


# --- writing -----------------------------------------------------------------------------------


def update_json(update: Update, v: Version) -> bytes:
    """A result of a stream that is a change of a task, encoded."""
    event = update.event
    if v == V10 and isinstance(event, ArtifactDelta) and event.metadata is None and not event.extra:
        artifact = WireArtifact.of(event.artifact)
        if artifact is not None:
            growth = WireArtifactUpdate(
                artifact=artifact,
                task_id=update.task_id,
                context_id=update.context_id,
                append=event.append or UNSET,
                last_chunk=event.last or UNSET,
            )
            return _encode(WireGrowth(artifact_update=growth))
    return _encode(item_to(update, v))


_PLACE = secrets.token_hex(16)  # stands for a text while all else is encoded


class TextUpdates:
    """The updates that add bare text to artifacts of one task, encoded: only the text is new each time.
    ``framed``: what else is put around them, in event-stream form."""

    __slots__ = ("_after", "_before", "_framed", "_id", "_names", "_version")

    def __init__(self, task_id: str, context_id: str, v: Version, framed: Framed | None = None) -> None:
        self._names = task_id, context_id
        self._version: Version = v
        self._framed = framed
        self._id: str | None = None  # the latest artifact
        self._before = self._after = b""

    def json(self, artifact_id: str, text: str) -> bytes:
        """``update_json`` of the text appended to the artifact."""
        return update_json(Update(*self._names, _text_delta(artifact_id, text)), self._version)

    def event(self, artifact_id: str, text: str) -> bytes:
        """The same, framed."""
        if artifact_id != self._id:
            assert self._framed is not None
            around = self._framed(self.json(artifact_id, _PLACE))
            self._id = artifact_id
            self._before, _, self._after = around.partition(b'"%b"' % _PLACE.encode())
        said = _encode(text)
        return b"".join((self._before, said if said.isascii() else escaped(said), self._after))
