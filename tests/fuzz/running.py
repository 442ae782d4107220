"""How many examples: few, and always the same ones, unless ``scripts/fuzz`` asks for more."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))


def examples(number: int) -> Any:
    """Settings for a test that has ``number`` of them in the default run."""
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        phases=[Phase.explicit, Phase.generate, *([] if os.environ.get("FUZZ_FAST") else [Phase.shrink])],
    )
