"""Sealed state: only this gateway opens it, for the purpose that it was sealed for."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgw.gateway.errors import ConfigError, InvalidRequest
from agentgw.gateway.seal import FILE, Sealer


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


def test_keys_rotate(tmp_path: Path) -> None:
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
    with pytest.raises(InvalidRequest):
        old.unseal(new.seal(b"x", "state"), "state")


@pytest.mark.parametrize("content", ["", "not a key\n", "c2hvcnQ=\n"])
def test_unfit_keys_are_one_clear_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ConfigError, match=r"seal\.keys must hold keys"):
        Sealer(tmp_path).open()
