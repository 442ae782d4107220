"""``agentgw``, which also writes down on SIGUSR1 what its loop holds: the tasks, by where they wait.

python -m tests.soak.gateway FILE WORDS…
"""

from __future__ import annotations

import asyncio
import collections
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from agentgw.cli import wiring
from agentgw.cli.main import main

FILE = Path(sys.argv.pop(1))
_start = wiring.Gateway.start


def tell() -> None:
    gc.collect()
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    held = collections.Counter(getattr(c, "__qualname__", type(c).__name__) for c in coroutines)
    new = FILE.with_suffix(".new")
    new.write_text(json.dumps({"tasks": sum(held.values()), "by": held}))
    os.replace(new, FILE)


async def start(self: Any, **options: Any) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    await _start(self, **options)


wiring.Gateway.start = start
if __name__ == "__main__":
    main()
