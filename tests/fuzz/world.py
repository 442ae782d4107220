"""A whole gateway, as ``agentgw serve`` puts it together, with agents of every protocol behind it: without
sockets, and in a time of its own (``clock``). A client asks, and its answer is judged."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agentgw.cli.wiring import Gateway
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.model import Record
from agentgw.registry.memory import MemoryStore

from .agents import A2A, Acp, Agent, Change, Mcp, Network, member
from .clock import Loop

T = TypeVar("T")
_NAME = re.compile(rb"[\w!#$%&'*+.^`|~-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
TOKEN = "owner-token"
LEAVES = 30.0  # seconds for which a client listens to a stream
PATIENCE = 1000.0  # seconds after which nothing may be waited for any more
LIMITS = Limits(idle_timeout=20.0, total_timeout=100.0, question=15.0, body=1 << 20, shutdown_grace=1.0)
# What tells of the program's inside: the words of a crash, paths, names of exceptions and of Python's types.
INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|/(root|tmp|home|usr)/|\b[A-Z][a-z]\w*(Error|Exception)\b"
    r"|NoneType|msgspec|object at 0x|\bat `\$|\bExpected `"
    r"|<class |can't decode byte|takes \d+ positional|has no attribute"
)
FRONT = ("forbidden", "misdirected")  # whose Host or Origin is not allowed comes to no door
NAMED = re.compile(r'"type":"[A-Za-z]+Error"')  # 0.3's REST names its errors so
AGENTS: dict[str, tuple[str, Callable[[], Agent]]] = {
    "tools": ("mcp", lambda: Mcp(modern=False)),
    "modern": ("mcp", lambda: Mcp(modern=True)),
    "painter": ("a2a", A2A),
    "old": ("a2a", lambda: A2A("0.3")),
    "rest": ("a2a", lambda: A2A("1.0", "HTTP+JSON")),
    "writer": ("acp", Acp),
}


@dataclass
class Ask:
    """A request. ``body`` is JSON, or bytes as they are sent."""

    method: str
    path: str
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def sent(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Client:
    """A client in ASGI's terms: what it sends, and what it got."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._left = asyncio.Event()
        self.gone = self.begun = self.ended = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def receive(self) -> dict[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body}
        await self._left.wait()
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        self.gone = True
        self._left.set()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await asyncio.sleep(0)
        assert not self.ended, "answered twice"
        if message["type"] == "http.response.start":
            assert not self.begun, "answered twice"
            self.begun, self.status = True, message["status"]
            for name, value in message["headers"]:
                assert _NAME.fullmatch(name) and not _CONTROL.search(value), (name, value)
                self.headers[name.decode()] = value.decode("latin-1")
            return
        assert self.begun
        self.body += b"" if self.gone else message.get("body", b"")
        self.ended = not message.get("more_body", False)

    @property
    def events(self) -> list[Any]:
        """The JSON of the stream's events."""
        blocks = self.body.decode().replace("\r\n", "\n").split("\n\n")
        found = ["\n".join(w[6:] for w in b.split("\n") if w.startswith("data: ")) for b in blocks]
        return [strict(data) for data in found if data]

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def json(self) -> Any:
        return strict(self.body.decode())


def strict(text: str) -> Any:
    def no(constant: str) -> None:
        raise ValueError(f"no JSON: {constant}")

    return json.loads(text, parse_constant=no, parse_int=lambda digits: int(digits[:300]))


