"""Calling MCP servers: the ``Upstream`` port, and the relay's way in (``catalog``, ``request``, …)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from ....gateway.errors import (
    BadUpstream,
    GatewayError,
    UpstreamError,
    UpstreamFailed,
    UpstreamTimeout,
)
from ....gateway.model import Agent, InputReply, Invocation, Principal, Record, Task, TaskRef, TaskState
from ....gateway.ports import Host, Tell
from ....gateway.telemetry import LENGTH, Template, server_attributes
from .. import headers as mirrored
from .. import wire
from ..codec import agent_of
from ..wire import Caller, Catalog, RpcError
from . import questions
from .describing import answers, read_catalog, rediscover, same, subscribe
from .keeping import Keeping
from .link import Expired, Hello, Link, log
from .pool import Pool
from .stdio import StdioLink
from .turns import Turns

DESCRIBE_TIMEOUT = 30.0
REFRESH_AGE = 2.0  # seconds that a catalog is trusted to be right about a tool it does not know
# The gateway itself, where it asks on nobody's behalf.
OWN = Caller(client_capabilities=questions.CAPABILITIES)


class _Peek(msgspec.Struct):
    isError: bool | None = None


_peek = msgspec.json.Decoder(_Peek)


class McpUpstream:
    """One registered MCP server, in whichever era and over whichever transport it speaks.

    MCP has no task to come back to: cancelling ``invoke`` cancels the tool's call,
    unless it waits for an answer of the client.
    """

    def __init__(self, record: Record, host: Host) -> None:
        self.record = record
        self._host = host
        self._pool = Pool(record, host, self._changed)
        self._keeping = Keeping(record.name, self)
        self._turns = Turns(record.name, self, lambda: host.config.limits.question)
        self._catalog: Catalog | None = None
        self._last: Catalog | None = None
        self._followers: set[Callable[[], None]] = set()
        self._read_at = 0.0
        self._note = ""  # what the last look found out of the order
        self._reading: asyncio.Task[Catalog] | None = None
        self._listeners: dict[str, Caller] = {}
        self._mirroring: tuple[Catalog, Mapping[str, Any]] | None = None
        self.mirrors: Mapping[str, Any] | None = None  # ``mirroring`` of the known catalog

    # --- the port ----------------------------------------------------------------------------

    async def describe(self) -> Sequence[Agent]:
        """The server as one agent, its tools as skills. Asks the server each time."""
        agent = agent_of(await self.catalog(refresh=True))
        if self._note:
            agent = msgspec.structs.replace(agent, extra={**agent.extra, "agentgw": {"note": self._note}})
        return (agent,)

    async def invoke(self, call: Invocation, tell: Tell) -> None:
        await self._turns.invoke(call, tell)

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply, tell: Tell) -> None:
        await self._turns.reply(task, call, reply, tell)

    async def cancel(self, task: TaskRef) -> None:
        """Of a call that runs here, or else of a task of the server's own that a relay saw."""
        if self._turns.knows(task):
            await self._turns.cancel(task)
            return
        await self._keeping.cancel(task.task_id)

    async def stands(self, task: Task, principal: Principal) -> TaskState:
        return await self._keeping.stands(task, principal)

    def kept_until(self, task: Task) -> float:
        return self._keeping.kept_until(task)

    def outdated(self) -> None:
        self._catalog = self.mirrors = None

    async def aclose(self) -> None:
        self._turns.close()
        reading = self._reading
        if reading is not None:
            reading.cancel()
        await self._pool.aclose()
        if reading is not None:
            await asyncio.wait([reading])

    # --- the relay's way in ------------------------------------------------------------------

    @property
    def era(self) -> wire.Era | None:
        """The server's newest era; None while nobody has asked it."""
        return self._pool.era

    @property
    def known_catalog(self) -> Catalog | None:
        """What ``catalog`` answers without asking the server; None: it would ask."""
        return self._catalog

    @property
    def last_catalog(self) -> Catalog | None:
        """The last catalog that was read, even if the server has announced a change since."""
        return self._last

    def tell(self, follower: Callable[[], None]) -> None:
        """From now on call ``follower`` whenever ``known_catalog`` is another. The same one is told once."""
        self._followers.add(follower)

    async def catalog(self, refresh: bool = False) -> Catalog:
        """What the server offers: as last read, unless ``refresh`` or the server has announced a change.
        Callers at the same time share one reading. Raises UpstreamError, ConfigError."""
        if self._catalog is not None and not refresh:
            return self._catalog
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_catalog())
            self._reading.add_done_callback(self._read_done)
        return await asyncio.shield(self._reading)

    async def current_catalog(self) -> Catalog:
        """The catalog for looking up a tool that an older one does not know: read anew unless it is new."""
        return await self.catalog(refresh=time.monotonic() - self._read_at > REFRESH_AGE)

    async def hello(self, caller: Caller) -> Hello:
        """What the server says of itself to ``caller``, and the era in which it is spoken to on the
        caller's behalf: opens what is needed for that. Raises UpstreamError, ConfigError."""
        return (await self.link(caller)).hello

    async def link(self, caller: Caller) -> Link:
        """The way on which a request of the caller goes, opened if need be. Raises what ``hello`` raises."""
        return self.ready(caller) or await self._opened(caller)

    def ready(self, caller: Caller) -> Link | None:
        """What ``link`` gives, where nothing has to be opened for it."""
        link = self._pool.ready(caller)
        if link is not None and caller.session is not None and self._listeners:
            self._attach(caller.session, link)
        return link

    async def request(
        self,
        method: str,
        params: dict[str, Any] | None,
        *,
        caller: Caller,
        losses: Sequence[str] = (),
        link: Link | None = None,
    ) -> msgspec.Raw:
        """Send one request in the server's own era; the raw result. ``link``: the caller's, if it is known.

        ``params`` without the client era's own ``_meta`` keys (``wire.META_ENVELOPE``). A result of the
        modern era may be of any ``resultType``. Raises RpcError for a JSON-RPC error, as it came (crash
        text included), GatewayError for the way there. Cancelling the awaiting task cancels the request.
        Notifications of ``subscriptions/listen`` carry the id of the link's own request: the caller puts
        its own in its place.
        """
        params = params or {}
        link = link or self.ready(caller)
        span = self._host.tracer.start(self._template(method, params, link), caller.trace)
        if isinstance(uri := params.get("uri"), str):
            span.own["mcp.resource.uri"] = uri
        if losses:
            span.set("agentgw.losses", "; ".join(losses))
        failed: str | None = None
        try:
            for last in (False, True):
                if last or link is None or not link.alive:
                    link = self.ready(caller) or await self._opened(caller)
                    span.template = self._template(method, params, link)
                if link.session_id is not None:
                    span.own["mcp.session.id"] = link.session_id
                schema = None
                if method == wire.TOOLS_CALL and link.hello.era == "modern" and link.transport == "tcp":
                    mirroring = self.mirrors
                    if mirroring is None:
                        mirroring = self.mirroring(await self.catalog())
                    schema = mirroring.get(str(params.get("name"))) if mirroring else None
                try:
                    result = await link.request(method, params, caller, span, schema)
                except Expired:
                    self._pool.drop(link)
                except RpcError as e:
                    if last or not await self._cured(e, method, link):
                        raise
                else:
                    failed = "tool_error" if method == wire.TOOLS_CALL and _is_error(result) else None
                    return result
            raise UpstreamFailed(self.record.name, detail="the server forgets each session at once")
        except BaseException as e:
            failed = _error_type(e)
            raise
        finally:
            span.end(failed)

    async def notify(self, method: str, params: dict[str, Any] | None, caller: Caller) -> None:
        """Pass a client's notification on. Those of the link's own business are not: ``initialized``,
        ``cancelled``. The modern era has no others."""
        if method in (wire.INITIALIZED, wire.CANCELLED):
            return
        link = await self.link(caller)
        if link.hello.era == "modern":
            return
        try:
            await link.notify(method, params)
        except Expired:
            self._pool.drop(link)

    async def listen(self, caller: Caller, key: str | None = None) -> None:
        """From now on send ``caller`` what the server says outside of any call: list_changed,
        resources/updated, logs, and, on a session of its own, requests. Until ``end_session`` of ``key``:
        the caller's session, unless it shares a link with others. Nothing comes from modern servers: they
        have ``subscriptions/listen``."""
        key = key or caller.session
        assert key is not None
        self._listeners[key] = caller
        link = await self.link(caller)
        if link.hello.era == "handshake":
            link.listeners[key] = caller

    def began(self, task_id: str, caller: Caller) -> None:
        """The server has answered the caller's request with a task of its own."""
        self._keeping.began(task_id, caller)

    def has_session(self, session: str) -> bool:
        """Whether a downstream session has one of its own at the server, which is open."""
        return self._pool.find(session) is not None

    async def end_session(self, session: str) -> None:
        """A downstream session is over: close what it had upstream."""
        self._listeners.pop(session, None)
        self._pool.end(session)

    # --- inside ------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._know(None)
        self._host.changed(self.record.name)

    def _know(self, catalog: Catalog | None) -> None:
        if catalog is not self._catalog:
            self._catalog = catalog
            self.mirrors = None if catalog is None else self.mirroring(catalog)
            for follower in self._followers:
                follower()

    async def _opened(self, caller: Caller) -> Link:
        link = await self._pool.get(caller)
        if caller.session is not None:
            self._attach(caller.session, link)
        return link

    def _attach(self, session: str, link: Link) -> None:
        if link.hello.era == "handshake" and session in self._listeners:
            link.listeners[session] = self._listeners[session]

    async def _cured(self, error: RpcError, method: str, link: Link) -> bool:
        """Whether it helps to send the request once more, since the server has changed its era or which
        arguments are mirrored."""
        if link.hello.era == "handshake":
            return False
        if error.code == wire.UNSUPPORTED_VERSION:
            self._pool.reset()
            return True
        if error.code == wire.HEADER_MISMATCH and method == wire.TOOLS_CALL:
            await self.catalog(refresh=True)
            return True
        return False

    def mirroring(self, catalog: Catalog) -> Mapping[str, Any]:
        """The inputSchemas of the tools whose arguments are mirrored into headers, by name; worked out once
        per catalog."""
        if self._mirroring is None or self._mirroring[0] is not catalog:
            self._mirroring = catalog, mirrored.mirroring(catalog.tools)
        return self._mirroring[1]

    async def _read_catalog(self) -> Catalog:
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT + (60 if self.record.command else 0)):
                if self.record.command:
                    await self.wake()
                link = self._pool.any()
                if link is not None and link.hello.era == "modern" and not await rediscover(link):
                    self._pool.reset()
                    link = None
                try:
                    return await self._catalog_of(link or await self._pool.get(OWN))
                except Expired:
                    if link is not None:
                        self._pool.drop(link)
                    return await self._catalog_of(await self._pool.get(OWN))
        except TimeoutError:
            raise UpstreamTimeout(f"{self.record.name} did not list its tools in time") from None
        except Expired:
            raise UpstreamFailed(self.record.name, detail="the session expired while listing") from None

    async def wake(self) -> None:
        """End processes that are there and answer nothing, so that others are started; they are left alone as
        long as calls are under way, for what works hard may have no time to answer. Raises BadUpstream of
        such."""
        self._note = ""
        silent = [link for link in self._pool.links if isinstance(link, StdioLink)]
        answered = await asyncio.gather(*(answers(link) for link in silent))
        busy = False
        for link, well in zip(silent, answered, strict=True):
            if not well and link.busy:
                busy = True
            elif not well:
                log.warning("%s does not answer any more: its process is started again", self.record.name)
                self._note = "it had stopped answering and was started again"
                self._pool.give_up(link)
        if busy:
            raise BadUpstream(f"{self.record.name} does not answer while a call runs")

    async def _catalog_of(self, link: Link) -> Catalog:
        catalog = await read_catalog(link, OWN)
        if link.hello.era == "modern" and not link.subscribed:
            link.subscribed = True
            link.spawn(self._subscribed(link))
        return catalog

    async def _subscribed(self, link: Link) -> None:
        try:
            await subscribe(link)
        except UpstreamError as e:
            log.debug("%s: subscription ended: %s", self.record.name, e)
        link.subscribed = False  # the next reading, a minute away at most, subscribes again

    def _read_done(self, task: asyncio.Task[Catalog]) -> None:
        self._reading = None
        if not task.cancelled() and task.exception() is None:
            read = task.result()
            if self._last is None or not same(read, self._last):
                self._last = read
            self._know(self._last)  # the same object as long as it says the same
            self._read_at = time.monotonic()

    def _template(self, method: str, params: dict[str, Any], link: Link | None) -> Template:
        record, name = self.record, params.get("name")
        named = name[:LENGTH] if isinstance(name, str) else None  # no more of it is kept
        if link is None:
            return _template(method, named, record.name, record.url)
        return _template(method, named, record.name, record.url, link.hello.version, link.transport)


@lru_cache(1024)
def _template(
    method: str,
    name: str | None,
    agent: str,
    url: str | None,
    version: str | None = None,
    transport: str | None = None,
) -> Template:
    tool = name is not None and method == wire.TOOLS_CALL
    return Template(
        method if name is None else f"{method} {name}",
        "client",
        {
            "mcp.method.name": method,
            "agentgw.agent": agent,
            **server_attributes(url or ""),
            "gen_ai.operation.name": "execute_tool" if tool else None,
            "gen_ai.tool.name": name if tool else None,
            "gen_ai.prompt.name": name if method == wire.PROMPTS_GET else None,
            "mcp.protocol.version": version,
            "network.transport": transport,
        },
    )


def _error_type(error: BaseException) -> str:
    """For a span."""
    if isinstance(error, RpcError):
        return str(error.code)
    if isinstance(error, GatewayError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__


_MENTIONED = re.compile(b"isError").search  # cheaper than decoding what is large


def _is_error(result: msgspec.Raw) -> bool:
    if not _MENTIONED(result):
        return False
    try:
        return _peek.decode(result).isError is True
    except (ValueError, RecursionError):
        return False
