"""Questions of conversational agents: put to hosts that said they can be asked, in either era."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import mcp.types as t
import msgspec
import pytest

from agentgw.adapters.mcp.face.elicitation import answered, asked
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.model import (
    Data,
    Event,
    File,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    Started,
    TaskState,
    Text,
)

from ....support.memory import MemoryUpstream
from .support import META, by_hand, client, rpc, served

ERAS = pytest.mark.parametrize("era", ["handshake", "modern"])
PATHS = pytest.mark.parametrize("path", ["/mcp", "/mcp/sage"])
FORM = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}


def said(text: str) -> Message:
    return Message(role="agent", parts=(Text(text=text),))


def asking(*requests: InputRequest) -> MemoryUpstream:
    """An agent that puts these questions one after the other, then says what it heard."""
    left, heard = [*requests], list[str]()

    async def begin(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="u", context_id=call.context_id)
        yield InputRequired(request=left.pop(0))

    async def go_on(reply: InputReply) -> AsyncIterator[Event]:
        (part,) = reply.message.parts
        words = part.text if isinstance(part, Text) else msgspec.json.encode(part.data).decode()  # type: ignore
        heard.append(f"{reply.action} {words}")
        if left:
            yield InputRequired(request=left.pop(0))
        else:
            yield Finished(state=TaskState.COMPLETED, message=said("; ".join(heard)))

    return MemoryUpstream(begin, go_on)


class Host:
    """Answers what it is asked, and remembers it."""

    def __init__(self, *results: t.ElicitResult) -> None:
        self.results = [*results]
        self.asked: list[Any] = []

    async def __call__(self, context: Any, params: Any) -> t.ElicitResult:
        self.asked.append(params)
        return self.results.pop(0)


def accept(**content: Any) -> t.ElicitResult:
    return t.ElicitResult(action="accept", content=content)


async def called(agent: MemoryUpstream, era: str, host: Any) -> t.CallToolResult:
    """One call, by a host that answers with ``host``."""
    async with (
        served(sage=agent) as gateway,
        client(f"{gateway.url}/mcp", era, elicitation_callback=host) as c,
    ):
        return await c.call_tool("sage", {"message": "when?"})


@ERAS
@PATHS
async def test_a_free_question_becomes_a_form_with_one_string(era: str, path: str) -> None:
    agent, host = asking(InputRequest(message=said("Which year?"))), Host(accept(answer="1969"))
    async with served(sage=agent) as gateway, client(gateway.url + path, era, elicitation_callback=host) as c:
        result = await c.call_tool("sage", {"message": "when?"})
    assert result.structured_content["state"] == "completed"
    assert result.content[0].text == "accept 1969"
    (params,) = host.asked
    assert params.message == "Which year?"
    assert params.requested_schema["required"] == ["answer"]


@ERAS
async def test_a_form_keeps_its_fields_and_several_questions_follow_one_another(era: str) -> None:
    agent = asking(
        InputRequest(message=said("Which year?"), kind="form", schema=FORM),
        InputRequest(message=said("Sure?")),
    )
    host = Host(accept(year=1969), accept(answer="yes"))
    result = await called(agent, era, host)
    assert result.content[0].text == 'accept {"year":1969}; accept yes'
    assert host.asked[0].requested_schema == FORM
    assert [len(agent.calls), len(agent.replies)] == [1, 2], "one task throughout"


@ERAS
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_refusal_reaches_the_agent_as_one(era: str, action: Any) -> None:
    agent, host = asking(InputRequest(message=said("Which year?"))), Host(t.ElicitResult(action=action))
    result = await called(agent, era, host)
    assert result.content[0].text == f'{action} {{"action":"{action}"}}'


@ERAS
async def test_an_address_to_open_is_asked_for_as_one(era: str) -> None:
    url = "https://example.org/login"
    agent = asking(InputRequest(message=said("Log in."), kind="auth", url=url))
    host = Host(t.ElicitResult(action="accept"))
    result = await called(agent, era, host)
    assert (host.asked[0].mode, str(host.asked[0].url)) == ("url", url)
    assert result.structured_content["state"] == "completed"


@ERAS
async def test_credentials_are_never_asked_for_in_a_form(era: str) -> None:
    agent, host = asking(InputRequest(message=said("Your key?"), kind="auth")), Host()
    result = await called(agent, era, host)
    assert result.structured_content["state"] == "auth_required"
    assert not host.asked


@ERAS
async def test_a_host_that_cannot_be_asked_gets_the_question_and_how_to_answer(era: str) -> None:
    agent = asking(InputRequest(message=said("Which year?"), kind="form", schema=FORM))
    async with served(sage=agent) as gateway, client(f"{gateway.url}/mcp", era) as c:
        result = await c.call_tool("sage", {"message": "when?"})
        task_id = result.structured_content["task_id"]
        words = "\n".join(block.text for block in result.content)
        assert "Which year?" in words and '"year"' in words and task_id in words
        assert result.structured_content["input_request"]["schema"] == FORM
        again = {"message": "", "task_id": task_id, "data": {"year": 1969}}
        done = await c.call_tool("sage", again)
    assert done.content[0].text == 'accept {"year":1969}'


async def test_a_hosts_error_leaves_the_question_as_the_result() -> None:
    async def broken(context: Any, params: Any) -> t.ErrorData:
        return t.ErrorData(code=-32603, message="no window")

    result = await called(asking(InputRequest(message=said("Which year?"))), "handshake", broken)
    assert result.structured_content["state"] == "input_required"


# --- the state that a modern client carries ----------------------------------------------------

ASKED = {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}


def call(name: str = "sage", **more: Any) -> dict[str, Any]:
    return {"name": name, "arguments": {"message": "when?"}, "_meta": ASKED, **more}


async def test_the_state_is_sealed_and_works_for_its_agent_and_principal_only() -> None:
    agent = asking(InputRequest(message=said("Which year?")))
    async with served(sage=agent, echo=MemoryUpstream()) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        asked = (await raw.modern("tools/call", call())).json()["result"]
        assert asked["resultType"] == "input_required"
        assert asked["inputRequests"]["answer"]["method"] == "elicitation/create"
        state = asked["requestState"]
        content = {"answer": {"action": "accept", "content": {"answer": "1969"}}}
        for name, changed in (("sage", state[:-2] + "xx"), ("sage", "made up"), ("echo", state)):
            answer = await raw.modern("tools/call", call(name, requestState=changed, inputResponses=content))
            assert answer.json()["error"]["code"] == -32602
        other = await raw.modern(
            "tools/call", call(requestState=state, inputResponses=content), Authorization="Bearer owner"
        )
        assert other.json()["error"]["code"] == -32602
        again = (await raw.modern("tools/call", call(requestState=state))).json()["result"]
        assert again["resultType"] == "input_required", "without an answer the question is put again"
        done = await raw.modern("tools/call", call(requestState=state, inputResponses=content))
        assert done.json()["result"]["content"][0]["text"] == "accept 1969"
        late = await raw.modern("tools/call", call(requestState=state, inputResponses=content))
        assert late.json()["result"]["content"][0]["text"] == "accept 1969", "an answer counts once"
    assert len(agent.replies) == 1


async def test_a_late_repetition_does_not_answer_the_next_question() -> None:
    agent = asking(InputRequest(message=said("Which year?")), InputRequest(message=said("Sure?")))
    content = {"answer": {"action": "accept", "content": {"answer": "1969"}}}
    async with served(sage=agent) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        state = (await raw.modern("tools/call", call())).json()["result"]["requestState"]
        for _ in range(2):
            answer = await raw.modern("tools/call", call(requestState=state, inputResponses=content))
            question = answer.json()["result"]["inputRequests"]["answer"]
            assert question["params"]["message"] == "Sure?"
    assert len(agent.replies) == 1


async def test_the_state_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    agent, real = asking(InputRequest(message=said("Which year?"))), time.time
    config = Config(limits=Limits(question=60))
    async with served(config, sage=agent) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        asked = (await raw.modern("tools/call", call())).json()["result"]
        monkeypatch.setattr(time, "time", lambda: real() + 120)
        answer = await raw.modern("tools/call", call(requestState=asked["requestState"]))
    assert answer.json()["error"]["code"] == -32602
    assert not agent.replies


async def test_a_question_in_the_handshake_era_comes_on_the_calls_own_stream() -> None:
    agent = asking(InputRequest(message=said("Which year?")))
    async with served(sage=agent) as gateway, by_hand(f"{gateway.url}/mcp/sage") as raw:
        await raw.initialize(elicitation={})
        params = {"name": "sage", "arguments": {"message": "when?"}}
        async with raw.stream("POST", rpc("tools/call", params, id="c")) as events:
            question = await events.next()
            assert question["method"] == "elicitation/create"
            result = {"action": "accept", "content": {"answer": "1969"}}
            reply = {"jsonrpc": "2.0", "id": question["id"], "result": result}
            assert (await raw.post(reply)).status_code == 202
            assert (await events.next())["result"]["content"][0]["text"] == "accept 1969"


# --- which question can be asked ---------------------------------------------------------------

BOTH, FORMS, URLS = (
    {"elicitation": {"form": {}, "url": {}}},
    {"elicitation": {}},
    {"elicitation": {"url": {}}},
)
NESTED = {"type": "object", "properties": {"where": {"type": "object", "properties": {}}}}
MANY = {"type": "array", "items": {"type": "string", "enum": ["a"]}}
CHOICES = {"type": "object", "properties": {"m": MANY}}


@pytest.mark.parametrize(
    ("request_", "capabilities", "mode"),
    [
        (InputRequest(message=said("?")), FORMS, "form"),
        (InputRequest(message=said("?")), URLS, None),
        (InputRequest(message=said("?")), {"sampling": {}}, None),
        (InputRequest(message=said("?"), kind="url", url="https://x"), BOTH, "url"),
        (InputRequest(message=said("?"), kind="url", url="https://x"), FORMS, None),
        (InputRequest(message=said("?"), kind="url"), BOTH, None),
        (InputRequest(message=said("?"), kind="form", schema=NESTED), BOTH, None),
        (InputRequest(message=said("?"), kind="form", schema=CHOICES), BOTH, "form"),
        (InputRequest(message=Message(role="agent", parts=(File(uri="https://x"),))), BOTH, None),
    ],
)  # fmt: skip
def test_only_what_loses_nothing_is_asked(
    request_: InputRequest, capabilities: Any, mode: str | None
) -> None:
    params = asked(request_, capabilities)
    assert (params and params["mode"]) == mode


def test_data_of_a_question_is_part_of_its_words() -> None:
    parts = (Text(text="Which?"), Data(data={"choices": [1, 2]}))
    params = asked(InputRequest(message=Message(role="agent", parts=parts)), FORMS)
    assert params and params["message"] == 'Which?\n{"choices":[1,2]}'


def test_what_a_host_answers_nonsense_to_is_cancelled() -> None:
    assert answered(InputRequest(message=said("?")), {}).parts == (Data(data={"action": "cancel"}),)
