"""Many spans as one value, and back: what a flush costs is its bytes and its rows.

A segment is JSON, ``{"shapes": [[kind, status, attribute name...]...], "spans": [[shape, name, trace id,
span id, parent id, start, end, attribute value...]...]}``: most spans have one of a few shapes, so the names
of their attributes are written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from ..gateway.telemetry import LENGTH, Span

SIZE = 250  # spans of one segment at most: the time in which no other thread runs

_encode = msgspec.json.Encoder().encode


class _Segment(msgspec.Struct):
    shapes: list[list[str]]
    spans: list[tuple[Any, ...]]


_decode = msgspec.json.Decoder(_Segment).decode


def encode(spans: Sequence[Span]) -> bytes:
    """The spans in their order, too long names and attributes cut. One that can't be written at all (text
    that is no Unicode) is empty in its place."""
    shapes: dict[tuple[str, ...], int] = {}
    rows: list[bytes] = []
    for span in spans:
        try:
            row = _row(span, shapes)
            if len(row) > LENGTH:
                span.cut()
                row = _row(span, shapes)
        except (TypeError, ValueError, OverflowError):
            span.name, span.attributes = "", {}
            row = _row(span, shapes)
        rows.append(row)
    return b'{"shapes":%b,"spans":[%b]}' % (_encode(list(shapes)), b",".join(rows))


def _row(span: Span, shapes: dict[tuple[str, ...], int]) -> bytes:
    attributes = span.attributes
    shape = shapes.setdefault((span.kind, span.status, *attributes), len(shapes))
    return _encode(
        (
            shape,
            span.name,
            span.trace_id,
            span.span_id,
            span.parent_id,
            span.start_ns,
            span.end_ns,
            *attributes.values(),
        )
    )


def decode(value: bytes, skip: int = 0, *, calls: bool = False) -> Iterator[dict[str, Any]]:
    """A segment's spans from ``skip`` on, each as ``telemetry.span_json`` has it. ``calls``: only those of
    which ``traces.is_call`` holds. Raises msgspec.DecodeError."""
    segment = _decode(value)
    wanted = [not calls or (shape[0] == "server" and "agentgw.agent" in shape) for shape in segment.shapes]
    for at, name, trace_id, span_id, parent_id, start, end, *values in segment.spans[skip:]:
        if wanted[at]:
            kind, status, *names = segment.shapes[cast("int", at)]
            yield {
                "name": name,
                "trace_id": trace_id,
                "span_id": span_id,
                "parent_id": parent_id,
                "kind": kind,
                "start": start,
                "duration_ms": round((end - start) / 1e6, 3),
                "attributes": dict(zip(names, values, strict=False)),
                "status": status,
            }


def may_hold(value: bytes, trace_id: str) -> bool:
    """Whether a segment may have spans of a trace whose id begins so; cheap."""
    return f'"{trace_id}'.encode() in value
