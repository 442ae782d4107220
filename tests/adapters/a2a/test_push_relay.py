"""Push notifications of relayed tasks: the gateway follows them, and their agents know nothing of it."""

from __future__ import annotations

import asyncio

import pytest
from a2a.types import (
    SendMessageRequest,
)
from google.protobuf.json_format import ParseDict

from agentgw.adapters.a2a.face import push
from agentgw.adapters.a2a.face import pushing as delivery
from agentgw.gateway.seal import Sealer
from agentgw.registry.memory import MemoryStore

from .support import Way, peer, peer_agent
from .webhooks import (
    SECRETS,
    SpyingHost,
    Webhook,
    pushing,
    sending,
    webhook,
)

RPC10: Way = ("1.0", "JSONRPC")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow at once."""
    monkeypatch.setattr(delivery, "PAUSE_FIRST", 0.001)
    monkeypatch.setattr(delivery, "PAUSE_MOST", 0.002)


async def opened_once_told(gate: str, hook: Webhook) -> None:
    """The agent works until the webhook has heard of it."""
    await hook.until(len)
    peer.gates[gate].set()


@pytest.mark.parametrize(
    ("op", "upstream", "streams"),
    [
        pytest.param(op, upstream, streams, marks=() if upstream == RPC10 and streams else pytest.mark.slow)
        for op in ("SendMessage", "returnImmediately", "SendStreamingMessage")
        for upstream in (RPC10, ("0.3", "JSONRPC"))
        for streams in (True, False)
    ],
)
async def test_a_relayed_task_is_followed_and_its_agent_never_hears_of_the_webhook(
    op: str, upstream: Way, streams: bool
) -> None:
    host = SpyingHost()
    async with (
        peer_agent([upstream], streaming=streams) as url,
        webhook() as hook,
        pushing(relayed=url, host=host) as gw,
    ):
        params = sending(f"wait {url}", hook.url, wait=op != "returnImmediately", **SECRETS)
        opening = asyncio.create_task(opened_once_told(url, hook))
        if op == "SendStreamingMessage":
            client = await gw.client(f"{gw.url}/a2a/relayed", RPC10)
            async for _ in client.send_message(ParseDict(params, SendMessageRequest())):
                break  # the client leaves: the webhook is what it relies on
        else:
            answer = await gw.rpc("/a2a/relayed", "SendMessage", params)
            task = answer["result"]["task"]
            done = task["status"]["state"] == "TASK_STATE_COMPLETED"
            assert done is (op == "SendMessage")
            assert (await hook.told("completed")).task_id == task["id"]
        final = await hook.told("completed")
        await opening
        assert final.headers["authorization"] == "Bearer cred-secret"
        assert hook.got[0].kind == "task"
        assert hook.got[0].state in ("submitted", "working")  # while it still worked, even for who waits
        sent = b"".join(host.sent)
        for hidden in (hook.url, "tok-secret", "cred-secret", "ushNotification"):
            assert hidden.encode() not in sent


async def test_a_relayed_question_and_its_answer() -> None:
    async with peer_agent([RPC10]) as url, webhook() as hook, pushing(relayed=url) as gw:
        task = (await gw.rpc("/a2a/relayed", "SendMessage", sending("ask", hook.url)))["result"]["task"]
        assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        await hook.told("input_required")
        message = {"messageId": "m2", "role": "ROLE_USER", "parts": [{"text": "red"}], "taskId": task["id"]}
        await gw.rpc("/a2a/relayed", "SendMessage", {"message": message})
        await hook.told("completed")


async def test_a_relayed_message_without_a_task_tells_nobody() -> None:
    async with peer_agent([RPC10]) as url, webhook() as hook, pushing(relayed=url) as gw:
        answer = await gw.rpc("/a2a/relayed", "SendMessage", sending("message hi", hook.url))
        assert answer["result"]["message"]["parts"] == [{"text": "hi"}]
        assert not hook.got


async def test_a_relayed_task_is_followed_again_after_a_crash_that_swallowed_it() -> None:
    sealer, kept = Sealer(), MemoryStore()
    async with peer_agent([RPC10]) as url, webhook() as hook:
        store = MemoryStore()
        async with pushing(store=store, sealer=sealer, relayed=url) as gw:
            params = sending(f"wait {url}", hook.url, wait=False)
            task = (await gw.rpc("/a2a/relayed", "SendMessage", params))["result"]["task"]
            for key, value in (await store.items(push.SPACE)).items():
                await kept.put_item(push.SPACE, key, value)
        async with pushing(store=kept, sealer=sealer, relayed=url) as gw:
            peer.gates[url].set()
            assert (await hook.told("completed")).task_id == task["id"]
            got = (await gw.rpc("/a2a/relayed", "GetTask", {"id": task["id"]}))["result"]
            assert got["status"]["state"] == "TASK_STATE_COMPLETED"  # and the hub knows it again
