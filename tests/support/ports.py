"""Ports for processes that are told where to listen."""

from __future__ import annotations

import itertools
import os
import socket

# Below the range from which systems take ports for outgoing connections, and a stretch of 97 for each process
# of tests: a port that was free a moment ago is still free when its process begins to listen.
_next = itertools.count(10_000 + os.getpid() * 97 % 22_000)


def find_port() -> int:
    """A loopback port that nothing uses now and no other test is given."""
    for port in _next:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def hold(port: int, *, shared: bool = False) -> socket.socket:
    """Keep a port whose server has gone, so that nobody else gets it: connections are refused there until the
    socket listens. ``shared``: or another does, of a server that shares its ports (SO_REUSEPORT)."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", port))
    return held
