"""Names in JSON, found without decoding it."""

from __future__ import annotations

import msgspec
import pytest

from agentgw.gateway import mentions as looking
from agentgw.gateway.mentions import is_escaped, mentions, outline

LONG = "x" * looking.LARGE


def body(**members: object) -> bytes:
    return msgspec.json.encode({"first": 1, "text": LONG, **members})


def test_a_large_document_is_searched_without_its_long_strings() -> None:
    large = body(taskId="t", inner={"contextId": "c"})
    assert outline(large) == b'"first""text""taskId""t""inner""contextId""c"'
    assert mentions(large, b"contextId") and mentions(large, b'"taskId"')
    assert not mentions(large, b"session")
    assert not mentions(body(), LONG[:10].encode())


@pytest.mark.parametrize(
    "document",
    [
        b'{"taskId": 1}',  # small
        body(said='he said "hi"', taskId="t"),  # what is escaped may end no string
        body(many=["m"] * 3000, taskId="t"),  # of many strings
        body(taskId="t") + b'"',  # no JSON
    ],
)
def test_other_documents_are_searched_whole(document: bytes) -> None:
    assert outline(document) is document
    assert mentions(document, b'"taskId"')
    assert not mentions(document, b'"contextId"')


def test_a_name_may_be_written_by_numbers() -> None:
    escaped = body(tenant="t").replace(b"tenant", b"ten\\u0061nt")
    assert is_escaped(escaped)
    assert mentions(escaped, b'"tenant"')
