"""What a server tells while a call runs counts as a sign of life."""

from __future__ import annotations

from typing import Any

from ....gateway.limits import CallLimits
from ..wire import Caller


class Signs:
    """What goes between a server and the ``caller`` of a request, as far as it bears on the time that the
    request may take: notifications renew the idle time; while a question to the client is open only the
    total counts."""

    __slots__ = ("_asking", "_caller", "_limits")

    def __init__(self, limits: CallLimits, caller: Caller) -> None:
        self._limits = limits
        self._caller = caller
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
        )

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
