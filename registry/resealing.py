"""What lies sealed in the store is sealed with the newest key, so that the former ones can go."""

from __future__ import annotations

from ..gateway.seal import MARK, Sealer
from ..gateway.store import Store


async def reseal(store: Store, sealer: Sealer) -> int:
    """Seal every sealed item anew; how many there were. Raises ConfigError. What changes meanwhile is sealed
    with the newest key already and stays as it is."""
    count = 0
    for space in await store.spaces():
        for key, value in (await store.items(space)).items():
            new = sealer.resealed(value) if value.startswith(MARK) else None
            if new is not None and await store.replace_item(space, key, value, new):
                count += 1
    return count
