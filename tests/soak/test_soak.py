"""The soak's short form; ``scripts/soak`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from .soak import soak


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_books_balance(tmp_path: Path, workers: int) -> None:
    report = soak(seconds=12, clients=500, seed=1, work=tmp_path, workers=workers)
    print(report)
    assert not report.faults, str(report)
    assert report.books.begun > 500
