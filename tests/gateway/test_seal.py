"""Sealed state: only this gateway opens it, for the purpose that it was sealed for."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgw.gateway.errors import ConfigError, InvalidRequest
from agentgw.gateway.seal import FILE, LOOK_AGAIN, Sealer
from agentgw.registry.memory import MemoryStore
from agentgw.registry.resealing import reseal


def test_opens_what_it_sealed() -> None:
    sealer = Sealer()
    sealed = sealer.seal(b"\0secret\xff", "state")
    assert "secret" not in sealed
    assert sealer.unseal(sealed, "state") == b"\0secret\xff"


@pytest.mark.parametrize(
    "spoil", [lambda s: s[:-8] + "AAAAAAA=", lambda s: "", lambda s: "é", lambda s: s[5:]]
)
def test_refuses_what_was_changed(spoil: object) -> None:
    sealer = Sealer()
    with pytest.raises(InvalidRequest):
        sealer.unseal(spoil(sealer.seal(b"x", "state")), "state")  # type: ignore[operator]


def test_refuses_another_purpose_and_another_gateway() -> None:
    sealer = Sealer()
    sealed = sealer.seal(b"x", "state")
    with pytest.raises(InvalidRequest):
        sealer.unseal(sealed, "token")
    with pytest.raises(InvalidRequest):
        Sealer().unseal(sealed, "state")


def test_refuses_what_is_too_old() -> None:
    sealer = Sealer()
    with pytest.raises(InvalidRequest):
        sealer.unseal(sealer.seal(b"x", "state"), "state", max_age=-1)


def test_a_restarted_gateway_opens_it_and_the_keys_are_private(tmp_path: Path) -> None:
    first, second = Sealer(tmp_path), Sealer(tmp_path)
    first.open()
    second.open()
    assert second.unseal(first.seal(b"x", "state"), "state") == b"x"
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_keys_that_were_written_by_hand_count(tmp_path: Path) -> None:
    old = Sealer(tmp_path)
    old.open()
    sealed, path = old.seal(b"x", "state"), tmp_path / FILE
    before = path.read_text()
    path.unlink()
    Sealer(tmp_path).open()
    path.write_text(path.read_text() + before)
    new = Sealer(tmp_path)
    new.open()
    assert new.unseal(sealed, "state") == b"x"
    assert old.unseal(new.seal(b"x", "state"), "state") == b"x"  # it has seen that the file is another


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_after_a_rotation_the_former_key_opens_for_the_stated_time_and_seals_no_more(tmp_path: Path) -> None:
    clock = Clock()
    gateway, worker = Sealer(tmp_path, clock), Sealer(tmp_path, clock)
    gateway.open()
    worker.open()
    before = gateway.seal(b"before", "state")
    clock.now += LOOK_AGAIN
    gateway.rotate(3600)
    after = gateway.seal(b"after", "state")
    # A worker that has not looked since opens what the new key sealed, and seals with it soon.
    assert worker.unseal(after, "state") == b"after"
    restarted = Sealer(tmp_path, clock)
    restarted.open()
    for sealer in (gateway, worker, restarted):
        assert sealer.unseal(before, "state") == b"before"
        assert sealer.unseal(sealer.seal(b"x", "state"), "state") == b"x"
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600

    first_line = (tmp_path / FILE).read_text().splitlines()[0]
    only_new = tmp_path / "new"
    only_new.mkdir()
    (only_new / FILE).write_text(first_line)
    alone = Sealer(only_new, clock)
    alone.open()
    for sealer in (gateway, worker, restarted):
        assert alone.unseal(sealer.seal(b"x", "state"), "state") == b"x"

    clock.now += 3601
    for sealer in (gateway, worker, restarted):
        with pytest.raises(InvalidRequest):
            sealer.unseal(before, "state")
        assert sealer.unseal(after, "state") == b"after"
    gateway.rotate(0)
    assert len((tmp_path / FILE).read_text().splitlines()) == 1
    with pytest.raises(InvalidRequest):
        gateway.unseal(after, "state")


def test_several_rotations_keep_each_key_its_own_time(tmp_path: Path) -> None:
    clock = Clock()
    sealer = Sealer(tmp_path, clock)
    sealer.open()
    sealed = [sealer.seal(b"0", "state")]
    for number, keep in enumerate((100, 10), start=1):
        sealer.rotate(keep)
        sealed.append(sealer.seal(str(number).encode(), "state"))
    clock.now += 50
    assert sealer.unseal(sealed[0], "state") == b"0"
    with pytest.raises(InvalidRequest):
        sealer.unseal(sealed[1], "state")
    assert sealer.unseal(sealed[2], "state") == b"2"


async def test_what_lies_in_the_store_outlives_the_former_key() -> None:
    store, clock = MemoryStore(), Clock()
    sealer = Sealer(None, clock)
    await store.put_item("a2a.push", "k", sealer.seal(b"secret", "a2a.push").encode())
    await store.put_item("a2a.push", "other", Sealer().seal(b"?", "a2a.push").encode())
    await store.put_item("registry.health", "k", b"{}")
    sealer.rotate(60)
    assert await reseal(store, sealer) == 1
    clock.now += 61
    kept = await store.items("a2a.push")
    assert sealer.unseal(kept["k"].decode(), "a2a.push") == b"secret"
    assert await store.items("registry.health") == {"k": b"{}"}


def test_a_ring_that_became_unreadable_goes_on_with_what_was_read(tmp_path: Path) -> None:
    clock = Clock()
    sealer = Sealer(tmp_path, clock)
    sealer.open()
    sealed = sealer.seal(b"x", "state")
    (tmp_path / FILE).write_text("nonsense")
    clock.now += LOOK_AGAIN
    assert sealer.unseal(sealed, "state") == b"x"


@pytest.mark.parametrize("content", ["", "not a key\n", "c2hvcnQ=\n"])
def test_unfit_keys_are_one_clear_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ConfigError, match=r"seal\.keys must hold keys"):
        Sealer(tmp_path).open()
