"""The ACP door: ``/acp``, and its paths at the bare address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from ....gateway.errors import Draining, GatewayError
from ....gateway.http.request import ClientGone, Request
from ....gateway.mentions import mentions
from ....gateway.model import Fault
from ....gateway.ports import AgentView, Engine, Handler
from ....gateway.readable import UNREADABLE
from .. import codec, faults, manifests
from ..wire import NOT_FOUND, PAGE
from . import runs, sessions
from .exchange import Exchange, House

log = logging.getLogger("agentgw.acp")

MOUNT = "/acp"
_encode = msgspec.json.Encoder().encode
Operation = Callable[..., Awaitable[None]]


async def ping(x: Exchange) -> None:
    """GET /ping."""
    await x.request.json(200, {})


async def agents(x: Exchange) -> None:
    """GET /agents. The SDK's clients never page, so without a limit all are shown (at most 1000)."""
    limit = _number(x, "limit", PAGE, 1, PAGE)
    offset = _number(x, "offset", 0, 0, None)
    views = x.engine.agents(x.principal)
    body = x.house.pages.of(views).get((offset, limit))
    if body is None:
        shown = views[offset : offset + limit]
        new = await asyncio.gather(*(_described(x, v) for v in shown if v.agent is None))
        told = {v.name: v for v in new}
        body = _encode({"agents": [manifests.manifest(told.get(v.name, v)) for v in shown]})
        if not new:
            x.house.pages.keep(views, (offset, limit), body)
    await x.request.respond(200, body)


async def agent(x: Exchange, name: str) -> None:
    """GET /agents/{name}."""
    view = await _described(x, x.engine.agent(name, x.principal))
    x.about(view)
    await x.request.json(200, manifests.manifest(view))


async def _described(x: Exchange, view: AgentView) -> AgentView:
    return view if view.agent is not None else await x.engine.described(view.name, x.principal)


def _number(x: Exchange, name: str, default: int, least: int, most: int | None) -> int:
    raw = x.request.query.get(name)
    if raw is None:
        return default
    value = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 100 else -1
    if value < least or (most is not None and value > most):
        raise codec.wrong(name, f"expected a number from {least}" + (f" to {most}" if most else ""))
    return value


# Pattern of the path (without the mount) -> method -> operation; ``{}``, always second, is an argument.
ROUTES: Mapping[str, Mapping[str, Operation]] = {
    "/ping": {"GET": ping},
    "/agents": {"GET": agents},
    "/agents/{}": {"GET": agent},
    "/runs": {"POST": runs.create},
    "/runs/{}": {"GET": runs.read, "POST": runs.resume},
    "/runs/{}/events": {"GET": runs.events},
    "/runs/{}/cancel": {"POST": runs.cancel},
    "/session/{}": {"GET": sessions.read},
    "/sessions/{}": {"GET": sessions.read},
    "/resources/{}": {"GET": sessions.resource},
}
ROOTS = frozenset(pattern.split("/")[1] for pattern in ROUTES)


class ACPFace:
    """Serves every agent to ACP clients."""

    def __init__(self, engine: Engine) -> None:
        self._house = House(engine, self._begin)
        self._open: set[asyncio.Task[Any]] = set()
        self._jobs: dict[str, asyncio.Task[None]] = {}

    def mounts(self) -> Sequence[tuple[str, Handler]]:
        return [(MOUNT, self._mounted)]

    def claims(self, request: Request, envelope: Mapping[str, Any] | None) -> bool:
        return request.path.split("/", 2)[1] in ROOTS

    async def root(self, request: Request) -> None:
        await self._serve(request, "")

    def _mounted(self, request: Request) -> Awaitable[None]:
        return self._serve(request, MOUNT)

    def home(self, request: Request, body: bytes) -> str | Awaitable[str | None] | None:
        match request.rest.strip("/").split("/"):
            case ["runs"] if request.method == "POST":
                shown = _session(body)
            case ["runs" | "session" | "sessions", shown, *_]:
                pass
            case ["resources", name]:
                shown = name.split(".")[1] if name.count(".") == 2 else name.rpartition("-")[0]
            case _:
                return None
        return self._house.ids.original(shown) if shown else None

    def start(self) -> None:
        """Nothing is left to take up: runs of a former process are the hub's."""

    def public(self, request: Request) -> bool:
        return False

    def refusal(self, request: Request, error: GatewayError) -> bytes:
        return msgspec.json.encode(faults.error_json(error.fault()))

    def drain(self) -> None:
        """Every stream here is a run's: nothing ends early."""

    def cut(self) -> None:
        for end in list(self._house.waiting):
            end(Draining())

    async def aclose(self) -> None:
        """End open requests: what they watch goes on without them."""
        for task in self._open:
            task.cancel()

    def _begin(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        if name in self._jobs:
            job.close()
            return
        task = self._jobs[name] = asyncio.create_task(job)
        self._open.add(task)
        task.add_done_callback(lambda _: (self._open.discard(task), self._jobs.pop(name)))

    # --- one request -------------------------------------------------------------------------

    async def _serve(self, request: Request, mount: str) -> None:
        route, argument = _route(request.rest)
        methods = ROUTES.get(route)
        if methods is None:
            await _plain(request, 404, NOT_FOUND, f"nothing is at {request.rest or '/'}")
            return
        operation = methods.get(request.method)
        if operation is None:
            allowed = ", ".join(methods)
            problem = f"{request.method} is not possible here, only {allowed}"
            await _plain(request, 405, faults.INVALID_INPUT, problem, [(b"allow", allowed.encode())])
            return
        x = Exchange(request, self._house, mount, route)
        task = x.task
        self._open.add(task)
        try:
            await (operation(x) if argument is None else operation(x, argument))
        except GatewayError as e:
            await x.refuse(e)
        except ClientGone:
            x.error = "canceled"
        except asyncio.CancelledError:
            x.error = "canceled"
            raise
        except Exception:
            log.exception("a request failed: %s %s", request.method, request.path)
            x.error = "internal"
            if not request.responded:
                fault = Fault(code="internal", message="internal error")
                await request.json(500, faults.error_json(fault, x.span.trace_id))
        finally:
            self._open.discard(task)
            x.span.end(x.error)


class _Session(msgspec.Struct):
    id: Any = None


class _Head(msgspec.Struct):
    session_id: Any = None
    session: _Session | None = None


def _session(body: bytes) -> str | None:
    """The session that a new run names."""
    if not mentions(body, b"session"):
        return None
    try:
        head = msgspec.json.decode(body, type=_Head)
    except UNREADABLE:
        return None
    found = head.session.id if head.session is not None else head.session_id
    return found if isinstance(found, str) else None


def _route(path: str) -> tuple[str, str | None]:
    """The pattern of a path, and the argument in it."""
    if path in ROUTES and "{" not in path:
        return path, None
    segments = path.strip("/").split("/")
    argument = None
    if len(segments) > 1 and segments[1]:
        argument, segments[1] = segments[1], "{}"
    return "/" + "/".join(segments), argument


async def _plain(
    request: Request,
    status: int,
    code: str,
    message: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    await request.json(status, {"code": code, "message": message, "data": None}, headers=headers)
