"""Push notifications: clients' configurations, kept in the store, and a courier for each.

The webhook is between the client and the gateway, whatever protocol the agent speaks: an agent never learns
of it. A configuration belongs to the caller who made it. It is kept until the caller deletes it, or for a
while after the end of its task was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from hashlib import sha256
from time import time
from uuid import uuid4

import msgspec

from ....gateway.errors import Draining, Forbidden, GatewayError, InvalidRequest, UnknownTask, Unreachable
from ....gateway.http.request import JSON
from ....gateway.lifecycle import TERMINAL
from ....gateway.model import Fault, Principal, Task, TaskState
from ....gateway.outbound import checked
from ....gateway.ports import Engine
from ..problems import INVALID_PARAMS, TASK_NOT_FOUND, Problem
from ..pushconfig import PushConfig, config_id_of, config_to, configs_to, create_from
from ..wire import V10, Op
from .call import Call
from .news import Feed, LogFeed, Told
from .passage import MARK, is_relayed
from .pushing import Courier, Entry, Post
from .watching import RelayFeed, RelayWatch

log = logging.getLogger("agentgw.a2a.push")

SPACE = "a2a.push"
MOST_PER_TASK, MOST, MOST_OVER = 10, 10_000, 1000  # configurations; the last: with nothing more to tell
MOST_AGE = 7 * 86400.0  # seconds after which a task that does not end is told of no more
KEPT = 3600.0  # seconds that a configuration is still shown after its task's end was told

_encode = msgspec.json.Encoder().encode
_entry = msgspec.json.Decoder(Entry)


class Push:
    """All configurations. Operations raise Problem, GatewayError and Malformed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._post = Post(engine)
        self._entries: dict[str, dict[str, Entry]] = {}  # by task, by key
        self._couriers: dict[str, asyncio.Task[None]] = {}  # by key
        self._watches: dict[str, RelayWatch] = {}  # by task
        self._over: dict[str, str] = {}  # keys with nothing more to tell, oldest first, to their tasks
        self._loading: asyncio.Task[None] | None = None

    # --- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what a former process had to tell."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())

    async def aclose(self) -> None:
        """End all couriers; what is not told yet is told after the next start."""
        jobs = [*self._couriers.values(), *([self._loading] if self._loading else [])]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def _load(self) -> None:
        found: list[tuple[str, Entry]] = []
        for key, sealed in (await self._engine.items.all(SPACE)).items():
            try:
                found.append((key, _entry.decode(self._engine.sealer.unseal(sealed.decode(), SPACE))))
            except (InvalidRequest, msgspec.DecodeError, UnicodeDecodeError):
                log.warning("a push notification configuration can't be read any more: it is forgotten")
                await self._engine.items.remove(SPACE, key)
        for key, entry in sorted(found, key=lambda f: f[1].created):
            if not self._engine.homes.here(entry.task_id):
                continue
            self._engine.homes.claim(entry.task_id)
            self._entries.setdefault(entry.task_id, {})[key] = entry
            self._send_off(key, entry)

    async def _loaded(self) -> None:
        self.start()
        assert self._loading is not None
        await asyncio.shield(self._loading)

    # --- operations --------------------------------------------------------------------------

    async def run(self, call: Call, task: Task) -> bytes:
        """An operation on the configurations of a task that the caller may see."""
        await self._loaded()
        if call.op is Op.PUSH_CREATE:
            config = create_from(call.params, call.version)
            await self._accepted(config)
            config = await self.add(call, task, config)
            return _encode(config_to(task.id, config, call.version))
        mine = self._mine(task.id, call.principal)
        if call.op is Op.PUSH_LIST:
            return _encode(configs_to(task.id, [e.config for e in mine.values()], call.version))
        config_id = config_id_of(call.op, call.params, call.version)
        found = [k for k, e in mine.items() if not config_id or e.config.id == config_id]
        if call.op is Op.PUSH_DELETE:
            for key in found[:1]:
                await self._remove(key, task.id)
            return b"null"
        if not found:
            raise Problem(TASK_NOT_FOUND, f"the task has no push notification configuration {config_id!r}")
        return _encode(config_to(task.id, mine[found[0]].config, call.version))

    async def check(self, call: Call, config: PushConfig, task_id: str | None) -> None:
        """Raises what speaks against a configuration that comes with a message (for the task ``task_id``),
        before the message goes anywhere."""
        await self._loaded()
        await self._accepted(config)
        mine = self._mine(task_id or "", call.principal)
        self._check_number(mine, _key(task_id or "", call.principal.id, config.id))

    async def add(self, call: Call, task: Task, config: PushConfig) -> PushConfig:
        """Keep a configuration (durable when it returns) and begin to tell; it, with its id. One with the id
        of another replaces that; one without an id that is there already is that one."""
        await self._loaded()
        mine = self._mine(task.id, call.principal)
        if not config.id:
            same = [e.config.id for e in mine.values() if msgspec.structs.replace(e.config, id="") == config]
            config = msgspec.structs.replace(config, id=same[0] if same else str(uuid4()))
        key = _key(task.id, call.principal.id, config.id)
        self._check_number(mine, key)
        self._over.pop(key, None)
        self._recall(key)
        entry = Entry(
            task_id=task.id,
            context_id=task.context_id,
            agent=task.agent,
            principal=call.principal.id,
            owner=call.principal.owner,
            version=call.version,
            media_type=call.media_type if call.version == V10 else JSON,
            config=config,
            trace=call.span.trace,
            relayed=dict(task.extra[MARK]) if is_relayed(task) else None,
            created=time(),
        )
        here = self._entries.setdefault(task.id, {})
        here[key] = entry
        try:
            await self._put(key, entry)
        except BaseException:
            here.pop(key, None)
            raise
        if here.get(key) is entry:  # and was not deleted or replaced meanwhile
            self._send_off(key, entry)
        return config

    def moved(self, task_id: str) -> None:
        """The task goes on elsewhere under the same id (the gateway's own agent handed it on)."""
        for key, entry in self._entries.get(task_id, {}).items():
            if entry.ended is None:
                self._send_off(key, entry)

    async def _accepted(self, config: PushConfig) -> None:
        """The webhook may be called, as far as can be said now; it is looked at again for every call."""
        try:
            await checked(config.url, self._engine.config.outbound.allow)
        except Unreachable:
            pass  # a name that has no address today may have one when there is something to tell
        except (Forbidden, InvalidRequest) as e:
            raise Problem(INVALID_PARAMS, f"the webhook can't be used: {e.message}", hub=e.code) from e

    def _mine(self, task_id: str, principal: Principal) -> dict[str, Entry]:
        """The caller's configurations of a task, oldest first."""
        return {k: e for k, e in self._entries.get(task_id, {}).items() if e.principal == principal.id}

    def _check_number(self, mine: dict[str, Entry], key: str) -> None:
        if key in mine:
            return
        if len(mine) >= MOST_PER_TASK:
            raise Problem(INVALID_PARAMS, f"a task may have {MOST_PER_TASK} push notification configurations")
        if sum(len(entries) for entries in self._entries.values()) - len(self._over) >= MOST:
            raise Problem(INVALID_PARAMS, "there are too many push notification configurations here")

    # --- keeping -----------------------------------------------------------------------------

    async def _put(self, key: str, entry: Entry) -> None:
        sealed = self._engine.sealer.seal(_encode(entry), SPACE)
        await self._engine.items.put(SPACE, key, sealed.encode())

    async def _remove(self, key: str, task_id: str) -> None:
        entries = self._entries.get(task_id, {})
        entries.pop(key, None)
        if not entries:
            self._entries.pop(task_id, None)
        self._over.pop(key, None)
        self._recall(key)
        await self._engine.items.remove(SPACE, key)

    # --- couriers ----------------------------------------------------------------------------

    def _send_off(self, key: str, entry: Entry) -> None:
        self._recall(key)
        job = asyncio.create_task(self._serve(key, entry), name=f"push {entry.task_id}")
        self._couriers[key] = job

    def _recall(self, key: str) -> None:
        if (courier := self._couriers.pop(key, None)) is not None:
            courier.cancel()

    async def _serve(self, key: str, entry: Entry) -> None:
        """Tell what there is to tell, keep the configuration for a while, forget it."""
        try:
            if entry.ended is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(entry.created + MOST_AGE - time(), 0)):
                        await self._tell(entry)
                entry = msgspec.structs.replace(entry, ended=time())
                self._entries[entry.task_id][key] = entry
                await self._put(key, entry)
            assert entry.ended is not None
            self._over[key] = entry.task_id
            while len(self._over) > MOST_OVER:
                oldest = next(iter(self._over))
                await self._remove(oldest, self._over[oldest])
            await asyncio.sleep(max(entry.ended + KEPT - time(), 0))
            self._couriers.pop(key, None)
            await self._remove(key, entry.task_id)
        except Draining:
            return  # the next process goes on
        except GatewayError as e:
            log.warning("the webhook of task %s is not told any more: %s", entry.task_id, e.message)
        except Exception:
            log.exception("the webhook of task %s is not told any more", entry.task_id)

    async def _tell(self, entry: Entry) -> None:
        principal = Principal(id=entry.principal, owner=entry.owner)
        try:
            task = (await self._engine.task(entry.task_id, principal)).task
            async with self._feed(entry, task, principal) as feed:
                await Courier(entry, feed, self._post).run()
        except UnknownTask:  # its last moments were lost in a crash, or it is long gone
            await self._tell_of_lost(entry, principal)

    async def _tell_of_lost(self, entry: Entry, principal: Principal) -> None:
        """A relayed task lives on at its agent; of another one all that is known is that it has ended."""
        task = _lost(entry)
        if entry.relayed is None:
            await Courier(entry, Told(task), self._post).run()
            return
        known = msgspec.structs.replace(
            task, state=TaskState.SUBMITTED, fault=None, extra={MARK: entry.relayed}
        )
        async with self._feed(entry, known, principal) as feed:
            while not feed.fresh:
                await feed.changed()
            await Courier(entry, feed, self._post).run()

    @contextlib.asynccontextmanager
    async def _feed(self, entry: Entry, task: Task, principal: Principal) -> AsyncGenerator[Feed]:
        if not is_relayed(task) or task.state in TERMINAL:
            handle = await self._engine.task(entry.task_id, principal)
            yield LogFeed(self._engine, handle, principal)
            return
        watch = self._watches.get(task.id)
        if watch is None:
            watch = self._watches[task.id] = RelayWatch(self._engine, task, principal, entry.trace)
        watch.join()
        try:
            yield RelayFeed(watch)
        finally:
            if watch.leave():
                self._watches.pop(task.id, None)


def _key(task_id: str, principal: str, config_id: str) -> str:
    """A configuration's key in the store, which shows nothing of it."""
    return sha256(_encode([task_id, principal, config_id])).hexdigest()


def _lost(entry: Entry) -> Task:
    return Task(
        id=entry.task_id,
        context_id=entry.context_id,
        agent=entry.agent,
        state=TaskState.FAILED,
        fault=Fault(code="upstream_failed", message="the gateway was restarted"),
    )
