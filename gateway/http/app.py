"""The front of the HTTP service: one ASGI callable before everything.

It checks Host and Origin and who asks, finds the door by the first path segment, and calls it; protocol
faces are taken here, before Litestar, which serves only what no face took (admin API, metrics, console). A
request to the bare address goes to the face that claims it.

What is refused here (a key is wanted, the gateway drains, too many requests came or are under way, a head or
body past its limit) is refused in the form of the door's protocol.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import quote

from ..access import Access, Grant
from ..audit import REFUSED, Audit
from ..config import Auth
from ..errors import Draining, GatewayError, HeadTooLarge
from ..ports import Face, Handler
from ..rates import Rates
from . import asgi
from .anybody import Anybody
from .asgi import ASGI, AsgiWire, Receive, Scope, Send
from .callers import Callers
from .doors import Doors
from .heads import Head
from .mounts import Mounts
from .places import Places
from .refusals import refuse, say
from .request import Request
from .wire import ClientGone, Wire

log = logging.getLogger("agentgw.http")

METRICS = "/metrics"
# What pages of other origins never read. Litestar takes several slashes for one.
_CONTROL = re.compile(r"/+(api/|metrics)")


class Elsewhere(Protocol):
    """Where several processes are one gateway: what has requests served by the one that must."""

    def led(self, request: Request, face: Face | None, door: Handler) -> Awaitable[None]:
        """What answers the request: ``door``, or another process. ``face``: whose it is, None: the control
        plane's. Raises GatewayError."""
        ...


