"""Content: ACP message parts and messages to the canonical model and back. Pure.

The way home is the identity. A part is translated, translated back, and what differs from the original
(unknown fields, explicit nulls, the exact text of a JSON value or of base64) is kept under
``extra["acp"]``: ``fields`` overrides, ``absent`` names what the original left out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from ...gateway.errors import InvalidRequest
from ...gateway.model import Data, Extra, File, Message, Part, Text, Translated
from ...gateway.readable import UNREADABLE
from .losses import Loss, Unread, phrases
from .wire import JSON_TYPE, TEXT_TYPE, Json

BINARY_TYPE = "application/octet-stream"
URI_LIST = "text/uri-list"
# What a question carries besides its words, as parts of these names: the answer's schema, an address to open.
SCHEMA, SCHEMA_TYPE = "schema", "application/schema+json"
ADDRESS = "url"
_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?")
# What the Python SDK writes out though it means nothing.
_MEANINGLESS: Mapping[str, Any] = {
    "name": None,
    "content_encoding": "plain",
    "content_url": None,
    "metadata": None,
}


def wrong(where: str, problem: str) -> InvalidRequest:
    """The complaint about a field: ``input[0].role: …``."""
    return InvalidRequest(f"{where}: {problem}", data={"field": where})


# --- parts -----------------------------------------------------------------------------------


def part(raw: Any, where: str = "part") -> Part:
    """The canonical form of an ACP message part. ``where`` names it in complaints (InvalidRequest)."""
    if not isinstance(raw, dict):
        raise wrong(where, "expected an object")
    fields = cast(Json, raw)
    if (text := _plain_text(fields)) is not None:
        return text
    for name in ("name", "content_type", "content", "content_url"):
        if not isinstance(fields.get(name), str | None):
            raise wrong(f"{where}.{name}", "expected a string")
    if not isinstance(fields.get("metadata"), dict | None):
        raise wrong(f"{where}.metadata", "expected an object")
    if fields.get("content_encoding") not in (None, "plain", "base64"):
        raise wrong(f"{where}.content_encoding", "expected plain or base64")
    if fields.get("content") is not None and fields.get("content_url") is not None:
        raise wrong(where, "only one of content and content_url can be given")
    bare = _bare(fields, where)
    kept = _kept(fields, _plain(bare))
    return msgspec.structs.replace(bare, extra={"acp": kept}) if kept else bare


_PLAIN: Extra = {"acp": {"fields": {"content_encoding": "plain"}, "absent": []}}


def _plain_text(fields: Json) -> Text | None:
    """What most parts are, found in a fraction of the time: plain text and nothing else."""
    content: Any = fields.get("content")
    if fields.get("content_type") != TEXT_TYPE or not isinstance(content, str):
        return None
    if len(fields) == 2:
        return Text(text=content)
    encoding = fields.get("content_encoding")
    if encoding == "plain" and len(fields) == 3:
        return Text(text=content, extra=_PLAIN)
    if encoding not in (None, "plain"):
        return None
    kept = dict(fields)
    del kept["content_type"], kept["content"]
    for name in ("name", "content_url", "metadata"):
        if kept.get(name) is not None:
            return None
    return Text(text=content, extra={"acp": {"fields": kept, "absent": []}})


def _bare(fields: Json, where: str) -> Part:
    content: str | None = fields.get("content")
    url: str | None = fields.get("content_url")
    media_type: str | None = fields.get("content_type")
    name: str | None = fields.get("name")
    metadata: Json | None = fields.get("metadata")
    if url is not None:
        return File(uri=url, media_type=media_type, name=name, metadata=metadata)
    if content is not None and fields.get("content_encoding") == "base64":
        data = _unbase64(content, f"{where}.content")
        return File(content=data, media_type=media_type, name=name, metadata=metadata)
    if content is not None and _is_json(media_type):
        kind = None if media_type == JSON_TYPE else media_type
        try:
            return Data(data=msgspec.json.decode(content), media_type=kind, name=name, metadata=metadata)
        except UNREADABLE:
            pass  # not JSON after all: it stays the text that it is
    kind = None if media_type == TEXT_TYPE else media_type
    return Text(text=content or "", media_type=kind, name=name, metadata=metadata)


def part_json(part: Part) -> Json:
    """The ACP form of a canonical part; what came from ACP comes out as it was."""
    if isinstance(part, Text) and is_bare(part):
        return {"content_type": TEXT_TYPE, "content": part.text}
    return _restored(_plain(part), part.extra)


def is_bare(text: Text) -> bool:
    """Whether it is plain text and nothing else."""
    return text.media_type is None and text.name is None and text.metadata is None and not text.extra


def _plain(part: Part) -> Json:
    match part:
        case Text(text=text):
            raw: Json = {"content_type": part.media_type or TEXT_TYPE, "content": text}
        case Data(data=data):
            raw = {"content_type": part.media_type or JSON_TYPE, "content": _json_text(data)}
        case File(uri=str() as uri) if not absolute(uri):  # content_url must be a whole URL
            raw = {"content_type": URI_LIST, "content": uri}
        case File(uri=str() as uri):
            raw = {"content_type": part.media_type or BINARY_TYPE, "content_url": uri}
        case File(content=content):
            encoded = base64.b64encode(content or b"").decode()
            raw = {
                "content_type": part.media_type or BINARY_TYPE,
                "content_encoding": "base64",
                "content": encoded,
            }
    if part.name is not None:
        raw["name"] = part.name
    if part.metadata is not None and _fits(part.metadata):
        raw["metadata"] = part.metadata
    return raw


def bare_text(raw: Any) -> Text | None:
    """What ``compact`` makes of a part that is plain text and says nothing else; None for any other part."""
    if not isinstance(raw, dict):
        return None
    text: Any = None
    for name, value in cast(Json, raw).items():
        if name == "content":
            text = value
        elif value != (TEXT_TYPE if name == "content_type" else _MEANINGLESS.get(name, raw)):
            return None
    return Text(text=text) if isinstance(text, str) and "content_type" in raw else None


def compact(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts without fields that carry no meaning, so that pieces of streamed text join to one.

    Gives up the identity: for content that goes on to another protocol.
    """
    return tuple(_without_noise(p) for p in parts)


