"""Errors: the hub's ↔ A2A's, on JSON-RPC and HTTP+JSON (specification 1.0.1, sections 5.4, 9.5, 11.6). Pure.

A ``Problem`` is an error as A2A sees it. 1.0 sends typed details with it, 0.3 free data; the 0.3 SDKs read
``type`` (Python) or ``code`` (JavaScript) in the body of a failed REST call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from ...gateway.errors import AgentError, BadUpstream, GatewayError, UpstreamFailed
from ...gateway.readable import UNREADABLE
from .wire import V10, RpcError, Version

TASK_NOT_FOUND = -32001
NOT_CANCELABLE = -32002
PUSH_NOT_SUPPORTED = -32003
UNSUPPORTED = -32004
CONTENT_TYPE = -32005
INVALID_AGENT = -32006
EXTENDED_CARD = -32007
EXTENSION_REQUIRED = -32008
VERSION = -32009
PARSE = -32700
INVALID_REQUEST = -32600
NO_METHOD = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603


class _Kind(msgspec.Struct, frozen=True):
    """One row of section 5.4's table: the error's name, and what it is over HTTP and gRPC."""

    name: str
    http: int
    grpc: str

    @property
    def reason(self) -> str:
        """The name as ErrorInfo has it: TASK_NOT_FOUND."""
        stem = self.name.removesuffix("Error")
        return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(stem)).upper()


KINDS: Mapping[int, _Kind] = {
    TASK_NOT_FOUND: _Kind("TaskNotFoundError", 404, "NOT_FOUND"),
    NOT_CANCELABLE: _Kind("TaskNotCancelableError", 400, "FAILED_PRECONDITION"),
    PUSH_NOT_SUPPORTED: _Kind("PushNotificationNotSupportedError", 400, "FAILED_PRECONDITION"),
    UNSUPPORTED: _Kind("UnsupportedOperationError", 400, "FAILED_PRECONDITION"),
    CONTENT_TYPE: _Kind("ContentTypeNotSupportedError", 400, "INVALID_ARGUMENT"),
    INVALID_AGENT: _Kind("InvalidAgentResponseError", 500, "INTERNAL"),
    EXTENDED_CARD: _Kind("ExtendedAgentCardNotConfiguredError", 400, "FAILED_PRECONDITION"),
    EXTENSION_REQUIRED: _Kind("ExtensionSupportRequiredError", 400, "FAILED_PRECONDITION"),
    VERSION: _Kind("VersionNotSupportedError", 400, "FAILED_PRECONDITION"),
    PARSE: _Kind("ParseError", 400, "INVALID_ARGUMENT"),
    INVALID_REQUEST: _Kind("InvalidRequestError", 400, "INVALID_ARGUMENT"),
    NO_METHOD: _Kind("MethodNotFoundError", 404, "NOT_FOUND"),
    INVALID_PARAMS: _Kind("InvalidParamsError", 400, "INVALID_ARGUMENT"),
    INTERNAL: _Kind("InternalError", 500, "INTERNAL"),
}
_BY_REASON = {kind.reason: code for code, kind in KINDS.items()}
_BY_NAME = {kind.name: code for code, kind in KINDS.items()}
_WITHHELD = frozenset({0, INTERNAL})  # an agent's words under these codes are crash text
_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

# The hub's codes. Those of the way to the agent are InternalError with the hub's code in the details.
_CODES = {
    "invalid_request": INVALID_PARAMS,
    "unknown_agent": INVALID_PARAMS,
    "unknown_task": TASK_NOT_FOUND,
    "unknown_skill": INVALID_PARAMS,
    "not_active": UNSUPPORTED,
    "unsupported": UNSUPPORTED,
    "too_large": INVALID_REQUEST,
    "head_too_large": INVALID_REQUEST,
    "too_deep": INVALID_REQUEST,
    "unauthenticated": INVALID_REQUEST,
    "forbidden": INVALID_REQUEST,
    "upstream_invalid": INVALID_AGENT,
}
_HTTP = {
    "unknown_agent": (404, "NOT_FOUND"),
    "too_large": (413, "INVALID_ARGUMENT"),
    "head_too_large": (431, "INVALID_ARGUMENT"),
    "unauthenticated": (401, "UNAUTHENTICATED"),
    "forbidden": (403, "PERMISSION_DENIED"),
    "upstream_unreachable": (502, "UNAVAILABLE"),
    "circuit_open": (503, "UNAVAILABLE"),
    "upstream_unauthorized": (502, "FAILED_PRECONDITION"),
    "upstream_timeout": (504, "DEADLINE_EXCEEDED"),
    "draining": (503, "UNAVAILABLE"),
    "busy": (503, "UNAVAILABLE"),
    "rate_limited": (429, "RESOURCE_EXHAUSTED"),
}


class Problem(Exception):
    """An error on its way to an A2A client. ``data``: JSON to go with it; ``hub``: the hub's code."""

    def __init__(self, code: int, message: str, *, data: Any = None, hub: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.hub = hub

    @property
    def kind(self) -> str:
        """``error.type`` of the span."""
        return self.hub or str(self.code)


def problem_of(error: GatewayError, trace_id: str = "") -> Problem:
    """The hub's error for a client. An A2A agent's own error keeps its code, words and data."""
    native = error.native or {}
    own = native.get("protocol") == "a2a" and isinstance(native.get("code"), int)
    code = native["code"] if own else _CODES.get(error.code, INTERNAL)
    data: Any = error.data
    if trace_id and code in (INTERNAL, INVALID_AGENT) and not (own and isinstance(data, list)):
        data = {**_as_dict(data), "code": error.code, "traceId": trace_id}
    return Problem(code, error.message, data=data, hub=error.code)


# --- writing -----------------------------------------------------------------------------------


def _details(problem: Problem) -> list[Any]:
    """1.0's typed details; an agent's own pass."""
    data: Any = problem.data
    if isinstance(data, list):
        return cast("list[Any]", data)
    kind = KINDS.get(problem.code)
    return [
        {
            "@type": _INFO,
            "reason": kind.reason if kind else "UNKNOWN_ERROR",
            "domain": "a2a-protocol.org",
            "metadata": {k: x if isinstance(x, str) else _text(x) for k, x in _as_dict(data).items()},
        }
    ]


def _as_dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def rpc_error(problem: Problem, v: Version) -> dict[str, Any]:
    """The ``error`` of a JSON-RPC response. 0.3 has no code for an unsupported version."""
    error: dict[str, Any] = {"code": problem.code, "message": problem.message}
    if v == V10:
        error["data"] = _details(problem)
    elif problem.data is not None:
        error["data"] = problem.data
    return error


def http_error(problem: Problem, v: Version) -> tuple[int, dict[str, Any]]:
    """Status and body of a failed REST call."""
    kind = KINDS.get(problem.code, KINDS[INTERNAL])
    status, grpc = _HTTP.get(problem.hub, (kind.http, kind.grpc))
    if v == V10:
        error = {"code": status, "status": grpc, "message": problem.message, "details": _details(problem)}
        return status, {"error": error}
    body: dict[str, Any] = {"type": kind.name, "code": problem.code, "message": problem.message}
    if problem.data is not None:
        body["data"] = problem.data
    return status, body


def grpc_status(code: int, hub: str) -> str:
    """The name of the gRPC status for an error's code; ``hub``: the hub's code, where it is known."""
    return _HTTP.get(hub, (0, KINDS.get(code, KINDS[INTERNAL]).grpc))[1]


# --- reading an agent's ------------------------------------------------------------------------


def agent_error(agent: str, error: RpcError, *, detail: str = "") -> GatewayError:
    """An agent's error as the hub's: its own words pass, crash text does not."""
    native = {"protocol": "a2a", "code": error.code}
    if error.code in _WITHHELD or error.code not in KINDS:
        return UpstreamFailed(agent, native={**native, "code": INTERNAL}, detail=detail or error.message)
    kind = KINDS[error.code]
    return AgentError(error.message or kind.name, native=native, data=error.data)


def agent_http_error(agent: str, status: int, body: bytes) -> GatewayError:
    """An agent's failed REST call (or a JSON-RPC call that HTTP refused)."""
    detail = f"HTTP {status}: {body[:2000]!r}"
    if status in (401, 403):
        native = {"protocol": "a2a", "status": status}
        return AgentError(f"{agent} refuses the gateway's credentials", native=native, detail=detail)
    if status >= 500:
        return UpstreamFailed(agent, detail=detail)
    found = _rest_error(body)
    if found is not None:
        return agent_error(agent, found, detail=detail)
    return BadUpstream(f"{agent} answered HTTP {status}", detail=detail)


def code_in(details: Sequence[Any]) -> int | None:
    """The code that an ErrorInfo among an error's details stands for."""
    reasons = [_as_dict(x).get("reason") for x in details]
    return next((_BY_REASON[x] for x in reasons if isinstance(x, str) and x in _BY_REASON), None)


def _rest_error(body: bytes) -> RpcError | None:
    """What the body of a failed REST call says: 1.0's Status, else 0.3's ``type`` or ``code``."""
    try:
        value: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    match value:
        case {"error": {"message": str() as message, "details": [*details]}}:
            code = code_in(details)
            return None if code is None else RpcError(code, message, details)
        case {"type": str() as name, "message": str() as message} if name in _BY_NAME:
            return RpcError(_BY_NAME[name], message)
        case {"code": int() as code, "message": str() as message} if code in KINDS:
            return RpcError(code, message)
        case _:
            return None
