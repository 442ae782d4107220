"""``agentgw serve --workers N``: one process owns the data directory, N others serve clients.

The owner has the store, the directory of agents and the control plane. Each worker listens on the same port
with a socket of its own (``SO_REUSEPORT``: the system spreads connections over them; one shared socket would
leave that to chance, and most to one worker), which the owner keeps open, so that clients wait, and are not
refused, while a worker that died is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

import msgspec

from ..gateway import rates
from ..gateway.access import Key
from ..gateway.agentlog import logs_in
from ..gateway.config import Config
from ..gateway.control import AddAgent, Added, AgentInfo, Control
from ..gateway.errors import ConfigError, GatewayError
from ..gateway.homes import TABLE_BYTES, Homes
from ..gateway.http.handover import OWNER, socket_path
from ..gateway.link import Handler, Link, Payload, Unpack, pack
from ..gateway.metrics import Report
from ..gateway.seal import Sealer
from ..registry.directory import Directory
from ..registry.lending import lender
from ..registry.mirror import News, Telling
from ..registry.remote import served
from ..registry.rows import RowStore
from .auditing import Keep, audit_file, moving
from .process import listen, loopback_url, opened_by_one, running, unless, until_stopped
from .reloading import Reloader, Reread
from .wiring import Gateway
from .worker import Start, local_socket

log = logging.getLogger("agentgw.workers")
P = ParamSpec("P")
T = TypeVar("T")

TELL_EVERY = 0.2  # seconds: how late workers learn of what nobody waits for (an agent's health)
PATIENCE = 5.0  # seconds that a change waits for a worker to show it
STARTS = 60.0  # seconds in which a worker must have started
ENDS = 10.0  # seconds that a worker has to write out what it holds
AGAIN_FIRST, AGAIN_MOST = 0.1, 30.0  # seconds before a worker that died is started again
COMMAND = (sys.executable, "-P", "-m", "agentgw.cli.worker")

_name = Unpack(str)
_report = Unpack(Report)
_bool = Unpack(bool)


class _Worker:
    """One of them, as the owner sees it."""

    def __init__(self, number: int, listener: socket.socket) -> None:
        self.number = number
        self.listener = listener
        self.link: Link | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.telling = Telling()
        self.turn = asyncio.Lock()
        self.counts = Report()
        self.up = asyncio.Event()

    async def call(self, name: str, payload: Payload = b"") -> Payload | None:
        """What it answers; None if it is not there."""
        if self.link is None or not self.up.is_set():
            return None
        try:
            return await self.link.call(name, payload)
        except GatewayError as e:
            log.debug("worker %d: %s: %s", self.number, name, e.message)
            return None


class Workers:
    """All workers of the gateway whose store and directory ``gateway`` has."""

    def __init__(
        self,
        gateway: Gateway,
        home: Path,
        token: str,
        listeners: list[socket.socket],
        directory: Path,
        table: int,
        audit: Keep,
    ) -> None:
        self._audit = audit
        self._gateway = gateway
        self._home = home
        self._token = token
        self._directory = directory
        self._table = table
        self._all = [_Worker(number, listener) for number, listener in enumerate(listeners)]
        self._jobs: set[asyncio.Task[None]] = set()
        self._stopping = False
        gateway.metrics.gather = self._gather

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """All are up when it returns. Raises ConfigError when one can't be."""
        runs = [self._job(self._run(worker)) for worker in self._all]
        ups = asyncio.gather(*(worker.up.wait() for worker in self._all))
        await asyncio.wait([ups, *runs], timeout=STARTS, return_when=asyncio.FIRST_COMPLETED)
        if not ups.done():
            ups.cancel()
            raise ConfigError("a worker did not start; run it without --workers to see why")
        self._job(self._keep_telling())
        self._gateway.directory.on_change(self._changed)

    def _changed(self) -> None:
        self._job(self.tell())

    def _job(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        job = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def _run(self, worker: _Worker) -> None:
        """Start it, and again whenever it has died; ends if it can't be started at first."""
        pause, first = AGAIN_FIRST, True
        while not self._stopping:
            begun = asyncio.get_running_loop().time()
            status = await self._lived(worker)
            if self._stopping:
                return
            if first and status is None:
                return
            lasted = asyncio.get_running_loop().time() - begun
            first = False
            pause = AGAIN_FIRST if lasted > AGAIN_MOST else min(pause * 2, AGAIN_MOST)
            log.error("worker %d has died (%s): it is started again", worker.number, status)
            await asyncio.sleep(pause)

    async def _lived(self, worker: _Worker) -> int | None:
        """From its start to its end: the exit status; None if it did not come up."""
        mine, theirs = socket.socketpair()
        with theirs:
            files = (theirs.fileno(), worker.listener.fileno(), self._table)
            worker.process = process = await asyncio.create_subprocess_exec(
                *COMMAND, *map(str, files), pass_fds=files
            )
        link = worker.link = await Link(self._handlers(worker)).open(mine)
        try:
            worker.telling = Telling()
            news = worker.telling.news(self._gateway.directory.views()) or News()
            start = Start(
                worker.number, len(self._all), self._gateway.config, self._token,
                str(self._home), str(self._directory), news,
            )  # fmt: skip
            with contextlib.suppress(GatewayError):
                await link.call("start", pack(start))
                worker.up.set()
                await worker.call("keys", pack(self._gateway.access.keys))  # changed while it started
            status = await process.wait()
            return status if worker.up.is_set() else None
        finally:
            worker.up.clear()
            link.close()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def drain(self, hurry: asyncio.Event) -> bool:
        """Let what runs finish; see ``Gateway.drain``. Whether all finished."""
        self._stopping = True
        hurried = self._job(self._hurried(hurry))
        draining = (worker.call("drain") for worker in self._all)
        finished, answers = await asyncio.gather(self._gateway.drain(hurry), asyncio.gather(*draining))
        hurried.cancel()
        return finished and all(answer is None or _bool(answer) for answer in answers)

    async def _hurried(self, hurry: asyncio.Event) -> None:
        await hurry.wait()
        await asyncio.gather(*(worker.call("hurry") for worker in self._all))

    async def aclose(self) -> None:
        """Have all write out what they hold, and end."""
        self._stopping = True
        await asyncio.gather(*(worker.call("stop") for worker in self._all))
        processes = [worker.process for worker in self._all if worker.process is not None]
        ending = [asyncio.create_task(process.wait()) for process in processes]
        if ending:
            await asyncio.wait(ending, timeout=ENDS)
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()  # which kills those that are late
        await asyncio.gather(*jobs, *ending, return_exceptions=True)

    # --- what workers ask ---------------------------------------------------------------------

    def _handlers(self, worker: _Worker) -> dict[str, Handler]:
        async def look(payload: Payload) -> Payload:
            await self._gateway.directory.described(_name(payload))
            await self._tell(worker)
            return pack(None)

        async def said(payload: Payload) -> Payload:
            self._gateway.directory.changed(_name(payload))
            return pack(None)

        async def report(payload: Payload) -> Payload:
            worker.counts = counts = _report(payload)
            metrics = self._gateway.metrics
            metrics.add(counts)
            metrics.elsewhere.running = sum(w.counts.running for w in self._all)
            metrics.elsewhere.dropped = sum(w.counts.dropped for w in self._all)
            return pack(None)

        async def settle(_: Payload) -> Payload:
            await asyncio.gather(*(w.call("flush") for w in self._all if w is not worker))
            return pack(True)

        async def audit(lines: Payload) -> Payload:
            return pack(await self._audit(bytes(lines)))

        gateway = self._gateway
        assert gateway.tokens is not None and isinstance(gateway.directory, Directory)
        assert isinstance(gateway.store, RowStore)
        token = lender(gateway.tokens)
        own = {
            "token": token, "look": look, "said": said, "report": report, "audit": audit,
            "store.settle": settle,
        }  # fmt: skip
        return {**served(gateway.store), **own}

    async def _gather(self) -> None:
        await asyncio.gather(*(worker.call("flush") for worker in self._all))

    async def forget(self, agent: str) -> None:
        """No worker uses the agent's token any more that it had so far."""
        await asyncio.gather(*(worker.call("forget", pack(agent)) for worker in self._all))

    # --- what workers are told ----------------------------------------------------------------

    async def tell_keys(self, keys: Sequence[Key]) -> None:
        """The keys have changed: all workers know when it returns (but one that is stuck)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(worker.call("keys", pack(keys)) for worker in self._all))

    async def tell(self) -> None:
        """All workers show the agents as they are now when it returns (but one that is stuck)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(self._tell(worker) for worker in self._all))

    async def reconfigure(self, config: Config) -> None:
        """Put a configuration in place, here and at all workers."""
        await self._gateway.reconfigure(config)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(w.call("configure", pack(config)) for w in self._all))
        await self.tell()

    async def _tell(self, worker: _Worker) -> None:
        async with worker.turn:
            if worker.up.is_set() and (news := worker.telling.news(self._gateway.directory.views())):
                await worker.call("news", pack(news))

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY)
            views = self._gateway.directory.views()
            if not all(worker.telling.knows(views) for worker in self._all if worker.up.is_set()):
                await self.tell()


