"""The admin API's errors: ``{"error": {"code", "message", "data"}}``, each kind with its HTTP status."""

from __future__ import annotations

import logging
from typing import Any, cast

from litestar import Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException

from .. import errors
from .wire import retry_after

log = logging.getLogger("agentgw.http")

_REASONS = {"name_taken": 409, "unknown_trace": 404, "unknown_key": 404, "configuration": 400}
_STATUS: tuple[tuple[type[errors.GatewayError], int], ...] = (
    (errors.UnknownAgent, 404),
    (errors.UnknownTask, 404),
    (errors.NotActive, 409),
    (errors.TooLarge, 413),
    (errors.HeadTooLarge, 431),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.CallerError, 400),
    (errors.UpstreamTimeout, 504),
    (errors.CircuitOpen, 503),
    (errors.UpstreamError, 502),
    (errors.Draining, 503),
    (errors.Busy, 503),
    (errors.RateLimited, 429),
)


def status_of(error: errors.GatewayError) -> int:
    """The HTTP status of an error."""
    reason = _in(error.data, "reason")
    if reason in _REASONS:
        return _REASONS[reason]
    if isinstance(error, errors.ConfigError):  # a reference to nothing is the registration's fault
        return 500 if not {"variable", "reference"} & _keys(error.data) else 400
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _in(data: Any, key: str) -> Any:
    return cast(dict[str, Any], data).get(key) if isinstance(data, dict) else None


def _keys(data: Any) -> set[str]:
    return set(cast(dict[str, Any], data)) if isinstance(data, dict) else set()


def _gateway_error(request: ASGIConnection[Any, Any, Any, Any], error: errors.GatewayError) -> Response[Any]:
    if error.detail:
        log.debug("%s: %s", error.message, error.detail)
    answer = _error(status_of(error), error.code, errors.for_operator(error), error.data)
    answer.headers.update({name.decode(): value.decode() for name, value in retry_after(error.data)})
    return answer


def _http_error(request: ASGIConnection[Any, Any, Any, Any], error: HTTPException) -> Response[Any]:
    extra: Any = error.extra
    message = error.detail
    if isinstance(extra, list) and extra:  # what does not fit, field by field
        items: list[dict[str, Any]] = extra  # pyright: ignore[reportUnknownVariableType]
        message = "; ".join(f"{i.get('key', 'body')}: {i.get('message', '')}" for i in items)
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    return _error(error.status_code, codes.get(error.status_code, "invalid_request"), message, None)


def _no_text(request: ASGIConnection[Any, Any, Any, Any], error: Exception) -> Response[Any]:
    """Litestar knows of no JSON that is not UTF-8."""
    return _error(400, "invalid_request", "the request body is not valid JSON", None)


def _crash(request: ASGIConnection[Any, Any, Any, Any], error: Exception) -> Response[Any]:
    log.error("the admin API failed: %s", request.scope["path"], exc_info=error)
    return _error(500, "internal", "internal error", None)


def _error(status: int, code: str, message: str, data: Any) -> Response[Any]:
    body = {"error": {"code": code, "message": message, "data": data}}
    return Response(body, status_code=status, media_type="application/json")


HANDLERS: Any = {
    errors.GatewayError: _gateway_error,
    HTTPException: _http_error,
    UnicodeDecodeError: _no_text,
    Exception: _crash,
}
