"""Finding the adapters: entry points of the group ``agentgw.adapters``, ours and third parties' alike."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import entry_points

from .ports import Adapter, Engine, Face

GROUP = "agentgw.adapters"
log = logging.getLogger("agentgw.plugins")


def load_adapters() -> dict[str, Adapter]:
    """All installed adapters by id, in order of rank. One that does not load is named in a warning and
    left out: it must not take the others down. Of two with one id the first found wins."""
    found: dict[str, Adapter] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            adapter = entry.load()
        except Exception as e:
            log.warning("the adapter %s does not load and is left out: %s", entry.value, e)
            log.debug("loading %s", entry.value, exc_info=True)
            continue
        if not isinstance(adapter, Adapter):
            log.warning("the adapter %s is left out: it is not an Adapter", entry.value)
        elif adapter.id in found:
            log.warning("the adapter %s is left out: its id %r is taken", entry.value, adapter.id)
        else:
            found[adapter.id] = adapter
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))


def build_faces(adapters: Iterable[Adapter], engine: Engine) -> list[Face]:
    """The doors of those that have one. A door that can't be built is named in a warning and left out."""
    faces: list[Face] = []
    for adapter in adapters:
        if adapter.face is None:
            continue
        try:
            faces.append(adapter.face(engine))
        except Exception as e:
            log.warning("the doors of %s can't be built and stay closed: %s", adapter.title, e)
            log.debug("building the face of %s", adapter.id, exc_info=True)
    return faces
