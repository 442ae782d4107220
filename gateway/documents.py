"""JSON documents that pass in pieces: what stands before their content, and whether they end as they should.

Nothing is decoded. That brackets are balanced, that it is UTF-8 and that nothing comes after the content is
seen; types, names and commas are not looked at.
"""

from __future__ import annotations

import codecs
import re
from itertools import accumulate

_NAME = re.compile(rb'\s*"([^"\\]{1,100})"\s*:\s*')
_SCALAR = re.compile(rb'("(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null)\s*,')
_OPEN = re.compile(rb"\s*\{")
_END = re.compile(rb"\s*(?:\}\s*)?")
_BRACKET = re.compile(rb"[\[\]{}]")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: 1 and -1
_OTHERS = bytes(set(range(256)) - set(b"[{]}"))
DEEPEST = 500  # brackets in one another


def opening(begun: bytes, content: bytes) -> tuple[dict[bytes, bytes], int] | None:
    """The members before the member ``content`` of the object that begins with ``begun``, as JSON, and where
    the object begins that is its value. None where it is no object, or something else than text,
    numbers, booleans and null, or one name twice, comes before."""
    found = _OPEN.match(begun)
    members: dict[bytes, bytes] = {}
    while found is not None:
        name = _NAME.match(begun, found.end())
        if name is None or name[1] in members:
            return None
        if name[1] == content:
            return (members, name.end()) if begun[name.end() : name.end() + 1] == b"{" else None
        found = _SCALAR.match(begun, name.end())
        if found is not None:
            members[name[1]] = found[1]
    return None


class Rest:
    """Feed the pieces of an object from its member's value on, before they are passed on."""

    def __init__(self) -> None:
        self._depth = 0  # within the value
        self._quoted = False
        self._held = b""  # a backslash whose other half has not come
        self._end: bytes | None = None  # what came after the value
        self._text = codecs.getincrementaldecoder("utf-8")()

    def feed(self, piece: bytes) -> None:
        """Raises ValueError for what is not the rest of such an object."""
        self._text.decode(piece)
        self._look(self._unescaped(piece))

    def close(self) -> None:
        """All has come. Raises ValueError where it did not."""
        self._text.decode(b"", final=True)
        if self._end is None or b"}" not in self._end or self._held:
            raise ValueError("it ends too early")

    def _unescaped(self, piece: bytes) -> bytes:
        """With something else for what is escaped: that neither ends a string nor is a bracket."""
        data, self._held = self._held + piece, b""
        if b"\\" not in data:
            return data
        if (len(data) - len(data.rstrip(b"\\"))) % 2:
            data, self._held = data[:-1], b"\\"
        return data.replace(b"\\\\", b"__").replace(b'\\"', b"__")

    def _look(self, data: bytes) -> None:
        pieces = data.split(b'"')
        outside = pieces[self._quoted :: 2]
        quoted, self._quoted = self._quoted, self._quoted ^ bool((len(pieces) - 1) & 1)
        if self._end is None:
            steps = memoryview(b"".join(outside).translate(_STEPS, _OTHERS)).cast("b")
            depths = list(accumulate(steps, initial=self._depth))
            if max(depths) > DEEPEST:
                raise ValueError("it is nested too deep")
            ended = 0 in depths[1:]
            self._depth = depths[-1]
            if not ended:
                return
            if quoted:
                outside.insert(0, b"")
            if self._quoted:
                outside.append(b"")
            self._after(b'"'.join(outside), depths.index(0, 1))
        else:
            self._ended(data)

    def _after(self, outside: bytes, closing: int) -> None:
        """The value ends with the bracket of this number."""
        for number, bracket in enumerate(_BRACKET.finditer(outside), 1):
            if number == closing:
                self._ended(outside[bracket.end() :])
                return

    def _ended(self, more: bytes) -> None:
        self._end = (self._end or b"") + more
        if len(self._end) > 4096 or not _END.fullmatch(self._end):
            raise ValueError("something comes after its content")
