"""Who wants to know when agents or their descriptions change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

log = logging.getLogger("agentgw.registry")


class Listeners:
    """Calls back on the loop and soon; several changes at one time are one call."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._telling = False

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Returns the way to unsubscribe."""
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._callbacks.remove(callback)

        return unsubscribe

    def changed(self) -> None:
        """Something has changed."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        for callback in list(self._callbacks):
            try:
                callback()
            except Exception:
                log.exception("a listener to changes failed")
