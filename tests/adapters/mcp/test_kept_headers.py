"""The header lines that requests to a server have in common, as long as they are the same."""

from __future__ import annotations

from typing import Any

import pytest

from agentgw.adapters.mcp.upstream.link import Hello
from agentgw.adapters.mcp.upstream.streamable import HttpLink
from agentgw.gateway.model import Record


class Host:
    """What a link asks for the record's own headers: the same list, until they are others."""

    def __init__(self) -> None:
        self.own = [("authorization", "Bearer first")]

    def headers(self, record: Record) -> list[tuple[str, str]]:
        return self.own


def sent(link: HttpLink, name: str = "a") -> dict[str, str]:
    return dict(link._fixed("tools/call", {"name": name}).headers)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("era", ["handshake", "modern"])
def test_a_new_secret_or_session_goes_with_the_next_request(era: Any) -> None:
    host: Any = Host()
    record = Record(name="x", protocol="mcp", url="http://x/mcp")
    link = HttpLink(record, host, Hello(era=era, version="2025-11-25"), lambda: None)
    assert sent(link)["authorization"] == "Bearer first" and "mcp-session-id" not in sent(link)
    host.own = [("authorization", "Bearer second")]
    assert sent(link)["authorization"] == "Bearer second"
    link.session_id = "s-1"
    assert sent(link)["mcp-session-id"] == "s-1"
    assert sent(link, "b").get("mcp-name") == ("b" if era == "modern" else None)
