"""A2A JSON → canonical → A2A JSON is the identity in both revisions, unknown fields included."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.a2a import rest03
from agentgw.adapters.a2a.codec import (
    Malformed,
    message_from,
    message_to,
    part_from,
    part_to,
    task_from,
    task_to,
)
from agentgw.adapters.a2a.events import item_from, item_to
from agentgw.adapters.a2a.params import send_at, send_from
from agentgw.adapters.a2a.plain import item_at, task_at, task_json
from agentgw.adapters.a2a.wire import V03, V10
from agentgw.gateway.model import Artifact, Data, File, Message, Task, Text

words = st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, json_values, max_size=3)
unknown = st.dictionaries(st.sampled_from(["x-one", "extensions", "somethingNew"]), json_values, max_size=2)
base64s = st.binary(max_size=40).map(lambda b: base64.b64encode(b).decode())


def records(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    fixed = st.fixed_dictionaries(required, optional=optional)
    return st.builds(lambda a, b: {**b, **a}, fixed, unknown)


part_fields = {"filename": words, "mediaType": words, "metadata": objects}
parts_v10 = st.one_of(
    records({"text": words}, part_fields),
    records({"data": json_values}, part_fields),
    records({"raw": base64s}, part_fields),
    records({"url": words}, part_fields),
)
file_v03 = st.one_of(
    st.fixed_dictionaries(
        {"bytes": base64s}, optional={"name": words, "mimeType": words, "x-file": json_values}
    ),
    st.fixed_dictionaries({"uri": words}, optional={"name": words, "mimeType": words}),
)
parts_v03 = st.one_of(
    records({"kind": st.just("text"), "text": words}, {"metadata": objects}),
    records({"kind": st.just("data"), "data": objects}, {"metadata": objects}),
    records({"kind": st.just("file"), "file": file_v03}, {"metadata": objects}),
)
STATES_V10 = [
    "TASK_STATE_UNSPECIFIED", "TASK_STATE_SUBMITTED", "TASK_STATE_WORKING", "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_INPUT_REQUIRED", "TASK_STATE_REJECTED",
    "TASK_STATE_AUTH_REQUIRED", "TASK_STATE_NEW",
]  # fmt: skip
STATES_V03 = [
    "submitted", "working", "input-required", "completed", "canceled", "failed", "rejected",
    "auth-required", "unknown",
]  # fmt: skip


def shapes(v: str) -> dict[str, st.SearchStrategy[dict[str, Any]]]:
    """Strategies for everything of one revision."""

    def tag(kind: str) -> dict[str, Any]:
        return {"kind": st.just(kind)} if v == V03 else {}

    part = parts_v10 if v == V10 else parts_v03
    roles = ["ROLE_USER", "ROLE_AGENT"] if v == V10 else ["user", "agent"]
    states = STATES_V10 if v == V10 else STATES_V03
    message = records(
        {**tag("message"), "role": st.sampled_from(roles), "parts": st.lists(part, max_size=3)},
        {
            "messageId": words,
            "contextId": words,
            "taskId": words,
            "metadata": objects,
            "referenceTaskIds": st.lists(words, max_size=2),
        },
    )
    artifact = records(
        {"artifactId": words, "parts": st.lists(part, max_size=3)},
        {"name": words, "description": words, "metadata": objects},
    )
    agents = message.map(lambda m: {**m, "messageId": m.get("messageId", "m")})
    status = records(
        {"state": st.sampled_from(states)},
        {"message": agents, "timestamp": st.just("2026-01-02T03:04:05.678Z")},
    )
    ids = {"taskId": words, "contextId": words}
    task = records(
        {**tag("task"), "id": words, "contextId": words, "status": status},
        {
            "artifacts": st.lists(artifact, max_size=2),
            "history": st.lists(message, max_size=2),
            "metadata": objects,
        },
    )
    final = {"final": st.booleans()} if v == V03 else {}
    status_update = records({**tag("status-update"), **ids, "status": status}, {"metadata": objects, **final})
    artifact_update = records(
        {**tag("artifact-update"), **ids, "artifact": artifact},
        {"metadata": objects, "append": st.booleans(), "lastChunk": st.booleans()},
    )
    items = {
        "task": task,
        "message": message,
        "statusUpdate": status_update,
        "artifactUpdate": artifact_update,
    }
    return {
        "part": part,
        "message": message,
        "task": task,
        "item": st.one_of(*(s.map(lambda x, n=n: {n: x} if v == V10 else x) for n, s in items.items())),
    }


SHAPES = {v: shapes(v) for v in (V10, V03)}
THERE_AND_BACK = {
    "part": (part_from, part_to),
    "message": (message_from, message_to),
    "task": (task_from, task_to),
    "item": (item_from, item_to),
}


@pytest.mark.parametrize("version", [V10, V03])
@pytest.mark.parametrize("shape", list(THERE_AND_BACK))
@given(data=st.data())
def test_there_and_back_is_the_identity(shape: str, version: Any, data: st.DataObject) -> None:
    wire = data.draw(SHAPES[version][shape])
    read, write = THERE_AND_BACK[shape]
    assert write(read(wire, version), version) == wire


def mangled(wire: Any, data: st.DataObject) -> Any:
    """``wire`` with one of its values, at any depth, replaced."""
    if not isinstance(wire, dict | list) or not wire or data.draw(st.integers(0, 3)) == 0:
        return data.draw(json_values)
    key = data.draw(st.sampled_from(list(wire) if isinstance(wire, dict) else range(len(wire))))
    copy = wire.copy()
    copy[key] = mangled(wire[key], data)
    return copy


def usual(wire: Any) -> Any:
    """``wire`` with nothing in it that the specification does not name."""
    if isinstance(wire, list):
        return [usual(x) for x in wire]
    if not isinstance(wire, dict):
        return wire
    return {k: usual(x) for k, x in wire.items() if k not in ("x-one", "extensions", "somethingNew")}


def outcome(read: Any) -> Any:
    try:
        return read()
    except Malformed as e:
        return str(e)


@given(data=st.data())
def test_bytes_are_read_as_their_dictionaries_are(data: st.DataObject) -> None:
    """Whatever is in them."""
    for shape, at, read in (("item", item_at, item_from), ("task", task_at, task_from)):
        wire = data.draw(SHAPES[V10][shape])
        if data.draw(st.integers(0, 3)):
            wire = usual(wire)
        if data.draw(st.booleans()):
            wire = mangled(wire, data)
        raw = json.dumps(wire).encode()
        assert outcome(lambda: at(raw, V10)) == outcome(lambda: read(wire, V10))  # noqa: B023


@given(data=st.data())
def test_a_clients_message_is_read_from_bytes_as_from_its_dictionary(data: st.DataObject) -> None:
    """Or is left to the long way, and that never where nothing is unusual."""
    message = data.draw(SHAPES[V10]["message"])
    configuration = data.draw(st.none() | st.fixed_dictionaries({}, optional=CONFIGURATION))
    wire = {"message": message, "configuration": configuration, "metadata": data.draw(st.none() | objects)}
    if data.draw(st.integers(0, 3)):
        wire = usual(wire)
    if data.draw(st.booleans()):
        wire = mangled(wire, data)
    quick = send_at(msgspec.Raw(json.dumps(wire).encode()), V10)
    assert quick is None or quick == outcome(lambda: send_from(wire, V10))


CONFIGURATION = {
    "historyLength": st.integers(-1, 5),
    "returnImmediately": st.booleans() | st.none(),
    "acceptedOutputModes": st.lists(words, max_size=2),
    "taskPushNotificationConfig": st.none() | st.just({"url": "http://x"}),
}


@pytest.mark.parametrize(
    "part", [{"text": ""}, {"data": None}, {"raw": ""}, {"url": "u", "mediaType": "m", "metadata": {"a": 1}}]
)
def test_usual_messages_are_read_the_short_way(part: Any) -> None:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [part], "extensions": ["urn:x"]}
    send = send_at(msgspec.Raw(json.dumps({"message": message, "configuration": {}}).encode()), V10)
    assert send is not None
    assert message_to(send.message, V10) == message


@pytest.mark.parametrize(
    "wrong",
    [
        {"parts": []},
        {"parts": [{"mediaType": "m"}]},
        {"messageId": ""},
        {"role": "user"},
        {"configuration": {"historyLength": -1}},
    ],
)
def test_what_is_wrong_is_left_to_the_long_way(wrong: Any) -> None:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "t"}]}
    wire = {"message": message} | wrong if "configuration" in wrong else {"message": message | wrong}
    assert send_at(msgspec.Raw(json.dumps(wire).encode()), V10) is None
    with pytest.raises(Malformed):
        send_from(wire, V10)


@given(data=st.data())
def test_a_task_is_written_to_bytes_as_to_its_dictionary(data: st.DataObject) -> None:
    wire = data.draw(SHAPES[V10]["task"])
    messages = SHAPES[V10]["message"]
    if data.draw(st.integers(0, 3)):
        wire = {k: x for k, x in usual(wire).items() if k != "history"}
        wire["status"].pop("message", None)
        messages = messages.map(lambda m: {k: x for k, x in usual(m).items() if k != "referenceTaskIds"})
    said = message_from(data.draw(messages), V10)
    answers = tuple(message_from(m, V10) for m in data.draw(st.lists(messages, max_size=2)))
    task = msgspec.structs.replace(task_from(wire, V10), input=said, messages=answers)
    length = data.draw(st.none() | st.integers(0, 2))
    for version in (V10, V03):
        made = json.loads(task_json(task, version, length))
        assert made == json.loads(json.dumps(item_to(task, version, history_length=length)))


@pytest.mark.parametrize("where", ["part", "message", "artifact"])
def test_fields_that_have_no_name_are_written_to_bytes_too(where: str) -> None:
    def kept(name: str) -> Any:
        return {"a2a": {"odd": name}} if name == where else {}

    parts = (Text(text="t", extra=kept("part")),)
    task = Task(
        id="t",
        context_id="c",
        agent="x",
        input=Message(role="user", parts=(Text(text="t"),), extra=kept("message")),
        artifacts=(Artifact(artifact_id="a", parts=parts, extra=kept("artifact")),),
    )
    assert json.loads(task_json(task, V10)) == item_to(task, V10)
    assert f'"odd":"{where}"'.encode() in task_json(task, V10)


@given(data=st.data())
def test_through_the_other_revision_nothing_is_lost(data: st.DataObject) -> None:
    wire = data.draw(SHAPES[V03]["item"].filter(lambda w: "final" not in w))
    other = item_to(item_from(wire, V03), V10)
    back = item_to(item_from(other, V10), V03)
    back.pop("final", None)
    assert back == wire


@given(st.binary(max_size=300))
def test_bytes_are_the_same_in_every_form(content: bytes) -> None:
    for version in (V10, V03):
        assert part_from(part_to(File(content=content), version), version) == File(content=content)


@pytest.mark.parametrize("value", [1, "x", None, [1, 2], True])
def test_data_that_is_no_object_survives_0_3(value: Any) -> None:
    wire = part_to(Data(data=value), V03)
    assert wire["data"] == {"value": value}
    assert part_from(wire, V03) == Data(data=value)


def test_media_types_and_names_of_text_survive_0_3() -> None:
    part = Text(text="# hi", media_type="text/markdown", name="a.md")
    assert part_from(part_to(part, V03), V03) == part


@pytest.mark.parametrize("text", ["_-8", "_-8=", "/+8="])
def test_base64_is_read_in_both_alphabets(text: str) -> None:
    assert part_from({"raw": text}, V10) == File(content=b"\xff\xef")


@pytest.mark.parametrize(
    "wire",
    [
        {"role": "ROLE_USER", "parts": [{"text": "x"}]},
        {"messageId": "m", "parts": [{"text": "x"}]},
        {"messageId": "m", "role": "ROLE_USER", "parts": []},
        {"messageId": "m", "role": "ROLE_USER", "parts": [{}]},
        {"messageId": "m", "role": "ROLE_USER", "parts": [{"raw": "!"}]},
        {"messageId": 1, "role": "ROLE_USER", "parts": [{"text": "x"}]},
        [],
    ],
)
def test_a_clients_malformed_message_is_refused(wire: Any) -> None:
    with pytest.raises(Malformed):
        message_from(wire, V10, strict=True)


GOLDEN = (Path(__file__).parent / "golden_versions.txt").read_text().strip().split("\n\n")


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: c.partition("\n")[0].lstrip("# "))
def test_1_0_as_0_3_and_as_its_rest_form(case: str) -> None:
    """Each case: a title, an item of 1.0, a line of dashes, the item of 0.3, dashes, its REST form."""
    _, _, body = case.partition("\n")
    v10, v03, rest = (json.loads(text) for text in body.split("\n---\n"))
    assert item_to(item_from(v10, V10), V03) == v03
    assert item_to(item_from(v03, V03), V10) == v10
    assert rest03.item_to(v03) == rest
    assert rest03.item_from(rest) == v03
