"""The one table from the gateway's errors to MCP's, and what is taken out of a server's own, pure."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from ....gateway.errors import CallerError, GatewayError
from .. import wire
from ..wire import RpcError

# Codes of gateway.errors; what is not here is an internal error.
_CODES = {
    "invalid_request": wire.INVALID_PARAMS,
    "unknown_agent": wire.INVALID_PARAMS,
    "unknown_task": wire.INVALID_PARAMS,
    "unknown_skill": wire.INVALID_PARAMS,
    "not_active": wire.INVALID_PARAMS,
    "unsupported": wire.INVALID_REQUEST,
    "too_large": wire.INVALID_REQUEST,
    "head_too_large": wire.INVALID_REQUEST,
    "too_deep": wire.INVALID_REQUEST,
    "unauthenticated": wire.INVALID_REQUEST,
    "forbidden": wire.INVALID_REQUEST,
}
# Modern era, Streamable HTTP: an error that comes as plain JSON has a status of its own.
_MODERN_STATUS = {
    wire.PARSE_ERROR: 400,
    wire.INVALID_REQUEST: 400,
    wire.INVALID_PARAMS: 400,
    wire.HEADER_MISMATCH: 400,
    wire.MISSING_CAPABILITY: 400,
    wire.UNSUPPORTED_VERSION: 400,
    wire.METHOD_NOT_FOUND: 404,
}


def rpc_error(error: GatewayError, trace_id: str | None = None) -> RpcError:
    """A gateway error as JSON-RPC: ``data`` holds its code, its own data and the trace's id."""
    data: dict[str, Any] = {"code": error.code}
    if isinstance(error.data, dict):
        data |= error.data  # pyright: ignore[reportUnknownMemberType]
    if trace_id is not None and not isinstance(error, CallerError):
        data["trace_id"] = trace_id
    return RpcError(_CODES.get(error.code, wire.INTERNAL_ERROR), error.message, data)


def passable(error: RpcError, words: str, trace_id: str | None) -> RpcError:
    """A server's error as the client may see it: its own, or ``words`` in place of a crash's."""
    if not error.crash:
        return error
    return RpcError(error.code, words, UNSET if trace_id is None else {"trace_id": trace_id})


def status(code: int, era: wire.Era) -> int:
    """The HTTP status of a JSON-RPC error that is the whole answer to a well-formed request."""
    return _MODERN_STATUS.get(code, 200) if era == "modern" else 200
