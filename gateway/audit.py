"""The audit log: who asked for what, and what became of it. Never what was said.

One JSON object a line, in which nothing that a client chose can begin another line. Lines are made of what is
there anyway (a request's span, its status) in the batches in which spans are written, and go out as bytes:
``AuditFile`` keeps them. Members that say nothing are left out. What a span's template says is put into words
once for each principal.

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

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from time import gmtime, strftime, time_ns

import msgspec

from .model import Principal
from .telemetry import Attribute, Span, Template

REFUSED = frozenset({401, 403, 421, 429})  # statuses
LENGTH = 256  # characters of what a client chose that are kept
KINDS = 1000  # of refusals that are told apart until the next batch
_UNSAFE = tuple(map(chr, (*range(0x7F, 0xA0), 0x2028, 0x2029)))  # JSON lets them be; terminals obey some
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in _UNSAFE}
_THOUSANDTHS = tuple(f"{n / 1000}"[1:] for n in range(1000))  # ".0", ".001", …

_encode = msgspec.json.Encoder().encode
_NOBODY = Principal()


class Audit:
    """What is to be written with the next batch."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._refusals: dict[tuple[int, str, str], tuple[int, str]] = {}  # when, and members
        self._counts: Counter[tuple[int, str, str]] = Counter()

    def spans(self, spans: Iterable[Span]) -> None:
        """Operations of clients that ended: the server spans among these, which are told whose they are."""
        self._lines += [_call(span) for span in spans if span.template.kind == "server"]

    def change(
        self, principal: Principal, operation: str, status: int = 0, subject: str = "", error: str = ""
    ) -> None:
        """The gateway itself was changed, or was not: ``status`` is HTTP's (0: it was not asked for over
        HTTP), ``error`` a code."""
        said = _whose(principal.id, principal.name) + _member("operation", operation)
        said += _member("subject", subject) + _member("error", error)
        self._lines.append(_line(time_ns(), "change", f'{said},"status":{status}' if status else said))

    def refused(self, principal: Principal, operation: str, status: int, peer: str) -> None:
        """A request was turned away. Whoever tries again and again fills no disk: each kind is one line of a
        batch."""
        kind = (status, principal.id, peer)
        if kind not in self._refusals and len(self._refusals) >= KINDS:
            kind = (status, "", "")
        if kind not in self._refusals:
            said = _whose(principal.id, principal.name)
            said += _member("peer", kind[2]) + _member("operation", operation)
            self._refusals[kind] = (time_ns(), f'{said},"status":{status}')
        self._counts[kind] += 1

    def lost(self, count: int) -> None:
        """So many lines will never be there."""
        self._lines.append(_line(time_ns(), "lost", f',"count":{count}'))

    def drain(self) -> bytes:
        """The lines since the last call."""
        lines, self._lines = self._lines, []
        for kind, (when, said) in self._refusals.items():
            lines.append(_line(when, "refused", f'{said},"count":{self._counts[kind]}'))
        self._refusals.clear()
        self._counts.clear()
        return b"".join(lines)


def _call(span: Span) -> bytes:
    said, principal = span.own.get, span.principal or _NOBODY
    who = _who(span.template, principal.id, principal.name)
    task = said("agentgw.task") or said("a2a.task.id") or said("acp.run.id")
    which = _member("task", task) if task else ""
    if context := said("gen_ai.conversation.id"):
        which += _member("context", context)
    became = _became(str(said("agentgw.state", ""))[:LENGTH], str(said("error.type", ""))[:LENGTH])
    us = (span.end_ns - span.start_ns + 500) // 1000
    ms = f"{us // 1000}{_THOUSANDTHS[us % 1000]}" if us >= 0 else us / 1000  # the clock may be set back
    return _line(span.end_ns, "call", f'{who}{which},"trace":"{span.trace_id}"{became},"ms":{ms}')


@lru_cache(1024)
def _who(template: Template, principal: str, key: str) -> str:
    said = template.attributes.get
    method = said("mcp.method.name") or said("a2a.method.name") or said("gen_ai.operation.name")
    return (
        _whose(principal, key)
        + _member("door", said("agentgw.client_protocol"))
        + _member("operation", method or template.name)
        + _member("agent", said("agentgw.agent"))
        + _member("tool", said("gen_ai.tool.name"))
    )


@lru_cache(1024)
def _became(outcome: str, error: str) -> str:
    return _member("outcome", outcome) + _member("error", error)


def _whose(id: str, name: str) -> str:
    return (f',"principal":{_quoted(id)}' if id else "") + _member("key", name)


def _member(name: str, value: Attribute | None) -> str:
    """As it stands in a line behind others; nothing where it is empty."""
    return "" if value is None or value == "" else f',"{name}":{_quoted(str(value)[:LENGTH])}'


def _line(ns: int, event: str, members: str) -> bytes:
    """``members``: what follows time and event."""
    return f'{{"time":"{_millisecond(ns // 1_000_000)}","event":"{event}"{members}}}\n'.encode()


def _quoted(text: str) -> str:
    """As a JSON string that begins no line and steers no terminal."""
    try:
        raw = _encode(text).decode()
    except ValueError:  # it is no Unicode
        raw = _encode(ascii(text)[1:-1]).decode()
    return raw if raw.isascii() and "\x7f" not in raw else raw.translate(_ESCAPES)


@lru_cache(16)
def _millisecond(ms: int) -> str:
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(16)
def _second(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
