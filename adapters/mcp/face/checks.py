"""The checks of a modern request before anything else happens to it, pure.

2026-07-28, basic/transports/streamable-http: Server Validation. Headers and body must say the same, or a
proxy that reads one and a server that reads the other could be played against each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ....gateway.http.request import Request
from .. import headers as mirrored
from .. import wire
from ..wire import RpcError
from .kinds import Kind

# The newest first; clients that know none of the modern ones see that initialize works too.
SUPPORTED = (*reversed(wire.MODERN_VERSIONS), *reversed(wire.HANDSHAKE_VERSIONS))
Headers = Sequence[tuple[bytes, bytes]]
_VERSION, _SESSION = wire.H_VERSION.encode(), wire.H_SESSION.encode()
_METHOD, _NAME = wire.H_METHOD.encode(), wire.H_NAME.encode()
_DECIMAL = re.compile(r"-?[0-9]+(\.0+)?")


class Said(msgspec.Struct, frozen=True):
    """The headers of a POST that bear on what is in its body. ``name``: decoded, None also for a malformed
    one; ``repeated``: one of those that mirror the body, if it comes more than once. ``usual``: whether
    they say enough for calls to be known by them (see ``usual``)."""

    version: str | None
    session: str | None
    method: str | None
    name: str | None
    repeated: str = ""
    usual: bool = False


def read_headers(request: Request) -> Said:
    """What they say."""
    names = [name for name, _ in request.headers]
    name = request.header(_NAME)
    version, session = request.header(_VERSION), request.header(_SESSION)
    return Said(
        version=version,
        session=session,
        method=request.header(_METHOD),
        name=None if name is None else mirrored.decode_value(name),
        repeated=next((x.decode() for x in (_VERSION, _METHOD, _NAME) if names.count(x) > 1), ""),
        usual=version in wire.MODERN_VERSIONS or session is not None,
    )


def check(said: Said, kind: Kind) -> str:
    """The revision of a well-formed modern request. Raises RpcError: missing fields of ``_meta`` -32602,
    headers that differ from the body -32020, an unknown revision -32022."""
    meta = kind.meta
    if said.repeated:
        raise RpcError(wire.HEADER_MISMATCH, f"Header mismatch: {said.repeated} appears more than once")
    for key in (wire.META_VERSION, wire.META_CLIENT_CAPABILITIES):
        if key not in meta:
            raise RpcError(wire.INVALID_PARAMS, f"params._meta lacks {key}")
    if not isinstance(meta[wire.META_CLIENT_CAPABILITIES], dict):
        raise RpcError(wire.INVALID_PARAMS, f"{wire.META_CLIENT_CAPABILITIES} must be an object")
    version = meta[wire.META_VERSION]
    if not isinstance(version, str):
        raise RpcError(wire.INVALID_PARAMS, f"{wire.META_VERSION} must be a string")
    if said.version != version:
        raise _differs("MCP-Protocol-Version", said.version)
    if said.method != kind.method:
        raise _differs("Mcp-Method", said.method)
    if kind.name is not None and said.name != kind.name:
        raise _differs("Mcp-Name", said.name)
    if version not in wire.MODERN_VERSIONS:
        raise unsupported(version)
    return version


def unsupported(version: str) -> RpcError:
    """The gateway does not speak ``version``."""
    data = {"supported": SUPPORTED, "requested": version}
    return RpcError(wire.UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def _differs(header: str, value: str | None) -> RpcError:
    said = "is missing or malformed" if value is None else f"value {value!r} does not match the body"
    return RpcError(wire.HEADER_MISMATCH, f"Header mismatch: {header} {said}")


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
