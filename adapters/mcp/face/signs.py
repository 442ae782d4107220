"""What a server tells while a call runs counts as a sign of life."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from ....gateway.limits import CallLimits
from ..wire import Caller, OnLarge


class Signs:
    """What goes between a server and the ``caller`` of a request, as far as it bears on the time that the
    request may take: notifications and pieces of a large result renew the idle time; while a question to the
    client is open, or it takes such a piece, only the total counts. ``on_large``: see ``Caller``."""

    __slots__ = ("_asking", "_caller", "_limits", "_on_large")

    def __init__(self, limits: CallLimits, caller: Caller, on_large: OnLarge | None = None) -> None:
        self._limits = limits
        self._caller = caller
        self._on_large = on_large
        self._asking = 0

    @property
    def watched(self) -> Caller:
        """The caller to send the request for."""
        caller = self._caller
        return Caller(
            caller.trace,
            caller.principal,
            caller.session,
            caller.client_capabilities,
            caller.client_info,
            self._told,
            None if caller.on_request is None else self._asked,
            caller.protocol_version,
            caller.on_primed,
            caller.on_hang_up,
            None if self._on_large is None else self._passed_on,
            None if caller.at_once is None else self._at_once,
        )

    def _at_once(self, messages: Sequence[bytes]) -> bool:
        assert self._caller.at_once is not None
        if self._asking or not self._caller.at_once(messages):
            return False
        self._limits.renew()
        return True

    async def _told(self, method: str, params: dict[str, Any]) -> None:
        if not self._asking:
            self._limits.renew()
        if self._caller.on_notification is not None:
            await self._caller.on_notification(method, params)

    async def _asked(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert self._caller.on_request is not None
        self._asking += 1
        self._limits.hold()
        try:
            return await self._caller.on_request(method, params)
        finally:
            self._asking -= 1
            if not self._asking:
                self._limits.renew()

    async def _passed_on(self, pieces: AsyncGenerator[bytes]) -> bool:
        assert self._on_large is not None
        async with aclosing(self._timed(pieces)) as timed:
            return await self._on_large(timed)

    async def _timed(self, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async for piece in pieces:
            self._limits.hold()
            yield piece
            self._limits.renew()
