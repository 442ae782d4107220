"""Events that are read straight into structs mean what they mean read field by field."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.acp.decoding import RunDecoder, without_pieces
from agentgw.gateway.errors import InvalidRequest
from agentgw.gateway.model import Event, Finished, MessageDone, Started, TaskState, text_of

Json = dict[str, Any]
ODD: st.SearchStrategy[Any] = st.sampled_from([None, 1, "x", [], {}, True])


def fields(**usual: Any) -> st.SearchStrategy[Json]:
    """Mostly as they are; one may be missing, odd, or joined by another."""
    names = sorted(usual)
    changes: list[st.SearchStrategy[Json]] = [st.just({})] * 4
    changes.append(st.fixed_dictionaries({"x": ODD}))
    changes += [st.fixed_dictionaries({name: ODD}) for name in names]
    changes += [st.just({name: ...}) for name in names]

    def changed(usual: Json, change: Json) -> Json:
        return {name: value for name, value in (usual | change).items() if value is not ...}

    given = {name: v if isinstance(v, st.SearchStrategy) else st.just(v) for name, v in usual.items()}
    return st.builds(changed, st.fixed_dictionaries(given), st.one_of(changes))  # pyright: ignore[reportUnknownArgumentType]


ROLES = st.sampled_from(["agent", "agent/me", "agent/you", "agent/", "agent/m e", "user", "agent/a/b"])
PARTS = fields(content_type="text/plain", content=st.text(max_size=3)) | fields(
    content_type="text/plain",
    content="said",
    content_encoding=st.sampled_from(["plain", "base64"]),
    name=st.sampled_from([None, "n"]),
    metadata=None,
    content_url=None,
)
MESSAGES = fields(role=ROLES, parts=st.lists(PARTS, min_size=1, max_size=1)) | fields(
    role=ROLES,
    parts=st.lists(PARTS, max_size=2),
    created_at=st.sampled_from([None, "2026-01-01T00:00:00Z"]),
    completed_at=st.sampled_from([None, "2026-01-01T00:00:00Z"]),
)
RUNS = fields(
    run_id=st.sampled_from("rs"),
    session_id=st.sampled_from([None, "s"]),
    status=st.sampled_from(["created", "in-progress", "completed", "failed", "awaiting", "cancelled"]),
    output=st.lists(MESSAGES, max_size=2),
)
OF_RUNS = st.sampled_from(["run.created", "run.in-progress", "run.completed", "run.failed", "run.awaiting"])
EVENTS = st.one_of(
    fields(type=OF_RUNS, run=RUNS),
    fields(type="message.created", message=MESSAGES),
    fields(type="message.part", part=PARTS),
    fields(type="message.completed", message=MESSAGES),
    fields(type="message.completed", message=MESSAGES, run=RUNS),
    fields(type="generic", generic=ODD),
    fields(type="error", error=ODD),
)
RESUMED = st.none() | RUNS


@given(st.lists(EVENTS, max_size=6), RESUMED)
def test_a_short_way_leads_to_the_same(events: list[Json], resumed: Json | None) -> None:
    if resumed is not None:
        with suppress(InvalidRequest):
            RunDecoder("x", resumed=resumed)
    quick, slow = RunDecoder("x", resumed=resumed), RunDecoder("x", resumed=resumed)
    for event in events:
        assert read(quick, event) == fed(slow, event)
        assert state(quick) == state(slow)


@given(EVENTS, st.integers(0, 5), st.integers(0, 1))
def test_an_answer_at_once_says_the_same(event: Json, at: int, instead: int) -> None:
    events = answer()
    at_once([*events[:at], event, *events[at + instead :]])


def at_once(events: list[Json]) -> bool:
    """Whether they are usual as a whole; then that says what they say one by one, without the pieces."""
    quick, slow = RunDecoder("x"), RunDecoder("x")
    before = state(quick)
    found = quick.answer([json.dumps(event, ensure_ascii=False).encode() for event in events])
    if found is None:
        assert state(quick) == before
        return False
    told: list[Event] = []
    for event in events:
        each = fed(slow, event)
        assert not isinstance(each, str)
        told += each
    assert list(found) == without_pieces(told)
    assert (quick.run_id, quick.session_id, quick.status) == (slow.run_id, slow.session_id, slow.status)
    assert quick.ended
    assert slow.ended
    assert quick.seen == slow.seen
    return True


def state(decoder: RunDecoder) -> Json:
    return {name: getattr(decoder, name) for name in RunDecoder.__slots__}


def read(decoder: RunDecoder, event: Json) -> list[Event] | str:
    found = decoder.read(json.dumps(event, ensure_ascii=False).encode())
    return fed(decoder, event) if found is None else list(found)


def fed(decoder: RunDecoder, event: Json) -> list[Event] | str:
    try:
        return decoder.feed(event)
    except InvalidRequest as e:
        return e.message


def answer(**message: Any) -> list[Json]:
    """What the official SDK's server sends for an answer of one text."""
    run = {"run_id": "r", "agent_name": "me", "session_id": "s", "await_request": None, "error": None}
    part = {"name": None, "content_type": "text/plain", "content": "hi", "content_encoding": "plain",
            "content_url": None, "metadata": None}  # fmt: skip
    said = {"role": "agent/me", "parts": [part], **message}
    return [
        {"type": "run.created", "run": {**run, "status": "created", "output": []}},
        {"type": "run.in-progress", "run": {**run, "status": "in-progress", "output": []}},
        {"type": "message.created", "message": {**said, "parts": []}},
        {"type": "message.part", "part": part},
        {"type": "message.completed", "message": said},
        {"type": "run.completed", "run": {**run, "status": "completed", "output": [said]}},
    ]


