"""Text that breaks careless readers: line separators inside JSON, right through every door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .reply import contains
from .table import AGENTS, CLIENTS
from .test_table import agent_for

# U+2028, U+2029 and U+0085 end a line for many readers, though not in an event stream.
TEXT = "a\u2028b\u2029c\u0085d \N{GRINNING FACE} e"


def pairs() -> Iterator[Any]:
    """Slow: a client and an agent of which each stands in another pair."""
    for client in CLIENTS:
        for agent in AGENTS:
            if client != "a2a-rest-1.0" and agent != "mcp-stdio":
                telling = agent == "a2a-1.0" or client in ("mcp-2026", "a2a-jsonrpc-1.0", "acp-python")
                yield pytest.param(client, agent, marks=[] if telling else [pytest.mark.slow])


@pytest.mark.parametrize(("client_kind", "agent_kind"), list(pairs()))
async def test_line_separators_pass(client_kind: str, agent_kind: str, client_of: Any, gateway: Any) -> None:
    reply = await client_of(client_kind, gateway.url).call(agent_for(agent_kind).call(TEXT))
    assert reply.state == "completed", reply
    assert TEXT in reply.text or contains(reply.data, TEXT), reply
