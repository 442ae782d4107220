"""Which tests share a worker in a parallel run: those that share what is costly to start."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

PEERS = ("tests/e2e/", "tests/survival/")


class Sharing(LoadScopeScheduling):
    """What ``--dist loadgroup`` stands for here. (By marks, pytest-xdist 3.8 groups nothing with pytest 9.2:
    it writes them into the ids of tests, where nobody reads them any more.)"""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        """Two workers begin with what needs the peers, the others with the rest: each that has begun with it
        starts peers of its own."""
        if node not in self.nodes[:2]:
            rest = next((scope for scope in self.workqueue if not scope.startswith(PEERS)), None)
            if rest is not None:
                self.workqueue.move_to_end(rest, last=False)
        super()._assign_work_unit(node)


def group(nodeid: str) -> str:
    """A file's tests stay together for the sake of its fixtures; where it has none of its own, less does."""
    file, _, test = nodeid.partition("::")
    name, _, cell = test.partition("[")
    if file.startswith(("tests/survival/", "tests/faults/")):
        return f"{file}::{name}"
    if file == "tests/e2e/test_table.py":
        return f"{file}::{cell[:4]}"  # the client's protocol
    return file
