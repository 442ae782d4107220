"""Which names stand in a JSON document, found without decoding it. Pure.

It must be answered for every request, most of which have none of the names: a name that is found may be a
member's, or part of what somebody wrote; one that is not found is no member's.
"""

from __future__ import annotations

LARGE = 64 * 1024  # bytes of a document whose long strings are passed over
_LONGEST = 64  # bytes of a string that may be a name
_MOST = 2000  # strings that are looked at one by one
_BACKSLASH = 0x5C


def mentions(body: bytes, *names: bytes) -> bool:
    """Whether one of these may be the name of a member in the JSON ``body``: most requests go on with
    nothing, and need not be read for that twice."""
    escaped = _BACKSLASH in body
    text = body if escaped or len(body) < LARGE else outline(body)
    for name in names:
        if text.find(name) >= 0:  # in a third of the time of `in`, which first takes the name for a number
            return True
    return escaped and b"\\u" in body


def is_escaped(body: bytes) -> bool:
    """Whether a name in the JSON ``body`` may not stand there as it is: a character of it by its number."""
    return _BACKSLASH in body and b"\\u" in body  # the first takes a tenth of the time


def outline(body: bytes) -> bytes:
    """What names can be looked for in: of a large document with few strings the short ones, each in its
    quotes; else ``body`` itself. To search 8 MB for a name takes 3 ms, for the next quote 0.1."""
    if len(body) < LARGE or _BACKSLASH in body:
        return body
    short: list[bytes] = []
    find, end = body.find, -1
    for _ in range(_MOST):
        begin = find(b'"', end + 1)
        if begin < 0:
            return b"".join(short)
        end = find(b'"', begin + 1)
        if end < 0:
            return body  # which is no JSON
        if end - begin <= _LONGEST:
            short.append(body[begin : end + 1])
    return body
