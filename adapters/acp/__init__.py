"""Agent Communication Protocol (IBM/BeeAI): serving its clients, calling its agents."""

from __future__ import annotations

from ...gateway.model import Record
from ...gateway.ports import Adapter, Engine, Face, Found, Host, Upstream


def _upstream(record: Record, host: Host) -> Upstream:
    from .upstream.upstream import ACPUpstream

    return ACPUpstream(record, host)


def _face(engine: Engine) -> Face:
    from .face.face import ACPFace

    return ACPFace(engine)


async def _probe(url: str, headers: list[tuple[str, str]], host: Host) -> Found | None:
    from .upstream.probe import probe

    return await probe(url, headers, host)


adapter = Adapter(
    id="acp",
    title="Agent Communication Protocol",
    rank=30,
    upstream=_upstream,
    face=_face,
    probe=_probe,
)
