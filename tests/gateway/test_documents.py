"""JSON that passes in pieces: where its content begins, and that it ends as it should."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.documents import DEEPEST, EACH, LONGEST, Passing, opening

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab\\"{}[]é世,: \n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\}', max_size=3), inner),
    max_leaves=12,
)
objects = st.dictionaries(st.text('a"\\}', max_size=3), values, max_size=4)


def feed(rest: bytes, cuts: list[int], reader: Passing | None = None) -> bytes:
    """What passes."""
    reader = reader or Passing()
    places = sorted({0, len(rest), *(cut % (len(rest) + 1) for cut in cuts)})
    passed = b"".join([reader.feed(rest[start:end]) for start, end in pairwise(places)])
    reader.close()
    return passed


@given(objects, st.lists(st.integers(0, 500), max_size=8), st.sampled_from([b"}", b" }\n", b"\t} "]))
def test_any_object_passes_however_it_is_cut(value: Any, cuts: list[int], end: bytes) -> None:
    assert feed(msgspec.json.encode(value) + end, cuts) == msgspec.json.encode(value)


def told(value: Any, shape: Any, path: tuple[bytes, ...] = ()) -> list[tuple[tuple[bytes, ...], Any]]:
    """The values that the shape names, by reading all of it."""
    if shape is None:
        return [(path, value)]
    if isinstance(value, dict):
        items = [(name.encode(), inner) for name, inner in value.items()]
    elif isinstance(value, list) and EACH in shape:
        items = [(EACH, inner) for inner in value]
    else:
        items = []
    return [one for name, inner in items if name in shape for one in told(inner, shape[name], (*path, name))]


keys = st.text('ab"\\}é', max_size=2)
shapes = st.recursive(
    st.none(),
    lambda inner: st.dictionaries(keys.map(str.encode) | st.just(EACH), inner, max_size=4),
    max_leaves=8,
)
deep = st.dictionaries(
    keys,
    st.recursive(
        st.none() | st.integers() | st.text(alphabet='ab\\"{}[]é世,: \n', max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner),
        max_leaves=12,
    ),
    max_size=4,
)


@given(deep, st.dictionaries(keys.map(str.encode), shapes), st.lists(st.integers(0, 500), max_size=8))
def test_what_is_named_is_told_and_changed_and_all_else_passes(
    value: Any, shape: Any, cuts: list[int]
) -> None:
    seen: list[tuple[tuple[bytes, ...], Any]] = []

    def change(path: tuple[bytes, ...], found: bytes) -> bytes | None:
        seen.append((path, msgspec.json.decode(found)))
        return b'["changed"]' if len(seen) % 2 else None

    passed = feed(indented(value) + b" }\n", cuts, Passing(shape, change))
    wanted = told(value, shape)
    assert seen == wanted
    changed = [["changed"] if n % 2 == 0 else inner for n, (_, inner) in enumerate(wanted)]
    assert [inner for _, inner in told(msgspec.json.decode(passed), shape)] == changed
    assert feed(indented(value) + b"}", cuts, Passing(shape)) == indented(value)


def indented(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


@given(st.lists(st.integers(0, 500), max_size=8))
def test_a_name_is_known_however_it_is_written(cuts: list[int]) -> None:
    seen: list[bytes] = []
    feed(b'{"\\u0069d" :7,"b":{"id":8}}}', cuts, Passing({b"id": None}, lambda _, found: seen.append(found)))
    assert seen == [b"7"]


def test_what_must_be_known_is_held_and_nothing_else() -> None:
    passing, held = Passing({b"id": None}, lambda path, found: None, end=b""), 0
    passing.feed(b'{"text":"')
    for _ in range(100):
        piece = b'x\\"[' * 20_000
        assert passing.feed(piece) == piece
        held = max(held, len(passing._data) - passing._at)  # pyright: ignore[reportPrivateUsage]
    assert held == 0
    passing.feed(b'","id":"')
    with pytest.raises(ValueError):
        for _ in range(LONGEST // 1000 + 1):
            assert passing.feed(b"x" * 1000) == b""


@pytest.mark.parametrize(
    "rest",
    [
        b"[]}",
        b'{"a"}}',
        b'{"a":}}',
        b'{"a":1,}}',
        b'{"a":1 "b":2}}',
        b"{1:2}}",
        b'{"b":{"c"}}}',
        b'{"d":[1 2]}}',
    ],
)
def test_what_is_looked_into_must_be_json(rest: bytes) -> None:
    with pytest.raises(ValueError):
        feed(rest, [], Passing({b"a": None, b"b": {}, b"d": {EACH: {}}}))


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
