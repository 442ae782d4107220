"""The bytes of an agent card that a signature is about (specification 1.0.1, section 8.4.1; RFC 8785). Pure.

The specification signs the canonical JSON of a card as its protobuf definition sees it: without unset fields,
defaults and ``signatures``. Practice is not of one mind: the official SDK drops everything empty, required or
not; its releases before 1.3 escape what is not ASCII; those of 0.3 sign 0.3's fields; others sign the JSON as
it is. So a card has several forms: the gateway signs those that its readers look for, and accepts all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

from .codec import Malformed, object_at, objects_at
from .schema import Field, schema
from .wire import Json

MOST_NESTED = 100
_EMPTY: Mapping[str, Any] = {"string": "", "bytes": "", "bool": False}
_V03_FIELDS = (
    "url", "preferredTransport", "additionalInterfaces", "protocolVersion", "security", "securitySchemes",
    "supportsAuthenticatedExtendedCard",
)  # fmt: skip
_V03_DEFAULTS = {"protocolVersion": "0.3.0", "preferredTransport": "JSONRPC"}
_ESCAPED = re.compile(r'[\x00-\x1f"\\]')
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


# --- RFC 8785 ----------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """``value`` (JSON) in RFC 8785's form. Raises Malformed where it has none: too deep, or not Unicode."""
    try:
        return "".join(_written(value, 1)).encode()
    except UnicodeEncodeError as e:
        raise Malformed("text that is not valid Unicode") from e


def _written(value: Any, depth: int) -> Iterable[str]:
    match value:
        case dict() | list() if depth > MOST_NESTED:
            raise Malformed("nested too deeply")
        case dict():
            items = cast("dict[str, Any]", value).items()
            comma = "{"
            for key, x in sorted(items, key=lambda item: item[0].encode("utf-16-be", "surrogatepass")):
                yield f"{comma}{_text(key)}:"
                yield from _written(x, depth + 1)
                comma = ","
            yield "}" if comma == "," else "{}"
        case list():
            comma = "["
            for x in cast("list[Any]", value):
                yield comma
                yield from _written(x, depth + 1)
                comma = ","
            yield "]" if comma == "," else "[]"
        case str():
            yield _text(value)
        case bool() | None:
            yield json.dumps(value)
        case _:
            yield number(value)


def _text(value: str) -> str:
    return '"' + _ESCAPED.sub(lambda c: _SHORT.get(c[0]) or f"\\u{ord(c[0]):04x}", value) + '"'


def number(value: float) -> str:
    """A number as ECMAScript writes it (ECMA-262, Number::toString). Raises Malformed for an infinite one."""
    try:
        value = float(value)
        sign, digits, exponent = Decimal(repr(value)).as_tuple()
    except (OverflowError, ValueError) as e:
        raise Malformed("a number that JSON can't hold") from e
    if value == 0:
        return "0"
    if not isinstance(exponent, int):
        raise Malformed("a number that JSON can't hold")
    text = "".join(map(str, digits)).rstrip("0")
    point = len(digits) + exponent  # how many digits stand before the point
    if 0 < point <= 21:
        made = text.ljust(point, "0")
        made = made[:point] + ("." + made[point:] if made[point:] else "")
    elif -6 < point <= 0:
        made = "0." + "0" * -point + text
    else:
        made = text[0] + ("." + text[1:] if text[1:] else "") + f"e{point - 1:+d}"
    return "-" * sign + made


# --- a card as its definition sees it ------------------------------------------------------------


def defined(wire: Json, message: str = "AgentCard", *, required: bool = False) -> dict[str, Any]:
    """The fields that the definition knows, but for unset ones and defaults. ``required``: keep the required
    ones that are there, empty or not."""
    made: dict[str, Any] = {}
    for field in schema().messages[message]:
        value = wire.get(field.json, wire.get(field.name))
        if value is None:
            continue
        value = _defined(field, value, required)
        present = field.optional or field.oneof or (required and field.required)
        plain = field.repeated or field.map or field.type in _EMPTY
        if present or not plain or value not in (_EMPTY.get(field.type), [], {}):
            made[field.json] = value
    return made


def _defined(field: Field, value: Any, required: bool) -> Any:
    if field.type not in schema().messages:
        return value
    if field.map and isinstance(value, dict):
        entries = cast("dict[str, Any]", value).items()
        return {key: _message(field.type, x, required) for key, x in entries}
    if field.repeated and isinstance(value, list):
        return [_message(field.type, x, required) for x in cast("list[Any]", value)]
    return _message(field.type, value, required)


def _message(message: str, value: Any, required: bool) -> Any:
    return defined(cast("Json", value), message, required=required) if isinstance(value, dict) else value


def cleaned(value: Any) -> Any:
    """``value`` without empty texts, lists, objects and nulls at any depth, as the SDKs make it; None: empty
    itself."""
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value).items()
        return {key: kept for key, x in entries if (kept := cleaned(x)) is not None} or None
    if isinstance(value, list):
        return [kept for x in cast("list[Any]", value) if (kept := cleaned(x)) is not None] or None
    return None if value == "" else value


# --- forms -------------------------------------------------------------------------------------


def forms(card: Json) -> list[bytes]:
    """The payloads that the official SDKs look for when they read ``card``: what to sign. The first is the
    specification's, as long as no required field is empty. Raises Malformed."""
    bare = {k: x for k, x in card.items() if k != "signatures"}
    views = [cleaned(defined(as_v10(bare)))]
    if "url" in bare:
        views.append(cleaned(_v03(bare)))
    return _unique(payload for view in views for payload in (canonical(view), _ascii(view)))


def accepted(card: Json) -> list[bytes]:
    """All payloads that a signature of ``card`` may be about. Raises Malformed."""
    bare = {k: x for k, x in card.items() if k != "signatures"}
    strict = defined(as_v10(bare), required=True)
    terse = cleaned({k: x for k, x in bare.items() if _V03_DEFAULTS.get(k) != x})
    others = [canonical(view) for view in (strict, bare, cleaned(bare), terse)]
    return _unique([*forms(card), *others, _ascii(terse)])


def as_v10(card: Json) -> Json:
    """A card of 0.3 (or of both revisions) as readers of 1.0 take it: ``supportedInterfaces`` wins."""
    made = dict(card)
    if card.get("supportsAuthenticatedExtendedCard"):
        made["capabilities"] = {"extendedAgentCard": True, **(object_at(card, "capabilities") or {})}
    if "supportedInterfaces" not in card and (url := card.get("url")):
        version = card.get("protocolVersion", "0.3.0")
        ways = [(url, card.get("preferredTransport", "JSONRPC"))]
        ways += [(way.get("url"), way.get("transport")) for way in objects_at(card, "additionalInterfaces")]
        made["supportedInterfaces"] = [
            {"url": url, "protocolBinding": binding, "protocolVersion": version} for url, binding in ways
        ]
    return made


def _v03(card: Json) -> dict[str, Any]:
    """What the SDKs of 0.3 see: its own fields, but for those at their default."""
    common = defined({k: x for k, x in card.items() if k != "supportedInterfaces"})
    common.get("capabilities", {}).pop("extendedAgentCard", None)
    own = {k: card[k] for k in _V03_FIELDS if k in card}
    return common | {k: x for k, x in own.items() if _V03_DEFAULTS.get(k) != x}


def _ascii(value: Any) -> bytes:
    """As the SDKs before 1.3 wrote it."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _unique(payloads: Iterable[bytes]) -> list[bytes]:
    return list(dict.fromkeys(payloads))
