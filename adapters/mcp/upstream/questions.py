"""What a server asks its client while a tool runs, as canonical questions and answers. Pure.

Only elicitation has a place in the canonical model. Sampling and roots are offered by relays alone, whose
clients answer for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ....gateway.model import Data, InputReply, InputRequest, Message, Text, text_of
from ..wire import URL_ELICITATION_REQUIRED, RpcError, objects

_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
}
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


def links(error: RpcError) -> dict[str, InputRequest]:
    """The addresses to open before a call is made again, by key; empty for any other error (2025-11-25,
    client/elicitation: URL Elicitation Required Error)."""
    data: Any = error.data
    if error.code != URL_ELICITATION_REQUIRED or not isinstance(data, Mapping):
        return {}
    listed = objects(cast("Mapping[str, Any]", data).get("elicitations"))
    found = {f"link-{i}": asked(params, f"link-{i}") for i, params in enumerate(listed)}
    return {key: request for key, request in found.items() if request.url is not None}


def answered(request: InputRequest, reply: InputReply) -> dict[str, Any] | None:
    """The ElicitResult for a reply; None when an accepted form is not filled in a way that can be read."""
    if reply.action != "accept":
        return {"action": reply.action}
    if request.kind == "url":
        return {"action": "accept"}
    schema = request.schema or {}
    content = _content(reply.message, schema)
    return None if content is None or not _fits(content, schema) else {"action": "accept", "content": content}


def _content(message: Message, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The form's values: a structured part, JSON text, or plain text where one field is asked for. What is
    left out has the form's defaults."""
    for part in message.parts:
        value: Any = part.data if isinstance(part, Data) else None
        if isinstance(value, Mapping):
            return {**_defaults(schema), **_unwrapped(cast("Mapping[str, Any]", value), schema)}
    text = text_of(message.parts).strip()
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return {**_defaults(schema), **_unwrapped(cast("dict[str, Any]", value), schema)}
    field = _only_field(schema)
    found = None if field is None or not text else _typed(field, text, value)
    return None if found is None else {**_defaults(schema), **found}


def _unwrapped(data: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The values in ``{"action": "accept", "content": {…}}``, unless the form has such fields itself."""
    if data.get("action") != "accept" or "action" in _properties(schema):
        return dict(data)
    content = data.get("content", {})
    return dict(cast("Mapping[str, Any]", content)) if isinstance(content, Mapping) else dict(data)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def _required(schema: Mapping[str, Any]) -> list[str]:
    found: Any = schema.get("required")
    return [x for x in cast("list[Any]", found) if isinstance(x, str)] if isinstance(found, list) else []


def _defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """2025-11-25, client/elicitation: a client fills in the defaults of fields that the user left out."""
    return {
        name: field["default"]
        for name, field in _properties(schema).items()
        if isinstance(field, Mapping) and "default" in field
    }


def _fits(content: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Whether nothing that is required is missing, and each field is of its type and one of its choices."""
    if not set(_required(schema)) <= content.keys():
        return False
    fields = _properties(schema)
    return all(_value_fits(content[name], fields[name]) for name in content.keys() & fields.keys())


def _value_fits(value: Any, field: Any) -> bool:
    if not isinstance(field, Mapping):
        return True
    rules = cast("Mapping[str, Any]", field)
    kinds = _KINDS.get(str(rules.get("type")))
    is_bool = isinstance(value, bool)
    if kinds is not None and (not isinstance(value, kinds) or (is_bool and bool not in kinds)):
        return False
    choices: Any = rules.get("enum")
    return not isinstance(choices, list) or value in cast("list[Any]", choices)


def _only_field(schema: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The one field that a plain answer can be meant for: the only one, or the only required one."""
    properties = _properties(schema)
    names = list(properties) if len(properties) == 1 else _required(schema)
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
