"""Which task or conversation an operation names: what is looked at before it is known who serves it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from ....gateway.readable import UNREADABLE
from ..pushconfig import task_of
from ..wire import PUSH, Op, Version


class _Message(msgspec.Struct):
    task_id: Any = msgspec.field(name="taskId", default=None)
    context_id: Any = msgspec.field(name="contextId", default=None)


class _Sent(msgspec.Struct):
    message: _Message | None = None
    request: _Message | None = None  # what HTTP+JSON of 0.3 calls the message


_sent = msgspec.json.Decoder(_Sent)


def state(op: Op, params: bytes, version: Version) -> str | None:
    """The id of what the operation goes on with; None: it begins something, or asks for nothing of one
    task."""
    try:
        if op in (Op.SEND, Op.STREAM):
            sent = _sent.decode(params)
            message = sent.message or sent.request or _Message()
            found: Any = message.task_id or message.context_id
        elif op in (Op.LIST, Op.CARD):
            found = None
        else:
            fields: dict[str, Any] = msgspec.json.decode(params, type=dict[str, Any])
            found = task_of(op, fields, version) if op in PUSH else fields.get("id")
    except UNREADABLE:
        return None
    return found if found and isinstance(found, str) else None
