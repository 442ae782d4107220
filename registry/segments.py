"""Many spans as one value, and back: what a flush costs is its bytes and its rows.

A segment is JSON, ``{"shapes": [{name, kind, status, shared, own}...], "spans": [[shape, trace id, span id,
parent id, start, end, attribute value...]...]}``: most spans are of one of a few templates, so what these
have in common (``shared``: attributes with their values) and the names of the attributes that are a span's
``own`` are written once. In what was written formerly, a shape is ``[kind, status, attribute name...]``, and
in a span its name follows the shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from ..gateway.telemetry import LENGTH, Attribute, Span, Template

SIZE = 250  # spans of one segment at most: the time in which no other thread runs

_encode = msgspec.json.Encoder().encode


class _Shape(msgspec.Struct):
    name: str
    kind: str
    status: str
    shared: dict[str, Attribute]
    own: list[str]

    def holds(self, attribute: str) -> bool:
        return attribute in self.shared or attribute in self.own


class _Segment(msgspec.Struct):
    shapes: list[_Shape | list[str]]
    spans: list[tuple[Any, ...]]


_decode = msgspec.json.Decoder(_Segment).decode


class _Shapes:
    """Those of a segment, as they come about, by template, status and own names."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self._known: dict[tuple[object, ...], int] = {}

    def row(self, span: Span) -> bytes:
        own, template = span.own, span.template
        key = (template, span.status, *own)
        shape = self._known.get(key)
        if shape is None:
            shape = len(self.written)
            self.written.append(
                _encode(_Shape(template.name, template.kind, span.status, template.attributes, list(own)))
            )
            self._known[key] = shape
        return _encode(
            (shape, span.trace_id, span.span_id, span.parent_id, span.start_ns, span.end_ns, *own.values())
        )


def encode(spans: Sequence[Span]) -> bytes:
    """The spans in their order, too long attributes cut. One that can't be written at all (text that is no
    Unicode) is empty in its place."""
    shapes = _Shapes()
    rows: list[bytes] = []
    for span in spans:
        try:
            row = shapes.row(span)
            if len(row) > LENGTH:
                span.cut()
                row = shapes.row(span)
        except (TypeError, ValueError, OverflowError):
            span.template, span.own = Template("", span.kind), {}
            row = shapes.row(span)
        rows.append(row)
    return b'{"shapes":[%b],"spans":[%b]}' % (b",".join(shapes.written), b",".join(rows))


def decode(value: bytes, skip: int = 0, *, calls: bool = False) -> Iterator[dict[str, Any]]:
    """A segment's spans from ``skip`` on, each as ``telemetry.span_json`` has it. ``calls``: only those of
    which ``traces.is_call`` holds. Raises msgspec.DecodeError."""
    segment = _decode(value)
    former = [not isinstance(shape, _Shape) for shape in segment.shapes]
    shapes = [shape if isinstance(shape, _Shape) else _read(shape) for shape in segment.shapes]
    wanted = [not calls or (shape.kind == "server" and shape.holds("agentgw.agent")) for shape in shapes]
    for row in segment.spans[skip:]:
        at = cast("int", row[0])
        if wanted[at]:
            shape = shapes[at]
            name, (trace_id, span_id, parent_id, start, end, *own) = (
                (row[1], row[2:]) if former[at] else (shape.name, row[1:])
            )
            yield {
                "name": name,
                "trace_id": trace_id,
                "span_id": span_id,
                "parent_id": parent_id,
                "kind": shape.kind,
                "start": start,
                "duration_ms": round((end - start) / 1e6, 3),
                "attributes": {**shape.shared, **dict(zip(shape.own, own, strict=False))},
                "status": shape.status,
            }


def _read(former: list[str]) -> _Shape:
    kind, status, *names = former
    return _Shape("", kind, status, {}, names)


def may_hold(value: bytes, trace_id: str) -> bool:
    """Whether a segment may have spans of a trace whose id begins so; cheap."""
    return f'"{trace_id}'.encode() in value
