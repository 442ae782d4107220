"""Whatever an agent answers: its client gets a valid answer, or an error in its protocol, and no word about
the inside; and the gateway is well afterwards."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from ..support.examples import examples
from . import schemas
from .agents import BREAKS, HANGS, Answer, Asked, member
from .asking import BOTH, META, MODERN
from .malformed import damaged, junk, tree, write
from .world import AGENTS, Ask, World

ALLOWED = (500, 502, 504)  # the agent is to blame
MODES = ["sync", "async", "stream"]
TEXTS = ["hi", "stream", "ask", "fail", "work", "message"]


def calls(agent: str, text: str) -> list[Ask]:
    """The ways in which clients ask it to do what ``text`` says."""
    mcp = AGENTS[agent][0] == "mcp"
    arguments = {"text": text} if mcp else {"message": text}
    tool = "echo" if mcp else agent
    parts: list[Any] = [{"data": {"tool": "echo", "arguments": arguments}} if mcp else {"text": text}]
    words: Any = (
        {"content": write(parts[0]["data"]).decode(), "content_type": "application/json"}
        if mcp
        else {"content": text}
    )
    own = {**BOTH, "mcp-protocol-version": MODERN}
    message = {"messageId": "m", "role": "ROLE_USER", "parts": parts}
    run = {"agent_name": agent, "input": [{"role": "user", "parts": [words]}]}

    def rpc(method: str, params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}

    def modern(door: str, method: str, name: str, params: dict[str, Any]) -> Ask:
        named = {"mcp-name": name} if name else {}
        return Ask(
            "POST", door, rpc(method, {"_meta": META, **params}), {**own, "mcp-method": method, **named}
        )

    named = f"{agent}__{tool}" if mcp else tool
    return [
        modern(f"/mcp/{agent}", "tools/call", tool, {"name": tool, "arguments": arguments}),
        modern("/mcp", "tools/call", named, {"name": named, "arguments": arguments}),
        modern(f"/mcp/{agent}", "tools/list", "", {}),
        modern("/mcp", "resources/read", "file:///a.txt", {"uri": "file:///a.txt"}),
        Ask("POST", f"/mcp/{agent}", rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
         "clientInfo": {}}), BOTH),
        Ask("POST", f"/mcp/{agent}", rpc("tools/call", {"name": tool, "arguments": arguments}), BOTH),
        Ask("POST", f"/a2a/{agent}", rpc("SendMessage", {"message": message})),
        Ask("POST", f"/a2a/{agent}", rpc("SendStreamingMessage", {"message": message})),
        Ask("POST", f"/a2a/{agent}", rpc("message/stream", {"message": {
            "kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text",
             "text": text}]}})),
        Ask("POST", f"/a2a/{agent}/message:send", {"message": message}),
        Ask("POST", f"/a2a/{agent}/message:stream", {"message": message}),
        Ask("GET", f"/a2a/{agent}/.well-known/agent-card.json"),
        Ask("GET", f"/a2a/{agent}/extendedAgentCard"),
        Ask("POST", "/acp/runs", {**run, "mode": "sync"}),
        Ask("POST", "/acp/runs", {**run, "mode": "stream"}),
        Ask("POST", "/acp/runs", {**run, "mode": "async"}),
        Ask("GET", "/acp/agents"),
        Ask("GET", f"/acp/agents/{agent}"),
        Ask("POST", f"/api/agents/{agent}/call", {"text": text}, {"authorization": "Bearer owner-token"}),
    ]  # fmt: skip


_STATUSES = [
    200,
    200,
    201,
    202,
    204,
    301,
    400,
    401,
    403,
    404,
    405,
    409,
    410,
    413,
    429,
    500,
    502,
    503,
    600,
]
_HEADERS = [
    ("content-type", "text/html"), ("content-type", "text/event-stream"), ("content-type",
     "application/json"), ("content-type", ""),
     ("content-type", "application/json; charset=latin-1"), ("mcp-session-id", ""), ("mcp-session-id",
      "é\x01"), ("run-id", "x"),
     ("a2a-extensions", "é"), ("retry-after", "²"), ("location", "http://x.example/"), ("www-authenticate",
      "Bearer"),
]  # fmt: skip
_BYTES = [
    b"", b"\n", b"<html>Traceback (most recent call last):\n KeyError: 'x'</html>", b"data: \n\n",
    b"data: {}\n\n", b"data\n\n", b"\xff\xfe",
     b"id: \xff\nevent: \xff\ndata: {}\n\n", b"retry: " + b"9" * 5000 + b"\n\n",
     b"event: error\ndata: {\n\n", b": \n\n", b"data: [" * 4000,
     b"null", b"[]", b"{}", b"[{}]", b'"x"', b"1", b"{" * 5000, b"\r", b"data: {}\r\r",
      b"\xef\xbb\xbfdata: {}\n\n",
]  # fmt: skip


_KINDS = ["json"] * 8 + ["bytes", "bytes", "status", "header", "break", "hang", "again", "mode", "cut"]


class Faults:
    """A ``Change``: the answer number ``first``, or all from it on (``always``), are made others."""

    def __init__(self, seed: int, first: int, always: bool) -> None:
        self._random = random.Random(seed)
        self._kind = self._random.choice(_KINDS)
        self._first = first
        self._always = always
        self._number = 0
        self.given: list[Any] = []

    def __call__(self, asked: Asked, answer: Answer) -> Answer:
        self._number += 1
        if self._number < self._first or self._number > (self._first + 10 if self._always else self._first):
            return answer
        answer = self._changed(copy.deepcopy(answer))
        self.given.append((asked.method, asked.path, asked.body[:200], answer))
        return answer

    def _changed(self, answer: Answer) -> Answer:
        pick, pieces = self._random.choice, answer.pieces
        at = pick(range(max(len(pieces), 1)))
        match self._kind:
            case "json":
                old = pieces[at] if pieces else {}
                if isinstance(old, dict | list):
                    new = write(tree(old, pick))
                    new = damaged(new, pick) if pick(range(6)) == 0 else new
                    pieces[at : at + 1] = [
                        b"data: %b\n\n" % new.replace(b"\n", b" ") if answer.events else new
                    ]
            case "bytes":
                pieces[at:at] = [pick([*_BYTES, junk(pick)])]
                if pick([True, False]):
                    del pieces[at + 1 :]
            case "status":
                answer.status = pick(_STATUSES)
            case "header":
                answer.headers = [pick(_HEADERS), *pick([[], answer.headers])]
            case "break" | "hang":
                pieces[at : at + pick([0, 1])] = [BREAKS if self._kind == "break" else HANGS]
            case "again":
                pieces[at:at] = pieces[: pick([1, 2, 3])]
            case "mode":
                answer.events = not answer.events
            case _:
                del pieces[at:]
        return answer


faults = st.builds(Faults, st.integers(0, 2**32), st.integers(1, 6), st.booleans())


@pytest.mark.parametrize("agent", AGENTS)
def test_what_an_agent_answers(agent: str) -> None:
    @examples(45)
    @given(st.sampled_from(TEXTS), st.integers(0, 18), faults)
    def answers(text: str, way: int, change: Faults) -> None:
        ask, well = calls(agent, text)[way], calls(agent, "hi")[way]
        with World(agent) as world:
            world.network.change = change
            answer = world.ask(ask)
            note(f"{ask}\n{change.given}\n{answer.status} {answer.body!r}")
            world.judge(ask, answer, ALLOWED)
            if not ask.path.startswith(f"/{AGENTS[agent][0]}"):  # else it is the agent's own answer
                schemas.check(ask, answer)
            world.network.change = None
            world.judge(well, world.ask(well), ALLOWED)

    answers()


def later(task: str, context: str, run: str) -> list[Ask]:
    """What clients ask about a task that waits for them, as A2A and as ACP."""

    def rpc(method: str, **params: Any) -> Ask:
        return Ask("POST", "/a2a/{agent}", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    message = {
        "messageId": "n",
        "role": "ROLE_USER",
        "parts": [{"text": "hi"}],
        "taskId": task,
        "contextId": context,
    }
    words = {"type": "message", "message": {"role": "user", "parts": [{"content": "hi"}]}}
    return [
        rpc("GetTask", id=task),
        rpc("CancelTask", id=task),
        rpc("SubscribeToTask", id=task),
        rpc("SendMessage", message=message),
        rpc("SendStreamingMessage", message=message),
        rpc("ListTasks"),
        rpc("tasks/cancel", id=task),
        Ask("GET", f"/acp/runs/{run}"),
        Ask("GET", f"/acp/runs/{run}/events"),
        Ask("POST", f"/acp/runs/{run}/cancel", {}),
        *(Ask("POST", f"/acp/runs/{run}", {"run_id": run, "await_resume": words, "mode": m}) for m in MODES),
        Ask("POST", f"/api/tasks/{task}/cancel", {}, {"authorization": "Bearer owner-token"}),
    ]


@pytest.mark.parametrize("agent", AGENTS)
def test_what_an_agent_answers_about_a_task(agent: str) -> None:
    @examples(24)
    @given(st.sampled_from(["ask", "work"]), st.integers(0, 13), faults)
    def answers(text: str, number: int, change: Faults) -> None:
        with World(agent) as world:
            begin = calls(agent, text)
            begin[6].body["params"]["configuration"] = {"returnImmediately": True}
            task = member(world.ask(begin[6]).json, "result", "task") or {}
            run = world.ask(begin[15]).json
            ask = later(task.get("id", "x"), task.get("contextId", "x"), run.get("run_id", "x"))[number]
            ask.path = ask.path.replace("{agent}", agent)
            world.network.change = change
            answer = world.ask(ask)
            note(f"{ask}\n{change.given}\n{answer.status} {answer.body!r}")
            world.judge(ask, answer, ALLOWED)

    answers()


@pytest.mark.parametrize("agent", AGENTS)
def test_how_an_agent_describes_itself(agent: str) -> None:
    @examples(16)
    @given(faults)
    def describes(change: Faults) -> None:
        with World(agent, change=change) as world:
            note(str(change.given))
            for ask in calls(agent, "hi"):
                answer = world.ask(ask)
                note(f"{ask}\n{answer.status} {answer.body!r}")
                world.judge(ask, answer, ALLOWED)

    describes()


@pytest.mark.parametrize("agent", AGENTS)
def test_what_is_found_at_a_url(agent: str) -> None:
    """An agent is registered whose protocol is to be found out."""

    @examples(6)
    @given(faults, st.sampled_from(["auto", AGENTS[agent][0], "acp"]))
    def finds(change: Faults, protocol: str) -> None:
        with World(agent) as world:
            world.network.change = change
            body = {"name": "new", "url": f"http://{agent}.test/", "protocol": protocol}
            ask = Ask("POST", "/api/agents", body, {"authorization": "Bearer owner-token"})
            answer = world.ask(ask)
            note(f"{ask}\n{change.given}\n{answer.status} {answer.body!r}")
            world.judge(ask, answer, ALLOWED)
            world.network.change = None
            check = Ask("POST", "/api/agents/new/check", b"", {"authorization": "Bearer owner-token"})
            world.judge(check, world.ask(check), ALLOWED)

    finds()
