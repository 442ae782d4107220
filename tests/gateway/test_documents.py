"""JSON that passes in pieces: where its content begins, and that it ends as it should."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.documents import DEEPEST, Rest, opening

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab\\"{}[]é世,: \n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\}', max_size=3), inner),
    max_leaves=12,
)
objects = st.dictionaries(st.text('a"\\}', max_size=3), values, max_size=4)


def feed(rest: bytes, cuts: list[int]) -> None:
    reader = Rest()
    places = sorted({0, len(rest), *(cut % (len(rest) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        reader.feed(rest[start:end])
    reader.close()


@given(objects, st.lists(st.integers(0, 500), max_size=8), st.sampled_from([b"}", b" }\n", b"\t} "]))
def test_any_object_passes_however_it_is_cut(value: Any, cuts: list[int], end: bytes) -> None:
    feed(msgspec.json.encode(value) + end, cuts)


@given(objects, st.lists(st.integers(0, 500), max_size=8), st.integers(1, 500))
def test_what_ends_too_early_does_not(value: Any, cuts: list[int], missing: int) -> None:
    rest = msgspec.json.encode(value) + b"}"
    with pytest.raises(ValueError):
        feed(rest[: -min(missing, len(rest))], cuts)


@given(
    objects,
    st.lists(st.integers(0, 500), max_size=8),
    st.sampled_from([b',"a":1}', b"}}", b"}1", b'"}', b'\\"}', b"}\\"]),
)
def test_nor_what_goes_on(value: Any, cuts: list[int], more: bytes) -> None:
    with pytest.raises(ValueError):
        feed(msgspec.json.encode(value) + more, cuts)


@pytest.mark.parametrize(
    "rest", [b'{"a":"\xff"}}', b'{"a":"\xc3', b'{"a":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}}"]
)
def test_nor_what_is_no_utf8_or_too_deep(rest: bytes) -> None:
    with pytest.raises(ValueError):
        feed(rest, [3, 7])


@pytest.mark.parametrize(
    ("begun", "members", "value"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{"a"', {b"jsonrpc": b'"2.0"', b"id": b"1"}, b'{"a"'),
        (b' {\n "id" : "x\\"}" , "result" :\t{', {b"id": b'"x\\"}"'}, b"{"),
        (b'{"result":{}', {}, b"{}"),
    ],
)
def test_what_stands_before_the_content(begun: bytes, members: dict[bytes, bytes], value: bytes) -> None:
    found = opening(begun, b"result")
    assert found is not None
    assert found[0] == members
    assert begun[found[1] :] == value


@pytest.mark.parametrize(
    "begun",
    [
        b"", b"[", b'{"id":1', b'{"id":{},"result":{}', b'{"id":1,"id":2,"result":{}', b'{"id":1,"result":[',
        b'{"id":1,"result":', b'{"id":1 "result":{}', b'{"error":{"a":1},"result":{}',
    ],
)  # fmt: skip
def test_what_has_no_such_beginning(begun: bytes) -> None:
    assert opening(begun, b"result") is None
