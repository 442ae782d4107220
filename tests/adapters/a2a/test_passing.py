"""What passes a relay at once is what passes it anyway, and the record knows it as well."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from agentgw.adapters.a2a.events import item_to
from agentgw.adapters.a2a.face import passage
from agentgw.adapters.a2a.growth import (
    TextUpdates,
    grown,
    growth_at,
    growth_reader,
    piece_reader,
    place_at,
    update_json,
)
from agentgw.adapters.a2a.growth import piece as piece_of
from agentgw.adapters.a2a.heard import Heard
from agentgw.adapters.a2a.plain import WireArtifactUpdate
from agentgw.adapters.a2a.reader import Reader
from agentgw.adapters.a2a.upstream.upstream import A2AUpstream
from agentgw.adapters.a2a.writer import Writer
from agentgw.gateway import sse
from agentgw.gateway.errors import GatewayError
from agentgw.gateway.lifecycle import Folding
from agentgw.gateway.limits import CallLimits
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Invocation,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Place,
    Principal,
    Progress,
    Record,
    Task,
    TaskState,
    Text,
)
from agentgw.gateway.transport import HttpTransport

from ...support.offering import Offered, cut
from ...support.telling import Narrow
from .support import LocalHost, gateway
from .test_relay import DONE, WORKING, agent, message, piece, status, task

# --- what pieces say, put together ---------------------------------------------------------------

PART = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(alphabet="ab\xe9", max_size=3),
        "metadata": st.just({"a": 1}),
        "mediaType": st.sampled_from(["text/plain", "text/markdown"]),
        "filename": st.just("x"),
    },
).map(lambda part: part if "text" in part else {**part, "data": 1})
UPDATE = st.fixed_dictionaries(
    {
        "artifact": st.fixed_dictionaries(
            {"artifactId": st.sampled_from("ab"), "parts": st.lists(PART, min_size=1, max_size=2)},
            optional={"name": st.just("n"), "metadata": st.just({"b": 2}), "extensions": st.just(["e"])},
        ),
    },
    optional={"append": st.booleans(), "lastChunk": st.booleans(), "metadata": st.just({"c": 3})},
)
BARE = st.builds(
    lambda id, text: {"artifact": {"artifactId": id, "parts": [{"text": text}]}, "append": True},
    st.sampled_from("ab"),
    st.text(alphabet="ab\xe9", max_size=3),
)


def growth(update: dict[str, Any]) -> WireArtifactUpdate:
    return growth_at(json.dumps({"artifactUpdate": update}).encode())


@given(st.lists(UPDATE | BARE | BARE, max_size=12))
def test_what_a_stream_says_is_read_as_each_of_it_alone(updates: list[dict[str, Any]]) -> None:
    read = growth_reader()
    many = [json.dumps({"artifactUpdate": {**update, "taskId": "t"}}).encode() for update in updates]
    together = [read(each) for each in many]
    assert [raw for raw, _ in together] == many
    assert [growth.task_id for _, growth in together] == ["t"] * len(many)
    assert list(grown([growth for _, growth in together])) == list(grown([growth_at(each) for each in many]))


def test_a_piece_of_another_conversation_says_so() -> None:
    read = growth_reader()
    for context in ("c", "c", "d", None, "c"):
        update = {"artifact": {"artifactId": "a", "parts": [{"text": "x"}]}, "append": True}
        update |= {"taskId": "t", "contextId": context} if context else {"taskId": "u"}
        growth = read(json.dumps({"artifactUpdate": update}).encode())[1]
        assert (growth.task_id, growth.context_id) == (("t", context) if context else ("u", None))


@given(st.lists(UPDATE | BARE, max_size=8))
def test_pieces_put_together_say_what_they_say_one_by_one(updates: list[dict[str, Any]]) -> None:
    one, many = (
        Folding(Task(id="t", context_id="c", agent="x")),
        Folding(Task(id="t", context_id="c", agent="x")),
    )
    heard_one, heard_many = Heard(), Heard()
    for update in updates:
        event = growth(update).read().event
        assert isinstance(event, ArtifactDelta)
        one.add(event)
        heard_one.add(event)
    for event in grown([growth(update) for update in updates]):
        many.add(event)
        heard_many.add(event)
    assert one.task == many.task
    for artifact in one.task.artifacts:
        new = Artifact(artifact_id=artifact.artifact_id, parts=artifact.parts)
        assert heard_one.news(new) == heard_many.news(new)


@given(st.lists(UPDATE | BARE | BARE, max_size=6))
def test_texts_that_grow_are_what_is_read(updates: list[dict[str, Any]]) -> None:
    quick, slow, folding = Reader("x"), Reader("x"), Folding(Task(id="t", context_id="c", agent="x"))
    for update in [{"artifact": {"artifactId": "a", "parts": [{"text": "0"}]}}, *updates]:
        read = growth(update).read()
        wanted = slow.feed(read)
        folding.add(read.event)
        try:
            raw, place = place_at(json.dumps({"artifactUpdate": update}).encode())
        except msgspec.DecodeError:
            assert quick.feed(read) == wanted
            continue
        text = msgspec.json.decode(raw, type=str)
        assert place.event(text) == read.event
        if not quick.more(text, place):
            assert quick.feed(read) == wanted
    more = [msgspec.structs.replace(a, parts=(*a.parts, Text(text="z"))) for a in folding.task.artifacts]
    snapshot = msgspec.structs.replace(folding.task, artifacts=tuple(more))
    assert quick.feed(snapshot) == slow.feed(snapshot)


@given(st.lists(UPDATE | BARE, max_size=4))
def test_a_piece_is_what_is_read(updates: list[dict[str, Any]]) -> None:
    read = piece_reader()
    for update in updates:
        assert piece_of(growth(update)) == growth(update).read().event
        assert read(json.dumps({"artifactUpdate": update}).encode()) == growth(update).read().event


TEXT = st.builds(
    Text,
    text=st.text(alphabet='a"\\\n\u2028\xe9@', max_size=3),
    media_type=st.sampled_from([None, None, "text/markdown"]),
    extra=st.sampled_from([{}, {}, {"acp": {"fields": {"x": 1}}}]),
)
SAID: st.SearchStrategy[Any] = st.one_of(
    st.builds(MessageDelta, parts=st.tuples(TEXT), author=st.sampled_from([None, "me"])),
    st.builds(
        MessageDelta, parts=st.lists(TEXT, max_size=2).map(tuple), message_id=st.sampled_from([None, "m"])
    ),
    st.builds(MessageDone, message=st.builds(Message, role=st.just("agent"), parts=st.tuples(TEXT))),
    st.builds(Progress, message=st.just("p")),
    st.builds(
        ArtifactDelta,
        artifact=st.builds(
            Artifact, artifact_id=st.just("a"), parts=st.tuples(TEXT), name=st.sampled_from([None, "n"])
        ),
        append=st.booleans(),
        last=st.booleans(),
        metadata=st.sampled_from([None, {"c": 1}]),
    ),
)


@pytest.mark.parametrize("version", ["1.0", "0.3"])
@given(said=st.lists(SAID, max_size=8))
def test_what_is_written_at_once_is_what_is_written(version: Any, said: list[Any]) -> None:
    known = Task(id="t", context_id="c", agent="x", state=TaskState.WORKING)
    quick, slow, texts = Writer(known), Writer(known), TextUpdates("t", "c", version, sse.encode)
    for n, event in enumerate(said):
        logged = Logged(seq=n + 1, at="2026-01-01T00:00:00Z", event=event)
        if (name := _growing(quick, event)) is not None and n % 2:
            found = [each.data for each in sse.Decoder().feed(texts.event(name, event.parts[0].text))]
            quick.grown(event.parts[0].text)
        elif (text := quick.more(event)) is not None:
            found = [each.data for each in sse.Decoder().feed(texts.event(*text))]
        else:
            found = [update_json(update, version) for update in quick.feed(logged)]
        wanted = [item_to(update, version) for update in slow.feed(logged)]
        assert [json.loads(each) for each in found] == [
            json.loads(msgspec.json.encode(each)) for each in wanted
        ]


def _growing(writer: Writer, event: Any) -> str | None:
    """``writer.growing``, where the event is nothing but a text that goes somewhere."""
    match event:
        case MessageDelta(parts=(Text(text=text),)):
            place = Place(author=event.author)
        case ArtifactDelta(artifact=Artifact(parts=(Text(text=text),))):
            place = Place(artifact_id="a")
        case _:
            return None
    return writer.growing if place.artifact_id is None and event == place.event(text) else None


@pytest.mark.parametrize("other", [task(), status(WORKING), {"new": 1}, {}, 1])
def test_only_pieces_are_pieces(other: Any) -> None:
    for read in (growth_at, growth_reader(), piece_reader()):
        with pytest.raises(msgspec.DecodeError):
            read(json.dumps(other).encode())


# --- the whole way -------------------------------------------------------------------------------

EVENTS = [
    *(piece(text, append=True) for text in ("a", "ü\u2028", "b\n", "")),
    piece("new", artifact={"artifactId": "b", "parts": [{"data": [1.50]}], "name": "n"}, append=True),
    piece("", artifact={"artifactId": "a", "parts": [{"mediaType": "text/plain"}]}, append=True),
    piece("other task", taskId="u"),
    {**piece("odd"), "new": 1},
    status(WORKING),
    status("TASK_STATE_INPUT_REQUIRED"),
    {"message": message()},
    {"task": task()},
]
PLAIN = EVENTS[:3]
RAW = [
    b'data: {"result":{"artifactUpdate":{"taskId":"t","contextId":"d","artifact":{"artifactId":"a"}}}}\n\n',
    b'data: {"error":{"code":1,"message":"n"},"result":{"artifactUpdate":{"taskId":"t","artifact":{}}}}\n\n',
    b'data: {"jsonrpc":"2.0","id":99,"result":{"artifactUpdate":{"taskId":"t","artifact":{}}}}\n\n',
    b'data: {"jsonrpc":"2.0","id":%d,"result":{"artifactUpdate":{"taskId":"t","artifact":{}}}\n\n',
    b'data: {"jsonrpc":"2.0","id":%d,"result":{"artifactUpdate":{"artifact":{"name":"\xff"}}}}\n\n',
    b": nothing\n\n",
]


def written(chance: random.Random, said: Any) -> bytes:
    """As one of several servers would."""
    result = json.dumps(said, ensure_ascii=False, separators=chance.choice([(",", ":"), None])).encode()
    return chance.choice([
        b'data: {"jsonrpc":"2.0","id":%%d,"result":%b}\n\n',
        b'data: {"id":%%d,"jsonrpc":"2.0","result":%b}\r\n\r\n',
        b'event: message\ndata: {"result": %b}\n\n',
    ]) % result  # fmt: skip


@pytest.mark.parametrize("context", ["c", None], ids=["its-own-name", "another-name"])
@pytest.mark.parametrize("noted", [passage.NOTED, 200], ids=["small", "large"])
async def test_what_passes_at_once_is_what_passes_anyway(
    monkeypatch: pytest.MonkeyPatch, noted: int, context: str | None
) -> None:
    monkeypatch.setattr(passage, "NOTED", noted)
    took = 0

    async def handle(method: str, params: Any, request: Any) -> Any:
        error = {"code": -32001, "message": "not found"}
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "error": error})

    async def outcome(events: list[bytes], cuts: list[int], *, offering: bool) -> Any:
        nonlocal took
        async with agent(handle, streaming=True) as url, gateway(x=url) as gw:
            said = b"".join([event.replace(b"%d", b"1") for event in events])
            pieces = cut(said, cuts) if cuts else [event.replace(b"%d", b"1") for event in events]
            stream = Offered(pieces, offering=offering)
            real = HttpTransport.stream
            renewed = 0

            def renew(limits: CallLimits) -> None:
                nonlocal renewed
                renewed += 1

            with monkeypatch.context() as patch:
                patch.setattr(CallLimits, "renew", renew)
                first = iter([stream])
                patch.setattr(
                    HttpTransport,
                    "stream",
                    lambda *args, **kw: nullcontext(s) if (s := next(first, None)) else real(*args, **kw),
                )
                params = {"message": message(**({"contextId": context} if context else {}))}
                body = {"jsonrpc": "2.0", "id": "ours", "method": "SendStreamingMessage", "params": params}
                got = await gw.http.post(f"{gw.url}/a2a/x", json=body)
            assert renewed == stream.took  # each of them is a sign of life
            took += stream.took
            known = sorted(await gw.hub.tasks(Principal()), key=lambda known: known.id)
            timeless = [msgspec.structs.replace(each, created_at="", updated_at="") for each in known]
            return got.text.split('"reason"')[0], timeless

    for seed in range(18):
        chance = random.Random(seed)
        usual = PLAIN if seed % 2 or seed % 3 == 0 else EVENTS
        said = [{"task": task()}, *chance.choices(usual, k=8)]
        events = [written(chance, each) for each in said]
        if seed % 3 == 0:
            events.append(RAW[seed // 3])
        if seed == 5:
            events.insert(3, written(chance, {"new": 1}))
        end = [] if seed == 5 else [status(DONE)]
        events += [written(chance, each) for each in (*chance.choices(PLAIN, k=2), *end)]
        cuts = [chance.randrange(3000) for _ in range(4)] if seed in (1, 7, 11, 13) else []
        quick = await outcome(events, cuts, offering=True)
        assert quick == await outcome(events, cuts, offering=False), seed
    assert took


async def test_what_is_in_another_revision_is_translated_though_it_is_a_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def handle(method: str, params: Any, request: Any) -> Any:
        raise AssertionError(method)

    said = [{"task": task()}, piece("one"), piece(" two", append=True), status(DONE)]
    form = b'data: {"jsonrpc":"2.0","result":%b}\n\n'
    async with agent(handle, streaming=True) as url, gateway(x=url) as gw:
        stream = Offered([form % json.dumps(each).encode() for each in said], offering=True)
        monkeypatch.setattr(HttpTransport, "stream", lambda *args, **kw: nullcontext(stream))
        old = {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "go"}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {"message": old}}
        got = await gw.http.post(f"{gw.url}/a2a/x", json=body)
    results = [json.loads(line[6:])["result"] for line in got.text.splitlines() if line.startswith("data: ")]
    assert [each["kind"] for each in results] == [
        "task",
        "artifact-update",
        "artifact-update",
        "status-update",
    ]


@pytest.mark.parametrize("first", [{"task": task()}, piece("0")], ids=["task", "piece"])
async def test_what_is_told_at_once_is_what_is_told_anyway(
    monkeypatch: pytest.MonkeyPatch, first: dict[str, Any]
) -> None:
    """For clients of other protocols. One event after the other, none while there is no room."""
    took = 0

    async def handle(method: str, params: Any, request: Any) -> Any:
        error = {"code": -32001, "message": "not found"}
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "error": error})

    async def outcome(url: str, events: list[bytes], *, offering: bool) -> Any:
        nonlocal took
        tell, stream = Narrow(), Offered(events, offering=offering)
        upstream = A2AUpstream(Record(name="x", protocol="a2a", url=url), LocalHost())
        await upstream.describe()
        call = Invocation(agent="x", message=Message(role="user", parts=(Text(text="go"),)), streaming=True)
        with monkeypatch.context() as patch:
            patch.setattr(HttpTransport, "stream", lambda *args, **kw: nullcontext(stream))
            ended = None
            try:
                await upstream.invoke(call, tell)
            except GatewayError as e:
                ended = type(e)
        took += stream.took
        assert not tell.pressed
        return tell.told, ended

    async with agent(handle, streaming=True) as url:
        for seed in range(12):
            chance = random.Random(seed)
            usual = EVENTS[:-2] if seed % 3 == 2 else PLAIN
            said = [first, *chance.choices(usual, k=8)]
            updates = [each["artifactUpdate"]["artifact"] for each in said if "artifactUpdate" in each]
            text = "".join(part.get("text", "") for update in updates for part in update["parts"])
            whole = {"task": task(DONE, text)}  # of which nothing is news
            said += [status(DONE) if seed % 3 == 2 else whole, piece("too late")]
            events = [written(chance, each).replace(b"%d", b"1") for each in said]
            if seed % 3 == 1:
                events.insert(5, RAW[seed // 3].replace(b"%d", b"1"))
            quick = await outcome(url, events, offering=True)
            assert quick == await outcome(url, events, offering=False), seed
    assert took


def test_what_has_grown_is_not_told_again() -> None:
    writer = Writer(Task(id="t", context_id="c", agent="x", state=TaskState.WORKING))

    def fed(event: Any) -> list[Any]:
        return [update.event for update in writer.feed(Logged(seq=1, at="", event=event))]

    fed(MessageDelta(parts=(Text(text="a"),)))
    writer.grown("b")
    (last,) = fed(MessageDone(message=Message(role="agent", parts=(Text(text="abc"),))))
    assert (last.append, last.artifact.parts) == (True, (Text(text="c"),))
