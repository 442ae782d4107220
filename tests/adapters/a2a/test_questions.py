"""Questions with a form or an address, from the hub to A2A and back; what A2A can't carry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentgw.adapters.a2a.codec import task_from, task_to
from agentgw.adapters.a2a.events import Update, item_from, item_to
from agentgw.adapters.a2a.losses import Loss, of_event, of_message
from agentgw.adapters.a2a.wire import V03, V10, Version
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    Fault,
    File,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    MessageDelta,
    MessageDone,
    Progress,
    Started,
    TaskState,
    Text,
)

from ...support.memory import MemoryUpstream
from .support import gateway

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"email": {"type": "string"}},
    "required": ["email"],
}
WORDS = Message(role="agent", parts=(Text(text="Your address?"),), message_id="q")
FORM = InputRequest(message=WORDS, kind="form", schema=SCHEMA)
LINK = InputRequest(message=WORDS, kind="url", url="https://example.com/sign-in?a=1")


@pytest.mark.parametrize("version", [V10, V03])
@pytest.mark.parametrize("request_", [FORM, LINK], ids=["form", "url"])
def test_schema_and_address_go_there_and_come_back(version: Version, request_: InputRequest) -> None:
    wire = item_to(Update("t", "c", InputRequired(request=request_)), version)
    item = item_from(wire, version)
    assert isinstance(item, Update)
    assert isinstance(item.event, InputRequired)
    asked = item.event.request
    assert (asked.kind, asked.schema, asked.url) == (request_.kind, request_.schema, request_.url)
    assert item_to(item, version) == wire  # and no second time


def test_the_question_as_an_a2a_client_reads_it() -> None:
    def parts(request: InputRequest) -> Any:
        wire = item_to(Update("t", "c", InputRequired(request=request)), V10)
        return wire["statusUpdate"]["status"]["message"]["parts"]

    form = {"data": {"schema": SCHEMA}, "metadata": {"agentgw/question": "form"}}
    assert parts(FORM) == [{"text": "Your address?"}, form]
    link = {"data": {"url": LINK.url}, "metadata": {"agentgw/question": "url"}}
    assert parts(LINK) == [{"text": "Your address?"}, {"text": f"\n{LINK.url}"}, link]
    plain = InputRequest(message=WORDS)
    assert parts(plain) == [{"text": "Your address?"}]


async def test_a_form_reaches_the_client_in_the_stream_the_answer_and_the_task() -> None:
    async def script(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        yield InputRequired(request=FORM)

    async def answers(reply: InputReply) -> AsyncIterator[Event]:
        yield Started()
        yield Finished(state=TaskState.COMPLETED)

    upstream = MemoryUpstream(script, answers)
    async with gateway(x=upstream) as gw:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "go"}]}
        asked = (await gw.rpc("/a2a/x", "SendMessage", {"message": message}))["result"]["task"]
        got = (await gw.rpc("/a2a/x", "GetTask", {"id": asked["id"]}))["result"]
        for task in (asked, got):
            assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            assert task["status"]["message"]["parts"][1]["data"] == {"schema": SCHEMA}
        refusal = message | {"taskId": asked["id"], "parts": [{"data": {"action": "decline"}}]}
        await gw.rpc("/a2a/x", "SendMessage", {"message": refusal})
        ((_, reply),) = upstream.replies
        assert reply.action == "decline"


def test_a_task_of_another_agent_is_untouched() -> None:
    status = {"state": "TASK_STATE_INPUT_REQUIRED", "message": {"role": "ROLE_AGENT", "parts": []}}
    wire = {"id": "t", "contextId": "c", "status": status}
    again = task_to(task_from(wire, V10), V10)
    assert again["status"]["message"]["parts"] == []


# --- what has no place -------------------------------------------------------------------------


ACP = {"acp": {"fields": {"x": 1}}}
MESSAGE = Message(role="agent", parts=(Text(text="a", extra=ACP),), author="agent/painter")


@pytest.mark.parametrize(
    ("event", "lost"),
    [
        (MessageDelta(parts=(Text(text="a"),), author="agent/x"), {Loss.AUTHOR}),
        (MessageDone(message=MESSAGE), {Loss.AUTHOR, Loss.FIELDS}),
        (
            ArtifactDelta(artifact=Artifact(artifact_id="a", parts=(File(content=b"", extra=ACP),))),
            {Loss.FIELDS},
        ),
        (Progress(message="half", progress=1, total=2, data=[1]), set[Loss]()),
        (InputRequired(request=FORM), set[Loss]()),
        (
            Finished(state=TaskState.FAILED, fault=Fault(code="agent_error", message="no", data={"a": 1})),
            {Loss.ERROR_DATA},
        ),
        (
            MessageDone(
                message=Message(role="agent", parts=(Data(data=1),), extra={"a2a": {"extensions": []}})
            ),
            set[Loss](),
        ),
    ],
)
def test_losses(event: Event, lost: set[Loss]) -> None:
    assert of_event(event) == lost


def test_losses_of_a_message() -> None:
    assert of_message(MESSAGE) == {Loss.AUTHOR, Loss.FIELDS}
    assert of_message(None) == set()


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_losses_stand_on_the_span(method: str) -> None:
    async def script(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        yield MessageDone(message=MESSAGE)
        yield Finished(state=TaskState.COMPLETED)

    async with gateway(x=MemoryUpstream(script)) as gw:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "go"}]}
        params = {"message": message, "configuration": {"acceptedOutputModes": ["text/plain"]}}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        await gw.http.post(f"{gw.url}/a2a/x", json=body)
        (span,) = gw.hub.tracer.drain()
        assert span.attributes["agentgw.losses"] == f"{Loss.MODES}; {Loss.AUTHOR}; {Loss.FIELDS}"
