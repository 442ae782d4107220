"""How soon what calls leave is written."""

from __future__ import annotations

import pytest

from agentgw.cli.flushing import EVERY, EVERY_AT_MOST, MANY, SOONEST, next_pause


@pytest.mark.parametrize(
    ("before", "many", "pause"),
    [
        (EVERY, 0, EVERY),
        (EVERY, 1, EVERY),
        (EVERY, MANY, EVERY),
        (EVERY, 2 * MANY, EVERY / 2),
        (EVERY / 2, MANY, EVERY / 2),
        (EVERY / 2, MANY // 2, EVERY),
        (EVERY, 1000 * MANY, SOONEST),
        (EVERY_AT_MOST, 1, EVERY),
    ],
)
def test_much_is_written_sooner_and_never_later_than_promised(before: float, many: int, pause: float) -> None:
    assert next_pause(before, many, failing=False) == pytest.approx(pause)


def test_what_fails_is_tried_less_often() -> None:
    pause, pauses = SOONEST, list[float]()
    for _ in range(7):
        pause = next_pause(pause, 1000 * MANY, failing=True)
        pauses.append(pause)
    assert pauses == pytest.approx([0.4, 0.8, 1.6, 3.2, 5, 5, 5])
