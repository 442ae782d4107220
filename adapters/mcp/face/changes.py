"""Tells clients that a list of theirs changed, and only then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

from ....gateway.errors import GatewayError
from ....gateway.ports import Engine
from ..wire import RpcError

Lists = Callable[[], Awaitable[Mapping[str, Sequence[bytes]]]]
Told = Callable[[str], None]


class _Watch:
    """One client's lists as it last knew them, by kind."""

    def __init__(self, lists: Lists, told: Told) -> None:
        self.lists = lists
        self.told = told
        self.seen: Mapping[str, Sequence[bytes]] = {}

    async def look(self) -> set[str]:
        """The kinds that changed since the last look. A door that has no answer now changed nothing."""
        try:
            now = await self.lists()
        except (GatewayError, RpcError):
            return set()
        before, self.seen = self.seen, now
        return {kind for kind, lists in now.items() if lists != before.get(kind)}


class Changes:
    """Watches the engine; compares what each client was last shown with what there is."""

    def __init__(self, engine: Engine) -> None:
        self._watches: set[_Watch] = set()
        self._comparing: asyncio.Task[None] | None = None
        self._again = False
        self._unsubscribe = engine.on_change(self._changed)

    @contextlib.asynccontextmanager
    async def watch(self, lists: Lists, told: Told) -> AsyncGenerator[None]:
        """Inside the block ``told`` is called with each kind of list (tools, prompts, resources) that
        changed."""
        watch = _Watch(lists, told)
        await watch.look()
        self._watches.add(watch)
        try:
            yield
        finally:
            self._watches.discard(watch)

    def _changed(self) -> None:
        if not self._watches:
            return
        if self._comparing is not None and not self._comparing.done():
            self._again = True
            return
        self._comparing = asyncio.create_task(self._compare())

    async def _compare(self) -> None:
        while True:
            self._again = False
            for watch in list(self._watches):
                for kind in sorted(await watch.look()):
                    if watch in self._watches:
                        watch.told(kind)
            if not self._again:
                return

    def close(self) -> None:
        """Watch no more. A second call changes nothing."""
        unsubscribe, self._unsubscribe = self._unsubscribe, lambda: None
        unsubscribe()
        if self._comparing is not None:
            self._comparing.cancel()