def _without_noise(part: Part) -> Part:
    kept = part.extra.get("acp")
    if not kept or "fields" not in kept:
        return part
    noise = _MEANINGLESS if isinstance(part, Text) else {**_MEANINGLESS, "content": None}
    fields = {k: v for k, v in kept["fields"].items() if k not in noise or v != noise[k]}
    extra: Extra = {"acp": {"fields": fields, "absent": []}} if fields else {}
    return msgspec.structs.replace(part, extra=extra)


def is_trajectory(part: Part) -> bool:
    """Whether a part only tells how the agent got where it is (TrajectoryMetadata without content)."""
    empty = isinstance(part, Text) and not part.text
    return empty and part.metadata is not None and part.metadata.get("kind") == "trajectory"


def losses(parts: Sequence[Part]) -> tuple[Loss, ...]:
    """What ACP has no place for in these parts."""
    found: set[Loss] = set()
    for p in parts:
        if isinstance(p, Text) and is_bare(p):
            continue
        if p.metadata is not None and not _fits(p.metadata):
            found.add(Loss.PART_METADATA)
        if foreign(p.extra):
            found.add(Loss.PART_FIELDS)
        if isinstance(p, File) and p.uri is not None and not absolute(p.uri):
            found.add(Loss.RELATIVE_LINK)
        elif p.media_type is not None and type(_bare(_plain(p), "")) is not type(p):
            found.add(Loss.PART_KIND)
    return tuple(sorted(found)) if found else ()


def foreign(extra: Extra) -> bool:
    """Whether there are fields that only another protocol has."""
    if not extra:
        return False
    return bool([p for p, fields in extra.items() if fields and p not in ("acp", "gateway")])


# --- messages --------------------------------------------------------------------------------


