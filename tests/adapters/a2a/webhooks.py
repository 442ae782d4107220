"""Real webhooks on loopback, and a gateway that may call them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentgw.adapters.a2a.face.face import A2AFace
from agentgw.adapters.a2a.upstream.upstream import A2AUpstream
from agentgw.gateway.engine import Hub
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.model import (
    Event,
    Finished,
    InputReply,
    InputRequest,
    InputRequired,
    Invocation,
    Message,
    MessageDelta,
    Record,
    Started,
    TaskState,
    Text,
    text_of,
)
from agentgw.gateway.seal import Sealer
from agentgw.gateway.telemetry import Tracer
from agentgw.registry.memory import MemoryStore

from ...support.memory import MemoryDirectory, MemoryUpstream
from .support import Callers, Gateway, LocalHost, served

SECRETS = {"token": "tok-secret", "authentication": {"scheme": "Bearer", "credentials": "cred-secret"}}
NOBODY = "http://127.0.0.1:9/hook"  # where nothing listens
SOON = 60.0  # seconds: a test that waits longer has failed


@dataclass
class Notification:
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def kind(self) -> str:
        """The member of a 1.0 notification, or 0.3's ``kind``."""
        return self.body.get("kind") or next(iter(self.body))

    @property
    def task_id(self) -> str:
        inner = self.body if "kind" in self.body else self.body[self.kind]
        return inner.get("taskId") or inner["id"]

    @property
    def state(self) -> str:
        inner = self.body if "kind" in self.body else self.body[self.kind]
        return inner.get("status", {}).get("state", "").removeprefix("TASK_STATE_").lower()


@dataclass
class Webhook:
    """A receiver. ``answers``: what it says to the next calls (a status, or what makes the response); then
    always 200."""

    url: str
    answers: list[int | Callable[[], Awaitable[Response]]] = field(default_factory=list)
    got: list[Notification] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, reached: Callable[[list[Notification]], Any]) -> Any:
        """Wait for the calls to be so; what ``reached`` says."""
        async with asyncio.timeout(SOON), self.news:
            await self.news.wait_for(lambda: reached(self.got))
        return reached(self.got)

    async def told(self, state: str, task_id: str = "") -> Notification:
        """The first notification of this state (of this task)."""
        return await self.until(
            lambda got: next((n for n in got if n.state == state and n.task_id.startswith(task_id)), None)
        )

    async def receive(self, request: Request) -> Response:
        body = await request.body()
        async with self.news:
            self.got.append(Notification(request.url.path, dict(request.headers), json.loads(body)))
            self.news.notify_all()
        answer = self.answers.pop(0) if self.answers else 200
        return Response(status_code=answer) if isinstance(answer, int) else await answer()


@contextlib.asynccontextmanager
async def webhook(*answers: int | Callable[[], Awaitable[Response]]) -> AsyncIterator[Webhook]:
    hook = Webhook("", list(answers))
    app = Starlette(routes=[Route("/{rest:path}", hook.receive, methods=["GET", "POST"])])
    async with served(app) as url:
        hook.url = f"{url}/hook"
        yield hook


class SpyingHost(LocalHost):
    """A host that remembers what was sent to the agents."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        inner = self.transport
        request, stream = inner.request, inner.stream
        inner.request = lambda *a, **k: (self.sent.append(k.get("body") or b""), request(*a, **k))[1]  # type: ignore[method-assign]
        inner.stream = lambda *a, **k: (self.sent.append(k.get("body") or b""), stream(*a, **k))[1]  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def pushing(
    *,
    allow: tuple[str, ...] = ("127.0.0.0/8",),
    store: MemoryStore | None = None,
    sealer: Sealer | None = None,
    host: LocalHost | None = None,
    **agents: MemoryUpstream | str,
) -> AsyncIterator[Gateway]:
    """A started gateway in front of memory upstreams, or of A2A agents by URL (called over ``host``)."""
    directory = MemoryDirectory({n: a for n, a in agents.items() if not isinstance(a, str)})
    views: dict[str, Any] = dict(directory.views())
    template = next(iter(MemoryDirectory({"x": MemoryUpstream()}).views().values()))
    for name, url in agents.items():
        if isinstance(url, str):
            record = Record(name=name, protocol="a2a", url=url)
            upstream = A2AUpstream(record, host or LocalHost())
            (agent,) = await upstream.describe()
            views[name] = msgspec.structs.replace(template, record=record, agent=agent, upstream=upstream)
    directory._views = views  # pyright: ignore[reportPrivateUsage]
    hub = Hub(directory, store or MemoryStore(), Tracer(), LocalHost(allow).config, sealer)
    face = A2AFace(hub)

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nothing else is served here")

    app = App([face], nothing, Doors("127.0.0.1", ""), access=Callers(), body_limit=1 << 20)
    await hub.start()
    face.start()
    async with served(app) as url, httpx.AsyncClient(timeout=60) as http:
        try:
            yield Gateway(url, hub, http)
        finally:
            await face.aclose()
            await hub.aclose()
            await hub.transport.aclose()


def sending(text: str, url: str, *, wait: bool = True, task_id: str = "", **config: Any) -> dict[str, Any]:
    """The parameters of a 1.0 message with a webhook."""
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}
    if task_id:
        message["taskId"] = task_id
    configuration: dict[str, Any] = {"taskPushNotificationConfig": {"url": url, **config}}
    if not wait:
        configuration["returnImmediately"] = True
    return {"message": message, "configuration": configuration}


async def begun(gw: Gateway, text: str, url: str, **config: Any) -> dict[str, Any]:
    """The task of such a message to ``worker``, as soon as there is one."""
    params = sending(text, url, wait=False, **config)
    return (await gw.rpc("/a2a/worker", "SendMessage", params))["result"]["task"]


async def registered(gw: Gateway, task: dict[str, Any], url: str, **config: Any) -> None:
    """One more webhook for a task of ``worker``."""
    params = {"taskId": task["id"], "url": url, **config}
    assert "result" in await gw.rpc("/a2a/worker", "CreateTaskPushNotificationConfig", params)


def states(got: Sequence[Notification]) -> list[str]:
    """The states that were told, each once."""
    found: list[str] = []
    for state in (n.state for n in got):
        if state and state not in found[-1:]:
            found.append(state)
    return found


class Stepwise(MemoryUpstream):
    """An agent that says ``pieces`` pieces, when it may (``go``) ``more``, and ends. To ``ask`` it asks."""

    def __init__(self, pieces: int = 1, more: int = 0) -> None:
        super().__init__(self._run, self._answered)
        self.go = asyncio.Event()
        self.pieces, self.more = pieces, more

    async def _run(self, call: Invocation) -> AsyncIterator[Event]:
        yield Started()
        if text_of(call.message.parts) == "ask":
            question = Message(role="agent", parts=(Text(text="Which colour?"),))
            yield InputRequired(request=InputRequest(message=question))
            return
        for n in range(self.pieces):
            yield MessageDelta(parts=(Text(text=f"{n} "),))
        await self.go.wait()
        for n in range(self.pieces, self.pieces + self.more):
            yield MessageDelta(parts=(Text(text=f"{n} "),))
        yield Finished(state=TaskState.COMPLETED)

    async def _answered(self, reply: InputReply) -> AsyncIterator[Event]:
        yield Started()
        yield Finished(state=TaskState.COMPLETED)


def finishing(pieces: int = 1) -> Stepwise:
    agent = Stepwise(pieces)
    agent.go.set()
    return agent
