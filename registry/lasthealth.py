"""The last known health of agents, kept for commands that look while no gateway runs."""

from __future__ import annotations

import contextlib
import logging

import msgspec

from ..gateway.errors import GatewayError
from ..gateway.model import Health
from ..gateway.store import Store

log = logging.getLogger("agentgw.registry")

SPACE = "registry.health"  # of the store's items


class _Kept(msgspec.Struct, frozen=True):
    """What was found, and of what: the name may stand for another agent by the next start."""

    target: str
    health: Health

    def alike(self, other: _Kept | None) -> bool:
        """Whether the other says the same, at whatever time."""
        return other is not None and self._found == other._found

    @property
    def _found(self) -> tuple[str, str, str]:
        return self.target, self.health.status, self.health.detail


class LastHealth:
    """Reads and writes it, as little as it can: what stays is written at first and once at the end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, _Kept] = {}

    async def load(self) -> None:
        """Read all; what is not understood (another version wrote it) is left out."""
        for name, value in (await self._store.items(SPACE)).items():
            with contextlib.suppress(msgspec.DecodeError):
                self._kept[name] = msgspec.json.decode(value, type=_Kept)

    def of(self, name: str, target: str) -> Health:
        """The health of the agent with this name and target; unknown where it was never found out."""
        kept = self._kept.get(name)
        return kept.health if kept is not None and kept.target == target else Health()

    async def note(self, name: str, target: str, found: Health, *, time: bool = False) -> None:
        """Keep an agent's health, if it was ever found out. ``time``: also where only that is another."""
        new, old = _Kept(target, found), self._kept.get(name)
        if found.checked_at is None or new == old or (not time and new.alike(old)):
            return
        self._kept[name] = new
        try:
            await self._store.put_item(SPACE, name, msgspec.json.encode(new))
        except GatewayError as e:
            log.warning("%s", e.message)

    async def forget(self, name: str) -> None:
        """Nothing is known of this name any more."""
        if self._kept.pop(name, None) is not None:
            await self._store.remove_item(SPACE, name)
