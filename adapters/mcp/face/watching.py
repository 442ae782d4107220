"""Updates of single resources, wherever they come from: ``resources/subscribe`` in the handshake era,
``subscriptions/listen`` in the modern one. Either kind of client hears of either kind of server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
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
MOST = 1 << 20  # characters of the URIs that one session may watch at one server
PATIENCE = 5.0  # seconds that a server has to acknowledge a subscription
Told = Callable[[str, dict[str, Any]], None]


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


class Watches:
    """All that is watched. Sessions of the handshake era have theirs at modern servers kept here."""

    def __init__(self) -> None:
        self._uris: dict[tuple[str, McpUpstream], set[str]] = {}
        self._jobs: dict[tuple[str, McpUpstream], asyncio.Task[None]] = {}
        # Over stdio several share one process, and so one subscription.
        self._shared: Counter[tuple[McpUpstream, str, str, str]] = Counter()

    # --- for modern clients --------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def watched(
        self, server: McpUpstream, uris: Collection[str], caller: Caller, told: Told
    ) -> AsyncGenerator[None]:
        """Inside the block ``told(method, params)`` gets the updates of ``uris`` at a server of either era.
        Raises RpcError and GatewayError where they can't be subscribed to."""

        def updated(method: str, params: dict[str, Any]) -> None:
            # A server may name a part of what was subscribed to (2025-11-25, server/resources).
            if method == wire.RESOURCE_UPDATED and str(params.get("uri")).startswith(tuple(uris)):
                told(method, params)

        if (await server.hello(caller)).era == "modern":
            watch = listening(server, {"resourceSubscriptions": sorted(uris)}, caller, updated)
        else:
            watch = self.told(server, uris, caller, updated)
        async with watch:
            yield

    @contextlib.asynccontextmanager
    async def told(
        self, server: McpUpstream, uris: Collection[str], caller: Caller, told: Told
    ) -> AsyncGenerator[None]:
        """Inside the block ``told`` gets what a handshake server says outside of calls, updates of ``uris``
        too: in a session of its own; over stdio, in the process that the caller's calls go to."""

        async def notified(method: str, params: dict[str, Any]) -> None:
            told(method, params)

        key = secrets.token_urlsafe(24)
        own = None if server.record.command else key
        caller = msgspec.structs.replace(caller, session=own, on_notification=notified, on_request=None)
        shared = [(server, caller.principal.id, caller.can_be_asked, uri) for uri in uris]
        self._shared.update(shared)  # first: who fails on the way leaves the others what they have
        try:
            await server.listen(caller, key)
            for name in shared:
                await server.request(SUBSCRIBE, {"uri": name[3]}, caller=caller)
            yield
        finally:
            await server.end_session(key)
            await self._unsubscribe(server, shared, caller)

    async def _unsubscribe(
        self, server: McpUpstream, shared: Collection[tuple[McpUpstream, str, str, str]], caller: Caller
    ) -> None:
        self._shared.subtract(shared)
        for name in shared:
            if self._shared[name] <= 0:
                del self._shared[name]
                if server.record.command:
                    with contextlib.suppress(RpcError, GatewayError):
                        await server.request(UNSUBSCRIBE, {"uri": name[3]}, caller=caller)

    # --- for sessions --------------------------------------------------------------------------

    async def change(
        self, session: Session, server: McpUpstream, method: str, uri: str, caller: Caller
    ) -> None:
        """``resources/subscribe`` or ``…/unsubscribe`` of one resource; done when the server knows. Raises
        RpcError for one too many."""
        session.servers.add(self)
        key = (session.id, server)
        uris = self._uris.setdefault(key, set())
        if method == SUBSCRIBE and sum(map(len, uris)) + len(uri) > MOST:
            raise RpcError(wire.INVALID_PARAMS, "the session watches too many resources")
        (uris.add if method == SUBSCRIBE else uris.discard)(uri)
        before = self._jobs.pop(key, None)
        if uris:
            ready = asyncio.Event()
            job = self._jobs[key] = asyncio.create_task(
                self._hold(server, set(uris), caller, session.tell, ready)
            )
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
        self, server: McpUpstream, uris: Collection[str], caller: Caller, told: Told, ready: asyncio.Event
    ) -> None:
        with contextlib.suppress(GatewayError, RpcError):
            async with self.watched(server, uris, caller, told):
                ready.set()
                await asyncio.Event().wait()
