"""The protocol's messages in protobuf's form, and back: JSON ↔ bytes, after ``schema``.

The classes are made from the definition when they are first needed, in a pool of their own: another copy of
the same definition in the process (an SDK's) is no matter.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    empty_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
)
from google.protobuf.message import DecodeError

from ..codec import Malformed
from ..schema import PACKAGE, Field, schema
from ..wire import Json

SERVICE = f"{PACKAGE}.A2AService"
_FILE = "a2a.proto"
_KNOWN: tuple[Any, ...] = (empty_pb2, struct_pb2, timestamp_pb2)
_SCALARS = {"string": 9, "bytes": 12, "bool": 8, "int32": 5}  # FieldDescriptorProto.Type
_MESSAGE, _ENUM = 11, 14
_EXACT = 2**53
_OPTIONAL, _REPEATED = 1, 3  # FieldDescriptorProto.Label


def encode(message: str, value: Json) -> bytes:
    """A message in protobuf's form, without fields that the definition does not know. Raises Malformed."""
    made = _class(message)()
    try:
        json_format.ParseDict(dict(value), made, ignore_unknown_fields=True, max_recursion_depth=200)
    except (json_format.ParseError, ValueError, TypeError) as e:
        raise Malformed(f"{message}: {e}") from e
    return made.SerializeToString()


def decode(message: str, data: bytes) -> dict[str, Any]:
    """A message in JSON's form. Raises Malformed."""
    made = _class(message)()
    try:
        made.ParseFromString(data)
        return _whole(json_format.MessageToDict(made))
    except (DecodeError, json_format.Error, ValueError, RecursionError) as e:
        raise Malformed(f"the message is no {message}") from e


def _whole(value: Any) -> Any:
    """Numbers of free-form data are floats on this wire: whole ones are written as JSON writes them."""
    if isinstance(value, dict):
        return {key: _whole(x) for key, x in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_whole(x) for x in cast("list[Any]", value)]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value


@cache
def _class(message: str) -> Any:
    full = message if "." in message else f"{PACKAGE}.{message}"
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full))


@cache
def _pool() -> Any:
    pool: Any = descriptor_pool.DescriptorPool()
    file: Any = descriptor_pb2.FileDescriptorProto(name=_FILE, package=PACKAGE, syntax="proto3")
    for known in _KNOWN:
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
        file.dependency.append(known.DESCRIPTOR.name)
    for name, values in schema().enums.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in schema().messages.items():
        made = file.message_type.add(name=name)
        for field in fields:
            _add(made, field)
        for proto in made.field:  # after the real oneofs, as protobuf wants them
            if proto.proto3_optional:
                proto.oneof_index = len(made.oneof_decl)
                made.oneof_decl.add(name=f"_{proto.name}")
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add(message: Any, field: Field) -> None:
    """Declare a field of ``message``, a DescriptorProto."""
    made = message.field.add(name=field.name, number=field.number, json_name=field.json, label=_OPTIONAL)
    if field.map:
        entry = message.nested_type.add(name="".join(p.capitalize() for p in field.name.split("_")) + "Entry")
        entry.options.map_entry = True
        _typed(entry.field.add(name="key", number=1, label=_OPTIONAL), "string")
        _typed(entry.field.add(name="value", number=2, label=_OPTIONAL), field.type)
        made.label, made.type = _REPEATED, _MESSAGE
        made.type_name = f".{PACKAGE}.{message.name}.{entry.name}"
        return
    _typed(made, field.type)
    if field.repeated:
        made.label = _REPEATED
    made.proto3_optional = field.optional
    if field.oneof:
        names = [declared.name for declared in message.oneof_decl]
        if field.oneof not in names:
            message.oneof_decl.add(name=field.oneof)
            names.append(field.oneof)
        made.oneof_index = names.index(field.oneof)


def _typed(field: Any, type: str) -> None:
    """Give a FieldDescriptorProto its type, a name as in ``schema``."""
    if type in _SCALARS:
        field.type = _SCALARS[type]
        return
    field.type = _ENUM if type in schema().enums else _MESSAGE
    field.type_name = f".{type}" if "." in type else f".{PACKAGE}.{type}"
