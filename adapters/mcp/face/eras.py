"""Between the eras: what changes in an envelope when client and server speak different ones, pure.

Only the envelope is translated. Unknown fields pass, and where both speak one era nothing is touched: the
callers then forward the bytes and never come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

from .. import wire
from ..upstream.following import has_tasks
from ..wire import Era
from . import tasks

# Results that carry caching hints in the modern era (2026-07-28, server/utilities/caching).
CACHEABLE = frozenset({
    wire.DISCOVER, wire.TOOLS_LIST, wire.PROMPTS_LIST, wire.RESOURCES_LIST, wire.TEMPLATES_LIST,
    wire.RESOURCES_READ,
})  # fmt: skip
# What the gateway can say of a list it does not own: ask again, and share it with nobody.
NO_CACHE: Mapping[str, Any] = {"ttlMs": 0, "cacheScope": "private"}
LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
_MODERN_PARAMS = ("inputResponses", "requestState")
_ELICITATION_ID = "elicitationId"
_TASKS = "io.modelcontextprotocol/tasks"


def to_server(params: Mapping[str, Any], server: Era, log_level: str | None) -> dict[str, Any]:
    """A client's params for a server of the other era. ``log_level``: what the client asked for in
    ``logging/setLevel``. The upstream adds the version and the client's capabilities itself."""
    changed = dict(params)
    meta = {k: v for k, v in _object(changed.pop("_meta", None)).items() if k not in wire.META_ENVELOPE}
    if server == "modern":
        if log_level is not None:
            meta[wire.META_LOG_LEVEL] = log_level
    else:
        for key in _MODERN_PARAMS:
            changed.pop(key, None)
    if meta:
        changed["_meta"] = meta
    return changed


def to_client(
    method: str, result: Mapping[str, Any], client: Era, server_info: Mapping[str, Any]
) -> dict[str, Any]:
    """A server's result for a client of the other era."""
    return _modernised(method, result, server_info) if client == "modern" else _aged(method, result)


def completed(method: str, result: Mapping[str, Any], server_info: Mapping[str, Any]) -> dict[str, Any]:
    """A result of the gateway's own in the modern era."""
    return _modernised(method, result, server_info)


def _modernised(method: str, result: Mapping[str, Any], server_info: Mapping[str, Any]) -> dict[str, Any]:
    """Add what every modern result carries (2026-07-28, basic: resultType, serverInfo; caching hints)."""
    meta = _object(result.get("_meta"))
    changed = {"resultType": "complete", **result}
    if method in CACHEABLE:
        changed = {**changed, **{k: v for k, v in NO_CACHE.items() if k not in result}}
    changed["_meta"] = {wire.META_SERVER_INFO: server_info, **meta}
    return changed


def _aged(method: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Take out what only the modern era knows."""
    hidden = {"resultType", *NO_CACHE} if method in CACHEABLE else {"resultType"}
    changed = {key: value for key, value in result.items() if key not in hidden}
    meta = {k: v for k, v in _object(changed.pop("_meta", None)).items() if k != wire.META_SERVER_INFO}
    if meta:
        changed["_meta"] = meta
    if method == wire.TOOLS_CALL and not isinstance(changed.get("structuredContent", {}), dict):
        del changed["structuredContent"]  # until 2025-11-25 an object; the text says the same
    if method == wire.TOOLS_LIST:
        changed["tools"] = [aged_tool(tool) for tool in wire.objects(changed.get("tools"))]
    return changed


def aged_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Until 2025-11-25 an outputSchema describes an object."""
    schema = tool.get("outputSchema")
    if isinstance(schema, dict) and cast("dict[str, Any]", schema).get("type") != "object":
        return {key: value for key, value in tool.items() if key != "outputSchema"}
    return tool


def error_code(method: str, code: int, data: Any, client: Era) -> int:
    """A server's error code for a client of era ``client`` (2026-07-28, basic: Error Codes)."""
    if client == "modern":
        if code == wire.RESOURCE_NOT_FOUND:
            return wire.INVALID_PARAMS
        return wire.INVALID_REQUEST if code == wire.URL_ELICITATION_REQUIRED else code
    if code in wire.MODERN_ONLY_CODES:
        return wire.INVALID_REQUEST
    missing = method == wire.RESOURCES_READ and code == wire.INVALID_PARAMS and "uri" in _object(data)
    return wire.RESOURCE_NOT_FOUND if missing else code


def capabilities(offered: Mapping[str, Any], server: Era, client: Era, revision: str) -> dict[str, Any]:
    """A server's capabilities as a client of era ``client`` may use them. Tasks are not the same thing in
    both eras, but a client may have its own where the server has the other ones: the gateway runs them."""
    if server == client:
        return dict(offered)
    changed = {key: value for key, value in offered.items() if key != "tasks"}
    extensions = {
        key: value for key, value in _object(changed.pop("extensions", None)).items() if key != _TASKS
    }
    if extensions:
        changed["extensions"] = extensions
    has = tasks.known(offered) if server == "modern" else has_tasks(offered)
    return tasks.offered(changed, client, revision) if has else changed


def loud_enough(params: Mapping[str, Any], minimum: str | None) -> bool:
    """Whether a ``notifications/message`` is to be passed on. ``minimum`` None: the client set no level."""
    level = params.get("level")
    if minimum not in LOG_LEVELS or level not in LOG_LEVELS:
        return True
    return LOG_LEVELS.index(level) >= LOG_LEVELS.index(minimum)


def question(params: Mapping[str, Any], client: Era) -> dict[str, Any]:
    """The params of a server's request, for a client of the other era. Only the handshake era has ids for
    addresses to open, and there they are required (2025-11-25, client/elicitation)."""
    if params.get("mode") != "url":
        return dict(params)
    if client == "modern":
        return {key: value for key, value in params.items() if key != _ELICITATION_ID}
    return {_ELICITATION_ID: str(uuid4()), **params}


def louder(level: str, than: str) -> bool:
    """Whether more is said at ``level``; an unknown one says no more."""
    return level in LOG_LEVELS and (
        than not in LOG_LEVELS or LOG_LEVELS.index(level) < LOG_LEVELS.index(than)
    )


def _object(value: Any) -> dict[str, Any]:
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {}
