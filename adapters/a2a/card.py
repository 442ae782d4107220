"""Agent cards: reading them (1.0 and 0.3), choosing an interface, writing the gateway's own. Pure.

Which card a reader gets. 1.0 readers (and the conformance suite) want no 0.3 fields, but the 0.3 SDKs know
only those (``url``, ``preferredTransport``, ``additionalInterfaces``), and both ask for the same path; only
the JavaScript SDK 1.x names its version. So:

- ``A2A-Version: 1.0``: 1.0's fields alone; ``A2A-Version: 0.3`` or the path ``agent.json``: 0.3's alone;
- no version: both, as the official server SDK does where 0.3 is served, which every SDK reads; but an agent
  whose own card speaks of 1.0 only is shown as such.

``supportedInterfaces`` always lists 1.0 first, then 0.3: readers take the first or the 1.0 one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ...gateway.config import Server
from ...gateway.model import Agent, Extra, Skill
from .codec import Malformed, list_at, object_at, objects_at, text_at
from .wire import V03, V10, Binding, Json, Version, version_of

_SERVED: Sequence[tuple[Version, Binding]] = (
    (V10, "JSONRPC"),
    (V10, "HTTP+JSON"),
    (V03, "JSONRPC"),
    (V03, "HTTP+JSON"),
)
_PREFERENCE: Sequence[tuple[Version, Binding]] = (*_SERVED, (V10, "GRPC"))
TEXT_MODES = ("text/plain", "application/json")


class Interface(msgspec.Struct, frozen=True):
    """A way to an agent: where, in which binding and revision, as which tenant."""

    url: str
    binding: Binding
    version: Version
    tenant: str = ""


# --- reading -----------------------------------------------------------------------------------


def interfaces(card: Json) -> list[Interface]:
    """The interfaces of a card that the gateway can use, best first. 0.3: ``url`` with
    ``preferredTransport`` (JSONRPC unless given), then ``additionalInterfaces``."""
    found: list[Interface] = []
    for entry in objects_at(card, "supportedInterfaces"):
        found += _interface(entry, "protocolBinding", text_at(entry, "protocolVersion") or V10)
    if not found and (url := text_at(card, "url")):
        version = text_at(card, "protocolVersion") or V03
        version = version if version_of(version) == V10 else V03  # 0.2 was close enough to try
        found += _interface({"url": url, "transport": card.get("preferredTransport")}, "transport", version)
        for entry in objects_at(card, "additionalInterfaces"):
            found += _interface(entry, "transport", version)
    order = {pair: n for n, pair in enumerate(_PREFERENCE)}
    unique: dict[tuple[str, str, str], Interface] = {}
    for i in found:
        unique.setdefault((i.url, i.binding, i.version), i)
    return sorted(unique.values(), key=lambda i: order[i.version, i.binding])


def _interface(entry: Json, key: str, version: str) -> list[Interface]:
    url = text_at(entry, "url")
    binding = (text_at(entry, key) or "JSONRPC").upper()
    revision = version_of(version)
    way = next((way for way in _PREFERENCE if way == (revision, binding)), None)
    if not url or way is None:
        return []
    return [Interface(url, way[1], way[0], text_at(entry, "tenant") or "")]


def agent_from(card: Json) -> Agent:
    """What a card says. Raises Malformed for what is no card."""
    name = text_at(card, "name")
    if not name or not isinstance(card.get("skills", []), list):
        raise Malformed("an agent card needs a name and skills")
    return Agent(
        name=name,
        description=text_at(card, "description") or "",
        skills=tuple(_skill(s) for s in objects_at(card, "skills")),
        version=text_at(card, "version"),
        input_modes=_strings(card, "defaultInputModes"),
        output_modes=_strings(card, "defaultOutputModes"),
        extra={"a2a": {"raw": dict(card)}},
    )


def _skill(wire: Any) -> Skill:
    skill_id = text_at(wire, "id") or text_at(wire, "name") or ""
    return Skill(
        id=skill_id,
        name=text_at(wire, "name") or skill_id,
        description=text_at(wire, "description") or "",
        tags=_strings(wire, "tags"),
        examples=_strings(wire, "examples"),
        input_modes=_strings(wire, "inputModes"),
        output_modes=_strings(wire, "outputModes"),
        extra={"a2a": dict(wire)},
    )


def _strings(wire: Json, key: str) -> tuple[str, ...]:
    return tuple(x for x in list_at(wire, key) if isinstance(x, str))


def raw_card(extra: Extra) -> dict[str, Any] | None:
    """An agent's own card, where it is an A2A agent."""
    raw = extra.get("a2a", {}).get("raw")
    return dict(raw) if isinstance(raw, dict) else None  # pyright: ignore[reportUnknownArgumentType]


