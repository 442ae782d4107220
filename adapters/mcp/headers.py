"""The headers of 2026-07-28's Streamable HTTP that mirror the body, pure.

Used by the upstream to send them and by the face to check them (basic/transports/streamable-http, sections
"Value Encoding" and "Custom Headers from Tool Parameters").
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from .wire import H_METHOD, H_NAME, H_PARAM_PREFIX, H_VERSION, NAMED_BY, TOOLS_CALL

X_MCP_HEADER = "x-mcp-header"
_SAFE = re.compile(r"[\x20-\x7e]*")
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Keywords that lead to further schemas; values of others (default, enum, …) are data.
_ONE = frozenset({
    "items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames",
    "unevaluatedProperties", "not", "if", "then", "else", "contentSchema",
})  # fmt: skip
_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAP = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})

Path = tuple[str, ...]


@lru_cache(1024)
def encode_value(value: str) -> str:
    """``value`` as a header value: itself, or ``=?base64?…?=`` where it would not survive the way."""
    if _SAFE.fullmatch(value) and value == value.strip() and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_value(value: str) -> str | None:
    """Inverse of ``encode_value``; None for a malformed sentinel."""
    match = _SENTINEL.fullmatch(value)
    if match is None:
        return value
    try:
        data = base64.b64decode(match[1], validate=True)
        canonical = base64.b64encode(data).decode() == match[1]
        return data.decode() if canonical else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def request_headers(
    version: str, method: str, params: Mapping[str, Any], schema: Any = None
) -> list[tuple[str, str]]:
    """The headers a modern request needs. ``schema``: the called tool's inputSchema, if known."""
    headers = [(H_VERSION, version), (H_METHOD, method)]
    name = params.get(NAMED_BY.get(method, ""))
    if isinstance(name, str):
        headers.append((H_NAME, encode_value(name)))
    if method == TOOLS_CALL and schema is not None:
        headers += param_headers(schema, params.get("arguments"))
    return headers


def param_headers(schema: Any, arguments: Any) -> list[tuple[str, str]]:
    """``Mcp-Param-*`` for the annotated arguments that are there."""
    found: list[tuple[str, str]] = []
    for path, name in annotated(schema).items():
        text = as_text(value_at(arguments, path))
        if text is not None:
            found.append((H_PARAM_PREFIX + name.lower(), encode_value(text)))
    return found


def annotated(schema: Any) -> dict[Path, str]:
    """Property path → header name (without prefix) of a schema that ``fault`` finds nothing wrong with."""
    return {
        path: node[X_MCP_HEADER]
        for path, node in _positions(schema)
        if path and isinstance(node.get(X_MCP_HEADER), str)
    }


def mirroring(tools: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Name → inputSchema of the tools whose arguments are mirrored."""
    return {str(tool.get("name")): tool.get("inputSchema") for tool in tools if _mirrors(tool)}


def _mirrors(tool: Mapping[str, Any]) -> bool:
    schema = tool.get("inputSchema")
    return fault(schema) is None and bool(annotated(schema))


def as_text(value: Any) -> str | None:
    """An argument as header text before encoding; None for what no header can hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        return None
    try:
        return str(value)
    except ValueError:  # an integer past Python's limit of digits
        return None


def value_at(arguments: Any, path: Path) -> Any:
    """The argument at a property path, None if there is none."""
    node = arguments
    for key in path:
        if not isinstance(node, Mapping):
            return None
        node = cast("Mapping[str, Any]", node).get(key)
    return node


def fault(schema: Any) -> str | None:
    """Why an inputSchema's header annotations are invalid (a client must then leave the tool out)."""
    seen: set[str] = set()
    for path, node in _positions(schema):
        if X_MCP_HEADER not in node:
            continue
        name = node[X_MCP_HEADER]
        if not path:
            return f"{X_MCP_HEADER} stands where no chain of properties leads"
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            return f"{X_MCP_HEADER} of {'.'.join(path)} is not a header name"
        if node.get("type") not in ("string", "integer", "boolean"):
            return f"{X_MCP_HEADER} of {'.'.join(path)} needs type string, integer or boolean"
        if name.lower() in seen:
            return f"{X_MCP_HEADER} {name} is used twice"
        seen.add(name.lower())
    return None


def _positions(root: Any) -> Iterator[tuple[Path | None, Mapping[str, Any]]]:
    """Every schema inside ``root`` with its path of property names; None off the chain of properties.
    ``$ref`` is not followed. A stack, so that depth needs no recursion."""
    stack: list[tuple[Path | None, Any]] = [((), root)]
    while stack:
        path, node = stack.pop()
        if not isinstance(node, Mapping):
            continue
        schema = cast("Mapping[str, Any]", node)
        yield path, schema
        for key, value in schema.items():
            if key == "properties" and isinstance(value, Mapping):
                for name, child in cast("Mapping[str, Any]", value).items():
                    stack.append((None if path is None else (*path, name), child))
            elif key in _ONE:
                stack.append((None, value))
            elif key in _LIST and isinstance(value, list):
                stack += [(None, child) for child in cast("list[Any]", value)]
            elif key in _MAP and isinstance(value, Mapping):
                stack += [(None, child) for child in cast("Mapping[str, Any]", value).values()]
