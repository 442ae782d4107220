"""Work that outlasts an answer: agents that say "working" and stop talking, tasks that several watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.types import CancelTaskRequest, GetTaskRequest, SubscribeToTaskRequest
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from agentgw.adapters.a2a.upstream import upstream as upstream_module
from agentgw.adapters.a2a.upstream.upstream import A2AUpstream
from agentgw.gateway.catchup import artifact_news
from agentgw.gateway.errors import UnknownSkill, Unreachable
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    File,
    Finished,
    InputReply,
    Invocation,
    Message,
    Part,
    Record,
    Started,
    StateChanged,
    TaskRef,
    TaskState,
    Text,
    text_of,
)
from agentgw.registry.memory import MemoryStore

from ...support.memory import MemoryUpstream
from ...support.telling import held_up, invoked, replied
from . import support
from .support import LocalHost, Way, gateway, last_state, peer, peer_agent, say
from .test_relay import DONE, agent, answer, breaking, event, message, piece, task

WAYS: list[Way] = [("1.0", "JSONRPC"), ("1.0", "HTTP+JSON"), ("0.3", "JSONRPC"), ("0.3", "HTTP+JSON")]


def at(url: str, text: str, **fields: Any) -> AsyncIterator[Event]:
    """A turn at the agent behind ``url``."""
    said = Message(role="user", parts=(Text(text=text),))
    call = Invocation(agent="x", message=said, **fields)
    return invoked(A2AUpstream(Record(name="x", protocol="a2a", url=url), LocalHost()), call)


def text_in(events: list[Event]) -> str:
    """All text that artifacts brought, in the order that it came in."""
    return "".join(text_of(e.artifact.parts) for e in events if isinstance(e, ArtifactDelta))


# --- agents that answer before they are done ---------------------------------------------------


class Hasty(DefaultRequestHandler):
    """The official server, never waiting for the end, whatever the client asked for."""

    async def on_message_send(self, params: Any, context: Any) -> Any:
        params.configuration.return_immediately = True
        return await super().on_message_send(params, context)


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "unary"])
@pytest.mark.parametrize(
    "way", [WAYS[0], *(pytest.param(w, marks=pytest.mark.slow) for w in WAYS[1:])], ids="-".join
)
async def test_working_is_no_answer(way: Way, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the agent streams or not: the turn ends when the task does, with all that it made."""
    monkeypatch.setattr(support, "DefaultRequestHandler", Hasty)
    async with peer_agent([way], streaming=streaming) as url:
        events = [e async for e in at(url, "stream a b c", streaming=False)]
        assert isinstance(events[0], Started)
        assert text_in(events) == "a b c"
        assert isinstance(events[-1], Finished)
        assert events[-1].state is TaskState.COMPLETED


async def test_another_protocols_client_gets_the_end_and_never_the_beginning() -> None:
    looks = 0

    async def handle(method: str, params: Any, request: Request) -> Response:
        nonlocal looks
        if method == "SendMessage":
            return answer({"task": task("TASK_STATE_SUBMITTED")})
        looks += 1
        return answer(task(DONE, "made") if looks > 2 else task())

    async with agent(handle, streaming=False) as url:
        events = [e async for e in at(url, "go")]
        assert text_in(events) == "made"
        assert looks == 3


async def test_an_agent_is_read_no_further_than_there_is_room() -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        pieces = [event(piece(str(n), append=True)) for n in range(50)]
        body = b"".join([event({"task": task()}), *pieces, event({"task": task(DONE)})])
        return Response(body, media_type="text/event-stream")

    async with agent(handle) as url:
        upstream = A2AUpstream(Record(name="x", protocol="a2a", url=url), LocalHost())
        call = Invocation(agent="x", message=Message(role="user", parts=(Text(text="go"),)))
        before, all_told = await held_up(lambda tell: upstream.invoke(call, tell), 5)
    assert before == 5
    assert all_told > 50


# --- streams that break ------------------------------------------------------------------------


@pytest.mark.parametrize("watchable", [True, False], ids=["subscribing", "asking"])
async def test_a_broken_stream_loses_and_doubles_nothing(watchable: bool) -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        if method == "SendStreamingMessage":
            return breaking([{"task": task()}, piece("one")])
        if method == "SubscribeToTask" and watchable:

            async def body() -> AsyncIterator[bytes]:
                yield event({"task": task(text="one two")})
                yield event(piece(" two", append=True))
                yield event({"task": task(DONE, "one two three")})

            return StreamingResponse(body(), media_type="text/event-stream")
        if method == "GetTask":
            return answer(task(text="one two") if watchable else task(DONE, "one two three"))
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "error": {"code": -32004, "message": "no"}})

    async with agent(handle) as url:
        events = [e async for e in at(url, "go")]
        assert text_in(events) == "one two three"
        assert sum(isinstance(e, Started) for e in events) == 1
        assert isinstance(events[-1], Finished)


