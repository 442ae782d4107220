"""An agent's question as an elicitation, and its answer as a message, pure.

2025-11-25 and 2026-07-28, client/elicitation. A free question becomes a form with one required string.
Credentials are never asked for in a form: the specification forbids it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ....gateway.model import Data, File, InputRequest, Message, Text, text_of

ANSWER = "answer"
_FREE: dict[str, Any] = {
    "type": "object",
    "properties": {ANSWER: {"type": "string", "title": "Answer"}},
    "required": [ANSWER],
}
_PRIMITIVES = frozenset({"string", "number", "integer", "boolean"})


def asked(request: InputRequest, capabilities: Mapping[str, Any]) -> dict[str, Any] | None:
    """The params of ``elicitation/create`` for a question. None: a client of these capabilities can't be
    asked it, or not without losing some of it (files, a form of more than flat fields)."""
    modes = _modes(capabilities)
    if any(isinstance(part, File) for part in request.message.parts):
        return None
    if request.url is not None and request.kind in ("url", "auth"):
        if "url" not in modes:
            return None
        return {"mode": "url", "message": _words(request), "url": request.url}
    if "form" not in modes or request.kind not in ("text", "form"):
        return None
    schema = _FREE if request.schema is None else request.schema
    if not _flat(schema):
        return None
    return {"mode": "form", "message": _words(request), "requestedSchema": dict(schema)}


def answered(request: InputRequest, result: Mapping[str, Any]) -> Message:
    """What an ElicitResult says, as the answer that agents get: text to a free question, else data."""
    action, content = result.get("action"), result.get("content")
    if action != "accept":
        return _message(Data(data={"action": action if action == "decline" else "cancel"}))
    if not isinstance(content, Mapping) or request.kind in ("url", "auth"):
        return _message(Data(data={"action": "accept"}))
    fields = dict(cast("Mapping[str, Any]", content))
    if request.schema is None and isinstance(fields.get(ANSWER), str):
        return _message(Text(text=fields[ANSWER]))
    return _message(Data(data=fields))


def _message(part: Text | Data) -> Message:
    return Message(role="user", parts=(part,))


def _modes(capabilities: Mapping[str, Any]) -> frozenset[str]:
    """An empty object stands for forms alone, as before there were others."""
    declared = capabilities.get("elicitation")
    if not isinstance(declared, Mapping):
        return frozenset()
    modes = frozenset(cast("Mapping[str, Any]", declared).keys() & {"form", "url"})
    return modes or frozenset({"form"})


def _words(request: InputRequest) -> str:
    """The question's text; its data as JSON."""
    parts = request.message.parts
    data = [msgspec.json.encode(part.data).decode() for part in parts if isinstance(part, Data)]
    return "\n".join(line for line in (text_of(parts), *data) if line) or "The agent asks for input."


def _flat(schema: Mapping[str, Any]) -> bool:
    """Whether it is a form as hosts show them: an object of primitive fields, or lists of choices."""
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, Mapping):
        return False
    fields = cast("Mapping[str, Any]", properties).values()
    return all(
        isinstance(field, Mapping) and _primitive(cast("Mapping[str, Any]", field)) for field in fields
    )


def _primitive(field: Mapping[str, Any]) -> bool:
    kind = field.get("type")
    if kind != "array":
        return isinstance(kind, str) and kind in _PRIMITIVES
    items = field.get("items")
    return isinstance(items, Mapping) and ("enum" in items or "anyOf" in items)