class Told:
    """The control plane whose changes are visible at every worker's doors when they return (``tell``).
    ``forget``: has them use an agent's token no more; ``count``: how many workers there are."""

    def __init__(
        self,
        control: Control,
        tell: Callable[[], Awaitable[None]],
        forget: Callable[[str], Awaitable[None]],
        count: int,
    ) -> None:
        self._tell, self._forget = tell, forget
        self.list_agents, self.show_agent = control.list_agents, control.show_agent
        self.traces, self.trace = control.traces, control.trace
        self.rotate_seal = control.rotate_seal
        self.list_keys, self.create_key = control.list_keys, control.create_key
        self.revoke_key, self.remove_key = control.revoke_key, control.remove_key
        self.agent_logs = control.agent_logs
        self._control, self._count = control, count
        self.add_agent = self._told(self._added)
        self.check_agent = self._told(control.check_agent)
        self.set_enabled = self._told(control.set_enabled)
        self.remove_agent = self._told(control.remove_agent)
        self.begin_login = control.begin_login
        self.finish_login = self._told(self._logged_in)
        self.logout = self._told(self._logged_out)

    async def _added(self, spec: AddAgent) -> Added:
        added = await self._control.add_agent(spec)
        if not spec.command:
            return added
        remark = f"each of the {self._count} workers runs this command as a process of its own, the owner too"
        return msgspec.structs.replace(added, warnings=[*added.warnings, remark])

    async def _logged_in(self, name: str, pending: str, answer: Mapping[str, str]) -> AgentInfo:
        done = await self._control.finish_login(name, pending, answer)
        await self._forget(name)
        return done

    async def _logged_out(self, name: str) -> AgentInfo:
        done = await self._control.logout(name)
        await self._forget(name)
        return done

    def _told(self, change: Callable[P, Awaitable[T]]) -> Callable[P, CoroutineType[Any, Any, T]]:
        async def told(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await change(*args, **kwargs)
            finally:
                await self._tell()

        return told


async def serving(
    config: Config, home: Path, stopping: asyncio.Event, hurry: asyncio.Event, reread: Reread | None
) -> int:
    """Implements ``process.Serving`` with ``server.workers`` processes."""
    if not hasattr(socket, "SO_REUSEPORT") or sys.platform == "win32":
        raise ConfigError("--workers: this system can't spread connections over processes; leave it out")
    listeners = _listeners(config)
    url = loopback_url(config.server.host, listeners[0].getsockname()[1])
    token = secrets.token_urlsafe(32)
    store = opened_by_one(config, home)
    async with contextlib.AsyncExitStack() as stack:
        for listener in listeners:
            stack.callback(listener.close)
        directory = Path(tempfile.mkdtemp(prefix="agentgw-"))  # mode 0700
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        table = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        table.truncate(TABLE_BYTES + rates.TABLE_BYTES)
        homes = Homes(OWNER, len(listeners), table.fileno(), token.encode())
        file = audit_file(config, home)
        stack.callback(file.close)
        gateway = Gateway(
            config, store, bind=config.server.host, token=token, sealer=Sealer(home), homes=homes,
            audit=file.write, logs=logs_in(home),
        )  # fmt: skip
        workers = Workers(gateway, home, token, listeners, directory, table.fileno(), file.write)
        assert gateway.manager is not None
        gateway.on_keys = workers.tell_keys
        gateway.reloader = Reloader(config, reread, moving(file, home, workers.reconfigure))
        gateway.manager = Told(gateway.manager, workers.tell, workers.forget, len(listeners))
        local = local_socket(socket_path(directory, OWNER))
        up = _up(stack, running(gateway, None, local=local), workers)
        if await unless(stopping, up) is None:
            return 0
        finished = await until_stopped(gateway, home, url, token, stopping, lambda: workers.drain(hurry))
    return int(hurry.is_set() and not finished)


async def _up(stack: contextlib.AsyncExitStack, opening: Any, workers: Workers) -> bool:
    await stack.enter_async_context(opening)
    stack.push_async_callback(workers.aclose)
    await workers.start()
    return True


def _listeners(config: Config) -> list[socket.socket]:
    """A listening socket for each worker, all on one port. Raises ConfigError."""
    server = config.server
    if server.grpc_port:
        listen(server.host, server.grpc_port).close()  # workers would share it with whoever has it
    first = listen(server.host, server.port)  # not yet shared: it must be nobody else's
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port = first.getsockname()[1]
    return [first, *(listen(server.host, port, shared=True) for _ in range(server.workers - 1))]
