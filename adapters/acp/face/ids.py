"""UUIDs that the door gave out for ids that are none, and the way back.

ACP wants UUIDs for runs and sessions; conversations and tasks that began elsewhere may have any id. The UUID
made of an id is always the same, but does not tell the id: so each one given out is kept, up to ``LIMIT``.
"""

from __future__ import annotations

from collections import OrderedDict

from ....gateway.homes import Homes
from ....gateway.ports import Items
from ..ids import as_uuid

SPACE = "acp.ids"
LIMIT = 50_000  # past it the oldest are forgotten (after a restart, any)
RECENT = 10_000


class Ids:
    """The map, durable in ``items``; read at the first need."""

    def __init__(self, items: Items, homes: Homes | None = None) -> None:
        self._items = items
        self._homes = homes or Homes()
        self._originals: dict[str, str] | None = None

    async def _known(self) -> dict[str, str]:
        if self._originals is None:
            kept = await self._items.all(SPACE)
            self._originals = {uuid: original.decode() for uuid, original in kept.items()}
        return self._originals

    async def give(self, *originals: str) -> None:
        """These ids are about to be shown to a client."""
        for original in originals:
            uuid = as_uuid(original)
            if not original or uuid == original:
                continue
            known = await self._known()
            if known.get(uuid) != original:
                known[uuid] = original
                self._homes.claim(uuid)
                await self._items.put(SPACE, uuid, original.encode())
                while len(known) > LIMIT:
                    forgotten = next(iter(known))
                    del known[forgotten]
                    await self._items.remove(SPACE, forgotten)

    async def original(self, shown: str) -> str:
        """The id that ``shown`` stands for; itself, where it stands for none."""
        return (await self._known()).get(shown.lower(), shown)


class Recent:
    """The resources found to be a caller's lately, so that a history is not looked up again for each of its
    messages. Bounded: the oldest are forgotten."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, ...], None] = OrderedDict()

    def __contains__(self, place: tuple[str, ...]) -> bool:
        return place in self._places

    def add(self, place: tuple[str, ...]) -> None:
        self._places[place] = None
        if len(self._places) > RECENT:
            self._places.popitem(last=False)
