"""One agent, several callers: whose ``contextId`` is called what there. Pure.

Callers without a key are one principal, and their ids are the agent's as they are, unless the agent calls
somebody else's conversation so. An id that a caller with a key chose might be another caller's too: the agent
gets one made from both, and the caller sees its own.
"""

from __future__ import annotations

from uuid import UUID, uuid5

import msgspec
from msgspec import Raw

from ...gateway.mentions import is_escaped, outline
from ...gateway.model import Principal

_SPACE = UUID("6f1f5c8e-2d0e-4b7b-9a43-8c5a1f2f7d10")
_ANONYMOUS = Principal().id
# Where a result, or what is in one, names its conversation.
_INSIDE = ("task", "message", "statusUpdate", "artifactUpdate", "status")

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])
_OBJECT, _ARRAY = b"{["
_BELONGS = (b'"taskId"', b'"contextId"', b'"referenceTaskIds"', b'"message"')


def context_at_agent(context_id: str, principal: Principal, *, others: bool) -> str:
    """What the agent is told for an id that this caller chose. ``others``: the agent calls a conversation so
    that is another caller's."""
    if principal.id == _ANONYMOUS and not others:
        return context_id
    return str(uuid5(_SPACE, f"{principal.id}\n{context_id}"))


def renamed(value: bytes | Raw, old: str, new: str) -> bytes:
    """A result, event, task or message (JSON of either revision) that calls its conversation ``new`` where it
    said ``old``. What people wrote (parts, metadata) is not looked into. Raises msgspec.DecodeError."""
    fields = _fields.decode(value)
    if "contextId" in fields and _same(fields["contextId"], old):
        fields["contextId"] = Raw(_encode(new))
    for key in _INSIDE:
        if key in fields and _is_object(fields[key]):
            fields[key] = Raw(renamed(fields[key], old, new))
    history = fields.get("history")
    if history is not None and memoryview(history)[0] == _ARRAY:
        messages = [Raw(renamed(m, old, new)) if _is_object(m) else m for m in _items.decode(history)]
        fields["history"] = Raw(_encode(messages))
    return _encode(fields)


def _is_object(value: Raw) -> bool:
    return memoryview(value)[0] == _OBJECT


def _same(value: Raw, text: str) -> bool:
    return msgspec.json.decode(value) == text


def once_named(params: bytes, context_id: str | None) -> bytes:
    """The parameters of a message as they are, if each of the names in them that say where it belongs comes
    but once; else with the last of each, which is the one that counts here: a reader at the agent may take
    the first."""
    text = outline(params)
    if is_escaped(text):
        return in_context(params, context_id)
    for name in _BELONGS:
        if text.count(name) > 1:
            return in_context(params, context_id)
    return params


def in_context(params: bytes, context_id: str | None) -> bytes:
    """The parameters of a message (JSON of either revision) that belongs to this conversation."""
    fields = _fields.decode(params)
    message = _fields.decode(fields["message"])
    if context_id is not None or "contextId" in message:
        message["contextId"] = Raw(_encode(context_id))
    fields["message"] = Raw(_encode(message))
    return _encode(fields)
