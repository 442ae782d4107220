"""Does a URL speak MCP?"""

from __future__ import annotations

from urllib.parse import urlsplit

from ....gateway.errors import BadUpstream, UpstreamError, UpstreamFailed
from ....gateway.model import Record
from ....gateway.ports import Found, Host
from .upstream import McpUpstream


class _Probing:
    """The host for a URL that is no record yet: the headers are those given."""

    def __init__(self, host: Host, headers: list[tuple[str, str]]) -> None:
        self.transport = host.transport
        self.tracer = host.tracer
        self.config = host.config
        self.breaker = host.breaker
        self.children = host.children
        self._headers = headers

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return self._headers

    def environment(self, record: Record) -> dict[str, str]:
        return {}

    def hidden(self, record: Record) -> list[str]:
        return []

    def changed(self, agent: str) -> None:
        return None


async def probe(url: str, headers: list[tuple[str, str]], host: Host) -> Found | None:
    """The server at ``url`` or, where that is a bare address, at its ``/mcp``. None: neither is MCP.
    Raises UpstreamError when it can't be reached or refuses the credentials."""
    parts = urlsplit(url)
    candidates = [url]
    if parts.path in ("", "/"):
        candidates.append(parts._replace(path="/mcp").geturl())
    refusal: UpstreamError | None = None
    for candidate in candidates:
        record = Record(name=parts.hostname or "server", protocol="mcp", url=candidate)
        upstream = McpUpstream(record, _Probing(host, headers))
        try:
            return Found(url=candidate, agents=tuple(await upstream.describe()))
        except (BadUpstream, UpstreamFailed):
            continue
        except UpstreamError as e:
            refusal = e
        finally:
            await upstream.aclose()
    if refusal is not None:
        raise refusal
    return None
