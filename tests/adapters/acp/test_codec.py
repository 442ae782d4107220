"""Parts and messages: what ACP means, and the way home."""

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentgw.adapters.acp import codec
from agentgw.adapters.acp.losses import phrases
from agentgw.gateway.errors import InvalidRequest
from agentgw.gateway.model import Data, File, Message, Text

from ...support.examples import examples


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
known = {"name", "content_type", "content", "content_encoding", "content_url", "metadata"}
unknown = st.dictionaries(text.filter(lambda k: k not in known | {"role", "parts"}), values, max_size=2)
optional_text = st.none() | text
json_text = st.tuples(values, st.sampled_from([None, 2, 4])).map(lambda v: json.dumps(v[0], indent=v[1]))
types = st.none() | st.sampled_from(
    [
        "text/plain",
        "text/markdown",
        "application/json",
        "application/ld+json",
        "image/png",
        "application/json; v=1",
    ]
)
metadata = (
    st.none() | values.filter(lambda v: isinstance(v, dict)) | st.just({"kind": "citation", "url": "u"})
)


def some(**fields: Any) -> Any:
    """Objects with any of these fields, and fields that ACP does not know."""
    return st.tuples(st.fixed_dictionaries({}, optional=fields), unknown).map(lambda two: two[1] | two[0])


parts = st.one_of(
    some(name=optional_text, content_type=types, content=optional_text | json_text, metadata=metadata,
         content_encoding=st.sampled_from([None, "plain"]), content_url=st.none()),
    some(name=optional_text, content_type=types, content_url=st.sampled_from(["https://x.example/a", "a/b"]),
         content=st.none(), metadata=metadata),
    st.binary(max_size=20).map(lambda b: {"content_encoding": "base64", "content": b64(b)}),
)  # fmt: skip
plain_texts = some(
    name=st.none(), content_type=st.just("text/plain"), content=optional_text, metadata=metadata,
    content_encoding=st.sampled_from([None, "plain"]), content_url=st.none(),
)  # fmt: skip
messages = st.tuples(
    st.fixed_dictionaries({"parts": st.lists(parts, max_size=3)}, optional={
        "role": st.sampled_from(["user", "agent", "agent/x", "agent/odd name!", "agent/"]),
        "created_at": st.none() | st.just("2026-01-01T00:00:00+00:00"),
    }),
    unknown,
).map(lambda two: two[1] | two[0])  # fmt: skip


def fit(message: dict[str, Any]) -> bool:
    """Whether servers take it: metadata is one of ACP's kinds, links are whole."""
    metadata = [p.get("metadata") for p in message["parts"]]
    links = [p.get("content_url") for p in message["parts"]]
    return all(m is None or m.get("kind") == "citation" for m in metadata) and "a/b" not in links


@examples(100)
@given(parts)
def test_a_part_comes_home_as_it_was(raw: dict[str, Any]) -> None:
    assert codec.part_json(codec.part(raw)) == raw


@examples(60)
@given(plain_texts)
@example({"content_type": "text/plain", "content": "a", "content_encoding": "plain", "name": None})
@example({"content_type": "text/plain", "content": "a"})
def test_bare_text_is_what_compact_makes_of_it(raw: dict[str, Any]) -> None:
    (part,) = codec.compact((codec.part(raw),))
    bare = part == Text(text=raw.get("content") or "") and isinstance(raw.get("content"), str)
    assert codec.bare_text(raw) == (part if bare and "content_type" in raw else None)


@examples(60)
@given(messages)
def test_a_message_comes_home_as_it_was(raw: dict[str, Any]) -> None:
    assert codec.message_json(codec.message(raw)) == raw


@examples(60)
@given(st.lists(messages.filter(fit), min_size=1, max_size=3))
def test_an_input_comes_home_as_it_was(raw: list[dict[str, Any]]) -> None:
    assert codec.input_json(codec.input_message(raw).value).value == raw


def test_json_is_data_and_keeps_its_exact_text() -> None:
    raw = {"content_type": "application/json", "content": '{"price": 1.50,\n "big": 12345678901234567890123}'}
    part = codec.part(raw)
    assert isinstance(part, Data) and part.data["price"] == 1.5
    assert codec.part_json(part) == raw


def test_what_only_claims_to_be_json_is_text() -> None:
    part = codec.part({"content_type": "application/json", "content": "{oops"})
    assert part == Text(text="{oops", media_type="application/json")


def test_base64_is_bytes_and_a_url_is_a_link() -> None:
    content = bytes(range(256))
    encoded = b64(content)
    raw = {"name": "a.bin", "content_type": "image/png", "content_encoding": "base64", "content": encoded}
    assert codec.part(raw) == File(content=content, name="a.bin", media_type="image/png")
    link = codec.part({"content_type": "image/png", "content_url": "https://x.example/a.png"})
    assert link == File(uri="https://x.example/a.png", media_type="image/png")


