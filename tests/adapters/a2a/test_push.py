"""Push notifications: what clients configure, and what webhooks hear."""

from __future__ import annotations

import json
from typing import Any

import pytest
from a2a.types import (
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    SendMessageRequest,
    StreamResponse,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import TaskNotFoundError
from google.protobuf.json_format import ParseDict

from agentgw.adapters.a2a.face import push
from agentgw.adapters.a2a.face import pushing as delivery

from .support import Way, caller, items_of, peer_agent
from .webhooks import (
    NOBODY,
    SECRETS,
    Stepwise,
    begun,
    finishing,
    pushing,
    sending,
    states,
    webhook,
)

RPC10: Way = ("1.0", "JSONRPC")
WAYS: list[Way] = [RPC10, ("1.0", "HTTP+JSON"), ("0.3", "JSONRPC"), ("0.3", "HTTP+JSON")]
IDS = ["-".join(w) for w in WAYS]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow at once."""
    monkeypatch.setattr(delivery, "PAUSE_FIRST", 0.001)
    monkeypatch.setattr(delivery, "PAUSE_MOST", 0.002)


# --- configurations ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_the_sdk_creates_and_gets_configurations(way: Way) -> None:
    async with pushing(worker=Stepwise()) as gw:
        task = await begun(gw, "x", NOBODY)
        client = await gw.client(f"{gw.url}/a2a/worker", way)
        wanted = ParseDict(
            {"taskId": task["id"], "id": "mine", "url": NOBODY, **SECRETS}, TaskPushNotificationConfig()
        )
        made = await client.create_task_push_notification_config(wanted)
        assert made == wanted
        named = GetTaskPushNotificationConfigRequest(task_id=task["id"], id="mine")
        assert await client.get_task_push_notification_config(named) == wanted
        with pytest.raises(TaskNotFoundError):
            named.id = "other"
            await client.get_task_push_notification_config(named)
        with pytest.raises(TaskNotFoundError):
            named.task_id = "unknown"
            await client.get_task_push_notification_config(named)


@pytest.mark.parametrize("way", [w for w in WAYS if w != ("0.3", "HTTP+JSON")], ids=lambda w: "-".join(w))
async def test_the_sdk_lists_and_deletes_configurations(way: Way) -> None:
    """The SDK has no list and delete for HTTP+JSON of 0.3."""
    async with pushing(worker=Stepwise()) as gw:
        task = await begun(gw, "x", NOBODY, id="a")
        client = await gw.client(f"{gw.url}/a2a/worker", way)
        await client.create_task_push_notification_config(
            TaskPushNotificationConfig(task_id=task["id"], id="b", url=NOBODY + "2")
        )
        everything = ListTaskPushNotificationConfigsRequest(task_id=task["id"])

        async def listed() -> list[tuple[str, str]]:
            answer = await client.list_task_push_notification_configs(everything)
            return [(c.id, c.url) for c in answer.configs]

        assert await listed() == [("a", NOBODY), ("b", NOBODY + "2")]
        for _ in range(2):  # the second time changes nothing, and is no mistake
            await client.delete_task_push_notification_config(
                DeleteTaskPushNotificationConfigRequest(task_id=task["id"], id="a")
            )
        assert await listed() == [("b", NOBODY + "2")]


async def test_http_json_of_0_3_lists_and_deletes_in_its_protobuf_form() -> None:
    async with pushing(worker=Stepwise()) as gw:
        task = await begun(gw, "x", NOBODY, id="a")
        base = f"{gw.url}/a2a/worker/v1/tasks/{task['id']}/pushNotificationConfigs"
        name = f"tasks/{task['id']}/pushNotificationConfigs/"
        # The JavaScript SDK posts the configuration itself, not the protobuf request around it.
        body = {"name": name + "b", "pushNotificationConfig": {"id": "b", "url": NOBODY, "token": ""}}
        assert (await gw.http.post(base, json=body)).json() == {
            "name": name + "b",
            "pushNotificationConfig": {"id": "b", "url": NOBODY},
        }
        assert [c["name"] for c in (await gw.http.get(base)).json()["configs"]] == [name + "a", name + "b"]
        assert (await gw.http.delete(base + "/a")).json() == {}
        assert [c["name"] for c in (await gw.http.get(base)).json()["configs"]] == [name + "b"]


async def test_who_speaks_0_3_need_not_name_the_one_it_wants() -> None:
    async with pushing(worker=Stepwise()) as gw:
        task = await begun(gw, "x", NOBODY, id="a")
        got = await gw.rpc("/a2a/worker", "tasks/pushNotificationConfig/get", {"id": task["id"]})
        config = {"id": "a", "url": NOBODY}
        assert got["result"] == {"taskId": task["id"], "pushNotificationConfig": config}
        gone = await gw.rpc("/a2a/worker", "tasks/pushNotificationConfig/delete", {"id": task["id"]})
        assert gone["error"]["code"] == -32602


async def test_ids_are_given_out_once_and_replace_what_was_there() -> None:
    async with pushing(worker=Stepwise()) as gw:
        task = await begun(gw, "x", NOBODY)
        create = "CreateTaskPushNotificationConfig"

        async def made(**config: str) -> dict[str, Any]:
            return await gw.rpc("/a2a/worker", create, {"taskId": task["id"], **config})

        first = (await made(url=NOBODY))["result"]
        assert first["id"]
        assert (await made(url=NOBODY))["result"] == first  # said twice, it is still one
        other = (await made(url=NOBODY + "/2"))["result"]
        assert other["id"] != first["id"]
        await made(url=NOBODY + "/3", id=first["id"])
        listed = await gw.rpc("/a2a/worker", "ListTaskPushNotificationConfigs", {"taskId": task["id"]})
        assert {c["id"]: c["url"] for c in listed["result"]["configs"]} == {
            first["id"]: NOBODY + "/3",
            other["id"]: NOBODY + "/2",
        }
        for n in range(push.MOST_PER_TASK):
            answer = await made(url=NOBODY, id=f"n{n}")
        assert answer["error"]["code"] == -32602
        refused = sending("more", NOBODY, task_id=task["id"])
        assert (await gw.rpc("/a2a/worker", "SendMessage", refused))["error"]["code"] == -32602


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": "https://93.184.215.14/\r\nx: y"},
        {"url": NOBODY + " HTTP/1.1"},
        {"url": NOBODY, "token": "a\r\nx-other: b"},
        {"url": NOBODY, "authentication": {"scheme": "Bearer x", "credentials": "c"}},
        {"url": NOBODY, "authentication": "Bearer"},
        {"url": "https://93.184.215.14/" + "x" * 5000},
        {"url": NOBODY, "authentication": {"scheme": "x" * 5000, "credentials": "c"}},
    ],
)
async def test_malformed_configurations(config: dict[str, Any]) -> None:
    worker = Stepwise()
    async with pushing(worker=worker) as gw:
        task = await begun(gw, "x", NOBODY)
        answer = await gw.rpc(
            "/a2a/worker", "CreateTaskPushNotificationConfig", {"taskId": task["id"], **config}
        )
        assert answer["error"]["code"] == -32602
        params = sending("x", NOBODY)
        params["configuration"]["taskPushNotificationConfig"] = config
        assert (await gw.rpc("/a2a/worker", "SendMessage", params))["error"]["code"] == -32602
        assert len(worker.calls) == 1  # the message with the bad configuration went nowhere


async def test_tasks_and_configurations_of_others_are_unknown() -> None:
    async with pushing(worker=Stepwise()) as gw:
        params = sending("x", NOBODY, wait=False, id="a", **SECRETS)
        task = (await gw.rpc("/a2a/worker", "SendMessage", params, **caller("ann")))["result"]["task"]
        named = {"taskId": task["id"], "id": "a"}
        for op in ("Create", "Get", "Delete"):
            answer = await gw.rpc(
                "/a2a/worker", f"{op}TaskPushNotificationConfig", named | {"url": NOBODY}, **caller("bob")
            )
            assert answer["error"]["code"] == -32001, op
        everything = {"taskId": task["id"]}
        answer = await gw.rpc("/a2a/worker", "ListTaskPushNotificationConfigs", everything, **caller("bob"))
        assert answer["error"]["code"] == -32001
        answer = await gw.rpc("/a2a/worker", "GetTaskPushNotificationConfig", named, **caller("ann"))
        assert answer["result"]["token"] == "tok-secret"
        # The gateway's owner sees the task, but what the caller told in confidence is not for him either.
        answer = await gw.rpc("/a2a/worker", "ListTaskPushNotificationConfigs", everything, **caller("owner"))
        assert answer["result"]["configs"] == []


async def test_every_card_says_that_push_notifications_are_there() -> None:
    async with peer_agent([RPC10]) as url, pushing(worker=Stepwise(), relayed=url) as gw:
        for path in ("/a2a/worker", "/a2a/relayed", ""):
            card = (await gw.http.get(f"{gw.url}{path}/.well-known/agent-card.json")).json()
            assert card["capabilities"]["pushNotifications"] is True


# --- what is told ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=IDS)
@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
async def test_a_translated_task_is_told_in_order(way: Way, streaming: bool) -> None:
    """An agent of any other protocol: the hub translates it to tasks."""
    async with webhook() as hook, pushing(worker=finishing(3)) as gw:
        client = await gw.client(f"{gw.url}/a2a/worker", way, streaming=streaming)
        request = ParseDict(sending("hello", hook.url, **SECRETS), SendMessageRequest())
        await items_of(client, request)
        await hook.told("completed")
        assert {n.headers["x-a2a-notification-token"] for n in hook.got} == {"tok-secret"}
        assert {n.headers["authorization"] for n in hook.got} == {"Bearer cred-secret"}
        assert len({n.task_id for n in hook.got}) == 1
        if way[0] == "0.3":
            assert {n.kind for n in hook.got} == {"task"}
            final = hook.got[-1].body
        else:
            for n in hook.got:
                ParseDict(n.body, StreamResponse())
            assert hook.got[0].kind == "task"
            final = hook.got[-1].body[hook.got[-1].kind]
        assert hook.got[-1].state == "completed"
        assert final.get("taskId", final.get("id")) == hook.got[0].task_id


async def test_all_that_streams_would_say_is_said_to_a_webhook_that_keeps_up() -> None:
    worker = Stepwise(3)
    async with webhook() as hook, pushing(worker=worker) as gw:
        await gw.rpc("/a2a/worker", "SendMessage", sending("x", hook.url, wait=False))
        worker.go.set()
        await hook.told("completed")
        said = ""
        for n in hook.got:
            update = n.body.get("artifactUpdate", {}).get("artifact", {})
            for artifact in [update, *n.body.get("task", {}).get("artifacts", [])]:
                said += "".join(p["text"] for p in artifact.get("parts", []))
        assert said == "0 1 2 "


async def test_a_question_is_told_and_so_is_what_follows_its_answer() -> None:
    async with webhook() as hook, pushing(worker=Stepwise()) as gw:
        task = (await gw.rpc("/a2a/worker", "SendMessage", sending("ask", hook.url)))["result"]["task"]
        await hook.told("input_required")
        message = {"messageId": "m2", "role": "ROLE_USER", "parts": [{"text": "red"}], "taskId": task["id"]}
        await gw.rpc("/a2a/worker", "SendMessage", {"message": message})
        await hook.told("completed")
        assert states(hook.got)[-1] == "completed"


async def test_the_gateways_own_question_and_the_agent_it_leads_to() -> None:
    async with webhook() as hook, pushing(one=finishing(), two=finishing()) as gw:
        task = (await gw.rpc("/", "SendMessage", sending("hello", hook.url)))["result"]["task"]
        await hook.told("input_required")
        message = {"messageId": "m2", "role": "ROLE_USER", "parts": [{"text": "two"}], "taskId": task["id"]}
        await gw.rpc("/", "SendMessage", {"message": message})
        assert (await hook.told("completed")).task_id == task["id"]


async def test_a_webhook_that_comes_after_the_end_is_told_of_it() -> None:
    async with webhook() as hook, pushing(worker=finishing()) as gw:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}
        task = (await gw.rpc("/a2a/worker", "SendMessage", {"message": message}))["result"]["task"]
        named = {"taskId": task["id"], "id": "late"}
        await gw.rpc("/a2a/worker", "CreateTaskPushNotificationConfig", named | {"url": hook.url})
        await hook.told("completed")
        answer = await gw.rpc("/a2a/worker", "GetTaskPushNotificationConfig", named)
        assert answer["result"]["url"] == hook.url  # still shown for a while


@pytest.mark.parametrize("told", ["application/a2a+json", "application/json"])
async def test_the_media_type_is_the_one_that_the_client_uses(told: str) -> None:
    async with webhook() as hook, pushing(worker=finishing()) as gw:
        await gw.http.post(
            f"{gw.url}/a2a/worker/message:send",
            content=json.dumps(sending("x", hook.url)),
            headers={"content-type": told, "a2a-version": "1.0"},
        )
        assert (await hook.told("completed")).headers["content-type"] == told
