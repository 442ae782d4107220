"""Requests' parameters: 1.0 ↔ 0.3, and what the gateway itself reads of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ...gateway.model import Message
from . import plain
from .codec import Malformed, list_at, message_from, message_to, no_aliases, object_at, text_at
from .pushconfig import INLINE, PushConfig, inline_config
from .wire import V03, V10, Json, Version

WHOLE = re.compile("[0-9]{1,9}")  # a number, in a query


class Send(msgspec.Struct, frozen=True):
    """A message to an agent, as the gateway reads it. ``wait`` False: answer as soon as the task exists.
    ``metadata`` is the request's; ``push``: where the client wants to be told of the task."""

    message: Message
    wait: bool = True
    history_length: int | None = None
    modes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = None
    push: PushConfig | None = None

    def meta(self, key: str) -> str | None:
        """A name in the metadata: the message's, else the request's."""
        for source in (self.message.metadata, self.metadata):
            value = (source or {}).get(key)
            if isinstance(value, str) and value:
                return value
        return None


def send_from(params: Json, v: Version) -> Send:
    """The parameters of SendMessage or SendStreamingMessage. Raises Malformed."""
    if params.get("message") is None:
        raise Malformed("message is required")
    no_aliases(params, "message", "configuration")
    configuration = object_at(params, "configuration") or {}
    no_aliases(configuration, INLINE[V10], INLINE[V03])
    if v == V10:
        wait = configuration.get("returnImmediately") is not True
    else:
        wait = configuration.get("blocking") is not False
    return Send(
        message=message_from(params["message"], v, strict=True),
        wait=wait,
        history_length=count_at(configuration, "historyLength"),
        modes=tuple(m for m in list_at(configuration, "acceptedOutputModes") if isinstance(m, str)),
        metadata=object_at(params, "metadata"),
        push=inline_config(params, v),
    )


def send_at(raw: msgspec.Raw, v: Version) -> Send | None:
    """The same in one go, for parameters as most write them; None: read them with ``send_from``."""
    read = plain.send_at(raw) if v == V10 else None
    if read is None:
        return None
    wire, message = read
    configuration = wire.configuration
    return Send(
        message=message,
        wait=configuration.return_immediately is not True,
        history_length=configuration.history_length,
        modes=tuple(configuration.accepted_output_modes or ()),
        metadata=wire.metadata,
    )


def count_at(wire: Json, key: str) -> int | None:
    """A non-negative number (also as a query parameter's text); None when it is absent."""
    value = wire.get(key)
    if isinstance(value, str) and WHOLE.fullmatch(value):
        value = int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Malformed(f"{key} must be a number, 0 or more")
    return value


def task_id_of(params: Json) -> str:
    """The id of the task that is asked for. Raises Malformed."""
    no_aliases(params, "id")
    task_id = text_at(params, "id")
    if not task_id:
        raise Malformed("id is required")
    return task_id


def send_params(
    message: Message,
    v: Version,
    *,
    wait: bool = True,
    history_length: int | None = None,
    modes: tuple[str, ...] = (),
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The parameters of a message to an agent. Waiting is asked for in so many words only in 0.3, where
    agents differ in their default."""
    configuration: dict[str, Any] = {}
    if modes:
        configuration["acceptedOutputModes"] = list(modes)
    if history_length is not None:
        configuration["historyLength"] = history_length
    if v == V03:
        configuration["blocking"] = wait
    elif not wait:
        configuration["returnImmediately"] = True
    params: dict[str, Any] = {"message": message_to(message, v)}
    if configuration:
        params["configuration"] = configuration
    if metadata is not None:
        params["metadata"] = metadata
    return params


def translated(send: Send, v: Version) -> dict[str, Any]:
    """A client's message for an agent of the other revision."""
    return send_params(
        send.message,
        v,
        wait=send.wait,
        history_length=send.history_length,
        modes=send.modes,
        metadata=send.metadata,
    )
