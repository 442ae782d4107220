"""What documents that are alike say is what each of them says by itself."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway import sse
from agentgw.gateway.alike import Alike, AlikeEvents


class Said(msgspec.Struct):
    text: msgspec.Raw
    name: str = ""


_said = msgspec.json.Decoder(Said)


class Finding:
    """Counts how often a document is looked into."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, document: bytes) -> tuple[msgspec.Raw, str]:
        self.asked += 1
        said = _said.decode(document)
        return said.text, said.name


TEXTS = st.text(alphabet='a"\\n\u2028\xe9{}:,', max_size=3)
DOCUMENTS = st.builds(
    lambda text, name, ascii, last: json.dumps(
        {"name": name, "text": text} if last else {"text": text, "name": name}, ensure_ascii=ascii
    ).encode(),
    TEXTS | st.none(),
    st.sampled_from(["", "a", "b", '","text":"a'], ),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
BROKEN = st.builds(lambda document, at: document[:at] + document[at + 1 :], DOCUMENTS, st.integers(0, 12))


@given(st.lists(DOCUMENTS | DOCUMENTS | BROKEN, max_size=8))
def test_documents_say_what_they_say_alone(documents: list[bytes]) -> None:
    alike = Alike(Finding())
    for document in documents:
        alone = Alike(Finding())
        try:
            wanted = alone.read(document), alone.rest
        except ValueError:
            with pytest.raises(ValueError):
                alike.read(document)
        else:
            assert (alike.read(document), alike.rest) == wanted


def test_what_is_alike_is_not_looked_into() -> None:
    finding = Finding()
    alike = Alike(finding)
    texts = ["one", "two", 'say "three"', "", "f\u00fcnf"]
    assert [alike.read(json.dumps({"text": text, "name": "n"}).encode()) for text in texts] == texts
    assert (finding.asked, alike.rest) == (1, "n")


@pytest.mark.parametrize("document", [b'{"text":"n","name":"n"}', b'{"name":"n","text":"n"}'])
def test_a_string_that_stands_there_twice_is_not_taken_for_the_other(document: bytes) -> None:
    alike = Alike(Finding())
    for name in ("n", "m", "n", "o"):
        assert alike.read(document.replace(b'"name":"n"', b'"name":"%b"' % name.encode())) == "n"
        assert alike.rest == name


ONE = st.builds(lambda text: json.dumps({"text": text, "name": "n"}).encode(), st.text("ab", max_size=3))
FORM = st.sampled_from(
    [b"data: %b\n\n"] * 4 + [b"event: message\r\ndata: %b\r\n\r\n", b"id: 1\ndata: %b\n\n"]
)
PIECES = st.builds(
    lambda form, documents, cuts: _cut(b"".join(form % document for document in documents), cuts),
    FORM,
    st.lists(ONE, min_size=1, max_size=2) | st.lists(DOCUMENTS | BROKEN, min_size=1, max_size=2),
    st.just([]) | st.lists(st.integers(0, 40), max_size=1),
)
STRAY = st.sampled_from(
    [
        b'data: {"text": "a"\n, "name": "n"}\n\n',
        b'data: {"text": \n"a", "name": "n"}\n\n',
        b'data: {"text": "a", "name": "n"}\n\n'.replace(b"a", b"a" * 40),
        b"data: x\n",
        b"\n",
    ]
)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """In pieces, cut at these places."""
    places = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places) if a < b]


@given(
    st.lists(PIECES | STRAY.map(lambda stray: [stray]), max_size=8),
    st.frozensets(st.integers(0, 12)),
    st.sampled_from([60, 1000]),
)
def test_what_events_say_is_taken_in_their_order(
    sent: list[list[bytes]], refused: frozenset[int], limit: int
) -> None:
    """What is taken and what is left to be fed say together what all say that is fed."""

    def said(data: bytes) -> tuple[str, str] | bytes:
        try:
            raw, name = Finding()(data)
            return msgspec.json.decode(raw, type=str), name
        except ValueError:
            return data

    def fed(decoder: sse.Decoder, chunk: bytes) -> list[object]:
        try:
            return [said(event.data) for event in decoder.feed(chunk)]
        except ValueError:
            return ["too large"]

    quick, slow = sse.Decoder(limit), sse.Decoder(limit)
    got: list[object] = []
    wanted: list[object] = []
    offers = 0

    def give(text: str, name: str) -> bool:
        nonlocal offers
        offers += 1
        if offers in refused:
            return False
        got.append((text, name))
        return True

    events = AlikeEvents(quick, Finding(), give, lambda chunk: False)
    for chunk in [piece for pieces in sent for piece in pieces]:
        wanted += fed(slow, chunk)
        if not events.take(chunk):
            got += fed(quick, chunk)
        assert got == wanted
        if "too large" in wanted:
            return


def test_events_that_are_alike_are_not_looked_into() -> None:
    finding, got = Finding(), list[str]()
    events = AlikeEvents(sse.Decoder(), finding, lambda text, _: not got.append(text), lambda chunk: False)
    texts = ["one", "two", 'say "three"', "", "f\u00fcnf"]
    for text in texts:
        assert events.take(b"data: %b\n\n" % json.dumps({"text": text, "name": "n"}).encode())
    assert (got, finding.asked) == (texts, 1)


@pytest.mark.parametrize("between", [b"data: x\n", b"event: e\n", b"da", b":\r"])
def test_what_goes_on_where_a_chunk_ended_is_fed(between: bytes) -> None:
    decoder, got = sse.Decoder(), list[str]()
    events = AlikeEvents(decoder, Finding(), lambda text, _: not got.append(text), lambda chunk: False)
    alike = [b"data: %b\n\n" % json.dumps({"text": text}).encode() for text in "abc"]
    assert events.take(alike[0]) and events.take(alike[1])
    decoder.feed(between)
    assert not events.take(alike[2])
    assert got == ["a", "b"]


def test_an_event_past_the_limit_is_fed() -> None:
    got = list[str]()
    events = AlikeEvents(
        sse.Decoder(40), Finding(), lambda text, _: not got.append(text), lambda chunk: False
    )
    for text in ("a", "b", "c" * 40):
        assert events.take(b"data: %b\n\n" % json.dumps({"text": text}).encode()) == (len(text) == 1)
    assert got == ["a", "b"]