class App:
    """The ASGI application. ``control`` serves what no face takes. ``access`` knows who may come in, ``auth``
    which issuer's tokens are good for that;
    ``ready``: whether calls are taken (started, and not draining); ``writing``: whether tasks can be written;
    ``body_limit`` (bytes), ``nesting``, ``concurrency`` and ``per_key`` are those of ``[limits]``; ``count``
    gets the door and the status of every answer; ``rates``: what bounds each principal's requests, but the
    owner's; ``elsewhere``: see there. ``audit`` is told what was refused, and what changes the gateway
    itself. ``inner``: requests come from another process' front, through which the answers go, too."""

    def __init__(
        self,
        faces: Sequence[Face],
        control: ASGI,
        doors: Doors,
        *,
        access: Access,
        auth: Auth = Auth(),  # noqa: B008 - frozen
        ready: Callable[[], bool] = lambda: True,
        writing: Callable[[], bool] = lambda: True,
        body_limit: int,
        nesting: int = 100,
        concurrency: int = 1000,
        per_key: int = 750,
        count: Callable[[str, int], None] = lambda door, status: None,
        rates: Rates | None = None,
        elsewhere: Elsewhere | None = None,
        audit: Audit | None = None,
        inner: bool = False,
    ) -> None:
        self._mounts = Mounts(faces)
        self._control = control
        self.doors = doors
        self._callers = Callers(access, auth.issuer, self._mounts)
        self._anybody = Anybody(auth, ready, writing)
        self._body_limit = body_limit
        self._nesting = nesting
        self._places = Places(concurrency, per_key)
        self._count = count
        self.rates = rates
        self._elsewhere = elsewhere
        self.audit = audit
        self._inner = inner
        self.draining = False
        self._open: set[Request] = set()
        access.on_end(self.end_taken_back)
        self._idle = asyncio.Event()
        self._idle.set()

    def drain(self) -> None:
        """Refuse what is new. Every answer from now on is the last one on its connection, so that clients
        don't send their next request to who is about to leave."""
        self.draining = True
        for request in self._open:
            request.wire.last()

    def bound(self, body: int, nesting: int, concurrency: int, per_key: int) -> None:
        """Other limits for requests from now on; those under way keep their places."""
        self._body_limit = body
        self._nesting = nesting
        self._places.bound(concurrency, per_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The front for what speaks ASGI."""
        if scope["type"] == "http":
            target: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
            if query := scope["query_string"]:
                target = b"%b?%b" % (target.partition(b"?")[0], query)
            wire = AsgiWire(receive, send, scope.get("client"))
            try:
                await self.serve(wire, Head(scope["method"], target, scope["headers"]))
            finally:
                wire.close()
        # Websockets: nothing here speaks them; returning closes the handshake with 403.

    # --- requests ----------------------------------------------------------------------------

    async def serve(self, wire: Wire, head: Head, head_too_large: bool = False) -> None:
        """Answer one request. ``head_too_large``: its headers are not all of them."""
        request = Request(wire, head, self._body_limit, self._nesting)
        if self.draining:
            wire.last()
        if not self._open:
            self._idle.clear()
        self._open.add(request)
        try:
            await self._admitted(request, head, not head_too_large)
        except ClientGone:
            pass
        except GatewayError as e:
            await refuse(request, e, request.face)
        except asyncio.CancelledError:  # by the server, which would say 500
            if not self.draining or request.places is None:
                raise
            await refuse(request, Draining(), request.face)
        except Exception:
            log.exception("a request failed: %s %s", request.method, request.path)
            if not request.responded:
                await say(request, 500, "internal", "internal error")
        finally:
            self._ended(request)

    def _ended(self, request: Request) -> None:
        """It was answered, or will not be."""
        if request.places is not None and request.grant is not None:
            request.places.give_back(request.place, request.grant.whose)
        self._open.discard(request)
        if not self._open:
            self._idle.set()
        if request.status:
            self._count(request.door, request.status)
            if request.status in REFUSED and self.audit is not None and not self._inner:
                asked = f"{request.method} {request.path}"
                self.audit.refused(request.principal, asked, request.status, request.wire.peer)

    async def idle(self) -> None:
        """Wait until no request is under way."""
        await self._idle.wait()

    def _admitted(self, request: Request, head: Head, head_fits: bool) -> Awaitable[None]:
        """Find out who asks and for which door; what answers then. Raises GatewayError."""
        if head.checked is not self.doors and (refused := self._look(request, head)):
            return say(request, *refused)
        request.base_url = head.base_url
        request.shared = head.shared
        if head.anybody is not None:
            return head.anybody(request)
        grant = head.grant
        if grant is None or not grant.holds(time.time()):
            return self._asked(request, head, head_fits)
        return self._led(request, head, grant, head_fits)

    async def _asked(self, request: Request, head: Head, head_fits: bool) -> None:
        """The same, for a head of which it is not known what its credential is good for."""
        grant = await self._callers.granted(request, head)
        if grant is not None:
            await self._led(request, head, grant, head_fits)

    def _led(self, request: Request, head: Head, grant: Grant, head_fits: bool) -> Awaitable[None]:
        """To the door that its head leads to."""
        request.grant = grant
        request.principal = grant.principal
        if head.mount is None:
            return self._sought(request, grant, head_fits)
        request.face, door, request.door, request.rest = head.mount
        return self._placed(request, grant, door, head_fits)

    async def _sought(self, request: Request, grant: Grant, head_fits: bool) -> None:
        """To a door that is no face's own: one that a face claims, or the control plane."""
        if request.path == METRICS:  # answered whatever else is under way
            self._callers.may_control(request)
            await self._served(request, self._controlled)
            return
        request.face, door = await self._mounts.door(request, read=head_fits)
        if request.face is None:
            request.shared = ()  # the console, too
            self._callers.may_control(request)
        await self._placed(request, grant, door, head_fits)

    def _look(self, request: Request, head: Head) -> tuple[int, str, str] | None:
        """Find out what a head says, once for all requests that have it. Status, code and message where it
        names a Host or an Origin that is none of ours."""
        host, origin = request.header(b"host"), request.header(b"origin")
        if not self.doors.host_allowed(host):
            return 421, "misdirected", "this gateway is not known by that Host name"
        if not self.doors.origin_allowed(origin):
            return 403, "forbidden", "requests from this Origin are not allowed"
        head.base_url = self.doors.base_url("http", host or "")
        if not (self._inner or _CONTROL.match(head.path)):
            head.shared = self.doors.readable(origin)
        head.anybody = self._anybody.handler(head)
        head.mount = self._mounts.at(head.path)
        head.checked = self.doors
        return None

    def _placed(
        self, request: Request, grant: Grant, door: Handler | None, head_fits: bool
    ) -> Awaitable[None]:
        """Have the request answered, as one of those that may come and be under way. Raises GatewayError."""
        if not head_fits:
            raise HeadTooLarge("the request's headers are too large")
        if self.draining and door is not None:
            raise Draining
        rates = self.rates
        if rates is not None and (rates.bounded or grant.rate is not None) and not grant.principal.owner:
            rates.take(grant.principal.id, grant.rate)
        request.place = self._places.take(request.method, grant.whose)
        request.places = self._places
        if door is not None and self._elsewhere is None:
            return door(request)
        return self._served(request, door or self._controlled)

    def _served(self, request: Request, door: Handler) -> Awaitable[None]:
        """What answers it, here or elsewhere."""
        elsewhere = self._elsewhere
        return door(request) if elsewhere is None else elsewhere.led(request, request.face, door)

    async def _controlled(self, request: Request) -> None:
        """Have the control plane answer. Calls of agents are no change of the gateway; their spans tell."""
        subject = ""
        try:
            subject = await asgi.call(self._control, request)
        finally:
            changes = request.method not in ("GET", "HEAD") and not request.path.endswith("/call")
            if self.audit is not None and changes and request.status not in REFUSED:
                asked = f"{request.method} {request.path}"
                self.audit.change(request.principal, asked, request.status, subject)

    def end_taken_back(self) -> None:
        """End what is open for those whose key was revoked or has expired: for them the client has gone."""
        now = time.time()
        for request in list(self._open):
            if request.grant is not None and not request.grant.holds(now):
                request.wire.cut()
