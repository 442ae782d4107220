"""The gateway as a process: where it listens, how it is told to stop; and the one inside a single command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from ..gateway.access import SPACE
from ..gateway.agentlog import logs_in
from ..gateway.config import Config, amiss, doubtful
from ..gateway.errors import ConfigError, UpstreamError
from ..gateway.http.app import App
from ..gateway.http.doors import is_loopback, only_local
from ..gateway.http.server import Server
from ..gateway.seal import Sealer
from ..gateway.transport import HttpTransport
from ..registry import logins
from ..registry.memory import MemoryStore
from ..registry.sqlite import SqliteStore
from . import owner
from .auditing import audit_file, moving
from .banner import banner, credentials
from .garbage import Garbage, giving_back
from .reloading import Reloader, Reread
from .terminal import WrongUse, tame_log
from .wiring import Gateway

log = logging.getLogger("agentgw")
T = TypeVar("T")
# Serves until the first event is set, then drains until the second; the exit status.
Serving = Callable[[Config, Path, asyncio.Event, asyncio.Event, Reread | None], Coroutine[Any, Any, int]]

OPEN_FILES = 65_536  # wanted: a call under way holds a client's connection and an agent's


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """The listening socket. ``shared``: other sockets may listen there, too. Raises ConfigError in one line
    when that can't be."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as e:
        hint = "; stop what uses it or choose another with --port" if e.errno == 98 else ""
        raise ConfigError(f"can't listen on {host}:{port}: {os.strerror(e.errno or 0)}{hint}") from None
    return listener


def serve(config: Config, *, home: Path, serving: Serving | None = None, reread: Reread | None = None) -> int:
    """Run the gateway until SIGTERM or SIGINT; a second one does not wait for calls under way. Returns the
    exit status: 1 when that cut calls off, else 0. Raises ConfigError. ``serving``: how, if not in this
    process alone. ``reread``: the configuration as it stands later."""
    bind = config.server.host
    if wrong := amiss(config):
        raise WrongUse(wrong)
    guarded = bool(config.auth.issuer or SqliteStore.read_items(home, SPACE))
    local = only_local(bind, config.server.public_url)
    if not (local or config.server.allow_anonymous or guarded):
        where = f"being called at {config.server.public_url}" if is_loopback(bind) else f"listening on {bind}"
        raise WrongUse(
            f"{where} would let anyone in: make a key first (agentgw keys create NAME), "
            "say --allow-anonymous if that is wanted, or serve 127.0.0.1 alone"
        )
    for doubt in doubtful(config):
        log.warning("%s", doubt)
    _raise_file_limit()
    tame_log()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_signalled(serving or _serve, config, home, reread))


