"""What sessions of the handshake era may cost."""

from __future__ import annotations

from typing import Any

import pytest

from agentgw.adapters.mcp.face import sessions
from agentgw.adapters.mcp.face.sessions import Session, Sessions
from agentgw.gateway.errors import InvalidRequest
from agentgw.gateway.model import Principal


def session(said: int) -> Session:
    """One whose client says so many bytes of itself."""
    info: dict[str, Any] = {"name": "n", "icons": [{"src": "data:" + "x" * said}]}
    return Session(Principal(), "", "2025-11-25", {"clientInfo": info})


async def test_what_clients_say_of_themselves_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="more than"):
        session(sessions.MOST_SAID)
    monkeypatch.setattr(sessions, "ALL_SAID", 10_000)
    closed: list[Session] = []
    kept = Sessions(closed.append)
    opened = [session(3000) for _ in range(5)]
    for one in opened:
        kept.add(one)
    assert closed == opened[:2], "the longest idle go first"
    for one in opened[2:]:
        kept.close(one)
    kept.add(opened[0])
    assert kept.get(opened[0].id, Principal(), "") is opened[0]
    assert len(closed) == 5


async def test_what_is_kept_for_clients_that_may_come_back_is_bounded_for_all() -> None:
    kept = Sessions(lambda _: None)
    kept.replay.most = 5000
    opened = [session(10) for _ in range(4)]
    for one in opened:
        kept.add(one)
        stream = one.streams.new()
        stream._known = True  # pyright: ignore[reportPrivateUsage]
        stream.leave()
        for _ in range(2):
            stream.append(b"x" * 1000)
    assert [one.streams.bytes for one in opened] == [0, 1000, 2000, 2000]
    kept.close(opened[3])
    assert kept.replay.bytes == 3000
