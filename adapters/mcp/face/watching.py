"""Updates of single resources, wherever they come from: ``resources/subscribe`` in the handshake era,
``subscriptions/listen`` in the modern one. Either kind of client hears of either kind of server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any

import msgspec

from ....gateway.errors import GatewayError
from .. import wire
from ..upstream.upstream import McpUpstream
from ..wire import Caller, RpcError
from .sessions import Session
from .subscriptions import ACKNOWLEDGED

SUBSCRIBE, UNSUBSCRIBE = "resources/subscribe", "resources/unsubscribe"
PATIENCE = 5.0  # seconds that a server has to acknowledge a subscription
Told = Callable[[str, dict[str, Any]], None]


@contextlib.asynccontextmanager
async def watched(
    server: McpUpstream, uris: Collection[str], caller: Caller, told: Told
) -> AsyncGenerator[None]:
    """Inside the block ``told(method, params)`` gets what ``server`` says of ``uris``. Raises RpcError and
    GatewayError where it can't be subscribed to."""
    if (await server.hello(caller)).era == "modern":
        watch = listening(server, {"resourceSubscriptions": sorted(uris)}, caller, told)
    else:
        watch = _subscribed(server, uris, caller, told)
    async with watch:
        yield


@contextlib.asynccontextmanager
async def listening(
    server: McpUpstream, wanted: Mapping[str, Any], caller: Caller, told: Told
) -> AsyncGenerator[None]:
    """Inside the block ``told`` gets what a modern server says of ``wanted``, the filter of a
    ``subscriptions/listen``. Raises as ``watched``."""
    ready = asyncio.Event()

    async def notified(method: str, params: dict[str, Any]) -> None:
        if method == ACKNOWLEDGED:
            ready.set()
        else:
            told(method, {key: value for key, value in params.items() if key != "_meta"})

    caller = msgspec.structs.replace(caller, on_notification=notified, on_request=None)
    params = {"notifications": dict(wanted)}
    request = asyncio.create_task(server.request(wire.SUBSCRIPTIONS_LISTEN, params, caller=caller))
    acknowledged = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait((request, acknowledged), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if request.done():
            request.result()
        yield
    finally:
        request.cancel()
        acknowledged.cancel()
        await asyncio.gather(request, acknowledged, return_exceptions=True)


@contextlib.asynccontextmanager
async def _subscribed(
    server: McpUpstream, uris: Collection[str], caller: Caller, told: Told
) -> AsyncGenerator[None]:
    """In a session of its own, so that it ends with the block; over stdio, on a process that others share."""

    async def notified(method: str, params: dict[str, Any]) -> None:
        # A server may name a part of what was subscribed to (2025-11-25, server/resources: Subscriptions).
        if method == wire.RESOURCE_UPDATED and str(params.get("uri")).startswith(tuple(uris)):
            told(method, params)

    session = secrets.token_urlsafe(24)
    caller = msgspec.structs.replace(
        caller, session=session, client_capabilities={}, on_notification=notified, on_request=None
    )
    try:
        await server.listen(caller)
        for uri in uris:
            await server.request(SUBSCRIBE, {"uri": uri}, caller=caller)
        yield
    finally:
        await server.end_session(session)


class Watches:
    """The subscriptions that sessions of the handshake era have at modern servers."""

    def __init__(self) -> None:
        self._uris: dict[tuple[str, McpUpstream], set[str]] = {}
        self._jobs: dict[tuple[str, McpUpstream], asyncio.Task[None]] = {}

    async def change(
        self, session: Session, server: McpUpstream, method: str, uri: str, caller: Caller
    ) -> None:
        """``resources/subscribe`` or ``…/unsubscribe`` of one resource; done when the server knows."""
        session.servers.add(self)
        key = (session.id, server)
        uris = self._uris.setdefault(key, set())
        (uris.add if method == SUBSCRIBE else uris.discard)(uri)
        before = self._jobs.pop(key, None)
        if uris:
            ready = asyncio.Event()
            job = self._jobs[key] = asyncio.create_task(_hold(server, set(uris), caller, session.tell, ready))
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait((job, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if before is not None:
            before.cancel()  # only now: between the two nothing may be missed

    async def end_session(self, session: str) -> None:
        """The session is over."""
        for key in [key for key in self._jobs if key[0] == session]:
            self._jobs.pop(key).cancel()
        for key in [key for key in self._uris if key[0] == session]:
            del self._uris[key]

    def close(self) -> None:
        """End all."""
        for job in self._jobs.values():
            job.cancel()


async def _hold(
    server: McpUpstream, uris: Collection[str], caller: Caller, told: Told, ready: asyncio.Event
) -> None:
    with contextlib.suppress(GatewayError, RpcError):
        async with watched(server, uris, caller, told):
            ready.set()
            await asyncio.Event().wait()
