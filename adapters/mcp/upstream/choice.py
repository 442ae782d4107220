"""Which tool a message means, and with which arguments. Pure.

A structured part ``{"tool": NAME, "arguments": {…}}`` says it. Plain text will do where only one tool could
be meant: a single tool, or one named as the skill, that takes exactly one required string. With the skill
named, a structured part without ``tool`` is that tool's arguments. Anything else is answered with the list of
tools.

In arguments, ``{"$file": N}`` or ``{"$file": "name"}`` stands for the message's N-th file (from 0) or the
file of that name, and becomes its bytes in base64: so a client of another protocol hands a tool a file as its
own protocol carries files.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from ....gateway.errors import InvalidRequest
from ....gateway.model import Data, File, InputRequest, Message, Part, Text, text_of
from ..codec import sole_string
from ..losses import of_call, phrases

FILE = "$file"
# JSON has one kind of number, and clients on protobuf (A2A's Python SDK) write every one as 20.0, which many
# servers refuse for an integer. Beyond this a float is not exact.
_EXACT = 2.0**53
Tools = Sequence[Mapping[str, Any]]


class Named(dict[str, Mapping[str, Any]]):
    """Tools by their names."""

    __slots__ = ("_arguments",)

    def __init__(self, tools: Tools) -> None:
        super().__init__((str(tool.get("name")), tool) for tool in tools)
        self._arguments: dict[str, str | None] = {}

    def argument(self, name: str) -> str | None:
        """The one argument of a tool that a text alone can be."""
        if name not in self._arguments:
            schema = cast("Mapping[str, Any]", self[name].get("inputSchema") or {})
            self._arguments[name] = sole_string(schema)
        return self._arguments[name]


class Chosen(msgspec.Struct, frozen=True):
    """The tool to call. ``losses``: what of the message the call does not carry."""

    name: str
    arguments: dict[str, Any]
    losses: tuple[str, ...] = ()


def choose(message: Message, skill: str | None, named: Named) -> Chosen | InputRequest:
    """The call of one of the tools that ``message`` asks for, or the question to put instead. Raises
    InvalidRequest for a file reference that leads nowhere and for arguments that are no object."""
    data: list[Any] = [p.data for p in message.parts if isinstance(p, Data)]
    structured: list[Mapping[str, Any]] = []
    explicit: Mapping[str, Any] | None = None
    if data:
        structured = [d for d in data if isinstance(d, Mapping)]
        explicit = next((d for d in reversed(structured) if isinstance(d.get("tool"), str)), None)
    if explicit is not None:
        name = explicit["tool"]
        if name not in named:
            return question(named.values(), f"There is no tool {name}.")
        if "arguments" in explicit:
            return _called(message, name, explicit["arguments"])
    elif skill is not None and skill in named:
        name = skill
        if structured:
            return _called(message, name, structured[-1])
    elif len(named) == 1 and skill is None:
        name = next(iter(named))
    else:
        return question(named.values(), "" if skill is None else f"There is no tool {skill}.")
    if len(data) > (explicit is not None):
        return question([named[name]])  # no argument could be meant by it, and nothing may be dropped
    return _from_text(message, named, name, explicit is not None) or question([named[name]])


def _from_text(message: Message, named: Named, name: str, chosen: bool) -> Chosen | None:
    """A call of the tool with the message's text as its only argument. ``chosen``: a part with data named it,
    so that it is called without any where none is required."""
    text, argument = text_of(message.parts), named.argument(name)
    if argument is not None and text:
        losses = of_call(message, text=False, files=any(isinstance(p, File) for p in message.parts))
        return Chosen(name=name, arguments={argument: text}, losses=phrases(losses))
    if chosen and not cast("Mapping[str, Any]", named[name].get("inputSchema") or {}).get("required"):
        return _called(message, name, {})
    return None


def _called(message: Message, name: str, arguments: Any) -> Chosen:
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise InvalidRequest("arguments must be an object")
    files = [p for p in message.parts if isinstance(p, File)]
    used: set[int] = set()
    filled = _filled(cast("Any", arguments), files, used)
    losses = of_call(message, text=bool(text_of(message.parts)), files=len(used) < len(files))
    return Chosen(name=name, arguments=filled, losses=phrases(losses))


def _filled(value: Any, files: list[File], used: set[int]) -> Any:
    """``value`` with file references replaced, and whole numbers written as such."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, Any]", value)
        reference = _number(mapping.get(FILE))
        if len(mapping) == 1 and isinstance(reference, int | str):
            return _content(reference, files, used)
        return {key: _filled(item, files, used) for key, item in mapping.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, files, used) for item in cast("Sequence[Any]", value)]
    return _number(value)


def _number(value: Any) -> Any:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
    return int(value) if whole else value


def _content(reference: int | str, files: list[File], used: set[int]) -> str:
    for i, file in enumerate(files):
        if reference in (i, file.name) and not isinstance(reference, bool):
            if file.content is None:
                raise InvalidRequest(f"the file {reference} is a link; send its bytes")
            used.add(i)
            return base64.b64encode(file.content).decode()
    raise InvalidRequest(f"the message has no file {reference}")


def question(tools: Iterable[Mapping[str, Any]], why: str = "") -> InputRequest:
    """The question which tool to call: for people as text, for programs as data."""
    lines = [
        *([why] if why else []),
        'Name a tool and its arguments, as data: {"tool": NAME, "arguments": {…}}. Tools:',
    ]
    tools = list(tools)
    for tool in tools:
        schema = msgspec.json.encode(tool.get("inputSchema") or {}).decode()
        description = " ".join(str(tool.get("description") or "").split())
        lines.append(f"- {tool.get('name')}: {description}".rstrip(": ") + f" — arguments: {schema}")
    listed = [{k: t[k] for k in ("name", "title", "description", "inputSchema") if k in t} for t in tools]
    parts: tuple[Part, ...] = (Text(text="\n".join(lines)), Data(data={"tools": listed}))
    return InputRequest(message=Message(role="agent", parts=parts))


def merged(first: Message, reply: Message, named: Named) -> tuple[Message, str | None]:
    """The message that ``reply`` to a question about ``first`` amounts to, and the tool it names, if it is
    a bare name. Files of both count; what the reply says replaces what was said before."""
    said = text_of(reply.parts).strip()
    if said in named and not any(isinstance(p, Data) for p in reply.parts):
        return first, said
    files = tuple(p for p in first.parts if isinstance(p, File))
    own = reply.parts
    if any(isinstance(p, Data) for p in own) and not said:
        own += tuple(p for p in first.parts if isinstance(p, Text))
    return msgspec.structs.replace(reply, parts=files + own), None
