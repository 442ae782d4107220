"""Event streams: whatever the cuts and line ends, the events are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.sse import Decoder, ServerEvent, encode, together

PIECES = st.lists(
    st.sampled_from(["a", "b", " ", ":", "\u2028", "\u0085", "{", "ü", "data"]), min_size=1, max_size=12
).map("".join)


@given(st.lists(PIECES, max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 7))
def test_any_line_end_and_any_cut(texts: list[str], end: str, size: int) -> None:
    raw = "".join(f"data: {t}{end}{end}" for t in texts).encode()
    decoder = Decoder()
    events = [e for i in range(0, len(raw), size) for e in decoder.feed(raw[i : i + size])]
    if end == "\r" and texts:  # the last CR may be half of a CRLF until more comes
        events += decoder.feed(b"\n")
    assert [e.data.decode() for e in events] == texts


def test_fields_comments_and_several_data_lines() -> None:
    raw = b": hi\nid: 7\nevent: x\ndata: a\ndata:b\nretry: 5\n\nevent: lost\n\ndata\n\n"
    assert Decoder().feed(raw) == [ServerEvent(b"a\nb", "x", "7"), ServerEvent(b"", "message", "7")]


def test_written_events_escape_what_other_readers_take_for_line_ends() -> None:
    written = encode('{"t":"a\u2028b\u2029c\u0085d"}'.encode(), id="3")
    assert written == b'id: 3\ndata: {"t":"a\\u2028b\\u2029c\\u0085d"}\n\n'


def test_line_breaks_between_tokens_become_data_lines() -> None:
    assert Decoder().feed(encode(b'{\n"a": 1}'))[0].data == b'{\n"a": 1}'


@pytest.mark.parametrize("raw", [b"data: " + b"x" * 100, b"data: 0123456789\ndata: 0123456789\n"])
def test_an_endless_event_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="too large"):
        Decoder(limit=16).feed(raw)


LINES = st.sampled_from([
    b"data: a\n\n", b"data: {}\r\n\r\n", b"event: message\ndata: b\n\n", b"event: message\r\ndata: c\r\n\r\n",
    b"event: x\ndata: d\n\n", b"data: e\ndata: f\n\n", b"data:g\n\n", b": h\n\n", b"id: 1\ndata: i\n\n",
    b"data: \n\n", b"data: j\r\n\n", b"data: k\r\r", b"\n", b"\r", b"data: ", b"\n\n", b"l", b"retry: 5\n\n",
    b"id: 2\n", b"event: y\n", b"id\n\n",
])  # fmt: skip


@given(st.lists(LINES, max_size=3), st.lists(LINES, max_size=6))
def test_whole_events_are_what_would_be_fed(before: list[bytes], lines: list[bytes]) -> None:
    """And after them everything goes on as if they had been fed."""
    quick, slow = Decoder(), Decoder()
    for decoder in (quick, slow):
        decoder.feed(b"".join(before))
    chunk = b"".join(lines)
    found = quick.whole(chunk)
    fed = slow.feed(chunk)
    if found is None:
        assert quick.feed(chunk) == fed
    else:
        assert [(event.data, event.event) for event in fed] == [(data, "message") for data in found]
    assert quick.feed(b"data: z\n\n") == slow.feed(b"data: z\n\n")
    assert quick.last_id == slow.last_id


@pytest.mark.parametrize("begun", [b"event: x\n", b"data: x\n", b"da", b"data: x\r"])
def test_an_event_that_has_begun_is_fed_to_its_end(begun: bytes) -> None:
    decoder = Decoder()
    assert decoder.feed(begun) == []
    assert decoder.whole(b"data: a\n\n") is None


def test_an_event_whose_id_came_alone_is_not_without_one() -> None:
    decoder = Decoder()
    assert decoder.feed(b"id: 7\n") == []
    assert decoder.whole(b"data: a\n\n") is None
    assert decoder.feed(b"data: a\n\n") == [ServerEvent(b"a", id="7")]
    assert decoder.whole(b"data: b\n\n") == [b"b"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("head", [b"", b"event: message"])
def test_what_is_usual_is_seen_to_be_whole(head: bytes, end: bytes) -> None:
    event = (head + end if head else b"") + b"data: %b" + end * 2
    assert Decoder().whole(event % b"a" + event % b"b") == [b"a", b"b"]
    assert Decoder(limit=5).whole(event % b"a") is None


@given(st.lists(PIECES.filter(lambda text: "\r" not in text), min_size=1, max_size=5))
def test_together_is_one_after_the_other(texts: list[str]) -> None:
    whole = [text.encode() for text in texts]
    assert together(whole) == b"".join(encode(data) for data in whole)
