"""A link whose calls all share one channel each way (stdio, and the old HTTP+SSE transport)."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

import msgspec

from ....gateway.errors import UpstreamError
from ....gateway.reach import too_many
from ....gateway.telemetry import Span, trace_headers
from .. import wire
from ..wire import Caller, Envelope
from .link import Call, Link, is_answer, log, result_of

# Notifications of one call that wait for a slow client, and their bytes; later ones are dropped.
BACKLOG, BACKLOG_BYTES = 10_000, 8 * 1024 * 1024


class DuplexLink(Link):
    """Subclasses have ``send`` and ``most``, feed ``feed`` and call ``lost`` when the channel breaks."""

    _lost: UpstreamError | None = None

    @property
    @abstractmethod
    def most(self) -> int:
        """Calls at once, see ``limits.per_agent``."""

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        span: Span | None = None,
        schema: Any = None,
    ) -> msgspec.Raw:
        if self._lost is not None:
            raise self._lost
        if len(self.calls) >= self.most:
            raise too_many(self.agent)
        call, params = self.begin(method, params, caller, trace_headers(span or caller.trace))
        call.span = span
        if span is not None:
            span.set("jsonrpc.request.id", str(call.id))
        try:
            await self.send(wire.encode_request(call.id, method, params))
            return await self._result(call)
        except asyncio.CancelledError:
            self.abandoned(call)
            raise
        finally:
            self.end(call)

    async def _result(self, call: Call) -> msgspec.Raw:
        """Deliver what comes for the call, in order, in its own task: a slow client delays only itself."""
        while True:
            for item in await call.inbox.take():
                if isinstance(item, UpstreamError):
                    raise item
                if is_answer(item):
                    return result_of(item)
                call.held -= _size(item)
                await self.receive(item, call)

    async def feed(self, data: bytes) -> None:
        """One line or event of the server. What is not JSON-RPC is logged and skipped: servers print."""
        try:
            messages = wire.decode(data)
        except ValueError:
            log.debug("%s wrote something that is no message: %r", self.agent, data[:200])
            return
        for message in messages:
            if is_answer(message):
                call = self.calls.get(message.id) if isinstance(message.id, int) else None
                if call is not None:
                    call.inbox.put(message)
                continue
            call = self.owner(message)
            if call is None or isinstance(message.id, int | str):
                await self.receive(message, call)
            elif len(call.inbox) < BACKLOG and call.held < BACKLOG_BYTES:
                call.held += _size(message)
                call.inbox.put(message)

    def lost(self, error: UpstreamError) -> None:
        """The channel is gone: every call in flight fails at once."""
        self.alive = False
        self._lost = error
        for call in self.calls.values():
            call.inbox.put(error)

    @abstractmethod
    async def send(self, message: bytes) -> None: ...


def _size(message: Envelope) -> int:
    return len(message.params) if isinstance(message.params, msgspec.Raw) else 0
