"""Model Context Protocol: revisions 2024-11-05 to 2026-07-28, over Streamable HTTP, stdio and HTTP+SSE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...gateway.ports import Adapter

if TYPE_CHECKING:
    from ...gateway.model import Record
    from ...gateway.ports import Engine, Face, Found, Host, Upstream


def _upstream(record: Record, host: Host) -> Upstream:
    from .upstream.upstream import McpUpstream

    return McpUpstream(record, host)


def _face(engine: Engine) -> Face:
    from .face.face import McpFace

    return McpFace(engine)


async def _probe(url: str, headers: list[tuple[str, str]], host: Host) -> Found | None:
    from .upstream.probing import probe

    return await probe(url, headers, host)


adapter = Adapter(
    id="mcp",
    title="Model Context Protocol",
    rank=10,
    stdio=True,
    upstream=_upstream,
    face=_face,
    probe=_probe,
)
