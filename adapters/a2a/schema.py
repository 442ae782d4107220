"""The protocol's definition as data, read from ``a2a.proto``: what a message's fields are. Pure.

Agent cards are signed in the form that the definition gives them, and gRPC speaks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

PACKAGE = "lf.a2a.v1"
_OPENING = re.compile(r"(message|enum|oneof|service) (\w+) \{")
_FIELD = re.compile(r"(?:(optional|repeated) )?(map<string, )?([\w.]+)>? (\w+) = (\d+)(?: \[(.*)\])?;")
_VALUE = re.compile(r"(\w+) = (\d+);")
_RPC = re.compile(r"rpc (\w+)\(([\w.]+)\) returns \((stream )?([\w.]+)\);")


class Field(msgspec.Struct, frozen=True):
    """A field. ``type`` is a scalar's name, a message's or enumeration's of this package, or a full
    ``google.protobuf.…``; of a map (whose keys are text) that of its values."""

    name: str
    number: int
    type: str
    optional: bool
    repeated: bool
    map: bool
    required: bool
    oneof: str

    @property
    def json(self) -> str:
        """Its name in JSON."""
        head, *tail = self.name.split("_")
        return head + "".join(word.capitalize() for word in tail)


class Method(msgspec.Struct, frozen=True):
    """An operation of the service. ``streams``: it answers with any number of ``answer``."""

    name: str
    request: str
    answer: str
    streams: bool


class Schema(msgspec.Struct, frozen=True):
    """Everything in the file, in its order."""

    messages: Mapping[str, tuple[Field, ...]]
    enums: Mapping[str, Mapping[str, int]]
    methods: tuple[Method, ...]


@cache
def schema() -> Schema:
    """The definition; read once."""
    messages: dict[str, tuple[Field, ...]] = {}
    enums: dict[str, dict[str, int]] = {}
    methods: list[Method] = []
    kind = name = oneof = ""
    for line in map(str.strip, Path(__file__).with_name("a2a.proto").read_text().splitlines()):
        if opening := _OPENING.fullmatch(line):
            if opening[1] == "oneof":
                oneof = opening[2]
            else:
                kind, name = opening.groups()
        elif line == "}":
            oneof = ""
        elif kind == "message" and (found := _FIELD.fullmatch(line)):
            messages[name] = (*messages.get(name, ()), _field(found, oneof))
        elif kind == "enum" and (found := _VALUE.fullmatch(line)):
            enums.setdefault(name, {})[found[1]] = int(found[2])
        elif kind == "service" and (found := _RPC.fullmatch(line)):
            methods.append(Method(found[1], found[2], found[4], found[3] is not None))
    return Schema(messages, enums, tuple(methods))


def _field(found: re.Match[str], oneof: str) -> Field:
    return Field(
        name=found[4],
        number=int(found[5]),
        type=found[3],
        optional=found[1] == "optional",
        repeated=found[1] == "repeated",
        map=found[2] is not None,
        required="REQUIRED" in (found[6] or ""),
        oneof=oneof,
    )