def speaks_only_10(card: Json) -> bool:
    """Whether a card says nothing of 0.3."""
    return "url" not in card and all(
        version_of(text_at(i, "protocolVersion") or V10) == V10
        for i in objects_at(card, "supportedInterfaces")
    )


# --- writing -----------------------------------------------------------------------------------


def fresh_card(name: str, description: str, agent: Agent | None) -> dict[str, Any]:
    """A 1.0 card (but for its interfaces) of an agent that has none of its own. A tool's input schema
    stands in its description, where people and models see it: A2A has no field for it."""
    skills = agent.skills if agent else ()
    return {
        "name": name,
        "description": description or name,
        "version": (agent.version if agent else None) or "0",
        "capabilities": {"streaming": True, "pushNotifications": True, "extendedAgentCard": False},
        "defaultInputModes": list((agent.input_modes if agent else ()) or TEXT_MODES),
        "defaultOutputModes": list((agent.output_modes if agent else ()) or TEXT_MODES),
        "skills": [skill_to(s) for s in skills] or [_default_skill(name, description)],
    }


def _default_skill(name: str, description: str) -> dict[str, Any]:
    """A card needs at least one skill."""
    return {"id": name, "name": name, "description": description or name, "tags": ["agent"]}


def skill_to(skill: Skill) -> dict[str, Any]:
    description = skill.description or skill.name
    if skill.input_schema is not None:
        schema = msgspec.json.encode(skill.input_schema).decode()
        description += (
            f'\n\nCall with a data part {{"tool": "{skill.id}", "arguments": …}}; arguments: {schema}'
        )
    wire: dict[str, Any] = {
        "id": skill.id,
        "name": skill.name,
        "description": description,
        "tags": list(skill.tags) or ["tool" if skill.input_schema is not None else "skill"],
    }
    lists = {"examples": skill.examples, "inputModes": skill.input_modes, "outputModes": skill.output_modes}
    return wire | {k: list(x) for k, x in lists.items() if x}


def relayed_card(card: Json, name: str, description: str) -> dict[str, Any]:
    """An A2A agent's own card as the gateway shows it, in 1.0's form (but for its interfaces). Its signatures
    do not hold for other URLs, and its credentials are the gateway's business, not the client's."""
    made = {k: x for k, x in card.items() if k not in _CONNECTION}
    made["name"] = text_at(card, "name") or name
    made["description"] = description or text_at(card, "description") or name
    capabilities = dict(object_at(card, "capabilities") or {})
    capabilities.pop("stateTransitionHistory", None)
    if card.get("supportsAuthenticatedExtendedCard") is True:
        capabilities["extendedAgentCard"] = True
    capabilities["pushNotifications"] = True  # the gateway's own work, whatever the agent can do
    made["capabilities"] = capabilities
    made["skills"] = [
        {k: x for k, x in s.items() if k not in ("security", "securityRequirements")}
        for s in objects_at(card, "skills")
    ]
    return made


_CONNECTION = frozenset(
    {
        "url", "preferredTransport", "additionalInterfaces", "protocolVersion", "supportedInterfaces",
        "signatures", "security", "securitySchemes", "securityRequirements",
        "supportsAuthenticatedExtendedCard",
    }
)  # fmt: skip


