"""gRPC clients of a real gateway: SIGTERM under their streams, and several workers behind one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from a2a.types import GetTaskRequest, SendMessageRequest, SubscribeToTaskRequest, a2a_pb2_grpc
from google.protobuf.json_format import MessageToDict, ParseDict

from ..conftest import wait_until
from ..e2e.conftest import Journal, Peers
from .conftest import Gateway, a2a_message

WORDS = "the gateway is stopping; try again in a moment"
PIECES = "p0 p1"
# Not shared with another channel of the process: each has a connection of its own, at whichever worker.
OWN = (("grpc.use_local_subchannel_pool", 1),)


class Stream:
    """What comes on one: ``task_id``, known once it has ``begun``; all the text; the last state, or the error
    that it ended with."""

    def __init__(self, stream: Any) -> None:
        self._stream = aiter(stream)
        self.task_id = ""
        self._text = ""
        self._end = ""

    async def begun(self) -> Stream:
        said = MessageToDict(await anext(self._stream))["task"]
        self.task_id = said["id"]
        self._hear(said.get("artifacts", []))
        return self

    def _hear(self, artifacts: list[dict[str, Any]]) -> None:
        for artifact in artifacts:
            self._text += "".join(part["text"] for part in artifact["parts"])

    async def rest(self) -> tuple[str, str]:
        """The text, and the end."""
        try:
            async for item in self._stream:
                said = MessageToDict(item)
                if "artifactUpdate" in said:
                    self._hear([said["artifactUpdate"]["artifact"]])
                self._end = said.get("statusUpdate", {}).get("status", {}).get("state", self._end)
        except grpc.aio.AioRpcError as e:
            self._end = f"{e.code().name}: {e.details()}"
        return self._text.strip(), self._end


class Client:
    """Of the agents behind a gateway's gRPC port."""

    def __init__(self, channel: Any) -> None:
        self._stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)

    def works(self, agent: str, token: str) -> Stream:
        """The stream of a call that is noted under ``token``."""
        text = f"work {token} 2" if agent == "a2a" else f"{token} 2"
        request = ParseDict({"tenant": agent, **a2a_message(text)}, SendMessageRequest())
        return Stream(self._stub.SendStreamingMessage(request))

    def subscribed(self, agent: str, task_id: str) -> Stream:
        return Stream(self._stub.SubscribeToTask(SubscribeToTaskRequest(tenant=agent, id=task_id)))

    async def state(self, agent: str, task_id: str) -> str:
        task = await self._stub.GetTask(GetTaskRequest(tenant=agent, id=task_id))
        return MessageToDict(task)["status"]["state"]


@asynccontextmanager
async def clients(port: int, count: int) -> AsyncGenerator[list[Client]]:
    async with AsyncExitStack() as stack:
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OWN) for _ in range(count)]
        yield [Client(await stack.enter_async_context(channel)) for channel in channels]


class Started:
    """The gateway with its agents and gRPC port, and calls under way at each agent."""

    def __init__(self, gateway: Gateway, peers: Peers, port: int) -> None:
        self.gateway = gateway
        self.journal: Journal = peers.journal
        self.port = port
        self._peers = peers
        self.tokens: list[str] = []

    async def up(self, *options: object, **env: str) -> None:
        options = ("--grpc-port", self.port, *options)
        await asyncio.to_thread(self.gateway.start, *options, **env)
        for spec in (
            {"name": "a2a", "url": self._peers.a2a, "protocol": "a2a"},
            {"name": "acp", "url": self._peers.acp, "protocol": "acp", "remote": "worker"},
        ):
            assert (await asyncio.to_thread(self.gateway.post, "/api/agents", spec)).status_code == 201

    async def under_way(self, all_: Sequence[Client]) -> list[tuple[str, Stream]]:
        """A stream of each client: the agent, and the stream, which goes on."""
        found: list[tuple[str, Stream]] = []
        for number, client in enumerate(all_):
            agent, token = ("a2a", "acp")[number % 2], f"grpc-{self.gateway.port}-{number}"
            self.journal.hold(token)
            self.tokens.append(token)
            found.append((agent, await client.works(agent, token).begun()))
        return found

    def goes_on(self) -> None:
        for token in self.tokens:
            self.journal.go(token)

    async def term(self) -> None:
        """SIGTERM; it drains."""
        self.gateway.signal()

        def drains() -> bool:
            return self.gateway.get("/readyz").status_code == 503

        await asyncio.to_thread(wait_until, "it drains", drains)


@pytest.fixture
def started(gateway: Gateway, peers: Peers, free_port: Callable[[], int]) -> Any:
    made = Started(gateway, peers, free_port())
    yield made
    made.goes_on()


@pytest.mark.slow
async def test_a_stream_that_is_open_at_sigterm_may_end(started: Started) -> None:
    await started.up(AGENTGW_LIMITS__SHUTDOWN_GRACE="1h")
    async with clients(started.port, 2) as all_:
        calls = await started.under_way(all_)
        await started.term()
        for agent in ("a2a", "acp"):
            assert await all_[0].works(agent, "new").rest() == ("", f"UNAVAILABLE: {WORDS}")
        started.goes_on()
        for _, stream in calls:
            assert await stream.rest() == (PIECES, "TASK_STATE_COMPLETED")
    assert await asyncio.to_thread(started.gateway.ended) == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stream_that_goes_on_past_the_grace_is_told(started: Started, workers: int) -> None:
    await started.up("--workers", workers, AGENTGW_LIMITS__SHUTDOWN_GRACE="500ms")
    async with clients(started.port, 2 * workers) as all_:
        calls = await started.under_way(all_)
        started.gateway.signal()
        for _, stream in calls:
            assert (await stream.rest())[1] == f"UNAVAILABLE: {WORDS}"
        assert await asyncio.to_thread(started.gateway.ended) == 0
    assert "Traceback" not in started.gateway.process.output


async def test_workers_find_each_other_s_tasks(started: Started) -> None:
    await started.up("--workers", 2)
    async with clients(started.port, 2) as begin, clients(started.port, 6) as others:
        calls = await started.under_way(begin)
        streams = [stream for _, stream in calls]
        for agent, stream in calls:
            for client in others:
                watching = await client.subscribed(agent, stream.task_id).begun()
                assert watching.task_id == stream.task_id
                streams.append(watching)
        started.goes_on()
        for stream in streams:
            assert await stream.rest() == (PIECES, "TASK_STATE_COMPLETED")
        for agent, stream in calls:
            assert {await client.state(agent, stream.task_id) for client in others} == {
                "TASK_STATE_COMPLETED"
            }
