"""What a request says of itself, apart from its id and a call's arguments: its kind.

A client's calls of a tool are mostly of one kind, which is then read and checked only once (``usual``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ....gateway.model import Record
from ....gateway.readable import UNREADABLE
from ....gateway.telemetry import Template
from .. import wire
from ..wire import Era, RpcError


class Head(msgspec.Struct, frozen=True):
    """What the gateway reads of a request's params; the arguments stay undecoded."""

    meta: dict[str, Any] | None = msgspec.field(name="_meta", default=None)
    name: Any = None
    uri: Any = None
    task_id: Any = msgspec.field(name="taskId", default=None)
    task: Any = None
    state: Any = msgspec.field(name="requestState", default=None)


READ = {"_meta": "meta", "name": "name", "uri": "uri", "taskId": "task_id"}  # members to those of Head
_head = msgspec.json.Decoder(Head)


def read_head(params: Raw | UnsetType) -> Head:
    """Raises RpcError (invalid params) for what is no object."""
    if isinstance(params, UnsetType):
        return Head()
    try:
        return _head.decode(params)
    except UNREADABLE:
        raise RpcError(wire.INVALID_PARAMS, "params must be an object, and _meta in it too") from None


class Called(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The params of a tool's call with nothing in them but what nearly all have."""

    name: str
    arguments: Raw | UnsetType = UNSET
    meta: Raw | UnsetType = msgspec.field(name="_meta", default=UNSET)


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool's call with such params."""

    jsonrpc: Literal["2.0"]
    id: wire.Id
    method: Literal["tools/call"]
    params: Called


class Kind:
    """``name``: the tool, prompt, resource or task that is named; ``capabilities`` and ``info`` are the
    client's own words of itself, and ``revision`` the one that it speaks, in the modern era; in the other its
    session has them. ``spans``: the template of the spans of such requests, and the agent and revision that
    it is for."""

    __slots__ = ("capabilities", "era", "head", "info", "meta", "method", "name", "revision", "spans")

    def __init__(self, method: str, head: Head, era: Era) -> None:
        self.method = method
        self.head = head
        self.era: Era = era
        self.meta: Mapping[str, Any] = head.meta or {}
        named = wire.NAMED_BY.get(method)
        value = None if named is None else getattr(head, READ[named])
        self.name: str | None = value if isinstance(value, str) else None
        self.revision = ""
        self.spans: tuple[Template, Record | None, str] | None = None
        self.capabilities: dict[str, Any] = {}
        self.info: dict[str, Any] | None = None
        if era == "modern":
            self.revision = wire.LATEST_MODERN
            self.capabilities = object_in(self.meta, wire.META_CLIENT_CAPABILITIES)
            self.info = object_in(self.meta, wire.META_CLIENT_INFO) or None


def object_in(meta: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The member, if it is an object; else an empty one."""
    value = meta.get(key)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
