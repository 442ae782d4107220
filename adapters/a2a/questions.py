"""Questions: what the hub knows of one beside its words, in messages of A2A. Pure."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ...gateway.model import Data, Extra, InputRequest, Message, Part, Text

# A2A has no field for what an answer must look like, nor for an address to open: a data part holds it, and
# this key of its metadata says so.
QUESTION = "agentgw/question"


def question_to(request: InputRequest) -> Message:
    """The message of a question, with its form's schema, or the address to open, as a data part. The address
    stands in the text too, for clients that show nothing else."""
    message, added = request.message, list[Part]()
    if request.kind == "form" and request.schema is not None:
        added.append(Data(data={"schema": dict(request.schema)}, metadata={QUESTION: "form"}))
    elif request.kind == "url" and request.url:
        if request.url not in request.prompt:
            added.append(Text(text=f"\n{request.url}" if request.prompt else request.url))
        added.append(Data(data={"url": request.url}, metadata={QUESTION: "url"}))
    if not added or any(_question_of(p) for p in message.parts):
        return message
    return msgspec.structs.replace(message, parts=(*message.parts, *added))


def question_from(message: Message, extra: Extra) -> InputRequest:
    """An agent's question, with the schema or address that it holds in this form."""
    for part in message.parts:
        match _question_of(part):
            case "form", {"schema": dict()} as asked:
                schema = cast("dict[str, Any]", asked["schema"])
                return InputRequest(message=message, kind="form", schema=schema, extra=extra)
            case "url", {"url": str() as url}:
                return InputRequest(message=message, kind="url", url=url, extra=extra)
            case _:
                pass
    return InputRequest(message=message, extra=extra)


def _question_of(part: Part) -> tuple[Any, Any] | None:
    if isinstance(part, Data) and part.metadata and QUESTION in part.metadata:
        return part.metadata[QUESTION], part.data
    return None
