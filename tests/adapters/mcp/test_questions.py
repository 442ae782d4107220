"""A server's questions and the answers that fit them."""

from __future__ import annotations

from typing import Any

import pytest

from agentgw.adapters.mcp.upstream.questions import answered, asked
from agentgw.gateway.model import Data, InputReply, Message, Text


def form(*required: str, **kinds: str) -> dict[str, Any]:
    properties = {name: {"type": kind} for name, kind in kinds.items()}
    return {"message": "?", "requestedSchema": {"properties": properties, "required": [*required]}}


def reply(part: Any, action: Any = "accept") -> InputReply:
    parts = (Text(text=part) if isinstance(part, str) else Data(data=part),)
    return InputReply(message=Message(role="user", parts=parts), action=action)


def test_a_form_keeps_its_schema_and_a_url_its_address() -> None:
    request = asked(form("a", a="string"), "key")
    assert (request.kind, request.prompt, request.request_id) == ("form", "?", "key")
    assert request.schema == form("a", a="string")["requestedSchema"]
    request = asked(
        {"mode": "url", "message": "go there", "url": "https://example.org", "elicitationId": "1"}
    )
    assert (request.kind, request.url) == ("url", "https://example.org")


DEFAULTS: dict[str, Any] = {
    "message": "?",
    "requestedSchema": {
        "properties": {
            "name": {"type": "string", "default": "Ada"},
            "age": {"type": "integer", "default": 36},
        }
    },
}
CHOICE: dict[str, Any] = {
    "message": "?",
    "requestedSchema": {"properties": {"a": {"type": "string", "enum": ["x", "y"]}}},
}


@pytest.mark.parametrize(
    ("params", "part", "content"),
    [
        (form("a", a="string"), {"a": "x"}, {"a": "x"}),
        (form("a", a="string"), {"action": "accept", "content": {"a": "x"}}, {"a": "x"}),
        (form("a", a="string"), " Oslo ", {"a": "Oslo"}),
        (form("a", a="string", b="string"), "Oslo", {"a": "Oslo"}),
        (form(a="boolean"), "Yes", {"a": True}),
        (form(a="integer"), "42", {"a": 42}),
        (DEFAULTS, {}, {"name": "Ada", "age": 36}),
        (DEFAULTS, {"action": "accept"}, {"name": "Ada", "age": 36}),
        (DEFAULTS, {"age": 40}, {"name": "Ada", "age": 40}),
        (form("a", "b", a="string", b="string"), '{"a": "x", "b": "y"}', {"a": "x", "b": "y"}),
    ],
)
def test_answers_that_can_be_read(params: Any, part: Any, content: Any) -> None:
    assert answered(asked(params), reply(part)) == {"action": "accept", "content": content}


@pytest.mark.parametrize(
    ("params", "part"),
    [
        (form("a", "b", a="string", b="string"), "Oslo"),
        (form(a="boolean"), "perhaps"),
        (form(a="integer"), "many"),
        (form(a="string"), ""),
        (form("a", a="string"), {"b": "x"}),
        (form("a", a="string"), {"a": 1}),
        (form("a", a="integer"), {"a": True}),
        (form("a", a="string"), {"action": "accept"}),
        (CHOICE, {"a": "z"}),
    ],
)
def test_answers_that_cannot_are_asked_for_again(params: Any, part: Any) -> None:
    assert answered(asked(params), reply(part)) is None


def test_a_refusal_needs_no_content() -> None:
    assert answered(asked(form(a="string")), reply("no", "decline")) == {"action": "decline"}
    assert answered(asked({"mode": "url", "url": "https://x"}), reply("done")) == {"action": "accept"}
