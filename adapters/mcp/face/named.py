"""Which state a request of the modern era names: looked at before it is known who serves it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from ....gateway.readable import UNREADABLE
from .. import wire
from ..wire import Envelope

NAMES = (b"requestState", b"taskId", b"task_id", b"context_id")  # without one of them there is no state


class _Arguments(msgspec.Struct):
    task_id: Any = None
    context_id: Any = None


class _Params(msgspec.Struct):
    state: Any = msgspec.field(name="requestState", default=None)
    task_id: Any = msgspec.field(name="taskId", default=None)
    arguments: _Arguments | None = None


_params = msgspec.json.Decoder(_Params)


def state(message: Envelope) -> str | None:
    """The id of what the request goes on with: a call that waits, a task, a conversation; None: nothing."""
    if message.params is UNSET:
        return None
    try:
        params = _params.decode(message.params)
        ids = [params.state, params.task_id]
        if message.method == wire.TOOLS_CALL and params.arguments is not None:
            ids += [params.arguments.task_id, params.arguments.context_id]
    except UNREADABLE:
        return None
    return next((id for id in ids if id and isinstance(id, str)), None)