def message(raw: Any, where: str = "message") -> Message:
    """The canonical form of an ACP message. Raises InvalidRequest naming the field."""
    if not isinstance(raw, dict):
        raise wrong(where, "expected an object")
    fields = cast(Json, raw)
    role = fields.get("role", "user")
    if not isinstance(role, str) or role.partition("/")[0] not in ("user", "agent"):
        raise wrong(f"{where}.role", "expected user, agent or agent/{name}")
    raw_parts = fields.get("parts")
    if not isinstance(raw_parts, list):
        raise wrong(f"{where}.parts", "expected a list")
    items = cast(list[Any], raw_parts)
    parts = tuple(part(p, f"{where}.parts[{i}]") for i, p in enumerate(items))
    speaker, _, author = role.partition("/")
    bare = Message(role="agent" if speaker == "agent" else "user", parts=parts, author=author or None)
    if len(fields) == 2 and role_of(bare) == fields.get("role"):
        return bare
    head = {k: v for k, v in fields.items() if k != "parts"}
    kept = _kept(head, {"role": role_of(bare)})
    return msgspec.structs.replace(bare, extra={"acp": kept}) if kept else bare


def plain_answer(raw: Any) -> Message | None:
    """What ``message``, with its parts made ``compact``, makes of an agent's message that is one plain text;
    None for any other."""
    if not isinstance(raw, dict):
        return None
    fields = cast(Json, raw)
    role, parts = fields.get("role"), fields.get("parts")
    if not isinstance(role, str) or not isinstance(parts, list) or len(cast(list[Any], parts)) != 1:
        return None
    speaker, _, author = role.partition("/")
    text = bare_text(parts[0])
    if speaker != "agent" or text is None or role_by(author or None) != role:
        return None
    if len(fields) == 2:
        return Message(role="agent", parts=(text,), author=author or None)
    kept = {name: value for name, value in fields.items() if name != "parts" and name != "role"}
    extra: Extra = {"acp": {"fields": kept, "absent": []}}
    return Message(role="agent", parts=(text,), author=author or None, extra=extra)


def said(raw: Any, where: str) -> Message:
    """The same for a client's message, which must be what any server takes: its times are times, links are
    whole, metadata of parts is one of ACP's two kinds."""
    read = message(raw, where)
    for i, p in enumerate(read.parts):
        if isinstance(p, File) and p.uri is not None and not absolute(p.uri):
            raise wrong(f"{where}.parts[{i}].content_url", "expected a whole URL")
        if p.metadata is not None and not _fits(p.metadata):
            raise wrong(f"{where}.parts[{i}].metadata", "expected a citation or a trajectory")
    for name in ("created_at", "completed_at"):
        at = raw.get(name)
        if at is not None and not (isinstance(at, str) and _TIME.fullmatch(at)):
            raise wrong(f"{where}.{name}", "expected a time as RFC 3339 writes it")
    return read


def message_json(message: Message) -> Json:
    """The ACP form of a canonical message."""
    raw = _restored({"role": role_of(message)}, message.extra)
    raw["parts"] = [part_json(p) for p in message.parts]
    return raw


def role_of(message: Message, agent: str | None = None) -> str:
    """``user``, ``agent`` or ``agent/{author}``; ``agent`` is the author where the message names none."""
    return "user" if message.role == "user" else role_by(message.author or agent)


def role_by(author: str | None) -> str:
    """The role of what ``author`` says."""
    if author is None:
        return "agent"
    return _known_role(author) if len(author) <= 64 else _role(author)


def _role(author: str) -> str:
    return f"agent/{_UNFIT.sub('_', author)}" if author else "agent"


_known_role = lru_cache(1024)(_role)


