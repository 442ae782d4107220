"""Golden files: one JSON value a line, a line of dashes, and what they must become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "golden"


def cases(folder: str) -> list[Path]:
    return sorted((HERE / folder).glob("*.txt"))


def read(path: Path) -> tuple[list[Any], list[Any]]:
    """The values before and after the dashes."""
    before, _, after = path.read_text().partition("\n---\n")
    given, wanted = ([json.loads(line) for line in half.splitlines() if line] for half in (before, after))
    return given, wanted
