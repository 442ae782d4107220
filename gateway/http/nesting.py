"""How deep JSON is nested, found without decoding it: decoders recurse, and at some depth they give up."""

from __future__ import annotations

from itertools import accumulate

LARGE = 64 * 1024  # bytes: to look for the next bracket is quicker then than to split at them
_BLOCK = 1 << 20  # bytes looked at together: bounds the memory that hostile bodies can take
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: 1 and -1
_OTHERS = bytes(set(range(256)) - set(b"[{]}"))


def too_deep(body: bytes, limit: int) -> bool:
    """Whether arrays and objects in ``body`` (JSON, or anything else) lie in one another more than ``limit``
    deep. A body with few brackets, however large, costs two passes of memchr; others 30 ns a bracket."""
    if not _more_than(limit, body):
        return False
    if b"\\" in body:  # what is escaped neither ends a string nor is a bracket; pairs first: \\" does end one
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth, quoted = 0, 0
    for at in range(0, len(body), _BLOCK):
        pieces = body[at : at + _BLOCK].split(b'"')
        brackets = b"".join(pieces[quoted::2]).translate(_STEPS, _OTHERS)
        quoted ^= (len(pieces) - 1) & 1
        depths = list(accumulate(memoryview(brackets).cast("b"), initial=depth))
        if max(depths) > limit:
            return True
        depth = depths[-1]
    return False


def _more_than(limit: int, body: bytes) -> bool:
    """Whether there are more opening brackets."""
    if len(body) < LARGE:  # ``count`` of one byte takes three times as long, on some builds
        arrays = len(body.split(b"[", limit + 1)) - 1 if 0x5B in body else 0
        return arrays + len(body.split(b"{", limit + 1)) - 1 > limit
    for bracket in (b"[", b"{"):
        at = body.find(bracket)
        while at >= 0:
            if limit <= 0:
                return True
            limit -= 1
            at = body.find(bracket, at + 1)
    return False
