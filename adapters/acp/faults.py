"""Errors: the one table from the gateway's codes to ACP's, and the way back. Pure.

ACP knows three codes and the TypeScript SDK refuses any other, so the gateway says no other of its own: its
code and the trace id stand in ``data``. HTTP statuses are those of the SDK's server, where it has one.
"""

from __future__ import annotations

import re
from typing import Any, cast

from ...gateway.model import Fault
from .wire import INVALID_INPUT, NOT_FOUND, SERVER_ERROR, ErrorBody, Json

# code -> (HTTP status, ACP code); anything else is 500 server_error
_TABLE = {
    "invalid_request": (422, INVALID_INPUT),
    "unknown_agent": (404, NOT_FOUND),
    "unknown_task": (404, NOT_FOUND),
    "unknown_skill": (404, NOT_FOUND),
    "not_active": (403, INVALID_INPUT),
    "unsupported": (400, INVALID_INPUT),
    "too_large": (413, INVALID_INPUT),
    "head_too_large": (431, INVALID_INPUT),
    "too_deep": (400, INVALID_INPUT),
    "unauthenticated": (401, INVALID_INPUT),
    "forbidden": (403, INVALID_INPUT),
    "upstream_unreachable": (502, SERVER_ERROR),
    "circuit_open": (503, SERVER_ERROR),
    "upstream_unauthorized": (502, SERVER_ERROR),
    "upstream_timeout": (504, SERVER_ERROR),
    "upstream_invalid": (502, SERVER_ERROR),
    "draining": (503, SERVER_ERROR),
    "busy": (503, SERVER_ERROR),
    "rate_limited": (429, SERVER_ERROR),
}
# FastAPI ends its validation messages with the place in the server's source.
_PLACE = re.compile(r'\s*^\s*File ".*', re.MULTILINE | re.DOTALL)


def http_status(fault: Fault) -> int:
    """The HTTP status for an error. What an ACP agent answered with its own words keeps its status."""
    own: Any = (fault.native or {}).get("status")
    if fault.code == "agent_error" and isinstance(own, int) and 400 <= own < 500:
        return own
    return _TABLE.get(fault.code, (500, SERVER_ERROR))[0]


def error_json(fault: Fault, trace_id: str | None = None) -> Json:
    """An error as ACP has it. What an ACP agent said comes out with its own code."""
    code = _TABLE.get(fault.code, (500, SERVER_ERROR))[1]
    native = fault.native or {}
    said: Any = fault.data
    if fault.code == "agent_error" and native.get("protocol") == "acp":
        code = str(native["code"])
    data: Json = {"code": fault.code}
    if trace_id:
        data["trace_id"] = trace_id
    if isinstance(said, dict):
        data |= cast(Json, said)
    elif said is not None:
        data["data"] = said
    return {"code": code, "message": fault.message, "data": data}


def fault_of(error: ErrorBody | None, agent: str) -> tuple[Fault, str]:
    """What a client may see of an agent's error, and what only the debug log may.

    ``server_error`` is how a crash looks: its words are withheld, unless another gateway says in ``data``
    that they are its agent's own. All other codes are the agent's own.
    """
    code = error.code if error else SERVER_ERROR
    native = {"protocol": "acp", "code": code}
    if error is not None and code == SERVER_ERROR:
        data = _object(error.data)
        if data.get("code") == "agent_error":
            own = {k: v for k, v in data.items() if k not in ("code", "trace_id")}
            said: Any = own["data"] if own.keys() == {"data"} else own or None
            return Fault(code="agent_error", message=spoken(error.message), data=said, native=native), ""
    if error is None or code == SERVER_ERROR:
        withheld = error.message if error else "no error given"
        return Fault(code="upstream_failed", message=f"{agent} failed", native=native), withheld
    return Fault(code="agent_error", message=spoken(error.message), data=error.data, native=native), ""


def _object(value: Any) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def spoken(text: str) -> str:
    """An agent's words without the source locations that servers append to them."""
    return _PLACE.sub("", text)


def as_error(value: Any) -> ErrorBody | None:
    """The error in a decoded JSON body; None if there is none."""
    if not isinstance(value, dict):
        return None
    fields = cast(Json, value)
    code, message = fields.get("code"), fields.get("message")
    if not isinstance(code, str) or not isinstance(message, str):
        return None
    return ErrorBody(code=code, message=message, data=fields.get("data"))
