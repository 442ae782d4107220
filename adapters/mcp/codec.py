"""Content blocks ↔ parts, tool results ↔ events, server descriptions → agents. Pure.

What the canonical model has no name for stands in ``extra["mcp"]`` and comes out again: block → part →
block is the identity, except that a text that merely repeats ``structuredContent`` is dropped.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit

import msgspec

from ...gateway.model import (
    Agent,
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    Fault,
    File,
    Finished,
    Message,
    Part,
    Progress,
    Skill,
    TaskState,
    Text,
    text_of,
)
from .losses import MCP
from .wire import Catalog, objects

RESULT_ID = "result"
_json = msgspec.json.Encoder()

# --- content block → part --------------------------------------------------------------------


def part_of(block: Mapping[str, Any]) -> Part:
    """A content block as a part. A block of an unknown type, or one that breaks the schema, becomes a Data
    part that holds it whole."""
    if len(block) == 2 and block.get("type") == "text" and isinstance(text := block.get("text"), str):
        return Text(text=text)  # what most are
    rest = dict(block)
    part: Part | None = None
    match rest.pop("type", None):
        case "text" if isinstance(block.get("text"), str):
            part = Text(text=rest.pop("text"), extra=_extra(rest))
        case "image" | "audio" as kind:
            part = _media_part(kind, rest)
        case "resource":
            part = _resource_part(rest)
        case "resource_link" if isinstance(block.get("uri"), str) and isinstance(block.get("name"), str):
            part = File(
                uri=rest.pop("uri"),
                name=rest.pop("name"),
                media_type=_take(rest, "mimeType"),
                extra=_extra(rest),
            )
        case _:
            pass
    return part or Data(data=dict(block), extra={MCP: {"block": True}})


def parts_of(content: Any) -> tuple[Part, ...]:
    """The parts of a ``content`` array (a single block, as in sampling messages, counts as an array)."""
    if not isinstance(content, list) and isinstance(content, Mapping):
        return (part_of(cast("Mapping[str, Any]", content)),)
    return tuple([part_of(block) for block in objects(content)])


def _media_part(kind: str, rest: dict[str, Any]) -> File | None:
    content = _bytes(rest, "data")
    if content is None:
        return None
    media_type = _take(rest, "mimeType")
    if kind != _kind(media_type):
        rest["type"] = kind
    return File(content=content, media_type=media_type, extra=_extra(rest))


def _resource_part(rest: dict[str, Any]) -> Part | None:
    resource = rest.pop("resource", None)
    if not isinstance(resource, Mapping):
        return None
    inner = dict(cast("Mapping[str, Any]", resource))
    rest |= {"type": "resource", "resource": inner}
    uri = inner.get("uri")
    name = file_name(uri) if isinstance(uri, str) else None
    text = inner.get("text")
    if isinstance(text, str):
        del inner["text"]
        media_type = _take(inner, "mimeType")
        return Text(text=text, media_type=media_type, name=name, extra=_extra(rest))
    content = _bytes(inner, "blob")
    if content is None:
        return None
    media_type = _take(inner, "mimeType")
    return File(content=content, media_type=media_type, name=name, extra=_extra(rest))


def _bytes(fields: dict[str, Any], key: str) -> bytes | None:
    """Take a base64 field out; a spelling that encoding would not give back stays beside the bytes."""
    value = fields.get(key)
    if not isinstance(value, str):
        return None
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    if base64.b64encode(content).decode() == value:
        del fields[key]
    return content


def _take(fields: dict[str, Any], key: str) -> str | None:
    """Take a string field out; anything else stays for ``extra``."""
    return fields.pop(key) if isinstance(fields.get(key), str) else None


def _extra(rest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {MCP: rest} if rest else {}


def _kind(media_type: str | None) -> str:
    """The block type that bytes of this media type go by."""
    main = (media_type or "").partition("/")[0]
    return main if main in ("image", "audio") else "resource"


def file_name(uri: str) -> str | None:
    """The last path segment of a URI."""
    try:
        path = urlsplit(uri).path
    except ValueError:
        return None
    return unquote(path.rstrip("/").rpartition("/")[2]) or None


# --- part → content block --------------------------------------------------------------------


def block_of(part: Part) -> dict[str, Any]:
    """A part as a content block: text; image or audio by media type; other bytes an embedded resource;
    a URI a resource_link (never fetched); data as JSON text, unless it came as a block."""
    own = dict(part.extra.get(MCP, {}))
    kind = own.pop("type", None)
    match part:
        case Data():
            value: Any = part.data
            return dict(value) if own.get("block") else {"type": "text", "text": _json.encode(value).decode()}
        case Text():
            if kind == "resource":
                return _resource_block(part, own, {"text": part.text})
            return {"type": "text", "text": part.text, **own}
        case File(uri=str() as uri):
            name = file_name(uri) or uri if part.name is None else part.name
            return {"type": "resource_link", "uri": uri, "name": name} | _mime(part) | own
        case File():
            data = base64.b64encode(part.content or b"").decode()
            kind = kind or _kind(part.media_type)
            if kind == "resource":
                return _resource_block(part, own, {"blob": data})
            return {"type": kind, "data": data} | _mime(part) | own


def _resource_block(part: Text | File, own: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    inner = own.pop("resource", None)
    if not isinstance(inner, Mapping):
        inner = {"uri": f"agentgw://file/{quote(part.name or 'file', safe='')}"}
    return {
        "type": "resource",
        "resource": body | _mime(part) | dict(cast("Mapping[str, Any]", inner)),
        **own,
    }


def _mime(part: Text | File) -> dict[str, Any]:
    return {} if part.media_type is None else {"mimeType": part.media_type}


# --- results and notifications → events ------------------------------------------------------


def result_parts(result: Mapping[str, Any]) -> tuple[Part, ...]:
    """A tool result's parts: ``structuredContent`` first, as Data, without the text block that merely
    repeats it as JSON (server/tools, "Structured Content", asks servers for that copy)."""
    content = parts_of(result.get("content"))
    structured = result.get("structuredContent")
    if structured is None:
        return content
    kept = tuple(p for p in content if not (isinstance(p, Text) and _repeats(p.text, structured)))
    return (Data(data=structured), *kept)


def _repeats(text: str, value: Any) -> bool:
    try:
        return msgspec.json.decode(text) == value
    except (ValueError, RecursionError):
        return False


def result_events(tool: str, result: Mapping[str, Any]) -> list[Event]:
    """A tools/call result as the events that end the turn: one artifact ``result`` and COMPLETED, or for
    ``isError`` FAILED with the tool's own words."""
    parts = result_parts(result)
    rest = {
        k: v for k, v in result.items() if k not in ("content", "structuredContent", "isError", "resultType")
    }
    if result.get("isError") is True:
        words = text_of(parts) or f"{tool} reported an error"
        message = Message(role="agent", parts=parts if text_of(parts) else (*parts, Text(text=words)))
        fault = Fault(code="agent_error", message=words)
        return [Finished(state=TaskState.FAILED, message=message, fault=fault, extra=_extra(rest))]
    events: list[Event] = []
    if parts:
        artifact = Artifact(artifact_id=RESULT_ID, parts=parts, name=tool, extra=_extra(rest))
        events.append(ArtifactDelta(artifact=artifact))
    return [*events, Finished(state=TaskState.COMPLETED)]


