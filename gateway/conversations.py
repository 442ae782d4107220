"""Which conversation is which: the gateway's context ids against what agents call them.

The store has them all; the latest are also here. Those that go on for long are written again from time to
time, for the store forgets the least recently written first. Names are bounded: clients and agents choose
them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import islice

from .errors import GatewayError, InvalidRequest
from .model import Principal
from .store import Batch, Store, StoredContext

log = logging.getLogger("agentgw.engine")

RECENT = 1_000  # conversations in memory
UNSAVED = 50_000  # that wait to be written, should the store not take them
LENGTH = 1000  # characters of a conversation's name

Key = tuple[str, str, str]  # principal, agent, context id


class Conversations:
    """The latest ones, with what the store has not seen yet: that is always here, too."""

    def __init__(self, store: Store, recent: int = RECENT) -> None:
        self._store = store
        self._limit = recent
        # What the agent calls each ("": it has not said), and the number of changes when that was noted.
        self._upstream: OrderedDict[Key, tuple[str, int]] = OrderedDict()
        self._agents: OrderedDict[tuple[str, str], str] = OrderedDict()  # that each went to last
        self._unsaved: dict[Key, bool] = {}  # whether a turn went to the agent
        self._changes = 0
        self._saving = asyncio.Lock()

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._upstream)

    async def get(self, principal: Principal, agent: str, context_id: str) -> str | None:
        """What the agent called this conversation on its last turn; None on the first. Raises InvalidRequest
        for a name that is too long."""
        if len(context_id) > LENGTH:
            raise InvalidRequest(f"the conversation's id is longer than {LENGTH} characters")
        key = (principal.id, agent, context_id)
        known = self._upstream.get(key)
        if known is None:
            found = await self._store.find_context(*key)
            if found is not None and key not in self._upstream:
                self._note(key, found.upstream_id, turn=False)
            known = self._upstream.get(key, ("", 0))
        return known[0] or None

    async def agent(self, principal: Principal, context_id: str) -> str | None:
        """The agent that the conversation went to last."""
        known = self._agents.get((principal.id, context_id))
        if known is not None or len(context_id) > LENGTH:
            return known
        await self._try_to_save()
        return await self._store.context_agent(principal.id, context_id)

    async def is_others(self, principal: Principal, agent: str, upstream_id: str) -> bool:
        """Whether what the agent calls ``upstream_id`` is another principal's conversation."""
        if len(upstream_id) > LENGTH:
            return False
        await self._try_to_save()
        return await self._store.context_owner(agent, upstream_id) not in (None, principal.id)

    def begin(self, principal: Principal, agent: str, context_id: str) -> None:
        """``touch`` of one whose id is new."""
        key = (principal.id, agent, context_id)
        self._changes += 1
        self._upstream[key] = "", self._changes
        self._agents[principal.id, context_id] = agent
        self._wait(key, turn=True)

    def touch(self, principal: Principal, agent: str, context_id: str) -> None:
        """Note that a turn goes to this agent. What it calls the conversation must have been asked for."""
        key = (principal.id, agent, context_id)
        known = self._upstream.get(key)
        if known is None or self._agents.get((principal.id, context_id)) != agent or self._is_old(known[1]):
            self._note(key, known[0] if known else "", turn=True)
        self._went(key)

    def put(self, principal: str, agent: str, context_id: str, upstream_id: str) -> bool:
        """Note what the agent calls the conversation of ``principal`` (its id); a name that is too long is
        not remembered. An agent that names a conversation does not draw it away from the one it goes to.
        False where that stands here already."""
        if len(context_id) > LENGTH or len(upstream_id) > LENGTH:
            return False
        key = (principal, agent, context_id)
        known = self._upstream.get(key)
        if known is not None and self._unsaved.get(key):  # a turn, and it is to be written
            self._upstream[key] = upstream_id, self._changes
        elif known is None or known[0] != upstream_id or self._is_old(known[1]):
            self._note(key, upstream_id, turn=self._agents.get((principal, context_id)) == agent)
            return True
        self._upstream.move_to_end(key)
        return False

    def _is_old(self, noted: int) -> bool:
        return self._changes - noted > self._limit

    def _went(self, key: Key) -> None:
        principal, agent, context_id = key
        self._agents[principal, context_id] = agent
        self._agents.move_to_end((principal, context_id))

    def _note(self, key: Key, upstream_id: str, *, turn: bool) -> None:
        """To be written. ``turn``: see ``StoredContext``."""
        self._changes += 1
        self._upstream[key] = upstream_id, self._changes
        self._upstream.move_to_end(key)
        self._wait(key, turn=turn or self._unsaved.get(key, False))

    def _wait(self, key: Key, *, turn: bool) -> None:
        self._unsaved[key] = turn
        if len(self._unsaved) > UNSAVED:
            oldest = next(iter(self._unsaved))
            del self._unsaved[oldest]
            self._upstream.pop(oldest, None)

    # --- writing -----------------------------------------------------------------------------

    async def save(self) -> None:
        """Write what changed now."""
        async with self.writing() as contexts:
            if contexts:
                await self._store.save(Batch(contexts=contexts))

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[Sequence[StoredContext]]:
        """What changed, to be written inside; of what is written only the latest stay in memory. If that
        fails, it is there the next time."""
        async with self._saving:
            unsaved, self._unsaved = self._unsaved, {}
            try:
                there = self._upstream  # but for those that were too many to wait
                yield [
                    StoredContext(
                        principal=key[0],
                        agent=key[1],
                        context_id=key[2],
                        upstream_id=there[key][0],
                        turn=turn,
                    )
                    for key, turn in unsaved.items()
                    if key in there
                ]
            except BaseException:
                self._unsaved = unsaved | self._unsaved
                raise
            self._trim()

    def _trim(self) -> None:
        for key in list(islice(self._upstream, max(len(self._upstream) - self._limit, 0))):
            if key not in self._unsaved:
                del self._upstream[key]
        while len(self._agents) > self._limit + len(self._unsaved):
            self._agents.popitem(last=False)

    async def _try_to_save(self) -> None:
        if self._unsaved or self._saving.locked():
            try:
                await self.save()
            except GatewayError as e:
                log.debug("%s", e.message)
