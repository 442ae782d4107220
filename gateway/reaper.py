"""Ends what a gateway has started, once the gateway is gone without having done so itself (``kill -9``).

A program of its own, run as ``python -I -S reaper.py``: it hears on its standard input of each child, by a
mark that the child and whatever it starts have in their environment, and ends those that are left when the
input ends. Nothing but the standard library is here, and as little of that as can be.

``+ MARK``: a child is about to be started; ``= MARK GROUP``: it leads this process group; ``- MARK``: it, and
all that it started, is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping

MARK = "AGENTGW_CHILD"  # the variable
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
_PROC = "/proc"


def marked(marks: Iterable[str]) -> list[int]:
    """The processes that have one of the marks, wherever they have gone; none where there is no ``/proc``."""
    wanted = [f"{MARK}={mark}".encode() for mark in marks]
    found: list[int] = []
    names = os.listdir(_PROC) if wanted and os.path.isdir(f"{_PROC}/self") else ()
    for name in names:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"{_PROC}/{name}/environ", "rb") as file:
            variables = file.read().split(b"\0")
            if any(mark in variables for mark in wanted):
                found.append(int(name))
    return found


def end(children: Mapping[str, int | None], signum: int) -> bool:
    """Send the signal to the children's groups and to all that have their marks; whether there was any.
    ``children``: marks, and the groups (None: not known)."""
    sent = False
    for group in filter(None, children.values()):
        with contextlib.suppress(OSError):
            os.killpg(group, signum)
            sent = True
    for pid in marked(children):
        with contextlib.suppress(OSError):
            os.kill(pid, signum)
            sent = True
    return sent


def main() -> None:
    children: dict[str, int | None] = {}
    for line in sys.stdin:
        what, mark, *group = line.split()
        if what == "-":
            children.pop(mark, None)
        else:
            children[mark] = int(group[0]) if group else None
    if not children or not end(children, signal.SIGTERM):
        return
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        time.sleep(0.1)
        if not end(children, 0):
            return
    end(children, signal.SIGKILL)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when the gateway has gone
    main()
