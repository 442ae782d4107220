"""The door driven by the official SDK's client: relayed to the SDK's own server, and translated."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from agentgw.gateway.model import (
    Event,
    Finished,
    Invocation,
    Message,
    MessageDone,
    Principal,
    Started,
    TaskState,
    Text,
)

from ...support.memory import MemoryUpstream
from .conftest import Gateway, Sdk
from .test_face import answers, asks, endless

pytestmark = pytest.mark.slow


def part(text: str) -> dict[str, Any]:
    return {"content_type": "text/plain", "content": text}


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [e["part"]["content"] for e in events if e["type"] == "message.part"]


@pytest.fixture
def agents(gateway: Gateway, peer: str) -> Gateway:
    """Agents of the SDK's server under names of our own, and translated ones."""
    for name in ("echo", "artist", "file", "memory", "approver", "failing", "invalid"):
        gateway.relay(f"our-{name}", peer, name)
    gateway.add("plain", MemoryUpstream())
    gateway.add("asking", MemoryUpstream(asks, answers))
    gateway.peer = peer
    return gateway


async def test_the_sdk_is_served(agents: Gateway, python_sdk: Sdk) -> None:
    _, listed = await python_sdk("agents", agents.acp)
    assert {"our-echo", "plain"} <= {m["name"] for m in listed["done"]}
    _, found = await python_sdk("agent", agents.acp, agent="our-echo")
    assert found["done"]["name"] == "our-echo"

    for agent in ("our-echo", "plain"):
        events, last = await python_sdk("stream", agents.acp, agent=agent, parts=[part("a b c")])
        assert last["done"] is None and "".join(texts(events)) == "a b c" and len(texts(events)) == 3
        assert events[-1]["type"] == "run.completed" and events[-1]["run"]["agent_name"] == agent
        _, run = await python_sdk("status", agents.acp, run=events[-1]["run"]["run_id"])
        assert run["done"] == events[-1]["run"]
        _, run = await python_sdk("sync", agents.root, agent=agent, parts=[part("a b")])
        assert "".join(p["content"] for p in run["done"]["output"][0]["parts"]) == "a b"


async def test_questions_are_answered(agents: Gateway, python_sdk: Sdk) -> None:
    for agent in ("our-approver", "asking"):
        asked, _ = await python_sdk("stream", agents.acp, agent=agent, parts=[part("paint")])
        assert asked[-1]["type"] == "run.awaiting"
        assert asked[-1]["run"]["await_request"]["message"]["parts"][0]["content"] == "Which colour?"
        run_id = asked[-1]["run"]["run_id"]
        events, _ = await python_sdk("resume", agents.acp, run=run_id, parts=[part("red")])
        assert events[0]["type"] == "run.in-progress" and texts(events) == ["You said red"]
        _, again = await python_sdk("resume", agents.acp, run=run_id, parts=[part("red")])
        assert "does not wait" in again["error"]["message"]


async def test_long_work_is_come_back_for(agents: Gateway, python_sdk: Sdk) -> None:
    agents.relay("our-slow", agents.peer, "slow")
    agents.add("endless", MemoryUpstream(endless))
    for agent in ("our-echo", "plain"):
        _, begun = await python_sdk("async", agents.acp, agent=agent, parts=[part("a b")])
        run_id = begun["done"]["run_id"]
        await (await agents.hub.task(run_id, Principal())).settled()
        _, run = await python_sdk("status", agents.acp, run=run_id)
        events, _ = await python_sdk("events", agents.acp, run=run_id)
        assert run["done"]["status"] == "completed" and "".join(texts(events)) == "a b"
        assert events[-1]["run"]["output"] == run["done"]["output"]
    for agent in ("our-slow", "endless"):
        _, begun = await python_sdk("async", agents.acp, agent=agent, parts=[part("60")])
        run_id = begun["done"]["run_id"]
        _, canceled = await python_sdk("cancel", agents.acp, run=run_id)
        assert canceled["done"]["status"] == "cancelling"
        handle = await agents.hub.task(run_id, Principal())
        if agent == "endless":
            handle.runner.cancel()  # type: ignore[attr-defined]
        assert (await handle.settled()).state is TaskState.CANCELED
        _, run = await python_sdk("status", agents.acp, run=run_id)
        assert run["done"]["status"] == "cancelled"


async def test_comments_on_silent_streams_disturb_nobody(
    agents: Gateway, python_sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentgw.adapters.acp.face.exchange.HEARTBEAT", 0.01)
    agents.relay("our-slow", agents.peer, "slow")
    agents.add("slowly", MemoryUpstream(slowly))
    for agent in ("our-slow", "slowly"):
        events, last = await python_sdk("stream", agents.acp, agent=agent, parts=[part("0.3")])
        assert last["done"] is None and texts(events) == ["done"], last
        assert [e["type"] for e in events][-3:] == ["message.part", "message.completed", "run.completed"]


async def slowly(call: Invocation) -> AsyncIterator[Event]:
    yield Started(task_id="up-1")
    await asyncio.sleep(0.3)
    yield MessageDone(message=Message(role="agent", parts=(Text(text="done"),)))
    yield Finished(state=TaskState.COMPLETED)


async def test_a_session_goes_on(agents: Gateway, python_sdk: Sdk) -> None:
    session = str(uuid4())
    first, _ = await python_sdk(
        "stream", agents.acp, agent="our-memory", parts=[part("one")], session=session
    )
    assert first[-1]["run"]["session_id"] == session
    second, _ = await python_sdk(
        "stream", agents.acp, agent="our-memory", parts=[part("two")], session=session
    )
    assert texts(second) == ["one"]


async def test_files_and_parts_pass(agents: Gateway, python_sdk: Sdk) -> None:
    content = base64.b64encode(bytes(range(256))).decode()
    sent = {"name": "a.bin", "content_type": "x/y", "content_encoding": "base64", "content": content}
    events, _ = await python_sdk("stream", agents.acp, agent="our-file", parts=[sent])
    assert texts(events) == [content]
    events, _ = await python_sdk("stream", agents.acp, agent="our-artist", parts=[part("draw")])
    kinds = [e["part"]["metadata"] and e["part"]["metadata"]["kind"] for e in events if "part" in e]
    assert kinds == ["trajectory", None, None, None, "citation"]


async def test_failures_are_clear(agents: Gateway, python_sdk: Sdk) -> None:
    events, _ = await python_sdk("stream", agents.acp, agent="our-failing", parts=[part("x")])
    assert events[-1]["run"]["error"]["message"] == "our-failing failed" and "secret" not in str(events)
    events, _ = await python_sdk("stream", agents.acp, agent="our-invalid", parts=[part("no such city")])
    assert events[-1]["run"]["error"] == {"code": "invalid_input", "message": "no such city", "data": None}
    _, last = await python_sdk("stream", agents.acp, agent="nobody", parts=[part("x")])
    assert last["error"]["code"] == "not_found" and last["error"]["message"] == "unknown agent: nobody"
