"""Agents: ACP manifests to the canonical model and back. Pure."""

from __future__ import annotations

from typing import Any, cast

from ...gateway.model import Agent, Skill
from ...gateway.ports import AgentView
from .codec import wrong
from .wire import JSON_TYPE, TEXT_TYPE, Json

ANY = "*/*"


def is_manifest(raw: Any) -> bool:
    """Whether a JSON value looks like an agent's manifest (and not like some other API's "agent")."""
    if not isinstance(raw, dict):
        return False
    fields = cast(Json, raw)
    marks = ("input_content_types", "output_content_types", "metadata")
    return isinstance(fields.get("name"), str) and any(isinstance(fields.get(m), list | dict) for m in marks)


def agent(raw: Any) -> Agent:
    """The canonical form of a manifest. Its name is taken as it is, also where it breaks ACP's rule."""
    if not isinstance(raw, dict):
        raise wrong("agent", "expected an object")
    fields = cast(Json, raw)
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise wrong("agent.name", "expected a string")
    metadata = _object(fields.get("metadata"))
    capabilities = [_object(c) for c in _list(metadata.get("capabilities"))]
    description = fields.get("description")
    return Agent(
        name=name,
        description=description if isinstance(description, str) else "",
        skills=tuple(_skill(c) for c in capabilities if isinstance(c.get("name"), str)),
        input_modes=_strings(fields.get("input_content_types")),
        output_modes=_strings(fields.get("output_content_types")),
        extra={"acp": {"raw": fields}},
    )


def _skill(capability: Json) -> Skill:
    name = str(capability["name"])
    return Skill(id=name, name=name, description=str(capability.get("description") or ""))


def manifest(view: AgentView) -> Json:
    """The manifest the gateway serves. That of an ACP agent is its own but for the name."""
    described = view.agent
    raw = described.extra.get("acp", {}).get("raw") if described else None
    if raw:
        own: Json = {**raw, "name": view.name}
        if view.record.description or not own.get("description"):
            own["description"] = view.description or view.name
        own["input_content_types"] = _strings(own.get("input_content_types")) or [ANY]
        own["output_content_types"] = _strings(own.get("output_content_types")) or [ANY]
        return own if isinstance(own.get("metadata"), dict) else own | {"metadata": {}}
    conversational = described is None or described.conversational
    modes = (ANY,) if conversational else (JSON_TYPE, TEXT_TYPE)
    return {
        "name": view.name,
        "description": view.description or view.name,
        "input_content_types": list(described.input_modes if described else ()) or list(modes),
        "output_content_types": list(described.output_modes if described else ()) or [ANY],
        "metadata": _metadata(described) if described else {},
    }


def _metadata(agent: Agent) -> Json:
    """Skills are capabilities; a tool's schemas, for which ACP has no place, are annotations."""
    metadata: Json = {}
    if agent.skills:
        metadata["capabilities"] = [{"name": s.name, "description": s.description} for s in agent.skills]
    if tags := sorted({t for s in agent.skills for t in s.tags}):
        metadata["tags"] = tags
    if tools := [_tool(s) for s in agent.skills if s.input_schema is not None]:
        metadata["annotations"] = {"tools": tools}
    return metadata


def _tool(skill: Skill) -> Json:
    tool: Json = {"name": skill.id, "description": skill.description, "input_schema": skill.input_schema}
    return tool | ({"output_schema": skill.output_schema} if skill.output_schema is not None else {})


def _object(value: Any) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(v for v in _list(value) if isinstance(v, str))