async def test_an_agent_that_is_gone_for_good_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "POLL_FIRST", 0.0)
    monkeypatch.setattr(upstream_module, "POLL_MOST", 0.0)
    tries = 0

    async def handle(method: str, params: Any, request: Request) -> Response:
        nonlocal tries
        tries += 1
        return breaking([{"task": task()}] if method == "SendStreamingMessage" else [])

    async with agent(handle) as url:
        with pytest.raises(Unreachable):
            _ = [e async for e in at(url, "go")]
    assert tries == 1 + upstream_module.REJOINS + 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ((Text(text="a"),), (Text(text="a"),), None),
        ((Text(text="a"), Text(text="b")), (Text(text="ab"),), None),
        ((Text(text="a"),), (Text(text="a"), Text(text="b")), ((Text(text="b"),), True)),
        ((Text(text="a"),), (Text(text="ab"), Data(data=1)), ((Text(text="b"), Data(data=1)), True)),
        ((Data(data=1),), (Data(data=1), File(uri="u")), ((File(uri="u"),), True)),
        ((Text(text="a"),), (Text(text="b"),), ((Text(text="b"),), False)),
        ((Data(data=1),), (Data(data=2),), ((Data(data=2),), False)),
        ((Text(text="a"), Data(data=1)), (Text(text="a"),), ((Text(text="a"),), False)),
    ],
)
def test_what_a_snapshot_has_to_tell(
    old: tuple[Part, ...], new: tuple[Part, ...], told: tuple[tuple[Part, ...], bool] | None
) -> None:
    delta = artifact_news(Artifact(artifact_id="a", parts=old), Artifact(artifact_id="a", parts=new))
    assert (None if delta is None else (delta.artifact.parts, delta.append)) == told


# --- skills and refusals -----------------------------------------------------------------------


async def test_a_skill_must_be_one_of_the_agents() -> None:
    async def handle(method: str, params: Any, request: Request) -> Response:
        assert params["metadata"] == {"skill": "paint"}
        return answer({"task": task(DONE)})

    async with agent(handle, streaming=False) as url:
        assert [e async for e in at(url, "go", skill="paint")]
        with pytest.raises(UnknownSkill, match="paint"):
            _ = [e async for e in at(url, "go", skill="sing")]
    async with agent(handle, streaming=False, extendedAgentCard=True) as url:  # which may name more
        with pytest.raises(Exception, match="x failed"):
            _ = [e async for e in at(url, "go", skill="sing")]


async def test_a_refusal_is_a_data_part() -> None:
    heard: list[Any] = []

    async def handle(method: str, params: Any, request: Request) -> Response:
        heard.append(params["message"]["parts"])
        return answer({"task": task(DONE)})

    async with agent(handle, streaming=False) as url:
        upstream = A2AUpstream(Record(name="x", protocol="a2a", url=url), LocalHost())
        words = Message(role="user", parts=(Text(text="no thanks"),))
        as_data = Message(role="user", parts=(Data(data={"action": "cancel"}),))
        for said in (
            InputReply(message=words, action="decline"),
            InputReply(message=as_data, action="cancel"),
        ):
            call = Invocation(agent="x", message=said.message)
            _ = [e async for e in replied(upstream, TaskRef(task_id="t"), call, said)]
    assert heard == [
        [{"data": {"action": "decline"}}, {"text": "no thanks"}],
        [{"data": {"action": "cancel"}}],
    ]


