"""Streams of the handshake era that clients lose, or that servers end early, and come back to."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from agentgw.adapters.mcp.face.kept import SOME, Kept
from agentgw.adapters.mcp.face.streams import BYTES, EVENTS, Stream, Streams, Total
from agentgw.gateway.model import (
    Event,
    Finished,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    Started,
    StateChanged,
    TaskState,
    Text,
)

from ....support.memory import MemoryUpstream
from ..conftest import ODD
from .support import Gateway, Raw, by_hand, client, rpc, served

EVENTS_OF_ONE = [
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":%d}}' % n
    for n in range(50)
]
CALL = {"name": "slow", "arguments": {"message": "x"}, "_meta": {"progressToken": "p"}}


class Steps:
    """An agent that says ``begun``, and goes on when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.upstream = MemoryUpstream(self.script)

    async def script(self, call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        yield StateChanged(state=TaskState.WORKING, message=_said("begun"))
        await self.go.wait()
        for i in range(3):
            yield StateChanged(state=TaskState.WORKING, message=_said(f"step {i}"))
        yield Finished(state=TaskState.COMPLETED, message=_said("done"))


def _said(text: str) -> Message:
    return Message(role="agent", parts=(Text(text=text),))


def told(message: Any) -> Any:
    """What a message on the stream says."""
    if "result" in message:
        return message["result"]["content"][0]["text"]
    return message["params"].get("message")


async def test_a_client_that_lost_its_stream_gets_what_it_missed_in_order() -> None:
    steps = Steps()
    async with served(slow=steps.upstream) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        async with raw.stream("POST", rpc("tools/call", CALL, id="c")) as events:
            assert told(await events.next()) == "begun"
            seen = events.id
        steps.go.set()
        async with raw.stream("GET", Last_Event_Id=seen) as again:
            missed = [told(await again.next()) for _ in range(4)]
            with pytest.raises(EOFError):
                await again.next()
        assert missed == ["step 0", "step 1", "step 2", "done"]
        async with raw.stream("GET", Last_Event_Id=again.id) as end:
            with pytest.raises(EOFError):
                await end.next()
    assert not steps.upstream.canceled.is_set()


async def test_a_silent_call_gives_its_client_an_id_to_come_back_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentgw.adapters.mcp.face.reply.PRIMED_AFTER", 0.01)
    steps = Steps()
    call = {"name": "slow", "arguments": {"message": "x"}}
    async with served(slow=steps.upstream) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        async with raw.stream("POST", rpc("tools/call", call)) as events:
            lines = [await anext(events.lines) for _ in range(3)]
        assert lines == ["id: 1-0", "retry: 1000", "data: "]
        steps.go.set()
        async with raw.stream("GET", Last_Event_Id="1-0") as again:
            assert told(await again.next()) == "done"


async def test_clients_before_2025_11_25_get_ids_and_no_event_without_data() -> None:
    steps = Steps()
    async with served(slow=steps.upstream) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize("2025-06-18")
        async with raw.stream("POST", rpc("tools/call", CALL)) as events:
            first = await anext(events.lines)
            assert told(await events.next()) == "begun"
            seen = events.id
        assert first.startswith(":")
        steps.go.set()
        async with raw.stream("GET", Last_Event_Id=seen) as again:
            assert told(await again.next()) == "step 0"


async def test_the_own_stream_goes_on_where_it_was_left() -> None:
    async with served(a=MemoryUpstream()) as gateway, by_hand(f"{gateway.url}/mcp") as raw:
        await raw.initialize()
        async with raw.stream("GET") as events:
            gateway.add(b=MemoryUpstream())
            assert (await events.next())["method"] == "notifications/tools/list_changed"
        session = gateway.face._handshake._sessions._sessions[raw.session["Mcp-Session-Id"]]
        session.list_changed("prompts")  # while nobody listens
        async with raw.stream("GET", Last_Event_Id=events.id) as again:
            assert (await again.next())["method"] == "notifications/prompts/list_changed"


async def test_a_question_waits_for_a_client_that_comes_back(serve: Any) -> None:
    """The server asks while the client's connection is lost: it is asked once it is there again."""
    async with served() as gateway:
        await gateway.add_server("odd", serve(ODD, "--handshake"))
        async with by_hand(f"{gateway.url}/mcp/odd") as raw:
            await raw.initialize(elicitation={})
            call = {"name": "ask", "arguments": {}}
            async with raw.stream("POST", rpc("tools/call", call)) as events:
                asked = await events.next()
            async with raw.stream("GET", Last_Event_Id="1-0") as again:
                assert await again.next() == asked
                answer = {"action": "accept", "content": {"city": "Rome"}}
                await raw.post({"jsonrpc": "2.0", "id": asked["id"], "result": answer})
                assert told(await again.next()) == "accept: Rome"


async def test_a_stream_that_the_server_ends_early_is_polled_by_gateway_and_client(serve: Any) -> None:
    async with served() as gateway:
        await gateway.add_server("odd", serve(ODD, "--handshake"))
        async with by_hand(f"{gateway.url}/mcp/odd") as raw:
            await raw.initialize()
            call = {"name": "hang_up", "arguments": {}, "_meta": {"progressToken": 1}}
            async with raw.stream("POST", rpc("tools/call", call)) as events:
                with pytest.raises(EOFError):
                    await events.next()
            assert events.retry == 10  # as that server wants it
            async with raw.stream("GET", Last_Event_Id=events.id) as again:
                assert told(await again.next()) == "after hanging up"
                assert told(await again.next()) == "here all the same"
        async with client(f"{gateway.url}/mcp/odd", "handshake") as mcp:
            assert (await mcp.call_tool("hang_up", {})).content[0].text == "here all the same"


async def test_the_official_client_misses_nothing(serve: Any) -> None:
    """Its connection breaks in the middle; it comes back by itself."""
    steps = Steps()
    async with served(slow=steps.upstream) as gateway:
        said: list[Any] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            said.append(message)
            if message == "begun":
                (session,) = gateway.face._handshake._sessions._sessions.values()
                (stream,) = [s for s in session.streams._streams.values() if s.number]
                stream.hang_up(0.01)
                steps.go.set()

        async with client(f"{gateway.url}/mcp", "handshake") as mcp:
            result = await mcp.call_tool("slow", {"message": "x"}, progress_callback=progress)
    assert said == ["begun", "step 0", "step 1", "step 2"]
    assert result.content[0].text == "done"


@pytest.mark.parametrize("event", ["", "x", "1-1", "0-99", "7-0", "9" * 5000 + "-0"])
async def test_an_event_that_never_was(gateway: Gateway, raw: Raw, event: str) -> None:
    await raw.initialize()
    async with raw.stream("GET", Last_Event_Id=event) as events:
        assert events.answer.status_code == (400 if event else 200)


async def test_another_sessions_stream_can_not_be_read(gateway: Gateway, raw: Raw) -> None:
    await raw.initialize()
    async with raw.stream("POST", rpc("tools/call", {**CALL, "name": "asker"})) as events:
        await events.next()
    async with by_hand(f"{gateway.url}/mcp") as other:
        await other.initialize()
        async with other.stream("GET", Last_Event_Id=events.id) as stolen:
            assert stolen.answer.status_code == 400


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async def asks(call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        yield StateChanged(state=TaskState.WORKING, message=_said("begun"))
        yield InputRequired(request=InputRequest(message=_said("Which year?")))

    async with served(asker=MemoryUpstream(asks)) as running:
        yield running


@pytest.fixture
async def raw(gateway: Gateway) -> AsyncIterator[Raw]:
    async with by_hand(f"{gateway.url}/mcp") as one:
        yield one


# --- what is kept ------------------------------------------------------------------------------


def test_the_oldest_events_are_forgotten_and_the_answer_is_not() -> None:
    streams = Streams()
    lost, answered = streams.new(), streams.new()
    for stream in (lost, answered):
        stream._known = True
        stream.leave()
    answered.append(b"x" * BYTES)
    answered.end()
    for _ in range(EVENTS + 10):
        lost.append(b"y")
    assert answered.kept == 1
    assert lost.kept < EVENTS
    assert streams.find(f"2-{answered.last}") == (answered, 1)
    assert streams.find(f"1-{lost.last}") == (lost, EVENTS + 10)


def test_all_sessions_together_keep_no_more_than_so_much() -> None:
    total = Total(10_000)

    def opened() -> tuple[Streams, Stream]:
        """A session, and a stream of it whose client has left and knows where to come back."""
        streams = Streams()
        streams.total = total
        stream = streams.new()
        stream._known = True
        stream.leave()
        return streams, stream

    (first, early), (second, later), (third, last) = opened(), opened(), opened()
    for stream in (early, later, last):
        for _ in range(3):
            stream.append(b"x" * 1000)
    last.append(b"x" * 1000)
    assert (early.kept, later.kept, last.kept, total.bytes) == (3, 3, 4, 10_000)
    early.append(b"x" * 500)
    assert (early.kept, later.kept, last.kept) == (4, 2, 4), "who gained something longest ago loses first"
    last.append(b"x" * 5000)
    assert (early.kept, later.kept, last.kept, total.bytes) == (1, 0, 5, 9500)
    third.close()
    assert total.bytes == 500
    last.append(b"x" * 20_000)
    assert total.bytes == 500, "what a session says after its end counts nowhere"
    first.close()
    second.close()
    assert total.bytes == 0


def test_nothing_is_kept_for_a_client_that_can_not_come_back() -> None:
    streams = Streams()
    stream = streams.new()
    stream.leave()
    stream.append(b"x")
    streams.own.append(b"nobody ever listened")
    assert (stream.kept, streams.own.kept, stream.reachable) == (0, 0, False)


@pytest.mark.parametrize("ended", [True, False])
def test_what_clients_left_behind_takes_little_room(ended: bool) -> None:
    streams = [Streams().new() for _ in range(100)]
    tracemalloc.start()
    try:
        for stream in streams:
            stream._known = True
            stream.leave()
            for event in EVENTS_OF_ONE:
                stream.append(b"%b " % event)  # bytes of its own
            if ended:
                stream.end()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [stream.kept for stream in streams] == [50] * 100
    assert held < 100 * sum(map(len, EVENTS_OF_ONE)) / 3


@pytest.mark.parametrize("after", [0, 20, 49, 50])
async def test_who_comes_back_late_gets_what_was_missed_however_often(after: int) -> None:
    streams, client = Streams(), Stalled()
    client.reads.set()
    stream = streams.new()
    stream._known = True
    stream.leave()
    for event in EVENTS_OF_ONE:
        stream.append(event)
    stream.end()
    for _ in range(2):
        client.sent.clear()
        assert await stream.serve(cast("Any", client), (), after, prime=False)
        assert client.sent == EVENTS_OF_ONE[after:]


async def test_who_breaks_off_again_and_comes_back_gets_the_rest() -> None:
    streams, client = Streams(), Stalled()
    stream = streams.new()
    stream._known = True
    stream.leave()
    for event in EVENTS_OF_ONE:
        stream.append(event)
    stream.end()
    serving = asyncio.create_task(stream.serve(cast("Any", client), (), 10, prime=False))
    await client.reading.wait()
    serving.cancel()
    await asyncio.wait([serving])
    assert client.sent == [EVENTS_OF_ONE[10]]
    client.sent.clear()
    client.reads.set()
    assert await stream.serve(cast("Any", client), (), 11, prime=False)
    assert client.sent == EVENTS_OF_ONE[11:]


class Stalled:
    """A client that is connected and does not read."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.reading, self.reads = asyncio.Event(), asyncio.Event()
        self.sent: list[bytes] = []

    async def events(self, *, headers: Any = ()) -> Any:
        return self

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def comment(self) -> None:
        pass

    async def send(self, data: bytes, *, event: str, id: str) -> None:
        self.sent.append(data)
        self.reading.set()
        await self.reads.wait()


async def test_who_stays_and_does_not_read_holds_up_nobody_and_costs_little() -> None:
    streams, client = Streams(), Stalled()
    serving = asyncio.create_task(streams.own.serve(cast("Any", client), (), 0, prime=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for n in range(3 * EVENTS):
        streams.own.append(str(n).encode())
        if not n:
            await asyncio.sleep(0)
    assert streams.own.kept == EVENTS
    streams.own.append(b"x" * 2 * BYTES)
    assert streams.own.kept == 1, "a message is never too large for itself"
    client.reads.set()
    streams.own.end()
    await serving
    assert client.sent[-1] == b"x" * 2 * BYTES


def test_what_is_compressed_meanwhile_comes_and_goes_in_order() -> None:
    kept = Kept()
    for n in range(2 * SOME + 3):
        kept.append(b"%d" % n, awaited=False)
    assert kept.drop() == b"0"
    kept.append(b"last", awaited=False)
    kept.rest()
    assert len(kept) == 2 * SOME + 3
    left = [*(b"%d" % n for n in range(1, 2 * SOME + 3)), b"last"]
    assert [kept[at] for at in range(-len(kept), 0)] == left
