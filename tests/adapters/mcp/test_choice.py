"""Which tool a message means."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from agentgw.adapters.mcp.upstream.choice import Chosen, Named, choose, merged
from agentgw.gateway.errors import InvalidRequest
from agentgw.gateway.model import Data, File, InputRequest, Message, Text


def tool(name: str, *required: str, kind: str = "string") -> dict[str, Any]:
    properties = {key: {"type": kind} for key in required}
    return {
        "name": name,
        "inputSchema": {"type": "object", "properties": properties, "required": [*required]},
    }


SAY, ADD, NOW = tool("say", "text"), tool("add", "a", "b", kind="number"), tool("now")


def message(*parts: Any) -> Message:
    wrapped = (
        Text(text=p) if isinstance(p, str) else Data(data=p) if isinstance(p, dict) else p for p in parts
    )
    return Message(role="user", parts=tuple(wrapped))


@pytest.mark.parametrize(
    ("said", "skill", "tools", "expected"),
    [
        ([{"tool": "add", "arguments": {"a": 1}}], None, [SAY, ADD], Chosen("add", {"a": 1})),
        (
            ["please", {"tool": "say", "arguments": {"text": "x"}}],
            "add",
            [SAY, ADD],
            Chosen("say", {"text": "x"}, ("text beside a tool's arguments",)),
        ),
        ([{"tool": "now"}], None, [SAY, NOW], Chosen("now", {})),
        (["hello"], None, [SAY], Chosen("say", {"text": "hello"})),
        (["hello"], "say", [SAY, ADD], Chosen("say", {"text": "hello"})),
        ([{"a": 1, "b": 2}], "add", [SAY, ADD], Chosen("add", {"a": 1, "b": 2})),
        (["hello", {"tool": "say"}], None, [SAY, ADD], Chosen("say", {"text": "hello"})),
    ],
)
def test_a_tool_that_is_meant_is_called(said: Any, skill: Any, tools: Any, expected: Chosen) -> None:
    assert choose(message(*said), skill, Named(tools)) == expected


@pytest.mark.parametrize(
    ("said", "skill", "tools", "listed"),
    [
        (["hello"], None, [SAY, ADD], ["say", "add"]),
        (["hello"], None, [ADD], ["add"]),
        (["hello"], "nope", [SAY], ["say"]),
        ([{"tool": "nope"}], None, [SAY, ADD], ["say", "add"]),
        ([{"text": "hello"}], None, [SAY], ["say"]),
        (["now"], None, [NOW], ["now"]),
        ([{"tool": "add"}], None, [SAY, ADD], ["add"]),
        ([{"city": "Oslo"}], None, [NOW], ["now"]),
        (["hello", {"city": "Oslo"}], None, [SAY], ["say"]),
        (["hello", {"city": "Oslo"}, {"tool": "say"}], None, [SAY, ADD], ["say"]),
        (["hello", Data(data=[1])], "say", [SAY, ADD], ["say"]),
    ],
)
def test_what_is_unclear_is_asked_with_the_schemas(said: Any, skill: Any, tools: Any, listed: Any) -> None:
    question = choose(message(*said), skill, Named(tools))
    assert isinstance(question, InputRequest)
    text, data = question.message.parts
    assert isinstance(text, Text) and isinstance(data, Data)
    assert [t["name"] for t in data.data["tools"]] == listed
    assert all("inputSchema" in t for t in data.data["tools"])
    assert all(f"- {name}" in text.text for name in listed)


PHOTO = File(content=b"\xff\xd8", media_type="image/jpeg", name="photo.jpg")
NOTES = File(content=b"notes", name="notes.txt")


def test_file_references_become_base64_wherever_they_stand() -> None:
    arguments = {
        "data": {"$file": 1},
        "more": [{"image": {"$file": "photo.jpg"}}],
        "$file": "not a reference",
    }
    chosen = choose(message({"tool": "say", "arguments": arguments}, PHOTO, NOTES), None, Named([SAY]))
    assert isinstance(chosen, Chosen)
    assert base64.b64decode(chosen.arguments["data"]) == b"notes"
    assert base64.b64decode(chosen.arguments["more"][0]["image"]) == b"\xff\xd8"
    assert chosen.arguments["$file"] == "not a reference"
    assert chosen.losses == ()


def test_whole_numbers_are_integers_however_the_client_wrote_them() -> None:
    arguments = {"n": 20.0, "list": [-3.0, 2.5, True, 1e300], "photo": {"$file": 0.0}}
    chosen = choose(message({"tool": "say", "arguments": arguments}, PHOTO), None, Named([SAY]))
    assert isinstance(chosen, Chosen)
    sent = msgspec.json.encode(chosen.arguments | {"photo": None})
    assert sent == b'{"n":20,"list":[-3,2.5,true,1e300],"photo":null}'
    assert base64.b64decode(chosen.arguments["photo"]) == PHOTO.content


def test_a_file_that_nobody_mentions_is_a_loss_that_is_named() -> None:
    chosen = choose(message("hello", PHOTO), None, Named([SAY]))
    assert chosen == Chosen("say", {"text": "hello"}, ("files that no argument refers to",))


@pytest.mark.parametrize(
    "arguments",
    [{"x": {"$file": 2}}, {"x": {"$file": "other"}}, {"x": {"$file": "link"}}, [1], "text"],
)
def test_arguments_that_cannot_be_are_the_callers_mistake(arguments: Any) -> None:
    link = File(uri="https://example.org/x", name="link")
    with pytest.raises(InvalidRequest):
        choose(message({"tool": "say", "arguments": arguments}, PHOTO, link), None, Named([SAY]))


def test_an_answer_that_names_a_tool_sends_the_first_message_there() -> None:
    first = message("hello")
    assert merged(first, message("say"), Named([SAY, ADD])) == (first, "say")


def test_an_answer_with_arguments_may_use_the_files_sent_before() -> None:
    said, named = merged(
        message("look", PHOTO), message({"tool": "say", "arguments": {"text": {"$file": 0}}}), Named([SAY])
    )
    chosen = choose(said, named, Named([SAY, ADD]))
    assert isinstance(chosen, Chosen)
    assert base64.b64decode(chosen.arguments["text"]) == b"\xff\xd8"
