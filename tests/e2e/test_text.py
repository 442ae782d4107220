"""Text that breaks careless readers: line separators inside JSON, right through every door."""

from __future__ import annotations

from typing import Any

import pytest

from .reply import contains
from .table import AGENTS, CLIENTS
from .test_table import agent_for

# U+2028, U+2029 and U+0085 end a line for many readers, though not in an event stream.
TEXT = "a\u2028b\u2029c\u0085d \N{GRINNING FACE} e"


@pytest.mark.parametrize("agent_kind", [kind for kind in AGENTS if kind != "mcp-stdio"])
@pytest.mark.parametrize("client_kind", [kind for kind in CLIENTS if kind != "a2a-rest-1.0"])
async def test_line_separators_pass(client_kind: str, agent_kind: str, client_of: Any, gateway: Any) -> None:
    reply = await client_of(client_kind, gateway.url).call(agent_for(agent_kind).call(TEXT))
    assert reply.state == "completed", reply
    assert TEXT in reply.text or contains(reply.data, TEXT), reply
