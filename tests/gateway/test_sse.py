"""Event streams: whatever the cuts and line ends, the events are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.sse import Decoder, ServerEvent, encode

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
