"""Asking the user what an agent wants to know, at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..gateway.model import Data, InputRequest, Part, Text
from .terminal import BOLD, note, printable


class Unanswered(Exception):
    """The user ended the input instead of answering."""


def possible() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(request: InputRequest) -> list[Part]:
    """The user's answer as message parts. Raises Unanswered at end of input."""
    if request.prompt:
        note(printable(request.prompt), style=BOLD)
    if request.kind == "url":
        note(f"open {request.url}, then press Enter")
        _line("")
        return [Text(text="done")]
    properties = (request.schema or {}).get("properties")
    if request.kind == "form" and isinstance(properties, Mapping) and properties:
        return [Data(data=_form(request.schema or {}))]
    return [answer_part(_line("> "))]


def answer_part(text: str) -> Part:
    """Free text; a JSON object typed in is taken as data, for agents that ask for structured input."""
    if text.lstrip().startswith("{"):
        try:
            return Data(data=msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError):
            pass
    return Text(text=text)


def _form(schema: Mapping[str, Any]) -> dict[str, Any]:
    required = schema.get("required") or ()
    answers: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        value = _field(name, _object(field), name in required)
        if value is not None:
            answers[name] = value
    return answers


def _field(name: str, field: Mapping[str, Any], required: bool) -> Any:
    """One field, asked again until it fits; None for an optional one left empty."""
    prompt = label(name, field, required)
    while True:
        text = _line(prompt).strip()
        if not text:
            if "default" in field:
                return field["default"]
            if not required:
                return None
            note("an answer is needed here")
            continue
        try:
            return value_of(text, field)
        except ValueError as e:
            note(str(e))


def label(name: str, field: Mapping[str, Any], required: bool) -> str:
    """A field's prompt: ``Title (description; a, b or c) [default]: ``."""
    hints = [str(field["description"])] if field.get("description") else []
    if choices := _choices(field):
        hints.append(", ".join(map(str, choices)))
    elif field.get("type") == "boolean":
        hints.append("yes or no")
    if not required and "default" not in field:
        hints.append("optional")
    hint = f" ({'; '.join(hints)})" if hints else ""
    default = f" [{_shown(field['default'])}]" if "default" in field else ""
    return printable(f"{field.get('title') or name}{hint}{default}: ")


def value_of(text: str, field: Mapping[str, Any]) -> Any:
    """What was typed as a value of the field's type. Raises ValueError that says what fits."""
    kind = field.get("type")
    if kind == "array":
        item = _object(field.get("items"))
        return [value_of(one.strip(), item) for one in text.split(",") if one.strip()]
    if choices := _choices(field):
        for choice in choices:
            if text.lower() == str(choice).lower():
                return choice
        raise ValueError(f"one of {', '.join(map(str, choices))}")
    if kind == "boolean":
        return _yes_or_no(text)
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            raise ValueError("a whole number" if kind == "integer" else "a number") from None
    if kind == "object":
        return msgspec.json.decode(text)  # DecodeError is a ValueError that says where it fails
    return text


def _choices(field: Mapping[str, Any]) -> list[Any]:
    """The allowed values: ``enum``, or the ``const`` of ``oneOf`` and ``anyOf``."""
    if isinstance(field.get("enum"), list):
        return field["enum"]
    options = field.get("oneOf") or field.get("anyOf")
    if not isinstance(options, list):
        return []
    return [option["const"] for option in options if isinstance(option, dict) and "const" in option]  # pyright: ignore


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("y", "yes", "true", "1"):
        return True
    if text.lower() in ("n", "no", "false", "0"):
        return False
    raise ValueError("yes or no")


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _line(prompt: str) -> str:
    """A line of the user's; the prompt goes to stderr, so that stdout holds the answer only."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise Unanswered
    return line.rstrip("\n")
