"""JSON documents that pass in pieces: what stands before their content, what is changed in it on the way, and
whether they end as they should.

Only objects and arrays that ``shape`` opens are looked into. Of all else it is seen that brackets are
balanced and strings closed; types, names and commas in it are not looked at.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Generator, Mapping
from itertools import accumulate

import msgspec

# What is looked into: members by name (``EACH``: the items of an array), in them the same again. None: the
# member's value is told.
Shape = Mapping[bytes, "Shape | None"]
Path = tuple[bytes, ...]
Change = Callable[[Path, bytes], bytes | None]  # a told value, and what stands in its place; None: itself
EACH = b"*"

LONGEST = 1024 * 1024  # bytes of a value that is told
DEEPEST = 500  # brackets in one another
_WINDOW, _WIDEST = 128, 64 * 1024  # bytes of a skipped value that are looked at: first, and at most

_NAME = re.compile(rb'\s*"([^"\\]{1,100})"\s*:\s*')
_SCALAR = re.compile(rb'("(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null)\s*,')
_OPEN = re.compile(rb"\s*\{")
_SPACE = re.compile(rb"[ \t\r\n]*+")
_QUOTED = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # up to a string's end
_SHORT = re.compile(  # a member whose value is short, and what follows it
    rb'[ \t\r\n]*+"([^"\\]*+)"[ \t\r\n]*+:[ \t\r\n]*+'
    rb'(?:"(?:[^"\\]|\\.)*+"|[-+.0-9a-zA-Z]++)[ \t\r\n]*+([,}])',
    re.DOTALL,
)
_PLAIN = re.compile(rb"[^][{},:\"\s]*+")  # a number, true, false, null
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: 1 and -1
_OTHERS = bytes(set(range(256)) - set(b"[{]}"))
_BRACKETS = frozenset(b"[{")
_QUOTE = 0x22

_NOTHING: Shape = {}

Steps = Generator[None]


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


class Passing:
    """Feed the pieces of a document from the beginning of an object in it on, get those of the object.

    ``change`` is told the values that ``shape`` names, in their order, and may change them; a member that
    comes twice is told twice. ``end``: what must follow the object, spaces aside, to end the document.
    """

    def __init__(self, shape: Shape = _NOTHING, change: Change | None = None, *, end: bytes = b"}") -> None:
        self._change = change
        self._end = end
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._data = b""  # what has come and is not read to its end
        self._at = 0
        self._out: list[bytes] = []
        self._held: list[bytes] | None = None  # in place of ``_out`` while a value is told
        self._size = 0  # of that
        self._depth = 0
        self._steps: Steps | None = self._object(shape, ())

    def feed(self, piece: bytes) -> bytes:
        """What passes on for it. Raises ValueError for what is not the rest of such a document."""
        self._text.decode(piece)
        self._data = self._data[self._at :] + piece
        self._at = 0
        if self._steps is not None:
            try:
                next(self._steps)
            except StopIteration:
                self._steps = None
        if self._steps is None and len(self._data) - self._at > 4096:
            raise ValueError("something comes after its content")
        out, self._out = self._out, []
        return b"".join(out)

    def close(self) -> None:
        """All has come. Raises ValueError where it did not."""
        self._text.decode(b"", final=True)
        if self._steps is not None:
            raise ValueError("it ends too early")
        if self._data[self._at :].strip(b" \t\r\n") != self._end:
            raise ValueError("something else follows its content than its end")

    # --- reading -----------------------------------------------------------------------------

    def _take(self, end: int) -> None:
        """It passes, up to there."""
        piece = self._data[self._at : end]
        self._at = end
        if self._held is None:
            self._out.append(piece)
            return
        self._size += len(piece)
        if self._size > LONGEST:
            raise ValueError("what must be known of it is too large")
        self._held.append(piece)

    def _next(self) -> Generator[None, None, int]:
        """The next byte that is no space, which has not passed."""
        while True:
            self._take(_end(_SPACE, self._data, self._at))
            if self._at < len(self._data):
                return self._data[self._at]
            yield

    def _mark(self, wanted: bytes) -> Generator[None, None, int]:
        """One of these bytes, which passes."""
        found = yield from self._next()
        if found not in wanted:
            raise ValueError("it is no JSON")
        self._take(self._at + 1)
        return found

    def _object(self, shape: Shape, path: Path) -> Steps:
        self._into()
        yield from self._mark(b"{")
        if (yield from self._next()) == 0x7D:
            self._take(self._at + 1)
        else:
            while True:
                short = _SHORT.match(self._data, self._at)
                if short is not None and short[1] not in shape:
                    self._take(short.end())
                    if short[2] == b"}":
                        break
                    continue
                if (yield from self._next()) != _QUOTE:
                    raise ValueError("it is no JSON")
                name = yield from self._told(self._string())
                yield from self._mark(b":")
                yield from self._value(shape, path, _plain(name))
                if (yield from self._mark(b",}")) == 0x7D:
                    break
        self._depth -= 1

    def _array(self, shape: Shape, path: Path) -> Steps:
        self._into()
        yield from self._mark(b"[")
        if (yield from self._next()) == 0x5D:
            self._take(self._at + 1)
        else:
            while True:
                yield from self._value(shape, path, EACH)
                if (yield from self._mark(b",]")) == 0x5D:
                    break
        self._depth -= 1

    def _into(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError("it is nested too deep")

    def _value(self, shape: Shape, path: Path, name: bytes) -> Steps:
        first = yield from self._next()
        if name not in shape:
            yield from self._skipped(first)
            return
        inner = shape[name]
        if inner is None:
            value = yield from self._told(self._skipped(first), silent=True)
            changed = None if self._change is None else self._change((*path, name), value)
            self._out.append(value if changed is None else changed)
        elif first == 0x7B:
            yield from self._object(inner, (*path, name))
        elif first == 0x5B and EACH in inner:
            yield from self._array(inner, (*path, name))
        else:
            yield from self._skipped(first)

    def _told(self, steps: Steps, *, silent: bool = False) -> Generator[None, None, bytes]:
        """What passes in these steps; ``silent``: it does not."""
        self._held, self._size = [], 0
        yield from steps
        value, self._held = b"".join(self._held), None
        if not silent:
            self._out.append(value)
        return value

    # --- what is not looked into -------------------------------------------------------------

    def _skipped(self, first: int) -> Steps:
        if first in _BRACKETS:
            return self._brackets()
        return self._string() if first == _QUOTE else self._scalar()

    def _string(self) -> Steps:
        self._take(self._at + 1)
        while True:
            end = _end(_QUOTED, self._data, self._at)
            if end < len(self._data) and self._data[end] == _QUOTE:
                self._take(end + 1)
                return
            self._take(end)  # a backslash at the end of the data waits for its other half
            yield

    def _scalar(self) -> Steps:
        size = 0
        while True:
            end = _end(_PLAIN, self._data, self._at)
            size += end - self._at
            self._take(end)
            if self._at < len(self._data):
                break
            yield
        if not size:
            raise ValueError("it is no JSON")

    def _brackets(self) -> Steps:
        depth, quoted, window = self._depth, False, _WINDOW
        while True:
            data = self._data[self._at : self._at + window]
            if (len(data) - len(data.rstrip(b"\\"))) % 2:
                data = data[:-1]
            if not data:
                yield
                continue
            window = min(8 * window, _WIDEST)
            pieces = _unescaped(data).split(b'"')
            outside = pieces[quoted::2]
            steps = memoryview(b"".join(outside).translate(_STEPS, _OTHERS)).cast("b")
            depths = list(accumulate(steps, initial=depth))
            if max(depths) > DEEPEST:
                raise ValueError("it is nested too deep")
            try:
                closing = depths.index(self._depth, 1)
            except ValueError:
                depth = depths[-1]
                quoted ^= len(pieces) % 2 == 0
                self._take(self._at + len(data))
                continue
            self._take(self._at + _place(pieces, quoted, closing) + 1)
            return


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = pattern.match(data, at)
    assert found is not None
    return found.end()


def _unescaped(data: bytes) -> bytes:
    """With something else for what is escaped: that neither ends a string nor is a bracket."""
    if b"\\" not in data:
        return data
    return data.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def _place(pieces: list[bytes], quoted: bool, number: int) -> int:
    """Where the bracket of this number is in what the quotes cut into ``pieces``."""
    at = 0
    for piece in pieces:
        if not quoted:
            found = len(piece.translate(None, _OTHERS))
            if number <= found:
                places = (n for n, byte in enumerate(piece) if byte in b"[]{}")
                return at + next(n for count, n in enumerate(places, 1) if count == number)
            number -= found
        quoted = not quoted
        at += len(piece) + 1
    raise AssertionError("it was counted")


def _plain(name: bytes) -> bytes:
    """A member's name, from its JSON."""
    return name[1:-1] if b"\\" not in name else msgspec.json.decode(name, type=str).encode("utf-8", "replace")
