"""Push notifications: receivers that fail, addresses that are not called, and what lasts."""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import Any

import msgspec
import pytest
from starlette.responses import RedirectResponse, Response

from agentgw.adapters.a2a.face import push
from agentgw.adapters.a2a.face import pushing as delivery
from agentgw.gateway.access import Key
from agentgw.gateway.errors import Forbidden
from agentgw.gateway.seal import Sealer
from agentgw.registry.memory import MemoryStore

from .support import caller
from .webhooks import (
    SECRETS,
    SOON,
    Stepwise,
    begun,
    finishing,
    pushing,
    registered,
    sending,
    states,
    webhook,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow at once."""
    monkeypatch.setattr(delivery, "PAUSE_FIRST", 0.001)
    monkeypatch.setattr(delivery, "PAUSE_MOST", 0.002)


# --- receivers that fail -----------------------------------------------------------------------


async def test_a_failing_receiver_is_told_again_and_nothing_is_reordered() -> None:
    worker = Stepwise(2)
    async with webhook(503, 429, 500) as hook, pushing(worker=worker) as gw:
        await begun(gw, "x", hook.url)
        await hook.until(lambda got: len(got) >= 4)
        worker.go.set()
        await hook.told("completed")
        bodies = [n.body for n in hook.got]
        assert bodies[0] == bodies[1] == bodies[2] == bodies[3]
        assert states(hook.got)[-1] == "completed"


@pytest.mark.parametrize("status", [401, 410])
async def test_a_receiver_that_says_no_is_told_no_more(status: int) -> None:
    worker = Stepwise()
    async with webhook(status) as no, webhook() as yes, pushing(worker=worker) as gw:
        task = await begun(gw, "x", no.url)
        await registered(gw, task, yes.url)
        await no.until(len)
        worker.go.set()
        await yes.told("completed")
        assert len(no.got) == 1


async def test_redirects_are_not_followed() -> None:
    async with webhook() as other, pushing(worker=finishing()) as gw:

        async def away() -> Response:
            return RedirectResponse(other.url, 307)

        async with webhook(away) as hook, webhook() as last:
            params = sending("x", hook.url)
            task = (await gw.rpc("/a2a/worker", "SendMessage", params))["result"]["task"]
            await hook.until(len)
            await registered(gw, task, last.url)
            await last.told("completed")
            assert not other.got
            assert len(hook.got) == 1


async def test_a_slow_receiver_delays_nobody_and_gets_the_end() -> None:
    release = asyncio.Event()

    async def slow() -> Response:
        await release.wait()
        return Response()

    async with webhook(slow) as late, webhook() as prompt, pushing(worker=(worker := Stepwise(1, 500))) as gw:
        task = await begun(gw, "x", late.url)
        await registered(gw, task, prompt.url)
        await late.until(len)
        worker.go.set()
        await prompt.told("completed")  # while the other one still thinks about its first notification
        assert len(late.got) == 1
        release.set()
        final = await late.told("completed")
        whole = "".join(f"{n} " for n in range(501))
        assert final.body["task"]["artifacts"][0]["parts"] == [{"text": whole}]
        assert len(late.got) == 2  # what it missed it got as the task


async def test_nobody_answers_for_long_and_then_the_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "ATTEMPTS", 2)
    given_up, settled = asyncio.Event(), delivery.Courier._settled

    async def noticed(self: Any, owed: bool) -> None:
        given_up.set()
        await settled(self, owed)

    monkeypatch.setattr(delivery.Courier, "_settled", noticed)
    worker = Stepwise(3)
    async with webhook(500, 500) as hook, pushing(worker=worker) as gw:
        await begun(gw, "x", hook.url)
        async with asyncio.timeout(SOON):
            await given_up.wait()
        worker.go.set()
        await hook.told("completed")
        assert len(hook.got) == 3  # nothing between: only the end was worth another try


def test_retry_after() -> None:
    assert delivery._retry_after("7") == 7.0
    assert delivery._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert delivery._retry_after("soon") == 0.0
    assert delivery._retry_after(None) == 0.0
    assert delivery._retry_after("999999") == delivery.RETRY_AFTER_MOST


async def test_deleting_a_configuration_ends_its_notifications() -> None:
    worker = Stepwise()
    async with webhook() as gone, webhook() as kept, pushing(worker=worker) as gw:
        task = await begun(gw, "x", gone.url, id="a")
        await registered(gw, task, kept.url)
        await gone.until(len)
        await gw.rpc("/a2a/worker", "DeleteTaskPushNotificationConfig", {"taskId": task["id"], "id": "a"})
        before = len(gone.got)
        worker.go.set()
        await kept.told("completed")
        assert len(gone.got) == before


# --- where the gateway does not go -------------------------------------------------------------

FORBIDDEN = [
    "http://127.0.0.1:9/x",
    "http://[::1]/x",
    "http://localhost/x",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.7/x",
    "http://[::ffff:10.0.0.7]/x",
    "https://user:secret@93.184.215.14/x",
    "ftp://93.184.215.14/x",
    "file:///etc/passwd",
    "hook",
]


async def test_who_may_not_come_in_any_more_is_told_no_more() -> None:
    worker = Stepwise()
    key = Key(name="ci", id="1", hash="00" * 32)
    async with webhook() as hook, webhook() as owners, webhook() as last, pushing(worker=worker) as gw:
        gw.hub.access.take([key])
        params = sending("x", hook.url, wait=False)
        sent = await gw.rpc("/a2a/worker", "SendMessage", params, **caller("key:1"))
        await hook.until(len)
        for url, person in ((owners.url, "owner"), (last.url, "key:1")):
            named = {"taskId": sent["result"]["task"]["id"], "url": url}
            await gw.rpc("/a2a/worker", "CreateTaskPushNotificationConfig", named, **caller(person))
        await last.until(len)
        gw.hub.access.take([msgspec.structs.replace(key, revoked_at=1.0)])
        worker.go.set()
        await owners.told("completed")
        told = [hook.got, last.got]
        assert ["completed" in states(got) for got in told] == [False, False]


async def test_addresses_that_must_not_be_called_are_refused() -> None:
    worker = Stepwise()
    async with pushing(allow=(), worker=worker) as gw:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}
        params = {"message": message, "configuration": {"returnImmediately": True}}
        task = (await gw.rpc("/a2a/worker", "SendMessage", params))["result"]["task"]
        for url in FORBIDDEN:
            create = {"taskId": task["id"], "url": url}
            made = await gw.rpc("/a2a/worker", "CreateTaskPushNotificationConfig", create)
            sent = await gw.rpc("/a2a/worker", "SendMessage", sending("x", url))
            for answer in (made, sent):
                assert answer["error"]["code"] == -32602, url
                assert "secret" not in answer["error"]["message"]
        assert len(worker.calls) == 1  # no message with such a webhook went anywhere


async def test_an_address_is_looked_at_again_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have led elsewhere when the configuration was made."""

    looked = asyncio.Event()

    async def rebound(url: str, allow: Any, turn: int) -> str:
        looked.set()
        raise Forbidden("it leads elsewhere now")

    worker = Stepwise()
    async with webhook() as hook, pushing(worker=worker) as gw:
        monkeypatch.setattr(delivery, "checked", rebound)
        await begun(gw, "x", hook.url)
        async with asyncio.timeout(SOON):
            await looked.wait()
        monkeypatch.undo()
        async with webhook() as other:
            worker.go.set()
            await gw.rpc("/a2a/worker", "SendMessage", sending("y", other.url))
            await other.told("completed")
        assert not hook.got


# --- what lasts --------------------------------------------------------------------------------


async def test_a_restart_tells_of_tasks_that_it_failed() -> None:
    store, sealer = MemoryStore(), Sealer()
    async with webhook() as hook:
        async with pushing(store=store, sealer=sealer, worker=Stepwise()) as gw:
            task = await begun(gw, "x", hook.url, **SECRETS)
            await hook.until(len)
            await gw.hub.flush()
            kept = copy.deepcopy(store)  # as a kill would leave it
        hook.got.clear()
        async with pushing(store=kept, sealer=sealer, worker=Stepwise()):
            final = await hook.told("failed")
            assert final.task_id == task["id"]
            assert final.headers["x-a2a-notification-token"] == "tok-secret"


async def test_a_restart_tells_what_had_not_arrived() -> None:
    store, sealer = MemoryStore(), Sealer()
    async with webhook(*[503] * 1000) as hook:
        async with pushing(store=store, sealer=sealer, worker=finishing()) as gw:
            await gw.rpc("/a2a/worker", "SendMessage", sending("x", hook.url))
            await hook.told("completed")
        hook.answers.clear()
        hook.got.clear()
        async with pushing(store=store, sealer=sealer, worker=finishing()):
            await hook.told("completed")


async def test_a_task_that_a_crash_swallowed_is_told_as_failed() -> None:
    store, sealer = MemoryStore(), Sealer()
    async with webhook() as hook:
        async with pushing(store=store, sealer=sealer, worker=Stepwise()) as gw:
            task = await begun(gw, "x", hook.url)
            items = await store.items(push.SPACE)
        lost = MemoryStore()
        for key, value in items.items():
            await lost.put_item(push.SPACE, key, value)
        hook.got.clear()
        async with pushing(store=lost, sealer=sealer, worker=Stepwise()):
            assert (await hook.told("failed")).task_id == task["id"]


async def test_a_configuration_is_forgotten_some_time_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "KEPT", 0.0)
    store = MemoryStore()
    async with webhook() as hook, pushing(store=store, worker=finishing()) as gw:
        await gw.rpc("/a2a/worker", "SendMessage", sending("x", hook.url))
        await hook.told("completed")
        async with asyncio.timeout(SOON):
            while await store.items(push.SPACE):  # noqa: ASYNC110 (the store has no event for it)
                await asyncio.sleep(0)
        assert [n.state for n in hook.got].count("completed") == 1  # the end was told once


