"""JSON documents that come one after the other and are alike but for a string, as pieces of an answer are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from .readable import UNREADABLE, must_be_text
from .sse import Decoder

T = TypeVar("T")
_NONE = b"\0"  # no document begins or ends like that
_LINE_BREAK = 10
_MISSES = 3  # chunks in a row of another form: who writes so is not tried any more
_string = msgspec.json.Decoder(str)


class Alike(Generic[T]):
    """``find`` gives the string of a document, encoded as it stands there, and ``rest``: what else is to be
    known of it. It is asked only where what stands around the string is not what it was the last time: what
    is around one string can be around any other, and the rest is the same.
    """

    __slots__ = ("_after", "_before", "_find", "rest")

    rest: T  # of the document read last

    def __init__(self, find: Callable[[bytes], tuple[msgspec.Raw, T]]) -> None:
        self._find = find
        self._before = self._after = _NONE

    def read(self, document: bytes) -> str:
        """The string. Raises what ``find`` does, and ValueError for what is none."""
        before, after = self._before, self._after
        if document.startswith(before) and document.endswith(after):
            try:
                return _string.decode(document[len(before) : -len(after)])
            except ValueError:  # no string, or no UTF-8
                pass
        raw, rest = self._find(document)
        text = _string.decode(raw)
        self.rest = rest
        if document.count(raw) == 1:
            self._before, _, self._after = document.partition(raw)
        else:
            self._before = self._after = _NONE
        return text


class AlikeEvents(Generic[T]):
    """``take`` is for ``transport.Stream.offer``, where ``decoder`` is fed with what is not taken: of a chunk
    that is one event, alike but for a string, ``give`` gets the string and the rest, as ``find`` finds them
    in the event's data (see ``Alike``; it may be no JSON), and says whether it has taken it. Of others, and
    of what it does not take, ``other`` says so."""

    __slots__ = (
        "_after", "_before", "_begin", "_decoder", "_end", "_fed", "_find", "_give", "_missed", "_other",
        "_rest",
    )  # fmt: skip

    _rest: T  # of the events that are alike

    def __init__(
        self,
        decoder: Decoder,
        find: Callable[[bytes], tuple[msgspec.Raw, T]],
        give: Callable[[str, T], bool],
        other: Callable[[bytes], bool],
    ) -> None:
        self._decoder = decoder
        self._find = find
        self._give = give
        self._other = other
        self._before = self._after = _NONE  # with the string's quotes
        self._begin = self._end = 0  # where it stands
        self._fed = 0  # how often the decoder was, when all events were complete
        self._missed = 0  # chunks in a row that were no such event

    def take(self, chunk: bytes) -> bool:
        decoder = self._decoder
        if chunk.startswith(self._before) and chunk.endswith(self._after) and self._fed == decoder.fed:
            raw = chunk[self._begin : self._end]
            if _LINE_BREAK in raw:  # which no string of JSON has in it: these are several events
                return self._other(chunk)
            try:
                text = _string.decode(raw)
            except ValueError:
                return self._learn(chunk)
            if len(chunk) <= decoder.limit and self._give(text, self._rest):
                return True
            return self._other(chunk)
        return self._learn(chunk)

    def _learn(self, chunk: bytes) -> bool:
        """The next one may be like this."""
        found = None if self._missed == _MISSES else self._decoder.whole(chunk)
        if found is None or len(found) > 1:
            return self._other(chunk)
        try:
            must_be_text(chunk)
            raw, rest = self._find(found[0])
            text = _string.decode(raw)
        except UNREADABLE:
            self._missed += 1
            return self._other(chunk)
        self._missed = 0
        if chunk.count(raw) == 1:
            before, _, after = chunk.partition(raw)
            self._before, self._after = before + b'"', b'"' + after
            self._begin, self._end = len(before), -len(after)
            self._rest, self._fed = rest, self._decoder.fed
        return self._give(text, rest) or self._other(chunk)
