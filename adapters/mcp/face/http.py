"""Streamable HTTP in front of the doors: both eras at one address.

Handshake: 2025-11-25, basic/transports; modern: 2026-07-28, basic/transports/streamable-http. The
``MCP-Protocol-Version`` header chooses, or ``initialize``.
"""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec
from msgspec import UNSET

from ....gateway.http.request import Request, accepted
from ....gateway.readable import UNREADABLE
from .. import wire
from ..wire import Envelope, Era, RpcError
from .checks import Said, read_headers, unsupported
from .kinds import Head, read_head

_NOTE = "mcp"  # under which a head's notes are kept


class Refused(Exception):
    """The request as a whole is refused: an HTTP status and the JSON-RPC error in its body."""

    def __init__(self, status: int, error: RpcError, id: wire.Id | None = None) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.id = id


def refused(status: int, message: str, code: int = wire.INVALID_REQUEST) -> Refused:
    return Refused(status, RpcError(code, message))


def refuse(request: Request, refused: Refused) -> Awaitable[None]:
    """Say so."""
    error = refused.error
    body = wire.encode_error(refused.id, error.code, error.message, error.data)
    return request.respond(refused.status, body)


async def or_refuse(request: Request, answering: Awaitable[None]) -> None:
    """For what may find out only when it waits that the request is to be refused."""
    try:
        await answering
    except Refused as e:
        await refuse(request, e)


def said_in(request: Request) -> Said:
    """What a POST's headers say. Raises Refused for one whose answer the client could not take, or whose body
    is no JSON."""
    known: Said | None = request.notes.get(_NOTE)
    if known is None:
        accept = request.header(b"accept")
        if not (accepted(accept, wire.JSON_TYPE) and accepted(accept, wire.SSE_TYPE)):
            raise refused(406, "Not Acceptable: Accept must name application/json and text/event-stream")
        media_type = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
        if media_type != wire.JSON_TYPE:
            raise refused(415, "Unsupported Media Type: Content-Type must be application/json")
        known = request.notes[_NOTE] = read_headers(request)
    return known


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


def era_of(said: Said, message: Envelope) -> tuple[Era, Head]:
    """In which era the client speaks. Raises Refused for a revision that the gateway does not know."""
    version = said.version
    try:
        head = read_head(message.params)
    except RpcError as e:
        if version not in wire.MODERN_VERSIONS and not isinstance(message.id, int | str):
            return "handshake", Head()
        raise Refused(400 if version in wire.MODERN_VERSIONS else 200, e, _id(message)) from None
    if version in wire.MODERN_VERSIONS:
        return "modern", head
    handshaken = message.method == wire.INITIALIZE or said.session is not None
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
