"""A conversational agent as an MCP tool, pure: its definition, and what a call's arguments mean."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from ....gateway.model import Agent, Data, File, Message, Part, Skill, Text
from ....gateway.ports import AgentView

SKILLS_LISTED = 40  # a model reads every description before it chooses
_LINE = 300

_FILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "File name."},
        "media_type": {"type": "string", "description": "For example image/png."},
        "data": {"type": "string", "description": "The file's bytes as base64."},
        "uri": {"type": "string", "description": "Where the agent can fetch it, instead of data."},
    },
    "oneOf": [{"required": ["data"]}, {"required": ["uri"]}],
}

OUTPUT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "state": {
            "type": "string",
            "description": "completed, failed, rejected, canceled, input_required, auth_required or working.",
        },
        "task_id": {"type": "string"},
        "context_id": {"type": "string", "description": "Pass it again to go on with this conversation."},
        "data": {"description": "Structured data of the answer; null where there is none."},
        "artifacts": {"type": "array", "items": {"type": "object"}},
        "input_request": {"type": "object", "description": "The question, when the agent asks for input."},
        "error": {"type": "object"},
    },
    "required": ["state", "task_id", "context_id"],
}

_PROPERTIES: dict[str, Any] = {
    "message": {"type": "string", "description": "What to say to the agent."},
    "data": {"description": "Structured input for the agent: any JSON value."},
    "files": {"type": "array", "items": _FILE_SCHEMA, "description": "Files for the agent."},
    "context_id": {
        "type": "string",
        "description": "Goes on with an earlier conversation: the context_id of its results.",
    },
    "task_id": {
        "type": "string",
        "description": "Answers the question of a task in state input_required, "
        "or comes back for the result of one that was still working.",
    },
    "skill": {"type": "string", "description": "The skill to use; by default the agent chooses."},
}


class BadArguments(Exception):
    """A call's arguments do not fit; the message says what to change."""


class Turn(msgspec.Struct, frozen=True):
    """What a call's arguments ask for."""

    message: Message
    context_id: str | None = None
    task_id: str | None = None
    skill: str | None = None

    @property
    def empty(self) -> bool:
        """Whether it says nothing: the caller only comes back for a result."""
        return all(isinstance(part, Text) and not part.text for part in self.message.parts)


def definition(name: str, view: AgentView) -> dict[str, Any]:
    """The entry in ``tools/list``."""
    agent = view.agent
    skills = agent.skills if agent is not None else ()
    tool: dict[str, Any] = {"name": name}
    if agent is not None and agent.name != view.name:
        tool["title"] = agent.name
    return {
        **tool,
        "description": _description(view, agent, skills),
        "inputSchema": _input_schema(skills),
        "outputSchema": OUTPUT_SCHEMA,
        "annotations": {"openWorldHint": True},
    }


def _input_schema(skills: Sequence[Skill]) -> dict[str, Any]:
    properties = dict(_PROPERTIES)
    if skills:
        properties["skill"] = {**_PROPERTIES["skill"], "enum": [skill.id for skill in skills]}
    return {
        "type": "object",
        "properties": properties,
        "required": ["message"],
        "additionalProperties": False,
    }


def _description(view: AgentView, agent: Agent | None, skills: Sequence[Skill]) -> str:
    """The agent's words and its skills, so that a model can choose between agents."""
    words = view.description.strip() or f"Sends a message to the agent {view.name} and returns its answer."
    if not skills:
        return words
    lines = [_skill_line(skill) for skill in skills[:SKILLS_LISTED]]
    if len(skills) > SKILLS_LISTED:
        lines.append(f"… and {len(skills) - SKILLS_LISTED} more")
    return "\n".join([words, "", "Skills:", *lines])


def _skill_line(skill: Skill) -> str:
    name = f" ({skill.name})" if skill.name and skill.name != skill.id else ""
    about = f": {' '.join(skill.description.split())}" if skill.description else ""
    example = f' For example: "{skill.examples[0]}"' if skill.examples else ""
    line = f"- {skill.id}{name}{about}{example}"
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


def parse(arguments: Mapping[str, Any]) -> Turn:
    """The turn that ``arguments`` ask for; null stands for absent, as many hosts send it. Raises
    BadArguments."""
    if len(arguments) == 1 and (said := arguments.get("message")) and isinstance(said, str):  # most
        return Turn(message=Message(role="user", parts=(Text(text=said),)))
    given = {key: value for key, value in arguments.items() if value is not None}
    if unknown := sorted(given.keys() - _PROPERTIES.keys()):
        raise BadArguments(f"unknown argument: {unknown[0]}; there are {', '.join(_PROPERTIES)}")
    text = _string(given, "message")
    if text is None:
        raise BadArguments("message is required: a string")
    parts: list[Part] = [Text(text=text)] if text else []
    if "data" in given:
        parts.append(Data(data=given["data"]))
    parts += _files(given.get("files", []))
    return Turn(
        message=Message(role="user", parts=tuple(parts) or (Text(text=""),)),
        context_id=_string(given, "context_id") or None,
        task_id=_string(given, "task_id") or None,
        skill=_string(given, "skill") or None,
    )


def _string(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise BadArguments(f"{key} must be a string")
    return value


def _files(value: Any) -> list[File]:
    if not isinstance(value, list):
        raise BadArguments("files must be an array")
    return [_file(item, f"files[{i}]") for i, item in enumerate(cast("list[Any]", value))]


def _file(value: Any, where: str) -> File:
    if not isinstance(value, dict):
        raise BadArguments(f"{where} must be an object")
    item = {k: v for k, v in cast("dict[str, Any]", value).items() if v is not None}
    for key in ("name", "media_type", "data", "uri"):
        if not isinstance(item.get(key, ""), str):
            raise BadArguments(f"{where}.{key} must be a string")
    if ("data" in item) == ("uri" in item):
        raise BadArguments(f"{where} needs data (base64) or uri, and not both")
    try:
        content = base64.b64decode(item["data"], validate=True) if "data" in item else None
    except (binascii.Error, ValueError):
        raise BadArguments(f"{where}.data is not base64") from None
    return File(
        content=content, uri=item.get("uri"), media_type=item.get("media_type"), name=item.get("name")
    )
