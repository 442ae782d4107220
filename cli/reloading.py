"""Reading the configuration again while the gateway runs: on SIGHUP, or when the admin API is told to."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import msgspec

from ..gateway.audit import Audit
from ..gateway.config import Config, amiss
from ..gateway.errors import ConfigError, GatewayError, for_operator
from ..gateway.model import Principal
from ..gateway.reloading import Reloaded, merged

log = logging.getLogger("agentgw")

# The configuration as it stands now, and warnings. Raises ConfigError.
Reread = Callable[[], tuple[Config, list[str]]]


class Reloader:
    """``apply`` puts a configuration in place; all of the new one was read and checked before. ``reread``
    None: there is nothing to read."""

    def __init__(
        self, config: Config, reread: Reread | None, apply: Callable[[Config], Awaitable[None]]
    ) -> None:
        self._config = config
        self._reread = reread
        self._apply = apply
        self._turn = asyncio.Lock()
        self._jobs: set[asyncio.Task[None]] = set()
        self._audit: Callable[[], Audit | None] = lambda: None

    async def reload(self) -> Reloaded:
        """Read it and put it in place. Raises ConfigError that says why, and then nothing has changed."""
        if self._reread is None:
            raise ConfigError("this gateway has no configuration to read again")
        async with self._turn:
            try:
                new, warnings = await asyncio.to_thread(self._reread)
                config, reloaded = merged(self._config, new)
                if wrong := amiss(config):
                    raise ConfigError(wrong)
            except ConfigError as e:
                raise ConfigError(
                    f"nothing was changed: {e.message}", data={"reason": "configuration"}
                ) from e
            await self._apply(config)
            self._config = config
        return msgspec.structs.replace(reloaded, warnings=[*warnings, *reloaded.warnings])

    # --- signals -----------------------------------------------------------------------------

    def on_hangup(self, stopping: asyncio.Event, audit: Callable[[], Audit | None]) -> None:
        """SIGHUP reloads, and says in the log what came of it. That of a terminal that was closed stops."""
        self._audit = audit
        if sys.platform == "win32":
            return
        terminal = sys.stdin is not None and sys.stdin.isatty()

        def hangup() -> None:
            if terminal and _closed():
                stopping.set()
                return
            job = asyncio.create_task(self._told())
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup)

    async def _told(self) -> None:
        try:
            said = await self.reload()
        except GatewayError as e:
            self._record(error=e.code)
            log.error("%s", for_operator(e))
            return
        self._record(", ".join(said.changed))
        for warning in said.warnings:
            log.warning("%s", warning)
        log.warning("%s", summary(said))

    def _record(self, subject: str = "", error: str = "") -> None:
        if (audit := self._audit()) is not None:
            audit.change(Principal(id="owner", owner=True), "reload", 0, subject, error)


def summary(said: Reloaded) -> str:
    """One line for people."""
    line = f"the configuration was read again: {', '.join(said.changed) or 'nothing'} changed"
    return line + (f"; only a restart changes {', '.join(said.restart)}" if said.restart else "")


def _closed() -> bool:
    try:
        os.tcgetpgrp(0)
    except OSError:
        return True
    return False
