"""One worker of ``agentgw serve --workers``: doors, hub and connections of its own, the owner's store and
directory. ``workers`` starts it, as a process that inherits three open files: its end of the link to the
owner, the socket to listen on, the table of claims and rates."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ..gateway.access import Key
from ..gateway.agentlog import logs_in
from ..gateway.config import Config
from ..gateway.homes import TABLE_BYTES, Homes
from ..gateway.http.handover import Handover, socket_path
from ..gateway.link import Handler, Link, Payload, Unpack, pack
from ..gateway.ports import Adapter, Host
from ..gateway.rates import Rates
from ..gateway.seal import Sealer
from ..registry.lending import LentTokens
from ..registry.mirror import Mirror, News
from ..registry.remote import remote
from .garbage import Garbage
from .process import loop_factory, running
from .terminal import tame_log
from .wiring import Gateway

log = logging.getLogger("agentgw.workers")
_ENDS = 5.0  # seconds that a worker has to let go of everything once its owner is gone


class Start(msgspec.Struct, frozen=True):
    """What a worker is told first. ``home``: the data directory, for its keys; ``directory``: of the sockets;
    ``news``: all agents."""

    number: int
    count: int
    config: Config
    token: str
    home: str
    directory: str
    news: News


unpack_start = Unpack(Start)
_news = Unpack(News)
_config = Unpack(Config)
_keys = Unpack(list[Key])
_lost = Unpack(int)
_name = Unpack(str)


class Worker:
    """The owner's calls to it, and what it runs."""

    def __init__(self, listener: socket.socket, table: int) -> None:
        self._listener = listener
        self._table = table
        self._gateway: Gateway | None = None
        self._mirror: Mirror | None = None
        self._begun: Start | None = None
        self._started = asyncio.Event()
        self._up = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._told = (-1, -1)  # tasks that run and spans that were lost, as the owner knows it
        self.link = Link(self._handlers())
        self._tokens = LentTokens(self.link, lambda name: self.link.tell("said", pack(name)))

    def _handlers(self) -> Mapping[str, Handler]:
        async def start(payload: Payload) -> Payload:
            self._begun = unpack_start(payload)
            self._started.set()
            await self._up.wait()
            return pack(None)

        async def news(payload: Payload) -> Payload:
            if self._mirror is not None:
                self._mirror.take(_news(payload))
            return pack(None)

        async def keys(payload: Payload) -> Payload:
            if self._gateway is not None:
                self._gateway.access.take(_keys(payload))
            return pack(None)

        async def configure(payload: Payload) -> Payload:
            if self._gateway is not None:
                config = _config(payload)
                await self._gateway.reconfigure(config, rates=shared_rates(config, self._table))
            return pack(None)

        async def flush(_: Payload) -> Payload:
            if self._gateway is not None and self._up.is_set():
                await self._gateway.flush()
            return pack(None)

        async def drain(_: Payload) -> Payload:
            return pack(self._gateway is None or await self._gateway.drain(self._hurry))

        async def hurry(_: Payload) -> Payload:
            self._hurry.set()
            return pack(None)

        async def stop(_: Payload) -> Payload:
            self._stopping.set()
            return pack(None)

        async def forget(payload: Payload) -> Payload:
            self._tokens.forget(_name(payload))
            return pack(None)

        return {f.__name__: f for f in (start, news, configure, keys, flush, drain, hurry, stop, forget)}

    async def run(self, end: socket.socket) -> int:
        """Serve until the owner says stop, or is gone; the exit status."""
        await self.link.open(end)
        try:
            await _first(self._started, self.link.closed)
            if self._begun is not None:
                await self._serve(self._begun)
        finally:
            if self.link.closed.is_set() and self._begun is not None:
                shutil.rmtree(self._begun.directory, ignore_errors=True)  # nobody else does
            self.link.close()
        return 0 if self._stopping.is_set() else 1

    async def _serve(self, begun: Start) -> None:
        config, directory = begun.config, Path(begun.directory)
        homes = Homes(begun.number, begun.count, self._table, begun.token.encode())
        handover = Handover(homes, directory)
        gateway = self._gateway = Gateway(
            config,
            remote(self.link),
            bind=config.server.host,
            token=begun.token,
            sealer=Sealer(Path(begun.home)),
            homes=homes,
            mirror=self._made_mirror,
            elsewhere=handover,
            rates=shared_rates(config, self._table),
            audit=self._audit,
            logs=logs_in(Path(begun.home)),
        )
        assert self._mirror is not None
        self._mirror.take(begun.news)
        gateway.hub.pass_on = handover.pass_on
        gateway.flusher.on_flushed = lambda: self._report(gateway)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(handover.close)
            local = local_socket(socket_path(directory, begun.number))
            await stack.enter_async_context(running(gateway, self._listener, local=local))
            gateway.flusher.on_round = Garbage().round
            self._up.set()
            await _first(self._stopping, self.link.closed)
            if not self._stopping.is_set():
                asyncio.get_running_loop().call_later(_ENDS, os._exit, 1)

    def _made_mirror(self, adapters: Mapping[str, Adapter], host: Host) -> Mirror:
        assert self._begun is not None

        async def look(name: str) -> None:
            await self.link.call("look", pack(name))

        def said(name: str) -> None:
            self.link.tell("said", pack(name))

        self._mirror = Mirror(adapters, host, self._begun.config, look, said, self._tokens)
        return self._mirror

    async def _audit(self, lines: bytes) -> int:
        """The owner has the file."""
        return _lost(await self.link.call("audit", lines))

    def _report(self, gateway: Gateway) -> None:
        """Tell the owner what was counted, if anything was."""
        report = gateway.metrics.drain()
        report.running, report.dropped = now = gateway.hub.running, gateway.tracer.dropped
        if report.calls or report.responses or now != self._told:
            self._told = now
            self.link.tell("report", pack(report))


def shared_rates(config: Config, table: int) -> Rates:
    """The rates that all workers keep in the one table, behind the claims."""
    limits = config.limits
    return Rates(limits.rate, limits.burst, table, TABLE_BYTES)


def local_socket(path: Path) -> socket.socket:
    """A listening socket at ``path``."""
    path.unlink(missing_ok=True)  # of one that died
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _ignore(number: int, frame: object) -> None:
    """A handler, unlike SIG_IGN, is not passed on to the agents that are started."""


def main() -> None:
    """``python -m agentgw.cli.worker LINK LISTENER TABLE`` (numbers of open files)."""
    # The owner alone decides when to stop; a terminal's Ctrl-C, or a service manager, tells the whole group.
    # It also tells of another configuration.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ignore)
    tame_log()
    link, listener, table = map(int, sys.argv[1:4])

    async def run() -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, lambda: None)
        return await Worker(socket.socket(fileno=listener), table).run(socket.socket(fileno=link))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(run()))


if __name__ == "__main__":
    main()