def with_interfaces(card: Json, url: str, grpc: Json | None = None) -> dict[str, Any]:
    """The 1.0 card at ``url`` (which ends in a slash; REST clients append to it without one), and at
    ``grpc`` if that is served."""
    rest = url.rstrip("/")
    served: list[Json] = [
        {"url": url if b == "JSONRPC" else rest, "protocolBinding": b, "protocolVersion": v}
        for v, b in _SERVED
    ]
    return {**card, "supportedInterfaces": [*served, grpc] if grpc else served}


def grpc_interface(server: Server, base_url: str, agent: str = "") -> Json | None:
    """The gateway's gRPC port as an interface of ``agent`` (its tenant; "": the gateway's own agent); None
    where there is none. ``base_url``: how the reader reaches the gateway over HTTP."""
    if not server.grpc_port:
        return None
    host = urlsplit(base_url).hostname or ""
    host = f"[{host}]" if ":" in host else host
    url = server.grpc_url or f"{host}:{server.grpc_port}"
    found = {"url": url, "protocolBinding": "GRPC", "protocolVersion": V10}
    return {**found, "tenant": agent} if agent else found


def with_schemes(card: Json, schemes: Mapping[str, str]) -> dict[str, Any]:
    """The 1.0 card that states how callers show who they are (``Access.schemes``); itself where they need
    not."""
    if not schemes:
        return dict(card)
    stated: dict[str, Any] = {}
    if "bearer" in schemes:
        stated["bearer"] = {"httpAuthSecurityScheme": {"scheme": "Bearer", "description": _BEARER}}
    if url := schemes.get("openid"):
        stated["openid"] = {"openIdConnectSecurityScheme": {"openIdConnectUrl": url}}
    return {
        **card,
        "securitySchemes": stated,
        "securityRequirements": [{"schemes": {name: {"list": []}}} for name in stated],
    }


_BEARER = "A key of this gateway"


def as_v03(card: Json, url: str) -> dict[str, Any]:
    """The 0.3 card of a 1.0 card."""
    capabilities = dict(object_at(card, "capabilities") or {})
    extended = capabilities.pop("extendedAgentCard", False) is True
    kept = {k: x for k, x in card.items() if k not in ("supportedInterfaces", "securityRequirements")}
    schemes = {n: _scheme_v03(s) for n, s in (object_at(card, "securitySchemes") or {}).items()}
    stated = {"securitySchemes": schemes} if schemes else {}
    return {
        **kept, "capabilities": capabilities, **_fields_v03(url, extended), **stated, **_security_v03(schemes)
    }  # fmt: skip


def hybrid(card: Json, url: str) -> dict[str, Any]:
    """The 1.0 card with 0.3's fields beside its own."""
    capabilities = object_at(card, "capabilities") or {}
    schemes = {n: {**s, **_scheme_v03(s)} for n, s in (object_at(card, "securitySchemes") or {}).items()}
    stated = {"securitySchemes": schemes} if schemes else {}
    fields = _fields_v03(url, capabilities.get("extendedAgentCard") is True)
    return {**card, **fields, **stated, **_security_v03(schemes)}


def _scheme_v03(scheme: Json) -> dict[str, Any]:
    """A scheme in 0.3's form, which tells kinds apart by ``type`` where 1.0 has a member for each."""
    kind, fields = next(iter(scheme.items()))
    return {"type": _KINDS_V03[kind], **fields}


_KINDS_V03 = {"httpAuthSecurityScheme": "http", "openIdConnectSecurityScheme": "openIdConnect"}


def _security_v03(schemes: Json) -> dict[str, Any]:
    """One of the schemes is enough."""
    return {"security": [{name: []} for name in schemes]} if schemes else {}


def _fields_v03(url: str, extended: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "protocolVersion": "0.3.0",
        "url": url,
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [
            {"url": url, "transport": "JSONRPC"},
            {"url": url.rstrip("/"), "transport": "HTTP+JSON"},
        ],
    }
    if extended:
        fields["supportsAuthenticatedExtendedCard"] = True
    return fields


_CARD_TAIL = re.compile(r"/\.well-known/agent(-card)?\.json$")


def base_of(url: str) -> str:
    """The base of a registered URL, without a final slash; the URL may be the card's own."""
    return _CARD_TAIL.sub("", url.partition("?")[0]).rstrip("/")
