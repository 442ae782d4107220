"""Which conversation is which: the gateway's context ids against what agents call them.

One entry per (principal, agent, context id). Bounded: the least recently used are forgotten first, and
begin anew when they come back. Names are bounded, too: clients and agents choose them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from .errors import InvalidRequest
from .model import Principal
from .store import StoredContext

LIMIT = 50_000
LENGTH = 1000  # characters of a conversation's name


class Conversations:
    """The map in memory, with what the store has not seen yet."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._upstream: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        self._agents: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._owners: OrderedDict[tuple[str, str], str] = OrderedDict()  # of what agents call conversations
        self._unsaved: dict[tuple[str, str, str], StoredContext] = {}

    def load(self, contexts: Sequence[StoredContext]) -> None:
        """Take over what the store kept."""
        for c in contexts:
            self._upstream[c.principal, c.agent, c.context_id] = c.upstream_id
            self._agents[c.principal, c.context_id] = c.agent
            self._owners.setdefault((c.agent, c.upstream_id), c.principal)

    def get(self, principal: Principal, agent: str, context_id: str) -> str | None:
        """What the agent called this conversation on its last turn; None on the first. Raises InvalidRequest
        for a name that is too long."""
        if len(context_id) > LENGTH:
            raise InvalidRequest(f"the conversation's id is longer than {LENGTH} characters")
        return self._upstream.get((principal.id, agent, context_id))

    def agent(self, principal: Principal, context_id: str) -> str | None:
        """The agent that the conversation went to last."""
        return self._agents.get((principal.id, context_id))

    def is_others(self, principal: Principal, agent: str, upstream_id: str) -> bool:
        """Whether what the agent calls ``upstream_id`` is another principal's conversation."""
        return self._owners.get((agent, upstream_id), principal.id) != principal.id

    def touch(self, principal: Principal, agent: str, context_id: str) -> None:
        """Note that a turn goes to this agent."""
        self._agents[principal.id, context_id] = agent
        self._agents.move_to_end((principal.id, context_id))
        if len(self._agents) > self._limit:
            self._agents.popitem(last=False)

    def put(self, principal: Principal, agent: str, context_id: str, upstream_id: str) -> None:
        """Note what the agent calls the conversation; a name that is too long is not remembered."""
        if len(context_id) > LENGTH or len(upstream_id) > LENGTH:
            return
        key = (principal.id, agent, context_id)
        if self._upstream.get(key) != upstream_id:
            self._upstream[key] = upstream_id
            self._unsaved[key] = StoredContext(
                principal=principal.id, agent=agent, context_id=context_id, upstream_id=upstream_id
            )
        self._upstream.move_to_end(key)
        if len(self._upstream) > self._limit:
            self._upstream.popitem(last=False)
        self._owners.setdefault((agent, upstream_id), principal.id)
        if len(self._owners) > self._limit:
            self._owners.popitem(last=False)
        # An agent that names a conversation does not draw it away from the one it goes to.
        if (principal.id, context_id) not in self._agents:
            self.touch(principal, agent, context_id)

    def drain(self) -> Sequence[StoredContext]:
        """What changed since the last call."""
        unsaved, self._unsaved = self._unsaved, {}
        return list(unsaved.values())

    def undrain(self, contexts: Sequence[StoredContext]) -> None:
        """They could not be written: the next ``drain`` has them again, unless they changed since."""
        self._unsaved = {(c.principal, c.agent, c.context_id): c for c in contexts} | self._unsaved
