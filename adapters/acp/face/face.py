"""The ACP door: ``/acp``, and its paths at the bare address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from ....gateway.errors import GatewayError
from ....gateway.http.request import ClientGone, Request
from ....gateway.model import Fault
from ....gateway.ports import AgentView, Engine, Handler
from .. import codec, faults, manifests
from ..wire import NOT_FOUND, PAGE
from . import runs, sessions
from .exchange import Exchange
from .ids import Ids, Recent

log = logging.getLogger("agentgw.acp")

MOUNT = "/acp"
Operation = Callable[..., Awaitable[None]]


async def ping(x: Exchange) -> None:
    """GET /ping."""
    await x.request.json(200, {})


async def agents(x: Exchange) -> None:
    """GET /agents. The SDK's clients never page, so without a limit all are shown (at most 1000)."""
    limit = _number(x, "limit", PAGE, 1, PAGE)
    offset = _number(x, "offset", 0, 0, None)
    views = x.engine.agents(x.principal)[offset : offset + limit]
    described = await asyncio.gather(*(_described(x, v) for v in views))
    await x.request.json(200, {"agents": [manifests.manifest(v) for v in described]})


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


# Pattern of the path (without the mount) -> method -> operation; ``{}`` is an argument.
ROUTES: Mapping[tuple[str, ...], Mapping[str, Operation]] = {
    ("ping",): {"GET": ping},
    ("agents",): {"GET": agents},
    ("agents", "{}"): {"GET": agent},
    ("runs",): {"POST": runs.create},
    ("runs", "{}"): {"GET": runs.read, "POST": runs.resume},
    ("runs", "{}", "events"): {"GET": runs.events},
    ("runs", "{}", "cancel"): {"POST": runs.cancel},
    ("session", "{}"): {"GET": sessions.read},
    ("sessions", "{}"): {"GET": sessions.read},
    ("resources", "{}"): {"GET": sessions.resource},
}
ROOTS = frozenset(pattern[0] for pattern in ROUTES)


class ACPFace:
    """Serves every agent to ACP clients."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ids = Ids(engine.items)
        self._seen = Recent()
        self._open: set[asyncio.Task[Any]] = set()
        self._jobs: dict[str, asyncio.Task[None]] = {}

    def mounts(self) -> Sequence[tuple[str, Handler]]:
        return [(MOUNT, self._mounted)]

    def claims(self, request: Request, envelope: Mapping[str, Any] | None) -> bool:
        return request.path.split("/", 2)[1] in ROOTS

    async def root(self, request: Request) -> None:
        await self._serve(request, "")

    async def _mounted(self, request: Request) -> None:
        await self._serve(request, MOUNT)

    def start(self) -> None:
        """Nothing is left to take up: runs of a former process are the hub's."""

    def refusal(self, request: Request, error: GatewayError) -> bytes:
        return msgspec.json.encode(faults.error_json(error.fault()))

    def drain(self) -> None:
        """Every stream here is a run's: nothing ends early."""

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
        segments = request.rest.strip("/").split("/")
        pattern = _match(segments)
        if pattern is None:
            await _plain(request, 404, NOT_FOUND, f"nothing is at {request.rest or '/'}")
            return
        operation = ROUTES[pattern].get(request.method)
        if operation is None:
            allowed = ", ".join(ROUTES[pattern])
            problem = f"{request.method} is not possible here, only {allowed}"
            await _plain(request, 405, faults.INVALID_INPUT, problem, [(b"allow", allowed.encode())])
            return
        arguments = [s for s, p in zip(segments, pattern, strict=True) if p == "{}"]
        await self._perform(request, mount, "/" + "/".join(pattern), operation, arguments)

    async def _perform(
        self, request: Request, mount: str, route: str, operation: Operation, arguments: Sequence[str]
    ) -> None:
        span = self._engine.tracer.start(
            f"{request.method} {route}",
            "server",
            request.trace,
            {
                "http.request.method": request.method,
                "http.route": mount + route,
                "agentgw.client_protocol": "acp",
            },
        )
        x = Exchange(request, self._engine, span, mount, self._ids, self._seen, self._begin)
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await operation(x, *arguments)
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
                await request.json(500, faults.error_json(fault, span.trace_id))
        finally:
            self._open.discard(task)
            span.end(x.error)


def _match(segments: Sequence[str]) -> tuple[str, ...] | None:
    for pattern in ROUTES:
        if len(pattern) == len(segments) and all(
            s == p or (p == "{}" and s) for s, p in zip(segments, pattern, strict=True)
        ):
            return pattern
    return None


async def _plain(
    request: Request,
    status: int,
    code: str,
    message: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    await request.json(status, {"code": code, "message": message, "data": None}, headers=headers)
