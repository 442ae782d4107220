"""The audit log: who asked for what, and what became of it. Never what was said.

One JSON object a line, in which nothing that a client chose can begin another line. Lines are made of what is
there anyway (a request's span, its status) in the batches in which spans are written, and go out as bytes:
``AuditFile`` keeps them. Members that say nothing are left out.

- ``call``: an operation that a client asked for, when it has ended: ``time``, ``principal`` and ``key`` (its
  name), ``door`` (the client's protocol), ``operation`` (its name there), ``agent``, ``tool``, ``task``,
  ``context``, ``trace``, ``outcome`` (the state of task or call), ``error`` (a code, where the operation
  failed), ``ms``.
- ``change``: a request that changes the gateway itself: ``operation``, ``subject`` (whom it is about, where
  the operation does not say so), ``status``; or what the command line did without a gateway (``add_agent``).
- ``refused``: requests that were turned away: ``status``, ``operation`` of the first and how many of its kind
  (status, principal, peer) there were (``count``), and ``peer``, the address they came from.
- ``lost``: ``count`` lines could not be kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from time import gmtime, strftime, time_ns

import msgspec

from .model import Principal
from .telemetry import Span

REFUSED = frozenset({401, 403, 421, 429})  # statuses
LENGTH = 256  # characters of what a client chose that are kept
KINDS = 1000  # of refusals that are told apart until the next batch
_UNSAFE = tuple(map(chr, (*range(0x7F, 0xA0), 0x2028, 0x2029)))  # JSON lets them be; terminals obey some
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in _UNSAFE}


class Line(msgspec.Struct, omit_defaults=True):
    """See above."""

    time: str
    event: str
    principal: str = ""
    key: str = ""
    peer: str = ""
    door: str = ""
    operation: str = ""
    subject: str = ""
    agent: str = ""
    tool: str = ""
    task: str = ""
    context: str = ""
    trace: str = ""
    outcome: str = ""
    error: str = ""
    status: int = 0
    count: int = 0
    ms: float = -1.0


_encode = msgspec.json.Encoder().encode
_NOBODY = Principal()


class Audit:
    """What is to be written with the next batch."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._refusals: dict[tuple[int, str, str], Line] = {}

    def spans(self, spans: Iterable[Span]) -> None:
        """Operations of clients that ended: the server spans among these, which are told whose they are."""
        for span in spans:
            if span.kind == "server":
                self._lines.append(_line(_call(span)))

    def change(
        self, principal: Principal, operation: str, status: int = 0, subject: str = "", error: str = ""
    ) -> None:
        """The gateway itself was changed, or was not: ``status`` is HTTP's (0: it was not asked for over
        HTTP), ``error`` a code."""
        line = _about(principal, "change", operation, status)
        line.subject, line.error = subject[:LENGTH], error
        self._lines.append(_line(line))

    def refused(self, principal: Principal, operation: str, status: int, peer: str) -> None:
        """A request was turned away. Whoever tries again and again fills no disk: each kind is one line of a
        batch."""
        kind = (status, principal.id, peer)
        if kind not in self._refusals and len(self._refusals) >= KINDS:
            kind = (status, "", "")
        found = self._refusals.get(kind)
        if found is None:
            found = self._refusals[kind] = _about(principal, "refused", operation, status)
            found.peer = kind[2]
        found.count += 1

    def lost(self, count: int) -> None:
        """So many lines will never be there."""
        self._lines.append(_line(Line(_time(time_ns()), "lost", count=count)))

    def drain(self) -> bytes:
        """The lines since the last call."""
        lines, self._lines = self._lines, []
        lines += map(_line, self._refusals.values())
        self._refusals.clear()
        return b"".join(lines)


def _call(span: Span) -> Line:
    said = span.attributes.get
    method = said("mcp.method.name") or said("a2a.method.name") or said("gen_ai.operation.name") or span.name
    principal = span.principal or _NOBODY
    return Line(
        time=_time(span.end_ns),
        event="call",
        principal=principal.id,
        key=principal.name[:LENGTH],
        door=str(said("agentgw.client_protocol", "")),
        operation=str(method)[:LENGTH],
        agent=str(said("agentgw.agent", ""))[:LENGTH],
        tool=str(said("gen_ai.tool.name", ""))[:LENGTH],
        task=str(said("agentgw.task") or said("a2a.task.id") or said("acp.run.id") or "")[:LENGTH],
        context=str(said("gen_ai.conversation.id", ""))[:LENGTH],
        trace=span.trace_id,
        outcome=str(said("agentgw.state", ""))[:LENGTH],
        error=str(said("error.type", ""))[:LENGTH],
        ms=round((span.end_ns - span.start_ns) / 1e6, 3),
    )


def _about(principal: Principal, event: str, operation: str, status: int) -> Line:
    return Line(
        _time(time_ns()),
        event,
        principal=principal.id,
        key=principal.name[:LENGTH],
        operation=operation[:LENGTH],
        status=status,
    )


def _line(line: Line) -> bytes:
    """In one line, whatever is in it."""
    try:
        raw = _encode(line)
    except (TypeError, ValueError):  # text that is no Unicode
        for name in Line.__struct_fields__:
            if isinstance(value := getattr(line, name), str):
                setattr(line, name, ascii(value)[1:-1])
        raw = _encode(line)
    if b"\x7f" in raw or not raw.isascii():
        raw = raw.decode().translate(_ESCAPES).encode()
    return raw + b"\n"


def _time(ns: int) -> str:
    return f"{_second(ns // 1_000_000_000)}.{ns // 1_000_000 % 1000:03d}Z"


@lru_cache(16)
def _second(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
