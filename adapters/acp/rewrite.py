"""What a relay changes in bytes that pass: names, sessions, crash texts. All else stays as it is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from .wire import LAST_EVENTS, EventHead, RunHead

Fields = dict[str, Raw]

_fields = msgspec.json.Decoder(Fields)
_event = msgspec.json.Decoder(EventHead)
_run = msgspec.json.Decoder(RunHead)
_encode = msgspec.json.Encoder().encode


def create(body: bytes, agent: str, session_id: str | None) -> bytes:
    """A run's request for the agent's own name. A session that the client brought is named by its id alone:
    the URLs in it are the client's word."""
    fields = _fields.decode(body)
    fields.pop("session", None)
    changes = _mode(fields) if "mode" in fields else {}
    changes["agent_name"] = agent
    if session_id is not None:
        changes["session_id"] = session_id
    return _changed(fields, changes)


def resume(body: bytes) -> bytes:
    """An answer's request. The SDK's server wants to be told the mode."""
    fields = _fields.decode(body)
    changes = _mode(fields)
    return _changed(fields, changes) if changes else body


def _mode(fields: Fields) -> dict[str, Any]:
    """The default mode where none is said: null is none, which servers need not know."""
    return {} if bytes(fields.get("mode", b"null")) != b"null" else {"mode": "sync"}


def run(raw: bytes | Raw, change: Callable[[RunHead], Mapping[str, Any]]) -> bytes | Raw:
    """A Run with the fields that ``change`` gives; itself, if it gives none. Raises msgspec.DecodeError for
    what is no Run."""
    changes = change(_run.decode(raw))
    return _changed(_fields.decode(raw), changes) if changes else raw


def only_passes(raw: bytes) -> bool:
    """Whether this is an event without a Run, in which nothing can be changed, and no last one. Raises
    msgspec.DecodeError for what is no event."""
    head = _event.decode(raw)
    return not isinstance(head.run, Raw) and head.type not in LAST_EVENTS


def event(raw: bytes, change: Callable[[RunHead], Mapping[str, Any]]) -> tuple[str, bytes]:
    """An event's type, and the event with its Run changed."""
    head = _event.decode(raw)
    if not isinstance(head.run, Raw):
        return head.type, raw
    changed = run(head.run, change)
    return head.type, raw if changed is head.run else _changed(_fields.decode(raw), {"run": Raw(changed)})


def replaced(raw: bytes, name: str, value: Any) -> bytes:
    """A JSON object with one field replaced."""
    return _changed(_fields.decode(raw), {name: value})


def _changed(fields: Fields, changes: Mapping[str, Any]) -> bytes:
    for name, value in changes.items():
        fields[name] = value if isinstance(value, Raw) else Raw(_encode(value))
    return _encode(fields)