class Heard(logging.Handler):
    """What was logged as wrong."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.crashes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.exc_info or record.levelno >= logging.ERROR or "Traceback" in text:
            self.crashes.append(text)


class World:
    """The running gateway. Use as a context manager; ``agents`` are names of ``AGENTS``,
    ``change`` is made of their answers from the first."""

    def __init__(self, *agents: str, change: Change | None = None) -> None:
        self.runner = asyncio.Runner(loop_factory=Loop)
        self.names = agents or tuple(AGENTS)
        self.network: Network
        self.gateway: Gateway
        self.ids: dict[str, str] = {}
        self.heard = Heard()
        self._change = change

    def __enter__(self) -> World:
        logging.getLogger().addHandler(self.heard)
        self.run(self._start())
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self.run(self._stop())
        finally:
            self.runner.close()
            logging.getLogger().removeHandler(self.heard)
        if kind is None:
            assert not self.heard.crashes, self.heard.crashes[0]

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    async def _start(self) -> None:
        records = [
            Record(
                name=name,
                protocol=AGENTS[name][0],
                url=f"http://{name}.test/",
                remote="writer" if name == "writer" else None,
            )
            for name in self.names
        ]
        self.gateway = Gateway(
            Config(limits=LIMITS), MemoryStore(records=records), bind="127.0.0.1", token=TOKEN
        )
        self.network = Network({f"{name}.test": AGENTS[name][1]() for name in self.names})
        self.network.change = self._change
        self.gateway.host.transport = self.gateway.hub.transport = self.network
        await self.gateway.start()
        for name in self.names:
            await self.gateway.directory.described(name)

    async def _stop(self) -> None:
        await self.gateway.drain()
        await self.gateway.aclose()
        for _ in range(20):
            await asyncio.sleep(0)
        left = {t for t in asyncio.all_tasks() - {asyncio.current_task()} if not t.done()}
        assert not left, left
        assert self.network.open == 0
        await asyncio.wait_for(self.gateway.app.idle(), 1)

    # --- asking --------------------------------------------------------------------------------

    def ask(self, ask: Ask, leaves: float = LEAVES) -> Client:
        """The answer; a client leaves a stream after a while, and nobody waits for ever."""
        return self.run(self._ask(ask, leaves))

    async def _ask(self, ask: Ask, leaves: float) -> Client:
        path, body = self._meant(ask.path.encode("utf-8", "surrogateescape")), self._meant(ask.sent)
        headers = {"host": "127.0.0.1:8080", **ask.headers}
        if body:
            headers.setdefault("content-type", "application/json")
            headers.setdefault("content-length", str(len(body)))
        client = Client(body)
        lines = [(n.lower().encode("latin-1"), self._meant(v.encode("utf-8"))) for n, v in headers.items()]
        target, _, query = path.partition(b"?")
        scope = {"type": "http", "method": ask.method, "path": target.decode("latin-1"), "raw_path": target,
                 "query_string": query, "headers": lines}  # fmt: skip
        serving = asyncio.ensure_future(self.gateway.app(scope, client.receive, client.send))
        await asyncio.wait([serving], timeout=leaves)
        if not serving.done() and client.streamed:
            client.leave()
        await asyncio.wait([serving], timeout=PATIENCE)
        if not serving.done():
            serving.print_stack()
            raise AssertionError(f"not answered in {PATIENCE} s: {ask}")
        serving.result()
        assert client.ended or client.gone, f"not answered to the end: {ask}"
        return client

    def _meant(self, data: bytes) -> bytes:
        for name, value in self.ids.items():
            data = data.replace(b"$" + name.encode(), value.encode())
        return data

    def prepare(self) -> None:
        """Have tasks, runs and sessions that requests can be about: ``$task`` and so on in their text."""
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "ask"}]}
        call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
        for name, agent in (("task", "painter"), ("foreign", "writer")):
            task = self.ask(Ask("POST", f"/a2a/{agent}", call, {"a2a-version": "1.0"}))
            task = member(task.json, "result", "task")  # none, where a request has taken the agent away
            self.ids |= {name: task["id"], f"{name}context": task["contextId"]} if task else {}
        run = {
            "agent_name": "writer",
            "mode": "sync",
            "input": [{"role": "user", "parts": [{"content": "ask"}]}],
        }
        for name, agent in (("run", "writer"), ("alien", "painter")):
            answer = self.ask(Ask("POST", "/acp/runs", run | {"agent_name": agent})).json
            self.ids |= (
                {name: answer["run_id"], "session": answer["session_id"]} if "run_id" in answer else {}
            )
        client = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}},
                  "clientInfo": {"name": "c", "version": "1"}}  # fmt: skip
        greeting = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
        for name, path in (("mcp", "/mcp"), ("mcptools", "/mcp/tools")):
            hello = self.ask(Ask("POST", path, greeting, {"accept": "application/json, text/event-stream"}))
            self.ids[name] = hello.headers.get("mcp-session-id", "")

    # --- judging -------------------------------------------------------------------------------

    def judge(self, ask: Ask, answer: Client, allowed: Mapping[int, Any] | tuple[int, ...] = ()) -> None:
        """What holds of every answer. ``allowed``: statuses from 500 on that the agents are to blame for."""
        crashes, self.heard.crashes = self.heard.crashes, []
        assert not crashes, crashes[0]
        if answer.gone and not answer.begun:
            return
        assert 200 <= answer.status < 500 or answer.status in allowed, (answer.status, answer.body[:500])
        text = answer.body.decode() + " ".join(answer.headers.values())
        inside = (
            None
            if ask.path.startswith("/api") and answer.status == 400
            else INSIDE.search(NAMED.sub("", text))
        )
        assert inside is None, f"{inside[0]!r} in {text[:1000]}"
        if answer.streamed:
            shown: list[Any] = answer.events
        elif answer.body and "json" in answer.headers.get("content-type", ""):
            shown = [answer.json]
        else:
            return
        for value in shown:
            self._form(ask, answer, value)

    def _form(self, ask: Ask, answer: Client, value: Any) -> None:
        """Errors have the form of the door's protocol."""
        door = ask.path.partition("?")[0].split("/")[1] if "/" in ask.path else ""
        if isinstance(value, dict) and value.get("jsonrpc") == "2.0":
            assert ("result" in value) + ("error" in value) + ("method" in value) == 1, value
            if "error" in value:
                error = value["error"]
                assert isinstance(error["code"], int) and isinstance(error["message"], str), value
            return
        if answer.status in (403, 421) and value.get("error", {}).get("code") in FRONT:
            return
        if door == "mcp":
            assert isinstance(value, dict) and value.get("jsonrpc") == "2.0", value
        if answer.status < 400:
            return
        if door == "acp":
            assert value["code"] in ("server_error", "invalid_input", "not_found"), value
            assert isinstance(value["message"], str), value
        elif "code" not in value:
            error = value["error"]
            assert isinstance(error["message"], str) and isinstance(error["code"], int | str), value
