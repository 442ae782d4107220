"""What a client has heard of a task's artifacts, found again without being kept: lengths and hashes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from ...gateway.lifecycle import joined
from ...gateway.model import Artifact, ArtifactDelta, Part, Text

_encode = msgspec.json.Encoder().encode
_EDGE = b"\xff"  # between parts: in no UTF-8


class Heard:
    """Feed what is told of each artifact; ``news`` is then what a later look at one has beyond that."""

    def __init__(self, artifacts: Sequence[Artifact] = ()) -> None:
        self._places = {a.artifact_id: _Place(a) for a in artifacts}

    def add(self, event: ArtifactDelta) -> None:
        artifact = event.artifact
        place = self._places.get(artifact.artifact_id)
        if place is None or not event.append:
            self._places[artifact.artifact_id] = _Place(artifact)
        else:
            place.add(artifact.parts)

    def news(self, artifact: Artifact) -> ArtifactDelta | None:
        """What is still to be told of the artifact: what was joined on, nothing, or, where it does not begin
        with what was heard, all of it. How text is cut into parts does not count."""
        place = self._places.get(artifact.artifact_id)
        if place is None or (rest := place.rest(artifact.parts)) is None:
            return ArtifactDelta(artifact=artifact)
        if not rest:
            return ArtifactDelta(artifact=artifact) if place.about != _about(artifact) else None
        if place.is_empty:
            return ArtifactDelta(artifact=artifact)
        return ArtifactDelta(artifact=msgspec.structs.replace(artifact, parts=rest), append=True)


def _about(artifact: Artifact) -> tuple[object, ...]:
    return artifact.name, artifact.description, artifact.metadata


class _Place:
    """How far an artifact was told: ``_count`` parts (texts that continue one another are one), of the last,
    if that is a text, ``_length`` characters; and the hash of all that."""

    __slots__ = ("_count", "_hash", "_length", "_text", "about")

    def __init__(self, artifact: Artifact) -> None:
        self.about = _about(artifact)
        self._hash = blake2b(digest_size=16)
        self._count = self._length = 0
        self._text: Text | None = None  # the last part, without its words
        self.add(artifact.parts)

    @property
    def is_empty(self) -> bool:
        return not self._count

    def add(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if not isinstance(part, Text):
                self._begin(part)
                self._text = None
                continue
            bare = msgspec.structs.replace(part, text="")
            if self._text is None or len(joined((self._text,), (bare,))) > 1:
                self._begin(bare)
                self._text, self._length = bare, 0
            self._hash.update(part.text.encode(errors="surrogatepass"))
            self._length += len(part.text)

    def _begin(self, part: Part) -> None:
        self._count += 1
        self._hash.update(b"%b%b%b" % (_EDGE, _encode(part), _EDGE))

    def rest(self, parts: Sequence[Part]) -> tuple[Part, ...] | None:
        """What ``parts`` have beyond this place; None where they don't begin with it."""
        whole: tuple[Part, ...] = ()
        for part in parts:
            whole = joined(whole, (part,))
        n = self._count
        if not n or len(whole) < n:
            return None if n else whole
        heard, last, rest = whole[: n - 1], whole[n - 1], whole[n:]
        if self._text is not None:
            if not isinstance(last, Text):
                return None
            told, more = last.text[: self._length], last.text[self._length :]
            rest = (msgspec.structs.replace(last, text=more), *rest) if more else rest
            last = msgspec.structs.replace(last, text=told)
        again = _Place(Artifact(artifact_id="", parts=(*heard, last)))
        return rest if again._hash.digest() == self._hash.digest() else None
