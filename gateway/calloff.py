"""Tasks of callers whose key was revoked or removed, or has expired: cancelled, at their agents too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import msgspec

from .access import Access
from .model import Principal, TaskRef, TaskState
from .pickup import AT_ONCE, Pickup, persistently
from .ports import AgentView
from .taskbook import TaskBook
from .tasklog import TaskLog

log = logging.getLogger("agentgw.engine")

PATIENCE = 5.0  # seconds that an agent has to stop; then what was on its way meanwhile is found, too


class CallOff:
    """``cancel`` cancels a task that runs here; ``background`` runs a job."""

    def __init__(
        self,
        access: Access,
        book: TaskBook,
        pickup: Pickup,
        views: Callable[[], Mapping[str, AgentView]],
        cancel: Callable[[TaskLog], None],
        background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._access = access
        self._book = book
        self._pickup = pickup
        self._views = views
        self._cancel = cancel
        self._background = background
        self._at_work = asyncio.Lock()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._begun = False

    def look(self) -> None:
        """Keys may have ended, or the process has just begun."""
        if self._access.keys_ended() or not self._begun:
            self._background(self._all())
        self._begun = True

    async def _all(self) -> None:
        told: set[str] = set()
        for pause in (PATIENCE, 0.0):
            await persistently(partial(self._once, told), "tasks of keys that have ended can't be cancelled")
            await asyncio.sleep(pause)

    async def _once(self, told: set[str]) -> None:
        """``told``: tasks that their agents were told of."""
        async with self._at_work:
            entries = await self._book.unfinished(self._access.lost_its_key)
            kept = [entry for entry in entries if entry.relayed and entry.id not in told]
            for entry in entries:
                if not entry.relayed:
                    self._cancel(entry)
            told.update(entry.id for entry in kept)
            await asyncio.gather(*(self._relayed(entry) for entry in kept))

    async def _relayed(self, entry: TaskLog) -> None:
        """A task that its agent keeps."""
        view = self._views().get(entry.agent)
        try:
            async with self._gate, asyncio.timeout(PATIENCE):
                if view is not None:
                    await view.upstream.cancel(TaskRef(task_id=entry.id))
        except Exception:  # it may have ended, or the agent not be there
            log.debug("cancelling at %s", entry.agent, exc_info=True)
            self._background(self._pickup.look_after([(entry.id, entry.principal)], restarted=False))
            return
        canceled = msgspec.structs.replace(entry.task, state=TaskState.CANCELED)
        self._book.observe(canceled, Principal(id=entry.principal), entry.agent)
