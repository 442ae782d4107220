"""What is refused and how, the same over both bindings and revisions; extended cards; negotiation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from agentgw.adapters.a2a.problems import http_error, problem_of, rpc_error
from agentgw.adapters.a2a.wire import V03, V10
from agentgw.gateway.errors import (
    AgentError,
    BadUpstream,
    Draining,
    GatewayError,
    Unreachable,
    UpstreamFailed,
    UpstreamTimeout,
)
from agentgw.gateway.model import Event, Finished, Invocation, Started, TaskState

from ...support.memory import MemoryUpstream
from .support import gateway
from .test_relay import DONE, agent, answer, message, task


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (UpstreamFailed("x"), -32603, 500),
        (BadUpstream("x gave an answer that is not A2A"), -32006, 500),
        (Unreachable("x can't be reached"), -32603, 502),
        (UpstreamTimeout("x did not answer in time"), -32603, 504),
        (Draining(), -32603, 503),
        (AgentError("no", native={"protocol": "a2a", "code": -32005}), -32005, 400),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else None,
)
def test_one_error_on_both_bindings(error: GatewayError, code: int, status: int) -> None:
    """JSON-RPC's code and HTTP's status are of one row of the specification's table (section 5.4)."""
    problem = problem_of(error, "a" * 32)
    assert rpc_error(problem, V10)["code"] == code
    assert http_error(problem, V10)[0] == status
    assert http_error(problem, V03)[1]["code"] == code
    details = http_error(problem, V10)[1]["error"]["details"]
    assert details == rpc_error(problem, V10)["data"]
    if not isinstance(error, AgentError):
        assert details[0]["metadata"] == {"code": error.code, "traceId": "a" * 32}


@pytest.mark.parametrize("relayed", [True, False], ids=["a2a agent", "another"])
async def test_a_message_without_a_role_is_the_clients_mistake(relayed: bool) -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        return answer({"task": task(DONE)})

    async with agent(handle) as url, gateway(x=url if relayed else MemoryUpstream()) as gw:
        new = {"messageId": "m", "parts": [{"text": "a"}]}
        old = {"messageId": "m", "content": [{"text": "a"}]}
        spelt = {"messageId": "m", "parts": [{"kind": "text", "text": "a"}]}
        for path, body in (
            ("/message:send", {"message": new}),
            ("/message:send", {"message": {**new, "role": "ROLE_UNSPECIFIED"}}),
            ("/v1/message:send", {"message": old}),
            ("/v1/message:send", {"message": {**old, "role": "ROLE_UNSPECIFIED"}}),
            ("/v1/message:send", {"message": spelt}),
            ("/v1/message:stream", {"message": old}),
        ):
            refused = await gw.http.post(f"{gw.url}/a2a/x{path}", json=body)
            assert (refused.status_code, "role" in refused.text) == (400, True), path
        for method, said in (("SendMessage", new), ("message/send", spelt), ("message/stream", spelt)):
            assert (await gw.rpc("/a2a/x", method, {"message": said}))["error"]["code"] == -32602


async def test_an_answer_that_is_not_a2a() -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        return PlainTextResponse("<html>")

    async with agent(handle) as url, gateway(x=url) as gw:
        refused = await gw.http.post(f"{gw.url}/a2a/x/message:send", json={"message": message()})
        assert refused.status_code == 500
        assert refused.json()["error"]["details"][0]["reason"] == "INVALID_AGENT_RESPONSE"
        assert (await gw.rpc("/a2a/x", "SendMessage", {"message": message()}))["error"]["code"] == -32006


async def test_extended_cards_in_the_clients_form() -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        assert method == "GetExtendedAgentCard"
        skills = [{"id": "private", "name": "Private"}]
        return answer({"name": "x", "skills": skills, "capabilities": {"extendedAgentCard": True}})

    async with agent(handle, extendedAgentCard=True) as url, gateway(x=url, other=MemoryUpstream()) as gw:
        new = (await gw.rpc("/a2a/x", "GetExtendedAgentCard", {}))["result"]
        assert new["skills"][0]["id"] == "private"
        assert {i["url"].rstrip("/") for i in new["supportedInterfaces"]} == {f"{gw.url}/a2a/x"}
        assert (await gw.http.get(f"{gw.url}/a2a/x/extendedAgentCard")).json() == new
        old = (await gw.rpc("/a2a/x", "agent/getAuthenticatedExtendedCard", None))["result"]
        assert old["url"] == f"{gw.url}/a2a/x/"
        assert old["supportsAuthenticatedExtendedCard"] is True
        assert "supportedInterfaces" not in old
        assert (await gw.http.get(f"{gw.url}/a2a/x/v1/card")).json() == old
        assert (await gw.http.get(f"{gw.url}/a2a/other/extendedAgentCard")).status_code == 400


async def test_an_operation_of_the_other_revision() -> None:
    """The name of the operation tells the revision; a header that says otherwise is not guessed about."""
    async with gateway(x=MemoryUpstream()) as gw:
        for method, version in (("GetTask", "0.3"), ("tasks/get", "1.0"), ("GetTask", "2.0")):
            said = await gw.rpc("/a2a/x", method, {"id": "t"}, **{"a2a-version": version})
            assert said["error"]["code"] == -32009
        for path, version in (("/tasks/t", "0.3"), ("/v1/tasks/t", "1.0"), ("/tasks/t?A2A-Version=2.0", "")):
            refused = await gw.http.get(f"{gw.url}/a2a/x{path}", headers={"a2a-version": version})
            assert refused.status_code == 400
        patched = await gw.rpc("/a2a/x", "GetTask", {"id": "t"}, **{"a2a-version": "1.0.1"})
        assert patched["error"]["code"] == -32001  # patch numbers do not count


async def test_time_limits_of_the_caller_reach_the_agent() -> None:
    async def script(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        yield Finished(state=TaskState.COMPLETED)

    upstream = MemoryUpstream(script)
    async with gateway(x=upstream) as gw:
        headers = {"agentgw-idle-timeout": "30s", "agentgw-total-timeout": "2m"}
        await gw.rpc("/a2a/x", "SendMessage", {"message": message()}, **headers)
        (call,) = upstream.calls
        assert (call.idle_timeout, call.total_timeout) == (30.0, 120.0)
        wrong = {"agentgw-idle-timeout": "soon"}
        gw.hub.tracer.drain()
        refused = await gw.rpc("/a2a/x", "SendMessage", {"message": message()}, **wrong)
        assert refused["error"]["code"] == -32602
        (span,) = gw.hub.tracer.drain()
        assert span.attributes["error.type"] == "invalid_request"