def test_pieces_of_text_are_bare_when_their_fields_say_nothing() -> None:
    """As the Python SDK writes them; only then do they join."""
    noise = {"name": None, "content_encoding": "plain", "content_url": None, "metadata": None}
    part = codec.part({"content_type": "text/plain", "content": "a", **noise})
    assert codec.compact((part,)) == (Text(text="a"),)
    named = codec.part({"content_type": "text/plain", "content": "a", "x-mark": 1})
    assert codec.compact((named,)) == (named,)


def test_several_user_messages_are_one_turn() -> None:
    raw = [
        {"role": "user", "parts": [{"content": "one"}]},
        {"role": "agent/x", "parts": [{"content": "hidden"}]},
        {"role": "user", "parts": [{"content": "two"}]},
    ]
    result = codec.input_message(raw)
    assert [p.text for p in result.value.parts if isinstance(p, Text)] == ["one", "two"]
    assert result.losses == ("agent messages in the input",)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"content": 1}, "input[0].parts[0].content"),
        ({"content": "%%%", "content_encoding": "base64"}, "input[0].parts[0].content"),
        ({"content": "a", "content_encoding": "gzip"}, "input[0].parts[0].content_encoding"),
        ({"content": "a", "content_url": "https://x.example"}, "input[0].parts[0]"),
        ({"content_url": "a/b"}, "input[0].parts[0].content_url"),
        ({"metadata": 1}, "input[0].parts[0].metadata"),
        ({"metadata": {"kind": "other"}}, "input[0].parts[0].metadata"),
        ({"metadata": {"kind": "citation", "url": 1}}, "input[0].parts[0].metadata"),
        ({"metadata": {"kind": "citation", "end_index": False}}, "input[0].parts[0].metadata"),
        ("text", "input[0].parts[0]"),
    ],
)
def test_a_complaint_names_the_field(part: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        codec.input_message([{"role": "user", "parts": [part]}])
    assert caught.value.message.startswith(f"{field}: ")
    assert caught.value.data == {"field": field}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "robot", "parts": []}, "input[0].role"),
        ({"role": "user"}, "input[0].parts"),
        ({"parts": [], "created_at": "yesterday"}, "input[0].created_at"),
        ({"parts": [], "completed_at": 5}, "input[0].completed_at"),
        (1, "input[0]"),
    ],
)
def test_a_complaint_about_a_message_names_the_field(message: Any, field: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^" + field.replace("[", r"\[").replace("]", r"\]")):
        codec.input_message([message])


def test_clients_get_only_metadata_and_urls_that_they_accept() -> None:
    """acp-sdk refuses a part whose metadata is neither citation nor trajectory, or whose URL is not whole."""
    part = Text(text="a", metadata={"any": "thing"})
    assert codec.part_json(part) == {"content_type": "text/plain", "content": "a"}
    assert codec.losses([part]) == ("part metadata",)
    relative = codec.part_json(File(uri="files/a.png", media_type="image/png"))
    assert relative == {"content_type": "text/uri-list", "content": "files/a.png"}


def test_fields_of_another_protocol_do_not_leak() -> None:
    part = Text(text="a", extra={"a2a": {"fields": {"secret": 1}}})
    assert codec.part_json(part) == {"content_type": "text/plain", "content": "a"}
    assert codec.losses([part]) == ("fields of a part that only its protocol has",)


def test_a_role_is_fit_for_the_protocol() -> None:
    assert codec.role_of(Message(role="agent", parts=(), author="a b/ü")) == "agent/a_b__"
    assert codec.role_of(Message(role="agent", parts=()), "echo") == "agent/echo"
    assert codec.role_of(Message(role="user", parts=(), author="x"), "echo") == "user"


@pytest.mark.parametrize(
    "message",
    [
        Message(role="user", parts=(Text(text="x"),)),
        Message(role="user", parts=(Text(text=""),), message_id="m", metadata={"n": 1}),
        Message(role="agent", parts=(Text(text="x"),), author="echo"),
        Message(role="user", parts=(Text(text="x"),), extra={"a2a": {"extensions": ["e"]}}),
        Message(role="user", parts=(Text(text="x", media_type="text/markdown"),)),
        Message(
            role="user", parts=(Text(text="x", extra={"acp": {"fields": {"name": None}, "absent": []}}),)
        ),
        Message(role="user", parts=(Text(text="x"), Text(text="y"))),
        Message(role="user", parts=()),
    ],
)
def test_a_message_that_is_one_plain_text_is_written_as_any_is(message: Message) -> None:
    written = codec.input_json(message)
    assert written.value == [codec.message_json(message)]
    assert written.losses == phrases(codec.message_losses(message))
