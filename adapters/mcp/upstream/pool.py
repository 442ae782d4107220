"""Which caller shares which link, and when a process is started again.

Modern servers keep nothing between requests: one link serves all, except that a client of the handshake era
has a handshake session where the server offers both: nothing has to be translated then, and tools that ask
the client something in its own way still can. In the handshake era a downstream session has a session
upstream of its own. Over stdio, where a session is a process, both hold only for clients that can be asked
something. All other callers share one link per principal and what their clients can be asked.

A process that has ended is started again at once, by whoever calls next or by the health check that is asked
for then; one that keeps ending with pauses that grow, in which calls fail at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ....gateway.errors import BadUpstream, CircuitOpen, Unreachable, UpstreamFailed, UpstreamTimeout
from ....gateway.model import Record
from ....gateway.ports import Host
from ..wire import Caller, Era, RpcError
from .link import Link, log
from .opening import open_link
from .stdio import StdioLink

IDLE = 900.0  # seconds after which an unused session is closed
MAX_SESSIONS = 512
MAX_PROCESSES = 24
STEADY = 10.0  # seconds: a process that lived so long had a good start
Key = tuple[str, ...]
_ALL: Key = ("all",)


class Pool:
    """The links to one server. ``era`` None: not known yet."""

    def __init__(self, record: Record, host: Host, changed: Callable[[], None]) -> None:
        self.era: Era | None = None
        self._both = True  # whether a modern server may speak the handshake era as well
        self._record = record
        self._host = host
        self._changed = changed
        self._links: dict[Key, Link] = {}  # the least recently used first
        self._opening: dict[Key, asyncio.Task[Link]] = {}
        self._probing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def ready(self, caller: Caller) -> Link | None:
        """The caller's link, if it is open."""
        if self._closed or self.era is None:
            return None
        modern = self.era == "modern" and caller.session is None
        key = _ALL if modern else self._key(caller)
        link = self._links.get(key)
        if link is None or not link.alive:
            return None
        if len(self._links) > 1:
            self._links[key] = self._links.pop(key)
        return link

    async def get(self, caller: Caller) -> Link:
        """The caller's link, opened if need be. Raises what ``open_link`` raises."""
        if self._closed:
            raise Unreachable(f"{self._record.name} was removed")
        if self.era is None:
            async with self._probing:
                if self.era is None:
                    return await self._wait(self._key(caller), caller)
        return await self._wait(self._key(caller), caller)

    def any(self) -> Link | None:
        """Some link of the server's era that works, for questions about the server itself."""
        links = reversed(self._links.values())
        return next((link for link in links if link.alive and link.hello.era == self.era), None)

    @property
    def links(self) -> Sequence[Link]:
        """All that work."""
        return [link for link in self._links.values() if link.alive]

    def find(self, session: str) -> Link | None:
        """The link of a downstream session that has one of its own."""
        return self._links.get(("session", session))

    async def _wait(self, key: Key, caller: Caller) -> Link:
        link = self._links.get(key)
        if link is not None and link.alive:
            self._links[key] = self._links.pop(key)
            return link
        opening = self._opening.get(key)
        if opening is None:
            opening = self._opening[key] = asyncio.create_task(self._open(key, caller))
            opening.add_done_callback(lambda t: None if t.cancelled() else t.exception())
        return await asyncio.shield(opening)

    async def _open(self, key: Key, caller: Caller) -> Link:
        breaker = self._host.breaker
        process = bool(self._record.command)
        if process and not breaker.admit():
            self._opening.pop(key, None)
            raise CircuitOpen(self._record.name, breaker.wait, process=True)
        try:
            link = await self._opened(key, caller)
        except (Unreachable, UpstreamFailed, UpstreamTimeout):
            if process:
                breaker.failed()
            raise
        except BaseException:
            if process:
                breaker.dropped()
            raise
        if isinstance(link, StdioLink):
            self._watch(link)
        return link

    def _watch(self, link: StdioLink) -> None:
        """Mind how long the process lives."""
        link.on_end = lambda: self._ended(link)
        asyncio.get_running_loop().call_later(STEADY, lambda: link.alive and self._host.breaker.succeeded())
        if not link.alive:
            self._ended(link)

    def _ended(self, link: StdioLink) -> None:
        """A process has ended by itself, or was ended for its silence."""
        link.on_end = None
        if self._closed:
            return
        if time.monotonic() - link.begun >= STEADY:
            self._host.breaker.succeeded()
        self._host.breaker.failed()
        if self._host.breaker.wait == 0:
            self._host.changed(self._record.name)  # which looks at it, and thereby starts it

    def give_up(self, link: Link) -> None:
        """End a process that no longer answers."""
        self.drop(link)
        link.lost(UpstreamFailed(self._record.name, detail="the process did not answer any more"))
        if isinstance(link, StdioLink):
            self._ended(link)

    async def _opened(self, key: Key, caller: Caller) -> Link:
        try:
            if (dead := self._links.pop(key, None)) is not None:
                self._close(dead)
            old_style = self._may_shake(caller)
            link = await (self._old_style(caller) if old_style else self._negotiated(caller))
            if self._closed:
                self._close(link)
                raise Unreachable(f"{self._record.name} was removed")
            if not old_style:
                self.era = link.hello.era
            self._links[("all",) if link.hello.era == "modern" else self._key(caller)] = link
            self._trim()
            return link
        finally:
            self._opening.pop(key, None)

    async def _negotiated(self, caller: Caller) -> Link:
        try:
            return await open_link(self._record, self._host, self._changed, caller, self.era)
        except BadUpstream as e:
            if self.era is None:
                raise
            log.debug("%s no longer speaks as it did: %s", self._record.name, e)
            return await open_link(self._record, self._host, self._changed, caller, None)

    async def _old_style(self, caller: Caller) -> Link:
        """A handshake session with a server that is modern too; a modern link where it is only that."""
        try:
            return await open_link(self._record, self._host, self._changed, caller, "handshake")
        except (BadUpstream, UpstreamFailed, RpcError) as e:
            log.debug("%s speaks only the modern era: %s", self._record.name, e)
            self._both = False
            return await self._wait(self._key(caller), caller)

    def _may_shake(self, caller: Caller) -> bool:
        if self.era != "modern" or not self._both or caller.session is None:
            return False
        return not self._record.command or caller.interactive

    def _key(self, caller: Caller) -> Key:
        if self.era == "modern" and not self._may_shake(caller):
            return _ALL
        if caller.session is not None and (not self._record.command or caller.interactive):
            return ("session", caller.session)
        return ("shared", caller.principal.id, caller.can_be_asked)

    def _trim(self) -> None:
        """Close what nobody has used for long, and the least used past the bound; never one in use."""
        bound = MAX_PROCESSES if self._record.command else MAX_SESSIONS
        oldest = time.monotonic() - IDLE
        newest = next(reversed(self._links))
        for key, link in list(self._links.items()):
            too_many = len(self._links) > bound
            if key != newest and link.idle and (too_many or (link.used < oldest and not link.listeners)):
                self._close(self._links.pop(key))

    def drop(self, link: Link) -> None:
        """Forget a link that no longer works."""
        for key, known in list(self._links.items()):
            if known is link:
                del self._links[key]
        link.alive = False
        self._close(link)

    def reset(self) -> None:
        """Find out anew what the server speaks."""
        self.era = None
        self._both = True
        for link in list(self._links.values()):
            self.drop(link)

    def end(self, session: str) -> None:
        """A downstream session is over: so is its upstream one."""
        link = self._links.pop(("session", session), None)
        if link is not None:
            self._close(link)
        for shared in self._links.values():
            shared.listeners.pop(session, None)

    def _close(self, link: Link) -> None:
        task = asyncio.create_task(link.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all links, those that are being opened too."""
        self._closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        links, self._links = self._links, {}
        await asyncio.gather(
            *(link.aclose() for link in links.values()), *self._closing, return_exceptions=True
        )
