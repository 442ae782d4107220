"""Adapters are found by entry points, a third party's like ours; a broken one takes nothing down with it."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace
from typing import Any

import pytest

from agentgw.gateway import plugins
from agentgw.gateway.ports import Adapter

from ..support.memory import hub


def face(engine: Any) -> Any:
    return SimpleNamespace(engine=engine)


def broken(engine: Any) -> Any:
    raise ImportError("no such module")


early = Adapter(id="early", title="Early", rank=1, face=face)
late = Adapter(id="late", title="Late", rank=200, face=face)
doorless = Adapter(id="doorless", title="Doorless", face=broken)
twin = Adapter(id="early", title="Twin")
nothing = "not an adapter"


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    found = EntryPoints(EntryPoint(name, f"{__name__}:{name}", plugins.GROUP) for name in names)
    monkeypatch.setattr(plugins, "entry_points", lambda group: found.select(group=group))


def test_the_built_in_ones_are_found_as_any_other() -> None:
    assert list(plugins.load_adapters()) == ["mcp", "a2a", "acp"]


def test_a_third_partys_are_ordered_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "late", "early")
    assert list(plugins.load_adapters().values()) == [early, late]


def test_what_does_not_load_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed(monkeypatch, "early", "missing", "nothing", "twin")
    assert list(plugins.load_adapters().values()) == [early]
    assert len(caplog.records) == 3
    for text in ("missing does not load", "nothing is left out: it is not an Adapter", "id 'early' is taken"):
        assert text in caplog.text


def test_a_door_that_breaks_stays_closed_alone(caplog: pytest.LogCaptureFixture) -> None:
    engine = hub()
    faces: list[Any] = plugins.build_faces([early, doorless, twin, late], engine)
    assert [f.engine for f in faces] == [engine, engine]
    assert "the doors of Doorless can't be built" in caplog.text