# --- several watchers --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/v1"], ids=["1.0", "0.3"])
async def test_all_who_watch_see_the_same_and_the_cancellation(path: str) -> None:
    """Two watchers and the first client: each begins with the task as it is; cancelling reaches all."""
    upstream = MemoryUpstream()
    parts = [asyncio.Event(), asyncio.Event()]

    async def script(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up")
        yield StateChanged(state=TaskState.WORKING)
        for n, go in enumerate(parts):
            await go.wait()
            artifact = Artifact(artifact_id="a", parts=(Text(text=f"{n} "),))
            yield ArtifactDelta(artifact=artifact, append=n > 0, last=False)
        await upstream.canceled.wait()
        yield Finished(state=TaskState.CANCELED)

    upstream.script = script
    async with gateway(x=upstream) as gw:
        params = {"message": message(), "configuration": {"returnImmediately": True}}
        begun = (await gw.rpc("/a2a/x", "SendMessage", params))["result"]["task"]
        assert begun["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
        watches: list[asyncio.Task[None]] = []

        def watch() -> asyncio.Queue[Any]:
            said: asyncio.Queue[Any] = asyncio.Queue()

            async def read() -> None:
                url = f"{gw.url}/a2a/x{path}/tasks/{begun['id']}:subscribe"
                async with gw.http.stream("GET", url) as response:
                    async for line in response.aiter_lines():
                        if line.startswith("data: "):
                            said.put_nowait(json.loads(line.removeprefix("data: ")))

            watches.append(asyncio.create_task(read()))
            return said

        def text(said: Any) -> str:
            artifact = said["artifactUpdate"]["artifact"] if "artifactUpdate" in said else None
            artifact = artifact or said["task"]["artifacts"][0]
            return (artifact.get("parts") or artifact["content"])[0]["text"]

        early = watch()
        assert "artifacts" not in (await early.get())["task"]
        parts[0].set()
        assert text(await early.get()) == "0 "
        late = watch()
        assert text(await late.get()) == "0 "
        parts[1].set()
        assert text(await early.get()) == text(await late.get()) == "1 "
        canceled = (await gw.rpc("/a2a/x", "CancelTask", {"id": begun["id"]}))["result"]
        assert canceled["status"]["state"] == "TASK_STATE_CANCELED"
        assert upstream.canceled.is_set()
        await asyncio.gather(*watches)
        for said in (early, late):
            ended = (await said.get())["statusUpdate"]["status"]["state"]
            assert ended.startswith("TASK_STATE_CANCEL")
            assert said.empty()
        again = await gw.rpc("/a2a/x", "CancelTask", {"id": begun["id"]})
        assert again["error"]["code"] == -32002


# --- restarts ----------------------------------------------------------------------------------


async def test_after_a_restart() -> None:
    """Ended tasks can be looked at, not watched; what the gateway ran has failed; an agent's own goes on."""
    upstream, store = MemoryUpstream(), MemoryStore()

    async def script(call: Invocation) -> AsyncIterator[Event]:
        yield Started(task_id="up")
        if text_of(call.message.parts) == "wait":
            await asyncio.Event().wait()
        yield Finished(state=TaskState.COMPLETED)

    async def handle(method: str, params: Any, request: Request) -> Response:
        if method == "SubscribeToTask":
            return StreamingResponse(iter([event({"task": task(DONE)})]), media_type="text/event-stream")
        return answer({"task": task()})

    upstream.script = script
    async with agent(handle) as url:
        async with gateway(store=store, x=upstream, far=url) as gw:
            done = (await gw.rpc("/a2a/x", "SendMessage", {"message": message()}))["result"]["task"]
            at_once = {"configuration": {"returnImmediately": True}}
            params = {"message": message("wait"), **at_once}
            cut = (await gw.rpc("/a2a/x", "SendMessage", params))["result"]["task"]
            await gw.rpc("/a2a/far", "SendMessage", {"message": message()})
        async with gateway(store=store, x=upstream, far=url) as gw:
            got = (await gw.rpc("/a2a/x", "GetTask", {"id": done["id"]}))["result"]
            assert got["status"]["state"] == DONE
            got = (await gw.rpc("/a2a/x", "GetTask", {"id": cut["id"]}))["result"]
            assert got["status"]["state"] == "TASK_STATE_FAILED"
            for task_id in (done["id"], cut["id"]):
                refused = await gw.rpc("/a2a/x", "SubscribeToTask", {"id": task_id})
                assert refused["error"]["code"] == -32004
            body = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": "t"}}
            watched = (await gw.http.post(f"{gw.url}/a2a/far", json=body)).text
            assert DONE in watched
            refused = await gw.rpc("/a2a/far", "SubscribeToTask", {"id": "t"})
            assert refused["error"]["code"] == -32004


# --- the official client's operations, revisions and bindings crossed ---------------------------


PAIRS = [(a, b) for a in WAYS for b in WAYS]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "behind"), PAIRS, ids=["-to-".join(("-".join(a), "-".join(b))) for a, b in PAIRS]
)
async def test_look_watch_and_cancel(way: Way, behind: Way) -> None:
    async with peer_agent([behind]) as url, gateway(x=url) as gw:
        client = await gw.client(f"{gw.url}/a2a/x", way, streaming=False)

        async def begin(text: str) -> Any:
            request = say(text)
            request.configuration.return_immediately = True
            items = [item async for item in client.send_message(request)]
            return items[0].task

        gate = f"{url} look"
        begun = await begin(f"wait {gate}")
        assert begun.status.state in (1, 2)  # submitted, working
        looked = await client.get_task(GetTaskRequest(id=begun.id))
        assert (looked.id, looked.context_id) == (begun.id, begun.context_id)
        assert looked.history
        short = await client.get_task(GetTaskRequest(id=begun.id, history_length=0))
        if way[0] == behind[0] == "1.0":  # protobuf's 0.3 writes 0 and unset alike
            assert not short.history
        watcher = await gw.client(f"{gw.url}/a2a/x", way)
        items = []
        async for item in watcher.subscribe(SubscribeToTaskRequest(id=begun.id)):
            items.append(item)
            peer.gates[gate].set()
        assert last_state([MessageToDict(i) for i in items]) == DONE

        begun = await begin("slow 30")
        canceled = await client.cancel_task(CancelTaskRequest(id=begun.id))
        assert canceled.status.state == 5
        looked = await client.get_task(GetTaskRequest(id=begun.id))
        assert looked.status.state == 5
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(CancelTaskRequest(id=begun.id))
        with pytest.raises(UnsupportedOperationError):
            _ = [item async for item in watcher.subscribe(SubscribeToTaskRequest(id=begun.id))]
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id="nobody's"))
