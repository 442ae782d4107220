"""The front of the HTTP service: one ASGI callable before everything.

It checks Host and Origin and who asks, finds the door by the first path segment, and calls it; protocol
faces are taken here, before Litestar, which serves only what no face took (admin API, metrics, console). A
request to the bare address goes to the face that claims it.

What is refused here (a key is wanted, the gateway drains, too many requests came or are under way, a head or
body past its limit) is refused in the form of the door's protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from ..access import Access, Grant
from ..audit import REFUSED, Audit
from ..config import Auth
from ..errors import (
    Busy,
    CallerError,
    Draining,
    Forbidden,
    GatewayError,
    HeadTooLarge,
    RateLimited,
    TooLarge,
    Unauthenticated,
)
from ..ports import Face, Handler
from ..rates import Rates
from ..readable import UNREADABLE
from . import asgi, resource
from .asgi import ASGI, AsgiWire, Receive, Scope, Send
from .doors import Doors, preflight
from .heads import Head
from .places import Places
from .request import Request
from .wire import ClientGone, Wire

log = logging.getLogger("agentgw.http")

PROBES = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"
# What pages of other origins never read. Litestar takes several slashes for one.
_CONTROL = re.compile(r"/+(api/|metrics)")
Mount = tuple[Face, Handler, str, str]  # whose door, its name, what of the path follows it
_ASKS = b"access-control-request-method"  # a browser asks before it sends (CORS)


class Elsewhere(Protocol):
    """Where several processes are one gateway: what has requests served by the one that must."""

    async def took(self, request: Request, face: Face | None) -> bool:
        """Whether the request was answered by another process. ``face``: whose it is, None: the control
        plane's. Raises GatewayError."""
        ...


