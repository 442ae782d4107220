"""Content blocks, results and descriptions: nothing is lost on the way there and back."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.mcp import codec
from agentgw.adapters.mcp.losses import of_parts, phrases
from agentgw.gateway.model import Data, File, Finished, Text

from ...support.examples import examples

GOLDEN = Path(__file__).parent / "golden"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
b64 = st.binary(max_size=20).map(lambda b: base64.b64encode(b).decode()) | st.sampled_from(
    ["QQ", "!!", "QR=="]
)
media_types = st.sampled_from(["image/png", "audio/wav", "application/pdf", "text/plain", "x"])
# Fields that no revision knows, beside those that some of them do; sometimes with a type they must not have.
unknown = st.dictionaries(
    st.sampled_from(["annotations", "_meta", "x-new", "resource", "title", "size", "mimeType", "name"]),
    json_values,
    max_size=3,
)


def block(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda a, b: {**b, **a}, st.fixed_dictionaries(fields), unknown)


resources = block(uri=st.just("file:///a/b%20c.txt"), text=st.text(max_size=8)) | block(
    uri=st.just("peer://made/data.bin"), blob=b64, mimeType=media_types
)
blocks = st.one_of(
    block(type=st.just("text"), text=st.text()),
    block(type=st.sampled_from(["image", "audio"]), data=b64, mimeType=media_types),
    block(type=st.just("resource"), resource=resources),
    block(type=st.just("resource_link"), uri=st.just("https://example.org/a.pdf"), name=st.text(max_size=5)),
    block(type=st.just("tool_use"), id=st.text(max_size=3), input=json_values),
    st.dictionaries(st.sampled_from(["type", "text", "data"]), json_values, max_size=3),
)


@examples(100)
@given(blocks)
def test_a_block_comes_back_as_it_was(original: dict[str, Any]) -> None:
    assert codec.block_of(codec.part_of(original)) == original


@examples(50)
@given(st.binary(), st.sampled_from([None, "image/png", "audio/mpeg", "application/zip"]))
def test_bytes_of_any_protocol_arrive_unchanged(content: bytes, media_type: str | None) -> None:
    sent = codec.block_of(File(content=content, media_type=media_type, name="f.bin"))
    back = codec.part_of(sent)
    assert isinstance(back, File)
    assert (back.content, back.media_type) == (content, media_type)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda p: p.stem)
def test_result_as_events(path: Path) -> None:
    given_, expected = path.read_text().split("\n---\n")
    events = codec.result_events("tool", msgspec.json.decode(given_))
    lines = [msgspec.json.encode(event).decode() for event in events]
    assert lines == expected.strip().splitlines()


def test_the_json_copy_of_structured_content_is_dropped_and_nothing_else() -> None:
    result = {
        "content": [{"type": "text", "text": '{"sum": 3}'}, {"type": "text", "text": "that is 3"}],
        "structuredContent": {"sum": 3},
    }
    assert [type(p) for p in codec.result_parts(result)] == [Data, Text]
    assert codec.result_parts(result)[1] == Text(text="that is 3")


def test_a_failed_tool_speaks_in_its_own_words() -> None:
    (event,) = codec.result_events("t", {"content": [{"type": "text", "text": "no disk"}], "isError": True})
    assert isinstance(event, Finished) and event.fault is not None
    assert (event.state, event.fault.code, event.fault.message) == ("failed", "agent_error", "no disk")


def test_what_content_cannot_carry_is_named() -> None:
    lost = of_parts([Text(text="<b>", media_type="text/html"), Text(text="x", metadata={"a": 1})])
    assert phrases(lost) == ("media type of text", "part metadata")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"properties": {"q": {"type": "string"}, "n": {"type": "integer"}}, "required": ["q"]}, "q"),
        ({"properties": {"q": {"type": "string"}}}, None),
        ({"properties": {"q": {"type": "number"}}, "required": ["q"]}, None),
        ({"properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a", "b"]}, None),
        ({"required": "q"}, None),
        (None, None),
    ],
)
def test_which_tools_take_plain_text(schema: Any, expected: str | None) -> None:
    assert codec.sole_string(schema) == expected


def test_a_tool_is_a_skill_with_all_it_says() -> None:
    tool = {"name": "t", "title": "Tee", "inputSchema": {"type": "object"}, "annotations": {"a": 1}, "x": 2}
    skill = codec.skill_of(tool)
    assert (skill.id, skill.name, skill.input_schema) == ("t", "Tee", {"type": "object"})
    assert skill.extra == {"mcp": {"annotations": {"a": 1}, "x": 2}}