async def test_what_has_ended_does_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "MOST", 2)
    monkeypatch.setattr(push, "MOST_OVER", 1)
    store, worker = MemoryStore(), Stepwise()
    async with webhook() as hook, pushing(store=store, worker=worker) as gw:
        running = [await begun(gw, "x", hook.url) for _ in range(2)]
        refused = await gw.rpc("/a2a/worker", "SendMessage", sending("y", hook.url))
        assert refused["error"]["code"] == -32602
        worker.go.set()
        for task in running:
            await hook.told("completed", task["id"])
        for _ in range(3):  # the one before may just be ending
            task = (await gw.rpc("/a2a/worker", "SendMessage", sending("z", hook.url)))["result"]["task"]
            await hook.told("completed", task["id"])
        named = {"taskId": running[0]["id"]}
        listed = await gw.rpc("/a2a/worker", "ListTaskPushNotificationConfigs", named)
        assert listed["result"]["configs"] == []
        assert len(await store.items(push.SPACE)) <= 3


async def test_secrets_are_in_no_store_log_or_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = MemoryStore()
    async with webhook(500, 403) as hook, pushing(store=store, worker=finishing()) as gw:
        await gw.rpc("/a2a/worker", "SendMessage", sending("x", hook.url + "?key=url-secret", **SECRETS))
        await hook.until(lambda got: len(got) >= 2)
    spans = [(s.name, dict(s.attributes)) for s in gw.hub.tracer.drain()]
    assert "PushNotification" in {name for name, _ in spans}
    logged = [r.getMessage() for r in caplog.records if r.name.startswith("agentgw")]
    kept = repr(vars(store)) + repr(spans) + "\n".join(logged)
    for secret in ("tok-secret", "cred-secret", "url-secret"):
        assert secret not in kept
