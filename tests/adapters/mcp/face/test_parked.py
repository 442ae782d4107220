"""A modern host at a handshake server: what the sealed state that stands for the open call is good for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from agentgw.gateway.config import Config, Limits

from . import matrix_server
from .support import META, VERSION, Gateway, Raw, by_hand, rpc, served, serving

CAN = {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}}}
NAMED = {"question-1": {"action": "accept", "content": {"name": "Ada"}}}


@contextlib.asynccontextmanager
async def before(config: Config | None = None) -> AsyncGenerator[Gateway]:
    app = matrix_server.of_era(matrix_server.build().streamable_http_app(), "handshake")
    matrix_server.stopped, matrix_server.speak = asyncio.Event(), asyncio.Event()
    async with serving(app, http="h11") as url, served(config) as gateway:
        await gateway.add_server("m", f"{url}/mcp")
        await gateway.add_server("other", f"{url}/mcp")
        yield gateway


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with before() as running:
        yield running


async def call(raw: Raw, tool: str, *, key: str | None = None, **more: Any) -> Any:
    params = {"name": tool, "arguments": {}, "_meta": CAN, **more}
    return (await raw.modern("tools/call", params, Authorization=key)).json()


async def asked(raw: Raw, tool: str = "name") -> str:
    """The state that comes with the question of ``tool``."""
    result = (await call(raw, tool, _meta={**CAN, "progressToken": 1}))["result"]
    assert result["resultType"] == "input_required"
    assert result["inputRequests"]["question-1"]["method"] == "elicitation/create"
    return result["requestState"]


def refused(answer: Any) -> bool:
    return answer.get("error", {}).get("code") == -32602


async def test_the_call_goes_on_with_the_answer_and_only_once(gateway: Gateway) -> None:
    async with by_hand(f"{gateway.url}/mcp/m") as raw:
        state = await asked(raw)
        done = (await call(raw, "name", requestState=state, inputResponses=NAMED))["result"]
        assert done["content"][0]["text"] == 'name: accept {"name": "Ada"}'
        assert refused(await call(raw, "name", requestState=state, inputResponses=NAMED))


async def test_what_is_not_answered_is_asked_again(gateway: Gateway) -> None:
    model = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "hi"}}
    async with by_hand(f"{gateway.url}/mcp/m") as raw:
        result = (await call(raw, "several"))["result"]
        if len(result["inputRequests"]) == 1:  # the second may come a moment later
            result = (await call(raw, "several", requestState=result["requestState"]))["result"]
        by_method = {question["method"]: key for key, question in result["inputRequests"].items()}
        one = {by_method["elicitation/create"]: {"action": "decline"}}
        again = await call(raw, "several", requestState=result["requestState"], inputResponses=one)
        assert list(again["result"]["inputRequests"]) == [by_method["sampling/createMessage"]]
        late = await call(raw, "several", requestState=result["requestState"], inputResponses=one)
        assert refused(late), "each state works once"
        two = {by_method["sampling/createMessage"]: model}
        state = again["result"]["requestState"]
        done = await call(raw, "several", requestState=state, inputResponses=two)
        assert done["result"]["content"][0]["text"] == "name: decline null; model: hi"


async def test_the_state_is_good_for_its_request_agent_and_principal_only(gateway: Gateway) -> None:
    async with by_hand(f"{gateway.url}/mcp/m") as raw, by_hand(f"{gateway.url}/mcp/other") as other:
        state = await asked(raw)
        given = {"requestState": state, "inputResponses": NAMED}
        assert refused(await call(raw, "roots", **given)), "another tool"
        assert refused(await call(raw, "name", **{**given, "arguments": {"x": 1}})), "other arguments"
        assert refused(await call(other, "name", **given)), "another agent"
        assert refused(await call(raw, "name", key="Bearer owner", **given)), "another principal"
        assert refused(await call(raw, "name", **{**given, "requestState": state[:-4] + "AAA="})), "forged"
        done = await call(raw, "name", **given)
        assert done["result"]["content"][0]["text"] == 'name: accept {"name": "Ada"}', "none of it hurt"


async def test_a_question_waits_for_its_limit_and_no_longer() -> None:
    async with (
        before(Config(limits=Limits(question=0.2))) as gateway,
        by_hand(f"{gateway.url}/mcp/m") as raw,
    ):
        state = await asked(raw, "stuck")
        async with asyncio.timeout(60):
            await matrix_server.stopped.wait()  # the server is told that nobody waits any more
        assert refused(await call(raw, "stuck", requestState=state, inputResponses=NAMED))


async def test_a_host_that_leaves_gives_the_call_up(gateway: Gateway) -> None:
    """Closing the response cancels, for a call that was gone on with too."""
    async with by_hand(f"{gateway.url}/mcp/m") as raw:
        state = await asked(raw, "stuck")
        params = {"name": "stuck", "arguments": {}, "_meta": {**CAN, "progressToken": 1}}
        message = rpc("tools/call", {**params, "requestState": state, "inputResponses": NAMED})
        headers = {"MCP_Protocol_Version": VERSION, "Mcp_Method": "tools/call", "Mcp_Name": "stuck"}
        async with raw.stream("POST", message, **headers) as events:
            assert (await events.next())["params"]["message"] == "stuck"
        async with asyncio.timeout(60):
            await matrix_server.stopped.wait()


async def test_a_host_that_cannot_be_asked_is_not(gateway: Gateway) -> None:
    async with by_hand(f"{gateway.url}/mcp/m") as raw:
        answer = (await raw.modern("tools/call", {"name": "name", "arguments": {}})).json()
    assert "inputRequests" not in str(answer)


async def test_notifications_go_to_whichever_request_waits(gateway: Gateway) -> None:
    async with by_hand(f"{gateway.url}/mcp/m") as raw:
        headers = {"MCP_Protocol_Version": VERSION, "Mcp_Method": "tools/call", "Mcp_Name": "work"}
        params: dict[str, Any] = {"name": "work", "arguments": {}, "_meta": {**CAN, "progressToken": "first"}}
        async with raw.stream("POST", rpc("tools/call", params), **headers) as events:
            assert (await events.next())["params"]["progressToken"] == "first"
            state = (await events.next())["result"]["requestState"]
        params |= {
            "_meta": {**CAN, "progressToken": "second"},
            "requestState": state,
            "inputResponses": NAMED,
        }
        async with raw.stream("POST", rpc("tools/call", params, id=2), **headers) as events:
            progress = (await events.next())["params"]
            assert (progress["progressToken"], progress["message"]) == ("second", "after")
            assert (await events.next())["id"] == 2


async def test_what_is_said_while_nobody_waits_is_told_first(gateway: Gateway) -> None:
    async with by_hand(f"{gateway.url}/mcp/m") as raw:
        state = await asked(raw, "meanwhile")
        await call(raw, "go")
        await call(raw, "can")  # time for the server's words to arrive
        headers = {"MCP_Protocol_Version": VERSION, "Mcp_Method": "tools/call", "Mcp_Name": "meanwhile"}
        params: dict[str, Any] = {"name": "meanwhile", "arguments": {}, "_meta": {**CAN, "progressToken": 2}}
        params |= {"requestState": state, "inputResponses": NAMED}
        async with raw.stream("POST", rpc("tools/call", params), **headers) as events:
            assert (await events.next())["params"] == {
                "progressToken": 2, "progress": 1, "total": 2, "message": "meanwhile",
            }  # fmt: skip
            assert (await events.next())["result"]["content"][0]["text"] == 'name: accept {"name": "Ada"}'


async def test_a_shared_session_is_as_loud_as_any_of_its_hosts_wants(gateway: Gateway) -> None:
    matrix_server.levels.clear()
    async with by_hand(f"{gateway.url}/mcp/m") as raw:
        for level in ("warning", "error", "debug", "info"):
            await call(raw, "can", _meta={**CAN, "io.modelcontextprotocol/logLevel": level})
    assert matrix_server.levels == ["warning", "debug"]


@pytest.mark.slow
async def test_in_a_shared_process_a_question_that_may_be_anybodys_is_declined() -> None:
    """Over stdio a handshake server does not say which call its question belongs to."""
    module = "agentgw.tests.adapters.mcp.face.matrix_server"
    async with served() as gateway, by_hand(f"{gateway.url}/mcp/m") as raw:
        await gateway.add_command("m", (sys.executable, "-m", module, "handshake"))
        state = await asked(raw)
        other = (await call(raw, "name"))["result"]
        assert other["content"][0]["text"] == "name: decline null"
        lost = [span.attributes.get("agentgw.losses") for span in gateway.spans() if span.kind == "client"]
        assert "a question that names no call" in lost
        done = (await call(raw, "name", requestState=state, inputResponses=NAMED))["result"]
        assert done["content"][0]["text"] == 'name: accept {"name": "Ada"}'