class App:
    """The ASGI application. ``control`` serves what no face takes. ``access`` knows who may come in, ``auth``
    which issuer's tokens are good for that;
    ``ready``: whether calls are taken (started, and not draining); ``writing``: whether tasks can be written;
    ``body_limit`` (bytes), ``nesting`` and ``concurrency`` are those of ``[limits]``; ``count`` gets the door
    and the status of every answer; ``rates``: what bounds each principal's requests, but the owner's;
    ``elsewhere``: see there. ``audit`` is told what was refused, and what changes the gateway itself.
    ``inner``: requests come from another process' front, through which the answers
    go, too."""

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
        count: Callable[[str, int], None] = lambda door, status: None,
        rates: Rates | None = None,
        elsewhere: Elsewhere | None = None,
        audit: Audit | None = None,
        inner: bool = False,
    ) -> None:
        self._faces = faces
        self._control = control
        self.doors = doors
        self._access = access
        self._issuer = auth.issuer
        self._scopes = tuple(scope for scope in auth.scopes if scope != "*")
        self._ready = ready
        self._writing = writing
        self._body_limit = body_limit
        self._nesting = nesting
        self._places = Places(concurrency)
        self._count = count
        self.rates = rates
        self._elsewhere = elsewhere
        self._audit = audit
        self._inner = inner
        self._mounts: dict[str, tuple[Face, Handler]] = {
            prefix: (face, handler) for face in faces for prefix, handler in face.mounts()
        }
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

    def bound(self, nesting: int, concurrency: int) -> None:
        """Other limits for requests from now on; those under way keep their places."""
        self._nesting = nesting
        self._places.limit = concurrency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The front for what speaks ASGI."""
        if scope["type"] == "http":
            target: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
            if query := scope["query_string"]:
                target = b"%b?%b" % (target.partition(b"?")[0], query)
            wire = AsgiWire(receive, send)
            try:
                await self.serve(wire, Head(scope["method"], target, scope["headers"]))
            finally:
                wire.close()
        # Websockets: nothing here speaks them; returning closes the handshake with 403.

    # --- requests ----------------------------------------------------------------------------

    async def serve(self, wire: Wire, head: Head, head_too_large: bool = False) -> None:
        """Answer one request. ``head_too_large``: its headers are not all of them."""
        request = Request(wire, head, body_limit=self._body_limit, nesting=self._nesting)
        if self.draining:
            wire.last()
        self._open.add(request)
        self._idle.clear()
        try:
            await self._checked(request, head, not head_too_large)
        except ClientGone:
            pass
        except GatewayError as e:
            await _refuse(request, e, None)
        except Exception:
            log.exception("a request failed: %s %s", request.method, request.path)
            if not request.responded:
                await _error(request, 500, "internal", "internal error")
        finally:
            self._open.discard(request)
            if not self._open:
                self._idle.set()
            if request.status:
                self._count(request.door, request.status)
                if request.status in REFUSED and self._audit is not None and not self._inner:
                    asked = f"{request.method} {request.path}"
                    self._audit.refused(request.principal, asked, request.status, wire.peer)

    async def idle(self) -> None:
        """Wait until no request is under way."""
        await self._idle.wait()

    async def _checked(self, request: Request, head: Head, head_fits: bool) -> None:
        if head.checked is not self.doors:
            host = request.header(b"host")
            if not self.doors.host_allowed(host):
                await _error(request, 421, "misdirected", "this gateway is not known by that Host name")
                return
            if b"origin" in request.fields and not self.doors.origin_allowed(request.header(b"origin")):
                await _error(request, 403, "forbidden", "requests from this Origin are not allowed")
                return
            head.base_url = self.doors.base_url("http", host or "")
            if not (self._inner or _CONTROL.match(head.path)):
                head.shared = self.doors.readable(request.header(b"origin"))
            head.mount = self._mount(head.path)
            head.checked = self.doors
        request.base_url = head.base_url
        request.shared = head.shared
        if request.method == "OPTIONS" and _ASKS in request.fields and b"origin" in request.fields:
            named = request.fields.get(b"access-control-request-headers", b"")
            allowed = preflight(named) if len(request.shared) > 1 else ()
            await request.respond(204 if allowed else 403, headers=allowed)
            return
        if request.path.startswith(resource.WELL_KNOWN) and request.method in ("GET", "HEAD"):
            await resource.describe(request, self._issuer, self._scopes)
            return
        if request.path in PROBES and request.method in ("GET", "HEAD"):
            await self._probed(request)
            return
        grant = head.grant
        if grant is None or not grant.holds(time.time()):
            grant = await self._granted(request, head)
            if grant is None:
                return
        request.grant = grant
        request.principal = grant.principal
        if request.path == METRICS:  # answered whatever else is under way
            self._may_control(request)
            await self._served(request, None, None)
            return
        if head.mount is not None:
            face, door, request.door, request.rest = head.mount
        else:
            face, door = await self._door(request, read=head_fits)
            if face is None:
                request.shared = ()  # the console, too
                self._may_control(request)
        try:
            if not head_fits:
                raise HeadTooLarge("the request's headers are too large")
            if self.draining and door is not None:
                raise Draining
            if self.rates is not None and not request.principal.owner:
                self.rates.take(request.principal.id)
            request.place = self._places.take(request.method)
            request.places = self._places
            try:
                if door is not None and self._elsewhere is None:
                    await door(request)
                else:
                    await self._served(request, face, door)
            except asyncio.CancelledError:  # by the server, which would say 500
                if self.draining:
                    raise Draining from None
                raise
            finally:
                self._places.give_back(request.place)
        except GatewayError as e:
            await _refuse(request, e, face)

    async def _probed(self, request: Request) -> None:
        """Probes are answered whatever else is under way: alive while it answers at all; ready once calls are
        taken."""
        if request.path == "/healthz":
            await request.json(200, {"status": "ok"})
        else:
            ready = self._ready()
            body = {"status": "ready" if ready else "not ready"}
            if not self._writing():
                body["store"] = "failing"
            await request.json(200 if ready else 503, body)

    async def _served(self, request: Request, face: Face | None, door: Handler | None) -> None:
        if self._elsewhere is not None and await self._elsewhere.took(request, face):
            return
        if door is not None:
            await door(request)
        else:
            await self._controlled(request)

    async def _controlled(self, request: Request) -> None:
        """Have the control plane answer. Calls of agents are no change of the gateway; their spans tell."""
        subject = ""
        try:
            subject = await asgi.call(self._control, request)
        finally:
            changes = request.method not in ("GET", "HEAD") and not request.path.endswith("/call")
            if self._audit is not None and changes and request.status not in REFUSED:
                asked = f"{request.method} {request.path}"
                self._audit.change(request.principal, asked, request.status, subject)

    # --- who asks ----------------------------------------------------------------------------

    async def _granted(self, request: Request, head: Head) -> Grant | None:
        """What the request may do; None: it was refused."""
        authorization = head.fields.get(b"authorization")
        try:
            head.grant = self._access.grant(authorization)
            return head.grant
        except Unauthenticated:
            pass
        try:
            head.grant = await self._access.issued(authorization)
            return head.grant
        except Unauthenticated as e:
            return await self._unknown(request, authorization, e)

    async def _unknown(
        self, request: Request, authorization: bytes | None, error: Unauthenticated
    ) -> Grant | None:
        """How somebody without a bearer token comes in all the same. The body is not read, for nobody knows
        who sent it."""
        face, _ = await self._door(request, read=False)
        if face is None and _is_console(request):
            with contextlib.suppress(Unauthenticated):
                return self._access.password(authorization)
        public = getattr(face, "public", None)  # a third party's may have none
        if authorization is None and public is not None and public(request):
            return self._access.public
        challenges = resource.challenges(request, face is None and _is_console(request), self._issuer)
        await _refuse(request, error, face, challenges)
        return None

    def _may_control(self, request: Request) -> None:
        """The control plane is for admins; while callers need no key, they may look and call (what changes
        something asks again). Raises Forbidden."""
        if self._access.closed and not request.principal.admin:
            raise Forbidden("this needs an admin key: agentgw keys create NAME --admin makes one")

    def end_taken_back(self) -> None:
        """End what is open for those whose key was revoked or has expired: for them the client has gone."""
        now = time.time()
        for request in list(self._open):
            if request.grant is not None and not request.grant.holds(now):
                request.wire.cut()

    # --- which door --------------------------------------------------------------------------

    def _mount(self, path: str) -> Mount | None:
        """The door by the first segment of the path, if it is one's."""
        end = path.find("/", 1)
        prefix = path if end < 0 else path[:end]
        found = self._mounts.get(prefix)
        return None if found is None else (*found, prefix[1:], path[len(prefix) :])

    async def _door(self, request: Request, *, read: bool) -> tuple[Face | None, Handler | None]:
        """The face for the request's path, and who serves it; None: the control plane. ``read``: whether the
        body may be read to find out."""
        mount = self._mount(request.path)
        if mount is not None:
            face, door, request.door, request.rest = mount
            return face, door
        path = request.path
        envelope: Mapping[str, Any] | None = None
        if path == "/" and request.method == "POST":
            envelope = await _envelope(request) if read else {}
        for face in self._faces:
            if face.claims(request, envelope):
                request.door = "root"
                return face, face.root
        return None, None


