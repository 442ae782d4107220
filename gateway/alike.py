"""JSON documents that come one after the other and are alike but for a string, as pieces of an answer are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")
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
        self._before = self._after = b"\0"  # no document is like that

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
            self._before = self._after = b"\0"
        return text
