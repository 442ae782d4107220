"""``agentgw``, each of whose processes also writes down on SIGUSR1 what its loop holds (the tasks, by where
they wait) in ``FOLDER/{pid}.json``.

python -m tests.soak.gateway FOLDER WORDS…
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

from agentgw.cli import wiring, worker, workers
from agentgw.cli.main import main

FOLDER = Path(sys.argv.pop(1))
WORKER = "a worker"  # in place of the words
_start = wiring.Gateway.start


def tell() -> None:
    gc.collect()
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    held = collections.Counter(getattr(c, "__qualname__", type(c).__name__) for c in coroutines)
    new = FOLDER / f"{os.getpid()}.new"
    new.write_text(json.dumps(held))
    os.replace(new, new.with_suffix(".json"))


async def start(self: Any, **options: Any) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    await _start(self, **options)


wiring.Gateway.start = start
workers.COMMAND = (sys.executable, "-m", "tests.soak.gateway", str(FOLDER), WORKER)
if __name__ == "__main__":
    if sys.argv[1] == WORKER:
        sys.argv.pop(1)
        worker.main()
    else:
        main()