def _is_console(request: Request) -> bool:
    return request.path == "/" and request.method in ("GET", "HEAD")


async def _refuse(
    request: Request,
    error: GatewayError,
    face: Face | None,
    more: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Answer with an error that came up before the door took the request, or that it left to the front."""
    if request.responded:
        log.debug("after the answer began: %s", error.message)
        return
    status = _status(error)
    headers = list(more)
    if status in (429, 503):
        again = error.retry_after if isinstance(error, RateLimited) else 1
        headers.append((b"retry-after", b"%d" % again))
    if face is not None:
        await request.respond(status, face.refusal(request, error), headers=headers)
    else:
        await _error(request, status, error.code, error.message, headers)


def _status(error: GatewayError) -> int:
    match error:
        case Draining() | Busy():
            return 503
        case RateLimited():
            return 429
        case Unauthenticated():
            return 401
        case Forbidden():
            return 403
        case TooLarge():
            return 413
        case HeadTooLarge():
            return 431
        case CallerError():
            return 400
        case _:
            return 502


async def _envelope(request: Request) -> Mapping[str, Any] | None:
    """The JSON object in a POST to the bare address; {} for anything else (some face must answer it)."""
    try:
        value: Any = msgspec.json.decode(await request.body())
    except (*UNREADABLE, CallerError):  # the face meets the same, and says so in its own form
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


async def _error(
    request: Request,
    status: int,
    code: str,
    message: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    await request.json(status, {"error": {"code": code, "message": message, "data": None}}, headers=headers)