def input_message(raw: Sequence[Any]) -> Translated[Message]:
    """A run's input as one message: all parts of the user's messages in order (if there are none: all parts).

    The list itself is kept in ``extra["acp"]["input"]`` unless the message alone gives it back.
    """
    if not raw:
        raise wrong("input", "expected at least one message")
    if len(raw) == 1 and (text := _sole_text(raw[0])) is not None:
        return Translated(value=Message(role="user", parts=(text,)))
    messages = [said(m, f"input[{i}]") for i, m in enumerate(raw)]
    if len(messages) == 1 and messages[0].role == "user":
        return Translated(value=messages[0])
    users = [m for m in messages if m.role == "user"]
    parts = tuple(p for m in users or messages for p in m.parts)
    lost = () if not users or len(users) == len(messages) else phrases((Unread.AGENT_MESSAGES,))
    whole = Message(role="user", parts=parts, extra={"acp": {"input": list(raw)}})
    return Translated(value=whole, losses=lost)


def _sole_text(raw: Any) -> Text | None:
    """The one plain text that a user's message is, where it is nothing else, as most are."""
    if not isinstance(raw, dict) or len(cast(Json, raw)) != 2 or cast(Json, raw).get("role") != "user":
        return None
    parts: Any = cast(Json, raw).get("parts")
    if not isinstance(parts, list) or len(cast(list[Any], parts)) != 1 or not isinstance(parts[0], dict):
        return None
    return _plain_text(cast(Json, parts[0]))


def input_json(message: Message) -> Translated[list[Json]]:
    """A canonical message as a run's input."""
    said = message.parts
    if len(said) == 1 and isinstance(part := said[0], Text) and not message.extra and is_bare(part):  # most
        parts = [{"content_type": TEXT_TYPE, "content": part.text}]
        losses = phrases(_own_losses(message))
        return Translated(value=[{"role": role_of(message), "parts": parts}], losses=losses)
    kept = message.extra.get("acp", {}).get("input")
    raw = list(kept) if kept else [message_json(message)]
    return Translated(value=raw, losses=phrases(message_losses(message)))


def message_losses(message: Message) -> set[Loss]:
    """What ACP has no place for in a message and its parts."""
    return _own_losses(message).union(losses(message.parts))


def _own_losses(message: Message) -> set[Loss]:
    found: set[Loss] = set()
    if message.message_id is not None:
        found.add(Loss.MESSAGE_ID)
    if message.metadata:
        found.add(Loss.MESSAGE_METADATA)
    if message.extra and foreign(message.extra):
        found.add(Loss.MESSAGE_FIELDS)
    return found


# --- pieces ----------------------------------------------------------------------------------


def _kept(original: Json, derived: Json) -> Json | None:
    fields = {k: v for k, v in original.items() if k not in derived or derived[k] != v}
    absent = [k for k in derived if k not in original]
    return {"fields": fields, "absent": absent} if fields or absent else None


def _restored(derived: Json, extra: Extra) -> Json:
    kept = extra.get("acp")
    if not kept or "fields" not in kept:
        return derived
    for name in kept["absent"]:
        derived.pop(name, None)
    return derived | kept["fields"]


def _is_json(media_type: str | None) -> bool:
    if media_type is None:
        return False
    main = media_type.partition(";")[0].strip().lower()
    return main == JSON_TYPE or main.endswith("+json")


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def absolute(uri: str) -> bool:
    """Whether a URI is whole, with a scheme."""
    try:
        return bool(urlsplit(uri).scheme)
    except ValueError:
        return False


def _unbase64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise wrong(where, "not valid base64") from None


def _fits(metadata: Mapping[str, Any]) -> bool:
    """Whether metadata is one of ACP's two kinds (MessagePart.metadata); clients refuse any other."""

    def typed(kind: type, *names: str) -> bool:
        return all(isinstance(metadata.get(n), kind | None) for n in names)

    def whole(*names: str) -> bool:
        values = [metadata.get(n) for n in names]
        return all(v is None or (isinstance(v, int | float) and v == v // 1) for v in values) and not any(
            isinstance(v, bool) for v in values
        )

    match metadata.get("kind"):
        case "citation":
            return whole("start_index", "end_index") and typed(str, "url", "title", "description")
        case "trajectory":
            return typed(str, "message", "tool_name") and typed(dict, "tool_input", "tool_output")
        case _:
            return False