def _raise_file_limit() -> None:
    """As many open files as the system lets this process have, up to ``OPEN_FILES``: the usual soft limit of
    1024 is for programs that use select()."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as e:
            log.debug("the limit of open files stays at %d: %s", soft, e)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, where there is one."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _signalled(serving: Serving, config: Config, home: Path, reread: Reread | None) -> int:
    stopping, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurry if stopping.is_set() else stopping).set())
    return await serving(config, home, stopping, hurry, reread)


async def _serve(
    config: Config, home: Path, stopping: asyncio.Event, hurry: asyncio.Event, reread: Reread | None
) -> int:
    listener = listen(config.server.host, config.server.port)
    url = loopback_url(config.server.host, listener.getsockname()[1])
    token = secrets.token_urlsafe(32)
    store = opened_by_one(config, home)
    async with contextlib.AsyncExitStack() as stack:
        file = audit_file(config, home)
        stack.callback(file.close)
        gateway = Gateway(
            config,
            store,
            bind=config.server.host,
            token=token,
            sealer=Sealer(home),
            audit=file.write,
            logs=logs_in(home),
        )
        gateway.reloader = Reloader(config, reread, moving(file, home, gateway.reconfigure))
        starting = running(gateway, listener)
        started = await unless(stopping, stack.enter_async_context(starting))
        if started is None:
            return 0
        finished = await until_stopped(gateway, home, url, token, stopping, lambda: gateway.drain(hurry))
    return int(hurry.is_set() and not finished)


def opened_by_one(config: Config, home: Path) -> SqliteStore:
    """The store of a gateway that serves. Opening it waits for a command or a gateway that stops, and is
    refused at once where another one goes on."""

    async def serving() -> str:
        here = owner.read(home)
        if here is None or not owner.alive(here):
            return ""
        asking = HttpTransport()
        try:
            ready = await asking.request("GET", f"{here.url}/readyz", timeout=1.0)
        except UpstreamError:
            return ""
        finally:
            await asking.aclose()
        return here.url if ready.status == 200 else ""

    return SqliteStore(
        home,
        spans=config.tracing.spans,
        tasks=config.limits.tasks,
        holder="agentgw serve",
        serving=serving,
    )


async def until_stopped(
    gateway: Gateway,
    home: Path,
    url: str,
    token: str,
    stopping: asyncio.Event,
    drain: Callable[[], Awaitable[bool]],
) -> bool:
    """The gateway is ready at ``url``: say so, be found by the command line until ``stopping`` is set, then
    ``drain``; what that says."""
    gateway.flusher.on_round = Garbage(give_back=giving_back(gateway.store.rest)).round
    owner.write(home, url=url, token=token)
    try:
        config = gateway.config
        server, issuer = config.server, config.auth.issuer
        local = only_local(server.host, server.public_url)
        wanted = credentials(gateway.access.closed, issuer, local=local)
        print(banner(server.public_url or url, grpc_at(config, url), wanted), flush=True)
        gateway.control.begin()
        if gateway.reloader is not None:
            gateway.reloader.on_hangup(stopping, lambda: gateway.app.audit)
        await stopping.wait()
        return await drain()
    finally:
        owner.remove(home)


async def unless(stopping: asyncio.Event, starting: Coroutine[Any, Any, T]) -> T | None:
    """What ``starting`` gives; None when ``stopping`` was set before it was done, which cancels it: it may
    be waiting for the data directory."""
    started, stopped = asyncio.create_task(starting), asyncio.create_task(stopping.wait())
    await asyncio.wait((started, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if started.done():
        return started.result()
    started.cancel()
    await asyncio.wait((started,))
    return None


@contextlib.asynccontextmanager
async def running(
    gateway: Gateway,
    listener: socket.socket | None,
    *,
    refresh: bool = True,
    local: socket.socket | None = None,
) -> AsyncGenerator[Gateway]:
    """The gateway serves on ``listener`` inside the block, and on ``local`` what other processes hand over;
    leaving it stops it in the right order. ``refresh``: see ``Gateway.start``."""
    config = gateway.config
    async with contextlib.AsyncExitStack() as stack:
        for opened in filter(None, (listener, local)):
            stack.callback(opened.close)
        stack.push_async_callback(gateway.aclose)
        await gateway.start(refresh=refresh)
        if local is not None:
            await _served(stack, gateway, gateway.inner, local)
        if listener is not None:
            await _served(stack, gateway, gateway.app, listener)
            url = loopback_url(config.server.host, listener.getsockname()[1])
            await stack.enter_async_context(_listening(gateway, url))
        yield gateway


async def _served(
    stack: contextlib.AsyncExitStack, gateway: Gateway, app: App, listener: socket.socket
) -> None:
    server = Server(app, gateway.config.limits.header)
    gateway.servers.append(server)
    stack.push_async_callback(server.aclose)
    await server.start(listener)


@contextlib.asynccontextmanager
async def _listening(gateway: Gateway, url: str) -> AsyncGenerator[None]:
    """What adapters listen on beside HTTP is open inside the block. ``url``: where HTTP is served."""
    wanted = [a.listener for a in gateway.adapters.values() if a.listener is not None]
    authority = urlsplit(url).netloc
    async with contextlib.AsyncExitStack() as stack:
        for listener in wanted:
            opened = listener(gateway.app, gateway.config, authority)
            if opened is not None:
                stack.push_async_callback(opened.aclose)
                await opened.start()
        yield


def grpc_at(config: Config, url: str) -> str:
    """Where gRPC is served beside HTTP at ``url``; "" where it is not."""
    server = config.server
    if not server.grpc_port:
        return ""
    return server.grpc_url or f"{urlsplit(url).netloc.rpartition(':')[0]}:{server.grpc_port}"


def loopback_url(host: str, port: int) -> str:
    """Where commands on this machine reach a gateway that listens on ``host``."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Embedded(msgspec.Struct, frozen=True):
    """Its base URL and owner token; ``keyed``: whether there are client keys, which are good there."""

    url: str
    token: str
    keyed: bool


@contextlib.asynccontextmanager
async def embedded(config: Config, *, home: Path, refresh: bool) -> AsyncGenerator[Embedded]:
    """A gateway in this process on a loopback port of its own, for one command and nobody else.

    Reads the registry without the lock; tasks and spans stay in
    memory, so any number run side by side. ``refresh``: ask all agents, for a host that sees them all; a
    command for one agent need not start the others.
    """
    records, descriptions = SqliteStore.read_registry(home)
    keys, kept = SqliteStore.read_items(home, SPACE), SqliteStore.read_items(home, logins.SPACE)
    items = {SPACE: keys, logins.SPACE: kept}
    store = MemoryStore(records=records, descriptions=descriptions, items=items)
    listener = listen("127.0.0.1", 0)
    token = secrets.token_urlsafe(32)
    server = msgspec.structs.replace(config.server, host="127.0.0.1", public_url="", grpc_port=0)
    config = msgspec.structs.replace(config, server=server)

    @contextlib.asynccontextmanager
    async def lasting() -> AsyncGenerator[SqliteStore]:
        """The data directory's store, under its lock."""
        owned = SqliteStore(home, spans=config.tracing.spans, tasks=config.limits.tasks)
        await owned.open()
        try:
            yield owned
        finally:
            await owned.aclose()

    gateway = Gateway(
        config,
        store,
        bind="127.0.0.1",
        token=token,
        private=True,
        logs=logs_in(home),
        sealer=Sealer(home) if kept else None,
        lasting=lasting,
    )
    async with running(gateway, listener, refresh=refresh):
        yield Embedded(f"http://127.0.0.1:{listener.getsockname()[1]}", token, bool(keys))
