"""Times as the model writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from time import time_ns

_MILLISECONDS = [f".{ms:03d}Z" for ms in range(1000)]


def now() -> str:
    """The time as the model writes it: UTC, milliseconds, ``Z``."""
    return written(time_ns() // 1_000_000)


def written(ms: int) -> str:
    """The same for milliseconds since 1970."""
    return _second(ms // 1000) + _MILLISECONDS[ms % 1000]


@lru_cache(2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
