"""Headers that mirror the body, checked against the official SDK's own reading of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound

from agentgw.adapters.mcp import headers

from ...support.examples import examples


@examples(100)
@given(st.text() | st.sampled_from(["=?base64?QQ==?=", " x", "a\tb", "plain"]))
def test_any_value_survives_and_reads_the_same_at_the_official_sdk(value: str) -> None:
    encoded = headers.encode_value(value)
    assert encoded.isascii() and encoded == encoded.strip() and "\n" not in encoded
    assert headers.decode_value(encoded) == value
    assert inbound.decode_header_value(encoded) == value


@pytest.mark.parametrize("value", ["=?base64?!?=", "=?base64?QR==?=", "=?base64?/w==?="])
def test_a_malformed_value_is_none(value: str) -> None:
    assert headers.decode_value(value) is None


NESTED = {"type": "object", "properties": {"deep": {"type": "integer", "x-mcp-header": "Deep"}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "dry": {"type": "boolean", "x-mcp-header": "Dry"},
        "inner": NESTED,
        "plain": {"type": "string", "default": {"x-mcp-header": "data, not schema"}},
    },
}


def test_annotated_arguments_that_are_there_are_mirrored() -> None:
    arguments = {"region": "Zürich", "dry": True, "inner": {"deep": 5}, "plain": "x"}
    assert dict(headers.param_headers(SCHEMA, arguments)) == {
        "mcp-param-region": "=?base64?WsO8cmljaA==?=",
        "mcp-param-dry": "true",
        "mcp-param-deep": "5",
    }
    assert headers.param_headers(SCHEMA, {"region": None}) == []
    assert headers.param_headers(SCHEMA, "no object") == []


def annotated(schema: dict[str, Any], **around: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, **around}


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        annotated({"type": "number", "x-mcp-header": "A"}),
        annotated({"type": ["string"], "x-mcp-header": "A"}),
        annotated({"type": "string", "x-mcp-header": "with space"}),
        annotated({"type": "string", "x-mcp-header": ""}),
        annotated({"type": "string", "x-mcp-header": 5}),
        annotated({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}),
        {"x-mcp-header": "Root"},
        {
            "properties": {
                "a": {"type": "string", "x-mcp-header": "A"},
                "b": {"type": "string", "x-mcp-header": "a"},
            }
        },
        annotated({"type": "string"}, allOf=[annotated({"type": "string", "x-mcp-header": "A"})]),
        None,
    ],
)
def test_annotations_are_judged_as_the_official_sdk_judges_them(schema: Any) -> None:
    assert (headers.fault(schema) is None) == (inbound.find_invalid_x_mcp_header(schema) is None)
