"""Answers of the front itself: errors that came up before a door took the request, or that it left to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

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
from ..ports import Face
from .request import Request
from .wire import Headers

log = logging.getLogger("agentgw.http")


async def refuse(request: Request, error: GatewayError, face: Face | None, more: Headers = ()) -> None:
    """Answer with an error, in the form of the face's protocol (None: the control plane's). ``more``:
    headers. Once the answer has begun nothing more is said."""
    if request.responded:
        log.debug("after the answer began: %s", error.message)
        return
    status = _status(error)
    headers = list(more)
    if status in (429, 503):
        again = error.retry_after if isinstance(error, RateLimited) else 1
        headers.append((b"retry-after", b"%d" % again))
    if face is None:
        await say(request, status, error.code, error.message, headers)
        return
    try:
        body = face.refusal(request, error)
    except Exception:
        log.exception("no way to refuse: %s %s", request.method, request.path)
        await say(request, 500, "internal", "internal error")
    else:
        await request.respond(status, body, headers=headers)


async def say(
    request: Request, status: int, code: str, message: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with an error in the control plane's form."""
    await request.json(status, {"error": {"code": code, "message": message, "data": None}}, headers=headers)


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
