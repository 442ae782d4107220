"""What is answered without a credential, and whatever else is under way: what pages may send (CORS), where
tokens come from, probes."""

from __future__ import annotations

from collections.abc import Callable

from ..config import Auth, offered
from ..ports import Handler
from . import resource
from .doors import preflight
from .heads import Head
from .request import Request

_PROBES = frozenset({"/healthz", "/readyz"})
_ASKS, _NAMES = b"access-control-request-method", b"access-control-request-headers"


class Anybody:
    """``auth``: which issuer's tokens are good; ``ready``: whether calls are taken (started, and not
    draining); ``writing``: whether tasks can be written."""

    def __init__(self, auth: Auth, ready: Callable[[], bool], writing: Callable[[], bool]) -> None:
        self._issuer = auth.issuer
        self._scopes = offered(auth)
        self._ready = ready
        self._writing = writing

    def handler(self, head: Head) -> Handler | None:
        """Who answers a request with this head; None: its caller must be known first."""
        if head.method == "OPTIONS":
            asks = _ASKS in head.fields and b"origin" in head.fields  # as a browser does before it sends
            return self._preflight if asks else None
        if head.method not in ("GET", "HEAD"):
            return None
        if head.path.startswith(resource.WELL_KNOWN):
            return self._metadata
        return self._probed if head.path in _PROBES else None

    async def _preflight(self, request: Request) -> None:
        allowed = preflight(request.fields.get(_NAMES, b"")) if len(request.shared) > 1 else ()
        await request.respond(204 if allowed else 403, headers=allowed)

    async def _metadata(self, request: Request) -> None:
        await resource.describe(request, self._issuer, self._scopes)

    async def _probed(self, request: Request) -> None:
        """Alive while it answers at all; ready once calls are taken."""
        if request.path == "/healthz":
            await request.json(200, {"status": "ok"})
            return
        ready = self._ready()
        body = {"status": "ready" if ready else "not ready"}
        if not self._writing():
            body["store"] = "failing"
        await request.json(200 if ready else 503, body)