def test_a_plain_answer_is_usual() -> None:
    decoder, found = RunDecoder("x"), list[Event]()
    for event in answer(created_at="2026-01-01T00:00:00Z", completed_at=None):
        events = decoder.read(json.dumps(event).encode())
        assert events is not None, event
        found += events
    started, _, done, finished = found
    assert started == Started(task_id="r", context_id="s")
    assert isinstance(done, MessageDone)
    assert text_of(done.message.parts) == "hi"
    assert done.message.extra["acp"]["fields"] == {"created_at": "2026-01-01T00:00:00Z", "completed_at": None}
    assert finished == Finished(state=TaskState.COMPLETED)
    assert decoder.ended


TIMES = {"created_at": "2026-01-01T00:00:00Z", "completed_at": None}
OTHER: list[Any] = [
    None, 0, True, "", "x", "agent", "agent/", "agent/m e", "user", "plain", "base64", "text/html",
    "completed", "in-progress", "awaiting", "failed", "message.part", "message.completed", "run.completed",
    [], {}, ["x"], {"x": 1},
]  # fmt: skip


def changed(value: Any) -> Iterator[Any]:
    """The JSON value with one thing in it another, left out, added, or twice there."""
    yield from OTHER
    if isinstance(value, dict):
        fields = cast(Json, value)
        yield {**fields, "x": 1}
        for name in ("run", "message", "part", "generic", "error"):
            yield {**fields, name: {}}
        for name, inner in fields.items():
            yield {other: kept for other, kept in fields.items() if other != name}
            for another in changed(inner):
                yield {**fields, name: another}
    elif isinstance(value, list):
        items = cast(list[Any], value)
        yield [*items, *items]
        for at, inner in enumerate(items):
            for another in changed(inner):
                yield [*items[:at], another, *items[at + 1 :]]


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("times", [{}, TIMES], ids=["bare", "with times"])
def test_whatever_is_otherwise_is_read_as_before(times: Json, at: int) -> None:
    events = answer(**times)
    unlike = [event for event in changed(events[at]) if isinstance(event, dict)]
    assert len(unlike) > 50
    for event in unlike:
        alike([*events[:at], event, *events[at + 1 :]])
        at_once([*events[:at], event, *events[at + 1 :]])


@pytest.mark.parametrize("times", [{}, TIMES], ids=["bare", "with times"])
def test_events_may_come_in_any_order_or_not_at_all(times: Json) -> None:
    events = answer(**times)
    for length in range(4):
        for some in itertools.product(events, repeat=length):
            alike(list(some))
            if some:
                at_once([*some, events[-1]])
    usual = [at_once([*events[:at], *events[at + 1 :]]) for at in range(6)]
    assert usual == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]  # a piece must be told whole, and there must be an end
    assert at_once(events)
    for at in range(6):
        alike([*events[:at], *events[at + 1 :]])


def alike(events: list[Json]) -> None:
    quick, slow = RunDecoder("x"), RunDecoder("x")
    for event in events:
        assert read(quick, event) == fed(slow, event), event
        assert state(quick) == state(slow), event


@pytest.mark.parametrize("at", range(6))
def test_what_is_no_text_is_not_usual(at: int) -> None:
    """Whoever reads it field by field says so."""
    data = json.dumps(answer()[at]).encode().replace(b'"agent', b'"\xff')
    data = data.replace(b'"hi"', b'"\xff"')
    assert b"\xff" in data
    assert RunDecoder("x").read(data) is None
