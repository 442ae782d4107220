"""The front of the HTTP service: one ASGI callable before everything.

It checks Host and Origin, finds the door by the first path segment, and calls it; protocol faces are taken
here, before Litestar, which serves only what no face took (health, admin API, console). A request to the
bare address goes to the face that claims it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from ..errors import CallerError, Draining, GatewayError, TooLarge
from ..model import Principal
from ..ports import Face, Handler
from .doors import Doors
from .request import ClientGone, Receive, Request, Scope, Send

log = logging.getLogger("agentgw.http")

ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]


class App:
    """The ASGI application. ``control`` serves what no face takes. ``owner_token`` makes a request the
    owner's; ``count`` gets the door and the status of every answer."""

    def __init__(
        self,
        faces: Sequence[Face],
        control: ASGI,
        doors: Doors,
        *,
        owner_token: str,
        body_limit: int,
        count: Callable[[str, int], None] = lambda door, status: None,
    ) -> None:
        self._faces = faces
        self._control = control
        self._doors = doors
        self._bearer = f"Bearer {owner_token}".encode()
        self._body_limit = body_limit
        self._count = count
        self._mounts: dict[str, Handler] = {prefix: h for face in faces for prefix, h in face.mounts()}
        self.draining = False
        self.running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        # Websockets: nothing here speaks them; returning closes the handshake with 403.

    # --- requests ----------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send, body_limit=self._body_limit)
        self.running += 1
        self._idle.clear()
        try:
            await self._checked(request, scope, receive, send)
        except ClientGone:
            pass
        except GatewayError as e:
            await self._refuse(request, e)
        except Exception:
            log.exception("a request failed: %s %s", request.method, request.path)
            if not request.responded:
                await _error(request, 500, "internal", "internal error")
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()
            if request.status:
                self._count(request.door, request.status)

    async def idle(self) -> None:
        """Wait until no request is under way."""
        await self._idle.wait()

    async def _checked(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        host = request.header(b"host")
        if not self._doors.host_allowed(host):
            await _error(request, 421, "misdirected", "this gateway is not known by that Host name")
            return
        if not self._doors.origin_allowed(request.header(b"origin")):
            await _error(request, 403, "forbidden", "requests from this Origin are not allowed")
            return
        request.base_url = self._doors.base_url(scope["scheme"], host or "")
        if request.header(b"authorization") is not None:
            request.principal = self._principal(scope)
        door = await self._door(request)
        if door is not None:
            if self.draining:
                raise Draining
            await door(request)
            return
        scope.setdefault("state", {})["principal"] = request.principal
        await self._control(scope, replayed(request, receive), _noting(request, send))

    def _principal(self, scope: Scope) -> Principal:
        for name, value in scope["headers"]:
            if name == b"authorization" and value == self._bearer:
                return Principal(id="owner", owner=True)
        return Principal()

    async def _door(self, request: Request) -> Handler | None:
        """The face for the request's path; None: the control plane's."""
        path = request.path
        end = path.find("/", 1)
        prefix = path if end < 0 else path[:end]
        handler = self._mounts.get(prefix)
        if handler is not None:
            request.door = prefix[1:]
            request.rest = path[len(prefix) :]
            return handler
        envelope = await _envelope(request) if path == "/" and request.method == "POST" else None
        for face in self._faces:
            if face.claims(request, envelope):
                request.door = "root"
                return face.root
        return None

    async def _refuse(self, request: Request, error: GatewayError) -> None:
        if request.responded:
            log.debug("after the answer began: %s", error.message)
            return
        status = 503 if isinstance(error, Draining) else 413 if isinstance(error, TooLarge) else 502
        if status == 502 and isinstance(error, CallerError):
            status = 400
        await _error(request, status, error.code, error.message)


async def _envelope(request: Request) -> Mapping[str, Any] | None:
    """The JSON object in a POST to the bare address; {} for anything else (some face must answer it)."""
    try:
        value: Any = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def replayed(request: Request, receive: Receive) -> Receive:
    """``receive`` for an app that reads a body which the dispatcher may have read already."""
    body = request.read_body
    if body is None:
        return receive
    sent = False

    async def again() -> Any:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _noting(request: Request, send: Send) -> Send:
    """``send`` that notes the answer's status on the request, and keeps browsers from guessing types."""

    async def noting(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            request.responded = True
            request.status = message["status"]
            headers = message.get("headers", ())
            if not any(name.lower() == b"x-content-type-options" for name, _ in headers):
                message["headers"] = [*headers, (b"x-content-type-options", b"nosniff")]
        await send(message)

    return noting


async def _error(request: Request, status: int, code: str, message: str) -> None:
    await request.json(status, {"error": {"code": code, "message": message}})