def progress_event(params: Mapping[str, Any]) -> Progress:
    """``notifications/progress``."""
    rest = {k: v for k, v in params.items() if k not in ("progressToken", "progress", "total", "message")}
    message = params.get("message")
    return Progress(
        message=message if isinstance(message, str) else None,
        progress=_number(params.get("progress")),
        total=_number(params.get("total")),
        extra=_extra(rest),
    )


def log_event(params: Mapping[str, Any]) -> Progress:
    """``notifications/message``: a log entry is progress with the entry as data."""
    data = params.get("data")
    return Progress(message=data if isinstance(data, str) else None, data=dict(params))


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # JSON's integers have no bound
        return None


# --- descriptions ----------------------------------------------------------------------------


def skill_of(tool: Mapping[str, Any]) -> Skill:
    """A tool as a skill; its id is the tool's name."""
    name = str(tool.get("name", ""))
    schema = _mapping(tool.get("inputSchema"))
    annotations = _mapping(tool.get("annotations")) or {}
    title = tool.get("title") or annotations.get("title") or name
    known = ("name", "title", "description", "inputSchema", "outputSchema")
    modes = ("application/json",) if sole_string(schema) is None else ("application/json", "text/plain")
    return Skill(
        id=name,
        name=str(title),
        description=str(tool.get("description") or ""),
        input_schema=schema,
        output_schema=_mapping(tool.get("outputSchema")),
        input_modes=modes,
        extra=_extra({k: v for k, v in tool.items() if k not in known}),
    )


def agent_of(catalog: Catalog) -> Agent:
    """A server as an agent: not conversational, its tools are its skills."""
    info = catalog.server_info
    description = info.get("description") or catalog.instructions or info.get("title") or ""
    version = info.get("version")
    raw: dict[str, Any] = {
        "protocolVersion": catalog.protocol_version,
        "serverInfo": info,
        "capabilities": catalog.capabilities,
    }
    if catalog.instructions is not None:
        raw["instructions"] = catalog.instructions
    return Agent(
        name=str(info.get("name") or ""),
        description=str(description),
        version=version if isinstance(version, str) else None,
        skills=tuple(skill_of(tool) for tool in catalog.tools if isinstance(tool.get("name"), str)),
        conversational=False,
        input_modes=("application/json", "text/plain"),
        extra={MCP: {"raw": raw}},
    )


def sole_string(schema: Mapping[str, Any] | None) -> str | None:
    """The name of the one required argument, if there is exactly one and it is a string."""
    match schema:
        case {"required": [str(name)], "properties": {} as properties}:
            described = _mapping(cast("Mapping[str, Any]", properties).get(name))
            return name if described is not None and described.get("type") == "string" else None
        case _:
            return None


def _mapping(value: Any) -> Mapping[str, Any] | None:
    # To ask a class of Python's own comes cheaper than to ask an abstract one.
    return cast("Mapping[str, Any]", value) if isinstance(value, dict | Mapping) else None
