"""A2A (Agent2Agent), revisions 1.0 and 0.3, over JSON-RPC and HTTP+JSON: the plugin's declaration."""

from __future__ import annotations

from ...gateway.model import Record
from ...gateway.ports import Adapter, Engine, Face, Found, Host, Upstream


def _upstream(record: Record, host: Host) -> Upstream:
    from .upstream.upstream import A2AUpstream

    return A2AUpstream(record, host)


def _face(engine: Engine) -> Face:
    from .face.face import A2AFace

    return A2AFace(engine)


async def _probe(url: str, headers: list[tuple[str, str]], host: Host) -> Found | None:
    from .upstream.upstream import probe

    return await probe(url, headers, host)


adapter = Adapter(id="a2a", title="A2A", rank=20, upstream=_upstream, face=_face, probe=_probe)
