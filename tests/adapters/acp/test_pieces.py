"""Pieces of text that are written and read in short ways are what the long ways make of them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.acp.decoding import RunDecoder, text_reader
from agentgw.adapters.acp.encoding import RunEncoder
from agentgw.adapters.acp.face.runs import told
from agentgw.gateway.errors import InvalidRequest
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    Finished,
    InputRequest,
    InputRequired,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Place,
    Progress,
    StateChanged,
    Task,
    TaskState,
    Text,
)

TASK = Task(id="t", context_id="c", agent="x", created_at="2026-01-01T00:00:00Z")
bare: st.SearchStrategy[Part] = st.builds(Text, text=st.text(alphabet='a"\\\n\u2028\xe9', max_size=4))
odd: st.SearchStrategy[Part] = st.builds(
    Text,
    text=st.just("o"),
    media_type=st.sampled_from([None, "text/markdown"]),
    name=st.sampled_from([None, "n"]),
    metadata=st.sampled_from([None, {"a": 1}]),
    extra=st.sampled_from([{}, {"a2a": {"x": 1}}]),
) | st.builds(Data, data=st.integers(0, 2))
parts = st.lists(bare | bare | odd, min_size=1, max_size=2).map(tuple)
one = st.tuples(bare)
artifacts = st.builds(
    Artifact,
    artifact_id=st.sampled_from("ab"),
    parts=one | parts,
    name=st.sampled_from([None, None, "n"]),
    description=st.sampled_from([None, None, "d"]),
    metadata=st.sampled_from([None, None, {"b": 1}]),
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(MessageDelta, parts=one, author=st.sampled_from([None, "me"])),
    st.builds(MessageDelta, parts=parts),
    st.builds(
        ArtifactDelta,
        artifact=artifacts,
        append=st.booleans(),
        last=st.sampled_from([False, False, True]),
        metadata=st.sampled_from([None, None, {"c": 1}]),
        extra=st.sampled_from([{}, {}, {"a2a": {"x": 1}}]),
    ),
    st.builds(
        ArtifactDelta,
        artifact=st.builds(Artifact, artifact_id=st.just("a"), parts=one),
        append=st.just(True),
        last=st.just(False),
    ),
    st.builds(MessageDone, message=st.builds(Message, role=st.just("agent"), parts=parts)),
    st.builds(Progress, message=st.just("p")),
    st.just(StateChanged(state=TaskState.WORKING)),
    st.just(InputRequired(request=InputRequest(message=Message(role="agent", parts=(Text(text="?"),))))),
)


@given(st.lists(events, max_size=10))
def test_what_is_told_is_what_is_encoded(said: list[Event]) -> None:
    quick, slow = RunEncoder(TASK), RunEncoder(TASK)
    for n, event in enumerate([*said, Finished(state=TaskState.COMPLETED)]):
        logged = Logged(seq=n + 1, at="2026-01-01T00:00:01Z", event=event)
        lines = b"".join(told(quick, logged)).split(b"\n\n")[:-1]
        assert [json.loads(line.removeprefix(b"data: ")) for line in lines] == slow.feed(event, logged.at)
    assert quick.run == slow.run
    assert quick.losses == slow.losses


PLACES = st.builds(
    Place,
    author=st.sampled_from([None, None, "me"]),
    artifact_id=st.sampled_from([None, None, "a"]),
)


@given(
    st.lists(
        events | st.tuples(st.text(max_size=3), PLACES) | st.tuples(st.text(max_size=3), PLACES), max_size=10
    )
)
def test_texts_that_grow_are_what_is_encoded(said: list[Event | tuple[str, Place]]) -> None:
    quick, slow = RunEncoder(TASK), RunEncoder(TASK)
    for each in [*said, Finished(state=TaskState.COMPLETED)]:
        at, found = "2026-01-01T00:00:01Z", None
        if isinstance(each, tuple):
            text, place = each
            event = place.event(text)
            if (pieces := quick.growing(place)) is not None:
                pieces.more(text)
                found = [part(content=text)]
        else:
            event = each
        assert (quick.feed(event, at) if found is None else found) == slow.feed(event, at)
    assert quick.run == slow.run
    assert quick.losses == slow.losses


def part(**fields: Any) -> dict[str, Any]:
    return {"type": "message.part", "part": {"content_type": "text/plain", "content": "a", **fields}}


ODD = st.sampled_from(
    [
        part(content_encoding="plain"),
        part(content_encoding=None),
        part(name=None, content_url=None, metadata=None),
        part(name="n"),
        part(content_type="text/html"),
        part(content=None),
        part(content_encoding="base64", content="YQ=="),
        part(metadata={"kind": "trajectory", "message": "m"}, content=""),
        part(x=1),
        part() | {"run": None},
        part() | {"x": 1},
        {"type": "message.created", "message": {"role": "agent/me"}},
        {"type": "generic", "generic": {}},
        {"type": 1},
        {},
    ]
)
TEXTS = st.builds(lambda text: part(content=text), st.text(max_size=4))


@given(st.lists(st.lists(TEXTS | TEXTS | ODD, min_size=1, max_size=3), max_size=4))
def test_what_is_read_as_text_is_what_is_decoded(chunks: list[list[dict[str, Any]]]) -> None:
    quick, slow, read = RunDecoder("x"), RunDecoder("x"), text_reader()
    for chunk in chunks:
        data = [json.dumps(event).encode() for event in chunk]
        try:
            found: list[Event] = list(quick.texts([read(each) for each in data]))
        except msgspec.DecodeError:
            found = _fed(quick, chunk)
        assert found == _fed(slow, chunk)
        assert (quick.seen, quick.ended) == (slow.seen, slow.ended)


def _fed(decoder: RunDecoder, chunk: list[dict[str, Any]]) -> list[Event]:
    events: list[Event] = []
    for event in chunk:
        with suppress(InvalidRequest):
            events += decoder.feed(event)
    return events


def test_what_is_usual_is_read_as_text() -> None:
    usual = [part(), part(content_encoding="plain"), part(content_encoding="plain", name=None, metadata=None)]
    data = [json.dumps(event).encode() for event in usual]
    texts = [*map(text_reader(), data)]
    assert RunDecoder("x").texts(texts) == [MessageDelta(parts=(Text(text="a"),))] * 3


def test_what_has_grown_is_not_told_again() -> None:
    """A message ends as it was told; one that then says something else, as that."""
    for text, kind in (("ab", "text/plain"), ("ax", "text/markdown"), ("abc", "text/markdown")):
        encoder = RunEncoder(TASK)
        encoder.feed(MessageDelta(parts=(Text(text="a"),)), "")
        pieces = encoder.growing(Place())
        assert pieces is not None
        pieces.more("b")
        said = Message(role="agent", parts=(Text(text=text, media_type="text/markdown"),))
        (last,) = encoder.feed(MessageDone(message=said), "")
        found = [(part["content"], part["content_type"]) for part in last["message"]["parts"]]
        assert found == [(text, kind)]
