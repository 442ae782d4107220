"""The checks of a modern request before anything else happens to it, pure.

2026-07-28, basic/transports/streamable-http: Server Validation. Headers and body must say the same, or a
proxy that reads one and a server that reads the other could be played against each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ....gateway.http.request import Request
from .. import headers as mirrored
from .. import wire
from ..wire import RpcError
from .exchange import Head

# The newest first; clients that know none of the modern ones see that initialize works too.
SUPPORTED = (*reversed(wire.MODERN_VERSIONS), *reversed(wire.HANDSHAKE_VERSIONS))
Headers = Sequence[tuple[bytes, bytes]]
_VERSION, _METHOD, _NAME = wire.H_VERSION.encode(), wire.H_METHOD.encode(), wire.H_NAME.encode()
_DECIMAL = re.compile(r"-?[0-9]+(\.0+)?")


def check(request: Request, method: str, head: Head) -> str:
    """The revision of a well-formed modern request. Raises RpcError: missing fields of ``_meta`` -32602,
    headers that differ from the body -32020, an unknown revision -32022."""
    meta = head.meta or {}
    if request.repeats:
        _check_once(request.headers)
    for key in (wire.META_VERSION, wire.META_CLIENT_CAPABILITIES):
        if key not in meta:
            raise RpcError(wire.INVALID_PARAMS, f"params._meta lacks {key}")
    if not isinstance(meta[wire.META_CLIENT_CAPABILITIES], dict):
        raise RpcError(wire.INVALID_PARAMS, f"{wire.META_CLIENT_CAPABILITIES} must be an object")
    version = meta[wire.META_VERSION]
    if not isinstance(version, str):
        raise RpcError(wire.INVALID_PARAMS, f"{wire.META_VERSION} must be a string")
    _same("MCP-Protocol-Version", request.header(_VERSION), version)
    _same("Mcp-Method", request.header(_METHOD), method)
    _check_name(request.header(_NAME), method, head)
    if version not in wire.MODERN_VERSIONS:
        raise unsupported(version)
    return version


def unsupported(version: str) -> RpcError:
    """The gateway does not speak ``version``."""
    data = {"supported": SUPPORTED, "requested": version}
    return RpcError(wire.UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def _check_once(headers: Headers) -> None:
    names = [name for name, _ in headers]
    for name in (_VERSION, _METHOD, _NAME):
        if names.count(name) > 1:
            raise RpcError(wire.HEADER_MISMATCH, f"Header mismatch: {name.decode()} appears more than once")


def _check_name(value: str | None, method: str, head: Head) -> None:
    member = wire.NAMED_BY.get(method)
    if member is None:
        return
    named = head.name if member == "name" else head.uri if member == "uri" else head.task_id
    if isinstance(named, str):
        _same("Mcp-Name", None if value is None else mirrored.decode_value(value), named)


def _same(header: str, value: str | None, body: str) -> None:
    if value != body:
        said = "is missing or malformed" if value is None else f"value {value!r} does not match the body"
        raise RpcError(wire.HEADER_MISMATCH, f"Header mismatch: {header} {said}")


def check_params(headers: Headers, schema: Any, arguments: Any) -> None:
    """``Mcp-Param-*`` against the arguments that a tool's inputSchema mirrors. Raises RpcError -32020."""
    given: dict[str, list[str]] = {}
    for name, value in headers:
        key = name.decode("latin-1")
        if key.startswith(wire.H_PARAM_PREFIX):
            given.setdefault(key, []).append(value.decode("latin-1").strip())
    for path, name in mirrored.annotated(schema).items():
        values = given.get(wire.H_PARAM_PREFIX + name.lower(), [])
        text = mirrored.as_text(mirrored.value_at(arguments, path))
        decoded = [mirrored.decode_value(value) for value in values]
        matches = not decoded if text is None else len(decoded) == 1 and _equal(decoded[0], text)
        if not matches:
            where = ".".join(path)
            raise RpcError(wire.HEADER_MISMATCH, f"Header mismatch: Mcp-Param-{name} and argument {where}")


def _equal(header: str | None, body: str) -> bool:
    """Whether both say the same; whole numbers are compared as numbers (``42.0`` is ``42``)."""
    if header == body:
        return True
    if header is None or not (_DECIMAL.fullmatch(header) and _DECIMAL.fullmatch(body)):
        return False
    return header.partition(".")[0] == body.partition(".")[0]
