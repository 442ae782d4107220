"""A2A on the wire: operations, their names per revision and binding, and the JSON-RPC envelope.

Revisions are named by ``Major.Minor`` (specification 1.0.1, section 3.6): "1.0" and "0.3".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Literal

import msgspec

Version = Literal["1.0", "0.3"]
Binding = Literal["JSONRPC", "HTTP+JSON", "GRPC"]
Json = Mapping[str, Any]

V10: Version = "1.0"
V03: Version = "0.3"

CARD_PATH = "/.well-known/agent-card.json"
OLD_CARD_PATH = "/.well-known/agent.json"
JWKS_PATH = "/.well-known/jwks.json"


class Op(StrEnum):
    """An operation, whatever a revision or binding calls it. The values are JSON-RPC 1.0's method names."""

    __hash__ = str.__hash__  # Enum's own is written in Python

    SEND = "SendMessage"
    STREAM = "SendStreamingMessage"
    GET = "GetTask"
    LIST = "ListTasks"
    CANCEL = "CancelTask"
    SUBSCRIBE = "SubscribeToTask"
    PUSH_CREATE = "CreateTaskPushNotificationConfig"
    PUSH_GET = "GetTaskPushNotificationConfig"
    PUSH_LIST = "ListTaskPushNotificationConfigs"
    PUSH_DELETE = "DeleteTaskPushNotificationConfig"
    CARD = "GetExtendedAgentCard"


STREAMS = frozenset({Op.STREAM, Op.SUBSCRIBE})
PUSH = frozenset({Op.PUSH_CREATE, Op.PUSH_GET, Op.PUSH_LIST, Op.PUSH_DELETE})

# JSON-RPC 0.3 has no method to list tasks.
NAMES_V03: Mapping[Op, str] = {
    Op.SEND: "message/send",
    Op.STREAM: "message/stream",
    Op.GET: "tasks/get",
    Op.CANCEL: "tasks/cancel",
    Op.SUBSCRIBE: "tasks/resubscribe",
    Op.PUSH_CREATE: "tasks/pushNotificationConfig/set",
    Op.PUSH_GET: "tasks/pushNotificationConfig/get",
    Op.PUSH_LIST: "tasks/pushNotificationConfig/list",
    Op.PUSH_DELETE: "tasks/pushNotificationConfig/delete",
    Op.CARD: "agent/getAuthenticatedExtendedCard",
}
METHODS: Mapping[str, tuple[Op, Version]] = {
    **{op.value: (op, V10) for op in Op},
    **{name: (op, V03) for op, name in NAMES_V03.items()},
}


@cache
def method_name(op: Op, version: Version) -> bytes:
    """The JSON-RPC method of an operation."""
    return (str(op) if version == V10 else NAMES_V03[op]).encode()


def version_of(text: str | None) -> Version | None:
    """The revision a version string means (patch numbers do not count); None: one that is not spoken."""
    parts = (text or V03).split(".")
    name = ".".join(parts[:2]) if len(parts) > 1 else f"{parts[0]}.0"
    return V10 if name == V10 else V03 if name == V03 else None


class RpcError(msgspec.Struct, frozen=True):
    """A JSON-RPC error object."""

    code: int = 0
    message: str = ""
    data: Any = None


NO_RESULT = msgspec.Raw()


class RpcReply(msgspec.Struct, frozen=True):
    """A JSON-RPC response (or one event of a stream) with its result left as it came."""

    id: int | str | None = None
    result: msgspec.Raw = NO_RESULT
    error: RpcError | None = None
