"""How many examples a property is tried with: always the same ones, but where ``scripts/fuzz`` asks."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

TIMES = int(os.environ.get("FUZZ_TIMES", "0"))
FEW = 4  # so many times less of them, as a rule, in the default run
USUAL = 100  # where a test says nothing
_whole = TIMES > 0


def begin(whole: bool) -> None:
    """Before tests are collected: whether this run has all examples, or few."""
    global _whole
    _whole = TIMES > 0 or whole
    settings.register_profile("tests", examples(USUAL))
    settings.load_profile("tests")


def examples(number: int, few: int | None = None) -> Any:
    """Settings for a test that has ``number`` of them in CI's second run, and ``few`` in the default one."""
    return settings(
        max_examples=number * max(TIMES, 1) if _whole else few or max(number // FEW, 5),
        derandomize=TIMES == 0,
        database=None,
        deadline=None,  # how long an example takes says nothing about the code, nor does its making
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        phases=[Phase.explicit, Phase.generate, *([] if os.environ.get("FUZZ_FAST") else [Phase.shrink])],
    )
