"""Which tests share a worker in a parallel run: those that share what is costly to start."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling


class Sharing(LoadScopeScheduling):
    """What ``--dist loadgroup`` stands for here. (By marks, pytest-xdist 3.8 groups nothing with pytest 9.2:
    it writes them into the ids of tests, where nobody reads them any more.)"""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """A file's tests stay together for the sake of its fixtures; where it has none of its own, less does."""
    file, _, test = nodeid.partition("::")
    name, _, cell = test.partition("[")
    if file.startswith(("tests/survival/", "tests/faults/")):
        return f"{file}::{name}"
    if file == "tests/e2e/test_table.py":
        return f"{file}::{cell[:4]}"  # the client's protocol
    return file
