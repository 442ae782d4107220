"""Every client with every agent, feature by feature: one test for each cell of the table."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from .reply import Reply, Request, contains, words_in_order
from .table import CELLS, is_slow

WORDS = ["one", "two", "three", "four", "five"]
PAUSE = 0.05  # what the peers wait between two pieces
STEPS = 15  # pieces of work, with 0.02 s between two
SECRET = "secret-crash-text"
BYTES = bytes(range(256)) * 5 + b"\x00end"
MADE = bytes((i * 167 + (i >> 8) * 31) % 256 for i in range(1000))  # the peers' own file
VALUE = {"list": [1, 2.5, "ü"], "nested": {"yes": True, "none": None}}

TEXT = "hello wörld 漢字"
TOOLS = {"echo", "add", "make_file", "whoami"}
TOOL_ARGUMENTS = {"message", "data", "files", "context_id", "task_id", "skill"}
NAMES = {"a2a-1.0": "a2a", "a2a-0.3": "a2a-old"}
Client = Any


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class McpAgent:
    """What to ask of the MCP server."""

    def __init__(self, name: str) -> None:
        self.name = name

    def tool(self, tool: str, **arguments: Any) -> Request:
        return Request(self.name, tool=tool, arguments=arguments)

    def call(self, text: str) -> Request:
        return self.tool("echo", text=text)

    def streaming(self) -> Request:
        return self.tool("stream_words", text=" ".join(WORDS))

    def data(self) -> tuple[Request, Any]:
        return self.tool("add", a=2, b=3.5), {"sum": 5.5}

    def files_out(self) -> Request:
        return self.tool("make_file")

    def question(self) -> Request:
        return self.tool("ask")

    def answer(self, text: str) -> Request:
        return Request(self.name, text)

    def error(self, text: str) -> Request:
        return self.tool("fail", message=text)

    def crash(self) -> Request:
        return self.tool("crash")

    def trace(self) -> Request:
        return self.tool("whoami")

    def nobody(self) -> Request:
        return Request("nobody", tool="echo", arguments={"text": "hello"})

    def work(self, token: str, count: int) -> Request:
        return self.tool("work", token=token, count=count)

    def late_error(self, text: str) -> Request:
        return self.tool("give_up", message=text)


class A2aAgent:
    """What to say to the A2A agent: the first word chooses."""

    def __init__(self, name: str) -> None:
        self.name = name

    def say(self, text: str, **more: Any) -> Request:
        return Request(self.name, text, **more)

    def call(self, text: str) -> Request:
        return self.say(f"echo {text}")

    def streaming(self) -> Request:
        return self.say(f"stream {' '.join(WORDS)}")

    def data(self) -> tuple[Request, Any]:
        return self.say("data", data=VALUE), {"got": VALUE}

    def files_in(self, file: tuple[str, str, bytes]) -> Request:
        return self.say("file", file=file)

    def files_out(self) -> Request:
        return self.say("file")

    def remember(self, text: str) -> Request:
        return self.say(f"remember {text}")

    def recall(self) -> Request:
        return self.say("recall")

    def question(self) -> Request:
        return self.say("ask")

    def answer(self, text: str) -> Request:
        return self.say(text)

    def error(self, text: str) -> Request:
        return self.say(f"fail {text}")

    def crash(self) -> Request:
        return self.say("crash")

    def trace(self) -> Request:
        return self.say("trace")

    def nobody(self) -> Request:
        return Request("nobody", "hello")

    def work(self, token: str, count: int) -> Request:
        return self.say(f"work {token} {count}")

    def late_error(self, text: str) -> Request:
        return self.say(f"giveup {text}")


class AcpAgent(A2aAgent):
    """What to say to the ACP agents: there is one for each thing."""

    def to(self, agent: str, text: str, **more: Any) -> Request:
        return Request(f"{self.name}-{agent}" if self.name else agent, text, **more)

    def call(self, text: str) -> Request:
        return self.to("echo", text)

    def streaming(self) -> Request:
        return self.to("echo", " ".join(WORDS))

    def data(self) -> tuple[Request, Any]:
        return self.to("data", "data", data=VALUE), {"got": VALUE}

    def files_in(self, file: tuple[str, str, bytes]) -> Request:
        return self.to("file", "file", file=file)

    def files_out(self) -> Request:
        return self.to("file", "file")

    def remember(self, text: str) -> Request:
        return self.to("memory", text)

    def recall(self) -> Request:
        return self.to("memory", "recall")

    def question(self) -> Request:
        return self.to("approver", "please")

    def answer(self, text: str) -> Request:
        return self.to("approver", text)

    def error(self, text: str) -> Request:
        return self.to("invalid", text)

    def crash(self) -> Request:
        return self.to("failing", "hello")

    def trace(self) -> Request:
        return self.to("trace", "hello")

    def work(self, token: str, count: int) -> Request:
        return self.to("worker", f"{token} {count}")

    def late_error(self, text: str) -> Request:
        return self.to("quitter", text)


def agent_for(kind: str) -> Any:
    if kind.startswith("mcp"):
        return McpAgent(kind)
    return AcpAgent("acp") if kind == "acp" else A2aAgent(NAMES[kind])


def completed(reply: Reply) -> Reply:
    assert reply.state == "completed", reply
    return reply


# --- one function for each feature -----------------------------------------------------------------------


async def discover(client: Client, agent: Any, gateway: Any) -> None:
    mcp_server = isinstance(agent, McpAgent)
    name = "acp-echo" if isinstance(agent, AcpAgent) else agent.name
    if client.protocol == "mcp":
        tools = await client.names()
        if mcp_server:
            assert {f"{name}__{tool}" for tool in TOOLS} <= tools.keys()
            assert tools[f"{name}__add"]["outputSchema"]["properties"] == {"sum": {"type": "number"}}
        else:
            schema = tools[name]["inputSchema"]
            assert schema["required"] == ["message"]
            assert {"message", "data", "files", "context_id", "task_id", "skill"} <= schema[
                "properties"
            ].keys()
    elif client.protocol == "a2a":
        card = await client.card(name)
        skills = [skill["id"] if isinstance(skill, dict) else skill.id for skill in _field(card, "skills")]
        if mcp_server:
            assert set(skills) >= TOOLS
        elif isinstance(agent, AcpAgent):
            assert skills
        else:
            assert {"echo", "stream", "data"} <= set(skills)
    else:
        manifest = (await client.manifests())[name]
        if mcp_server:
            capabilities = manifest["metadata"]["capabilities"]
            assert {"echo", "add", "make_file", "whoami"} <= {
                capability["name"] for capability in capabilities
            }


def _field(card: Any, name: str) -> Any:
    return card[name] if isinstance(card, dict) else getattr(card, name)


async def call(client: Client, agent: Any, gateway: Any) -> None:
    reply = completed(await client.call(agent.call(TEXT)))
    assert TEXT in reply.text or contains(reply.data, TEXT), reply


async def streaming(client: Client, agent: Any, gateway: Any) -> None:
    # The upstream takes 4 pauses from the first word to the last; what is held back arrives in one go, every
    # time. A client that got no processor meanwhile sees one go as well, so it may look again.
    for _ in range(4):
        reply = completed(await client.call(agent.streaming()))
        times = words_in_order(reply.progress, WORDS)
        assert len(times) == len(WORDS), reply.progress
        if min(times[-1], reply.end) - times[0] >= 2 * PAUSE:
            break
    else:
        raise AssertionError(f"the pieces came in one go: {times}, end {reply.end}")
    if isinstance(agent, McpAgent) and client.protocol != "mcp":
        assert reply.text.split() == WORDS, "progress must not be doubled into the output"


async def data(client: Client, agent: Any, gateway: Any) -> None:
    request, expected = agent.data()
    reply = completed(await client.call(request))
    assert contains(reply.data, expected), reply
    if isinstance(agent, McpAgent) and client.protocol != "mcp":
        assert '"sum"' not in reply.text, "structured content must not be doubled by its JSON text"


async def files_in(client: Client, agent: Any, gateway: Any) -> None:
    if isinstance(agent, McpAgent):
        request = agent.tool("receive_file", data=base64.b64encode(BYTES).decode())
        reply = completed(await client.call(request))
        assert contains(reply.data, {"sha256": digest(BYTES), "size": len(BYTES)}), reply
    else:
        file = ("gift.bin", "application/octet-stream", BYTES)
        reply = completed(await client.call(agent.files_in(file)))
        assert digest(BYTES) in reply.sha256, reply


async def files_out(client: Client, agent: Any, gateway: Any) -> None:
    reply = completed(await client.call(agent.files_out()))
    assert digest(MADE) in reply.sha256, reply
    if isinstance(agent, McpAgent):
        assert any(content.startswith(b"\x89PNG") for content in reply.files)


async def context(client: Client, agent: Any, gateway: Any) -> None:
    word = f"w{secrets.token_hex(4)}"
    first = completed(await client.call(agent.remember(word)))
    assert first.context, first
    again = agent.recall()
    again.context = first.context
    second = completed(await client.call(again))
    assert word in second.text, second
    assert second.context == first.context
    other = completed(await client.call(agent.recall()))
    assert word not in other.text, "another conversation must not see it"


async def question(client: Client, agent: Any, gateway: Any) -> None:
    if client.protocol == "mcp" and isinstance(agent, McpAgent):
        reply, questions = await client.call_and_answer(agent.question(), {"colour": "teal"})
        assert (completed(reply).text, questions) == ("You said teal", ["Which colour?"])
        return
    if client.protocol == "mcp":
        # A host with a form for its user is asked in the middle of the call; another gets the question back.
        reply, questions = await client.call_and_answer(agent.question(), {"answer": "teal"})
        assert "You said teal" in completed(reply).text, reply
        assert len(questions) == 1 and "Which colour?" in questions[0], questions
    asked = await client.call(agent.question())
    assert asked.state == "input_required", asked
    assert "Which colour?" in asked.text, asked
    assert asked.task
    answer = agent.answer("teal")
    answer.task, answer.context = asked.task, asked.context
    reply = completed(await client.call(answer))
    assert "You said teal" in reply.text, reply


async def error(client: Client, agent: Any, gateway: Any) -> None:
    reply = await client.call(agent.error("these are my own words"))
    assert reply.state == "failed", reply
    assert "these are my own words" in reply.text, reply


async def crash_hidden(client: Client, agent: Any, gateway: Any) -> None:
    reply = await client.call(agent.crash())
    assert reply.failed, reply
    assert SECRET not in reply.raw, reply


async def unknown_agent(client: Client, agent: Any, gateway: Any) -> None:
    reply = await client.call(agent.nobody())
    assert reply.state == "error", reply
    if client.protocol == "a2a":
        assert "404" in reply.raw or "not found" in reply.raw.lower(), reply
    else:
        assert reply.code == {"mcp": -32602, "acp": "not_found"}[client.protocol], reply


async def trace(client: Client, agent: Any, gateway: Any) -> None:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    request = agent.trace()
    request.traceparent = f"00-{trace_id}-{span_id}-01"
    reply = completed(await client.call(request))
    assert trace_id in reply.raw, reply
    # The upstream was called by a span of the gateway, which belongs to the client's trace.
    seen = re.findall(rf"00-{trace_id}-([0-9a-f]{{16}})-", reply.raw)
    assert seen and span_id not in seen, reply
    spans = await spans_of(gateway, trace_id, seen[0], span_id)
    assert spans[seen[0]]["kind"] == "client", spans
    if agent.name != "mcp-stdio":
        assert spans[seen[0]]["attributes"]["server.address"] == "127.0.0.1", spans
    assert any(span["parent_id"] == span_id and span["kind"] == "server" for span in spans.values()), spans


async def spans_of(gateway: Any, trace_id: str, wanted: str, parent: str) -> dict[str, Any]:
    """The spans that `agentgw traces show` is told of, once the wanted one is among them and a child of the
    parent, which ends later."""
    owner = json.loads((gateway.cli.home / "owner.json").read_text())
    headers = {"authorization": f"Bearer {owner['token']}"}
    spans: dict[str, Any] = {}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as http, asyncio.timeout(60):
        while wanted not in spans or parent not in {span["parent_id"] for span in spans.values()}:
            shown = await http.get(f"/api/traces/{trace_id}")
            if shown.status_code == 200:
                spans = {span["span_id"]: span for span in shown.json()["spans"]}
            else:
                assert shown.status_code == 404, shown.text
            await asyncio.sleep(0.02)
    return spans


async def at_once(client: Client, agent: Any, gateway: Any) -> None:
    texts = [f"call-{secrets.token_hex(6)}" for _ in range(50)]
    replies = await client.call_many([agent.call(text) for text in texts])
    for text, reply in zip(texts, replies, strict=True):
        assert completed(reply)
        assert text in reply.text or contains(reply.data, text), (text, reply)
        assert not any(other in reply.raw for other in texts if other != text)


async def cancel(client: Client, agent: Any, gateway: Any) -> None:
    token = f"t{secrets.token_hex(4)}"
    reply = await client.cancel(
        agent.work(token, 10_000),
        lambda: gateway.journal.holds(f"{token} started"),
        lambda: gateway.journal.holds(f"{token} stopped"),
    )
    assert reply is None or reply.state == "canceled", reply


async def long_task(client: Client, agent: Any, gateway: Any) -> None:
    token = f"t{secrets.token_hex(4)}"
    gateway.journal.hold(token)
    work, back = agent.work(token, STEPS), lambda: gateway.journal.go(token)
    whole_in_order(completed(await client.long_task(work, back)))
    await gateway.journal.holds(f"{token} finished")


async def rejoin(client: Client, agent: Any, gateway: Any) -> None:
    token = f"t{secrets.token_hex(4)}"
    gateway.journal.hold(token)
    work, back = agent.work(token, STEPS), lambda: gateway.journal.go(token)
    whole_in_order(completed(await client.rejoin(work, back)))
    await gateway.journal.holds(f"{token} finished")


def whole_in_order(reply: Reply) -> None:
    """Each piece of the work, once, in order."""
    assert reply.text.split() == [f"p{i}" for i in range(STEPS)], reply


async def late_error(client: Client, agent: Any, gateway: Any) -> None:
    reply = await client.call(agent.late_error("I can go no further"))
    assert reply.state == "failed", reply
    assert "I can go no further" in reply.text, reply
    assert any("p0" in text for _, text in reply.progress), reply


PROVE: dict[str, Callable[[Client, Any, Any], Awaitable[None]]] = {
    "discover": discover,
    "call": call,
    "streaming": streaming,
    "data": data,
    "files in": files_in,
    "files out": files_out,
    "context": context,
    "question": question,
    "error": error,
    "crash hidden": crash_hidden,
    "unknown agent": unknown_agent,
    "trace": trace,
    "50 at once": at_once,
    "cancel": cancel,
    "long task": long_task,
    "rejoin": rejoin,
    "late error": late_error,
}


@pytest.mark.parametrize(
    "client, agent, feature",
    [pytest.param(*cell, marks=[pytest.mark.slow] if is_slow(*cell) else []) for cell in CELLS],
)
async def test_cell(
    client: str,
    agent: str,
    feature: str,
    gateway: Any,
    client_of: Callable[[str, str], Client],
    request: pytest.FixtureRequest,
) -> None:
    if feature in ("long task", "rejoin") and client.startswith("mcp"):
        gateway = request.getfixturevalue("hasty_gateway")
    await PROVE[feature](client_of(client, gateway.url), agent_for(agent), gateway)
