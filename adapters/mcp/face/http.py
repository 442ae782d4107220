"""Streamable HTTP in front of the doors: both eras at one address.

Handshake: 2025-11-25, basic/transports; modern: 2026-07-28, basic/transports/streamable-http. The
``MCP-Protocol-Version`` header chooses, or ``initialize``.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
from msgspec import UNSET

from ....gateway.http.request import Request, accepted
from ....gateway.readable import UNREADABLE
from .. import wire
from ..wire import Envelope, Era, RpcError
from .checks import unsupported
from .exchange import Head, read_head

_VERSION, _SESSION = wire.H_VERSION.encode(), wire.H_SESSION.encode()


class Refused(Exception):
    """The request as a whole is refused: an HTTP status and the JSON-RPC error in its body."""

    def __init__(self, status: int, error: RpcError, id: wire.Id | None = None) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.id = id


def refused(status: int, message: str, code: int = wire.INVALID_REQUEST) -> Refused:
    return Refused(status, RpcError(code, message))


def check_post(request: Request) -> None:
    """Raises Refused for a POST whose answer the client could not take, or whose body is no JSON."""
    if not _acceptable(request.header(b"accept")):
        raise refused(406, "Not Acceptable: Accept must name application/json and text/event-stream")
    if not _is_json_type(request.header(b"content-type")):
        raise refused(415, "Unsupported Media Type: Content-Type must be application/json")


@lru_cache(256)
def _acceptable(accept: str | None) -> bool:
    return accepted(accept, wire.JSON_TYPE) and accepted(accept, wire.SSE_TYPE)


@lru_cache(256)
def _is_json_type(content_type: str | None) -> bool:
    return (content_type or "").partition(";")[0].strip().lower() == wire.JSON_TYPE


def read_message(body: bytes) -> Envelope:
    """The one message in a POST. Raises Refused: 400 with -32700 or -32600.

    Batches are refused in every revision: only 2025-03-26 has them, and no client sends them.
    """
    try:
        messages = wire.decode(body)
    except ValueError:
        if _is_json(body):
            raise refused(400, "Invalid Request: not a JSON-RPC message") from None
        raise refused(400, "Parse error", wire.PARSE_ERROR) from None
    if body[:16].lstrip()[:1] == b"[":
        raise refused(400, "Invalid Request: JSON-RPC batches are not supported")
    message = messages[0]
    is_answer = message.result is not UNSET or message.error is not UNSET
    if message.jsonrpc != "2.0" or (message.method is UNSET) != is_answer:
        raise refused(400, 'Invalid Request: needs "jsonrpc": "2.0" and a method')
    if message.id is None and not is_answer:
        raise refused(400, "Invalid Request: id must be a string or an integer")
    return message


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except UNREADABLE:
        return False
    return True


def era_of(request: Request, message: Envelope) -> tuple[Era, Head]:
    """In which era the client speaks. Raises Refused for a revision that the gateway does not know."""
    version = request.header(_VERSION)
    try:
        head = read_head(message.params)
    except RpcError as e:
        if version not in wire.MODERN_VERSIONS and not isinstance(message.id, int | str):
            return "handshake", Head()
        raise Refused(400 if version in wire.MODERN_VERSIONS else 200, e, _id(message)) from None
    if version in wire.MODERN_VERSIONS:
        return "modern", head
    handshaken = message.method == wire.INITIALIZE or request.header(_SESSION) is not None
    if not handshaken and wire.META_VERSION in (head.meta or {}):
        return "modern", head
    if not handshaken and version is not None and version not in wire.HANDSHAKE_VERSIONS:
        raise Refused(400, unsupported(version), _id(message))
    return "handshake", head


def _id(message: Envelope) -> wire.Id | None:
    return message.id if isinstance(message.id, int | str) else None


def wants_events(request: Request) -> None:
    """Raises Refused for a GET that does not accept an event stream."""
    if not request.accepts(wire.SSE_TYPE):
        raise refused(406, "Not Acceptable: Accept must name text/event-stream")
