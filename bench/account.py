"""What processes cost, by the operating system's own account."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU that processes have used: all their threads, those that have ended too, in user and
    kernel mode, to the nanosecond.

    It is the process's CPU clock (``clock_getcpuclockid``), which the scheduler keeps at every switch, where
    ``/proc/PID/stat`` counts in steps of 10 ms. What the kernel does for others while a process is on the CPU
    (on loopback: the receiver's side of what it sends) counts as that process's, for every proxy alike.
    """
    return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in pids) / 1e9


def rss(pids: Iterable[int]) -> int:
    """Bytes of memory that processes hold."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in pids)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that have not been collected."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def family(pid: int) -> list[int]:
    """A process, its children, and theirs."""
    return [pid, *(one for child in children(pid) for one in family(child))]


class Cores:
    """Who runs where, so that they do not take each other's time: proxies on the first core (``workers`` of
    them on the first two), clients and agents on the others. One core, or no such call: all anywhere."""

    def __init__(self) -> None:
        self.all = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []

    def proxy(self, workers: int = 1) -> set[int]:
        return set(self.all[:workers])

    def others(self) -> set[int]:
        return set(self.all[1:] or self.all)


CORES = Cores()
