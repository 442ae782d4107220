"""Ids that say whose they are."""

from __future__ import annotations

from pathlib import Path
from uuid import RFC_4122, UUID

import pytest

from agentgw.gateway.owned import SPACE, OwnedIds
from agentgw.gateway.seal import Sealer
from agentgw.gateway.store import StoredItems
from agentgw.registry.memory import MemoryStore
from agentgw.registry.resealing import reseal


async def loaded(store: MemoryStore, sealer: Sealer) -> OwnedIds:
    ids = OwnedIds()
    await ids.load(StoredItems(store), sealer)
    return ids


def test_an_id_is_its_principals_alone() -> None:
    ids = OwnedIds()
    mine = ids.new("key:1")
    assert ids.are(mine, "key:1") and not ids.are(mine, "key:2") and not ids.are(mine, "")
    assert ids.new("key:1") != mine
    assert (UUID(mine).version, UUID(mine).variant, str(UUID(mine))) == (8, RFC_4122, mine)


@pytest.mark.parametrize("at", range(36))
def test_a_changed_id_is_nobodys(at: int) -> None:
    ids = OwnedIds()
    mine = ids.new("key:1")
    changed = {f"{mine[:at]}{digit}{mine[at + 1 :]}" for digit in "0f-gä"} - {mine}
    assert not any(ids.are(id, "key:1") for id in changed)


@pytest.mark.parametrize("id", ["", "8" * 36, "conv/1", "11111111-1111-4111-8111-111111111111", "ä" * 36])
def test_what_comes_from_elsewhere_is_nobodys(id: str) -> None:
    assert not OwnedIds().are(id, "key:1")


async def test_all_processes_and_the_next_start_know_them(tmp_path: Path) -> None:
    store, sealer = MemoryStore(), Sealer(tmp_path)
    sealer.open()
    mine = (await loaded(store, sealer)).new("key:1")
    again = Sealer(tmp_path)
    again.open()
    assert (await loaded(store, again)).are(mine, "key:1")
    assert not (await loaded(MemoryStore(), sealer)).are(mine, "key:1")


async def test_they_outlast_the_key_that_seals(tmp_path: Path) -> None:
    store, sealer = MemoryStore(), Sealer(tmp_path)
    sealer.open()
    mine = (await loaded(store, sealer)).new("key:1")
    sealer.rotate(keep=60)
    assert await reseal(store, sealer) == 1
    sealer.shorten(keep=0)
    later = Sealer(tmp_path)
    later.open()
    assert (await loaded(store, later)).are(mine, "key:1")


async def test_a_secret_that_cant_be_opened_is_replaced() -> None:
    store = MemoryStore()
    mine = (await loaded(store, Sealer())).new("key:1")
    (lost,) = (await store.items(SPACE)).values()
    sealer = Sealer()
    other = await loaded(store, sealer)
    assert not other.are(mine, "key:1") and lost not in (await store.items(SPACE)).values()
    assert (await loaded(store, sealer)).are(other.new("key:1"), "key:1")
