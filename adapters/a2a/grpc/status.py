"""Errors on gRPC: ``google.rpc.Status`` with ``ErrorInfo`` (specification 1.0.1, sections 5.4 and 10.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from google.protobuf import any_pb2, json_format
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from ....gateway.errors import (
    AgentError,
    GatewayError,
    TooLarge,
    Unreachable,
    UpstreamFailed,
    UpstreamTimeout,
)
from ..problems import (
    INTERNAL,
    INVALID_PARAMS,
    TASK_NOT_FOUND,
    UNSUPPORTED,
    agent_error,
    code_in,
    grpc_status,
)
from ..wire import RpcError

DETAILS = "grpc-status-details-bin"  # the trailing metadata that holds the Status
CODES = {
    "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "INTERNAL": 13,
    "UNAVAILABLE": 14, "UNAUTHENTICATED": 16,
}  # fmt: skip
_HTTP = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED",
    431: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE",
}  # fmt: skip
_KNOWN = error_details_pb2.DESCRIPTOR  # json_format finds by name what was imported


class Failure(msgspec.Struct, frozen=True):
    """An error as gRPC carries it: the status' name, words, and the serialized ``google.rpc.Status``."""

    code: str
    message: str
    status: bytes


def failure(http: int, error: Any) -> Failure:
    """The gateway's error on its way to a client: ``error`` as a JSON-RPC response holds it, answered with
    ``http``."""
    wire = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    message, details = str(wire.get("message") or "internal error"), _list(wire.get("data"))
    hub = next((x["metadata"]["code"] for x in details if "code" in (x.get("metadata") or {})), "")
    number: Any = wire.get("code")
    code = _HTTP.get(http) or grpc_status(number if isinstance(number, int) else INTERNAL, hub)
    status: Any = status_pb2.Status(code=CODES[code], message=message)
    for detail in details:
        try:
            status.details.append(json_format.ParseDict(detail, any_pb2.Any()))
        except (json_format.ParseError, TypeError, ValueError):
            continue  # an agent's own detail, of a type that is not known here
    return Failure(code, message, status.SerializeToString())


def _list(value: Any) -> list[dict[str, Any]]:
    return [x for x in value if isinstance(x, dict)] if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def agent_failure(agent: str, error: Any) -> GatewayError:
    """An agent's error (``grpc.aio.AioRpcError``) as the hub's: its own words pass, crash text does not."""
    code: str = error.code().name
    message: str = error.details() or ""
    detail = f"{code}: {message[:2000]}"
    details = _details(error.trailing_metadata() or ())
    known = code_in(details) or _BARE.get(code)
    if known is not None:
        return agent_error(agent, RpcError(known, message, details or None), detail=detail)
    match code:
        case "UNAUTHENTICATED" | "PERMISSION_DENIED":
            native = {"protocol": "a2a", "status": 401 if code == "UNAUTHENTICATED" else 403}
            return AgentError(f"{agent} refuses the gateway's credentials", native=native, detail=detail)
        case "UNAVAILABLE":
            return Unreachable(f"{agent} can't be reached", detail=detail)
        case "DEADLINE_EXCEEDED":
            return UpstreamTimeout(f"{agent} did not answer in time", detail=detail)
        case "RESOURCE_EXHAUSTED":
            return TooLarge(f"the message is larger than {agent} or the gateway takes", detail=detail)
        case _:
            return UpstreamFailed(agent, detail=detail)


# What a status means that comes without an ErrorInfo.
_BARE = {
    "NOT_FOUND": TASK_NOT_FOUND,
    "INVALID_ARGUMENT": INVALID_PARAMS,
    "FAILED_PRECONDITION": UNSUPPORTED,
    "UNIMPLEMENTED": UNSUPPORTED,
}


def _details(metadata: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The details of an error, as JSON-RPC has them."""
    found: list[dict[str, Any]] = []
    for key, value in metadata:
        if key != DETAILS:
            continue
        try:
            status: Any = status_pb2.Status.FromString(value)
        except DecodeError:
            continue
        for packed in status.details:
            try:
                found.append(json_format.MessageToDict(packed))
            except (json_format.Error, TypeError, DecodeError):
                continue
    return found
