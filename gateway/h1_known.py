"""Heads of agents' answers that came before, so that they need not be parsed again.

A head that comes a second time, of a whole answer, is learnt: what ``h1`` made of it. Agents that give each
answer a ``Run-ID`` (ACP's) say every head but once; of those is known what is around that value.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .recurring import Recurring, has_lines

OWN = "run-id"  # a header of which each answer has a value of its own
_own = re.compile(rb"\r\n[Rr]un-[Ii][Dd]: ([A-Za-z0-9-]+)\r\n").search


class Known(NamedTuple):
    """The head of an answer that came before, with a body of ``length`` bytes (-1: in chunks). ``own``: which
    of the headers has a value that no other answer has (-1: none)."""

    status: int
    headers: list[tuple[str, str]]
    coding: str
    length: int
    own: int


heads: Recurring[Known] = Recurring(256 * 1024)


def around(data: bytes) -> tuple[bytes, bytes, int] | None:
    """Of the head that ``data`` begins with: what is around its own value (no whole head looks so), that
    value, and the bytes of the head. None: it has no such value."""
    size = data.find(b"\r\n\r\n") + 4
    found = _own(data, 0, size)
    if found is None:
        return None
    at, end = found.span(1)
    return data[:at] + data[end : size - 1], data[at:end], size


def learn(data: bytes, status: int, headers: list[tuple[str, str]], coding: str) -> None:
    """``data`` was a whole answer to anything but HEAD and CONNECT, after which the connection may be used
    again; the others are what was made of its head. Learnt is a head that came before, and says in one way
    alone how long its body is."""
    own = [at for at, (key, _) in enumerate(headers) if key == OWN]
    parts = around(data) if own else None
    head = heads.again(data) if parts is None else heads.came(parts[0])
    if head is None or len(own) > 1:
        return
    whole = data[: data.index(b"\r\n\r\n") + 4]
    if not has_lines(whole, len(headers) + 2):
        return
    framing = [(k, v) for k, v in headers if k in ("content-length", "transfer-encoding")]
    length = len(data) - len(whole)
    if framing == [("transfer-encoding", "chunked")] and status == 200:
        length = -1
    elif framing != [("content-length", str(length))]:
        return
    at = own[0] if parts is not None else -1
    heads.keep(head, Known(status, headers, coding, length, at))
