"""What a server asks its client while a tool runs, as canonical questions and answers. Pure.

Only elicitation has a place in the canonical model. Sampling and roots are offered by relays alone, whose
clients answer for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ....gateway.model import Data, InputReply, InputRequest, Message, Text, text_of

# What the gateway can do itself for a caller of another protocol.
CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}}


def asked(params: Mapping[str, Any], request_id: str | None = None) -> InputRequest:
    """``elicitation/create`` as a question."""
    text = str(params.get("message") or "")
    message = Message(role="agent", parts=(Text(text=text),))
    if params.get("mode") == "url":
        url = params.get("url")
        return InputRequest(
            message=message, kind="url", url=url if isinstance(url, str) else None, request_id=request_id
        )
    schema: Any = params.get("requestedSchema")
    if isinstance(schema, dict):
        form = cast("dict[str, Any]", schema)
        return InputRequest(message=message, kind="form", schema=form, request_id=request_id)
    return InputRequest(message=message, request_id=request_id)


def answered(request: InputRequest, reply: InputReply) -> dict[str, Any] | None:
    """The ElicitResult for a reply; None when an accepted form is not filled in a way that can be read."""
    if reply.action != "accept":
        return {"action": reply.action}
    if request.kind == "url":
        return {"action": "accept"}
    content = _content(reply.message, request.schema or {})
    return None if content is None else {"action": "accept", "content": content}


def _content(message: Message, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The form's values: a structured part, JSON text, or plain text where one field is asked for."""
    for part in message.parts:
        value: Any = part.data if isinstance(part, Data) else None
        if isinstance(value, Mapping):
            data = dict(cast("Mapping[str, Any]", value))
            inner = data.get("content")
            wrapped = data.get("action") == "accept" and isinstance(inner, Mapping)
            return dict(cast("Mapping[str, Any]", inner)) if wrapped else data
    text = text_of(message.parts).strip()
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    field = _only_field(schema)
    return None if field is None or not text else _typed(field, text, value)


def _only_field(schema: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The one field that a plain answer can be meant for: the only one, or the only required one."""
    properties = cast("Mapping[str, Any]", schema.get("properties") or {})
    required = cast("list[str]", schema.get("required") or [])
    names = list(properties) if len(properties) == 1 else required
    if len(names) != 1 or not isinstance(properties.get(names[0]), Mapping):
        return None
    return names[0], properties[names[0]]


def _typed(field: tuple[str, Mapping[str, Any]], text: str, value: Any) -> dict[str, Any] | None:
    name, schema = field
    match schema.get("type"):
        case "boolean":
            word = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}
            found: Any = word.get(text.lower())
        case "integer" | "number":
            found = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        case _:
            found = text
    return None if found is None else {name: found}
