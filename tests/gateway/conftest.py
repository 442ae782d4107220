"""On which event loops tests run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest


def pytest_asyncio_loop_factories(config: Any, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """The way in and the way out stand on what a loop makes of sockets: their tests run on both loops."""
    loops: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name.startswith(("test_h1", "test_connection")):
        try:
            import uvloop
        except ImportError:  # Windows
            return loops
        loops["uvloop"] = uvloop.new_event_loop
    return loops
