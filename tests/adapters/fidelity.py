"""The three protocols side by side: how each is written and read, and what of it has meaning.

``ask[Q](message)`` writes a message of a client as protocol Q has it for an agent, and reads it as that agent
would; ``answer[P](events)`` the same for an agent's answer on its way to a client of P. Both also give what
was reported as lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentgw.adapters.a2a import losses as a2a_losses
from agentgw.adapters.a2a.codec import message_from, message_to
from agentgw.adapters.a2a.events import item_from, item_to
from agentgw.adapters.a2a.reader import Reader
from agentgw.adapters.a2a.wire import V10
from agentgw.adapters.a2a.writer import Writer
from agentgw.adapters.acp import codec as acp
from agentgw.adapters.acp.decoding import RunDecoder
from agentgw.adapters.acp.encoding import RunEncoder
from agentgw.adapters.mcp import codec as mcp
from agentgw.adapters.mcp import losses as mcp_losses
from agentgw.adapters.mcp.face import answers
from agentgw.adapters.mcp.upstream.choice import Chosen, Named, choose
from agentgw.gateway.lifecycle import fold, joined
from agentgw.gateway.model import (
    Artifact,
    ArtifactDelta,
    Data,
    Event,
    File,
    Finished,
    InputRequired,
    Logged,
    Message,
    MessageDelta,
    MessageDone,
    Part,
    Progress,
    StateChanged,
    Task,
    Text,
    text_of,
)

AT = "2026-01-01T00:00:00.000Z"
TASK = Task(
    id="0b22d138-1da3-4f39-8065-c0f30294c588",
    context_id="6cf01b6d-b98c-4538-ad58-09da3f249910",
    agent="painter",
    created_at=AT,
    updated_at=AT,
)
TOOL = "draw"
Told = tuple[str, ...]  # losses


# --- requests: a client's message on its way to an agent -----------------------------------------


def ask_acp(message: Message) -> tuple[Message, Told]:
    sent = acp.input_json(message)
    return acp.input_message(json.loads(json.dumps(sent.value))).value, sent.losses


def ask_a2a(message: Message) -> tuple[Message, Told]:
    sent = json.loads(json.dumps(message_to(message, V10)))
    return message_from(sent, V10), tuple(a2a_losses.of_message(message))


def ask_mcp(message: Message) -> tuple[Message, Told]:
    """As the call of a tool; the data part that asks for it says all that a tool can be told."""
    chosen = choose(message, None, Named([{"name": TOOL, "inputSchema": {"type": "object"}}]))
    assert isinstance(chosen, Chosen)
    call = Data(data={"tool": chosen.name, "arguments": json.loads(json.dumps(chosen.arguments))})
    return Message(role="user", parts=(call,)), chosen.losses


ask: dict[str, Callable[[Message], tuple[Message, Told]]] = {"acp": ask_acp, "a2a": ask_a2a, "mcp": ask_mcp}


# --- answers: what an agent says on its way to a client ------------------------------------------


def logged(events: Sequence[Event]) -> Iterator[tuple[Task, Logged]]:
    """The events as the hub logs them, each with the task as it was before."""
    task = TASK
    for seq, event in enumerate(events, 1):
        yield task, Logged(seq=seq, at=AT, event=event)
        task = fold(task, event, AT)


def folded(events: Sequence[Event]) -> Task:
    task = TASK
    for event in events:
        task = fold(task, event, AT)
    return task


def read_acp(stream: Sequence[Any]) -> list[Event]:
    decoder = RunDecoder("painter")
    return [event for item in stream for event in decoder.feed(item)]


def read_a2a(stream: Sequence[Any]) -> list[Event]:
    reader = Reader("painter")
    return [event for item in stream for event in reader.feed(item_from(item, V10))]


def read_mcp(result: Any) -> list[Event]:
    return mcp.result_events(TOOL, result)


def answer_acp(events: Sequence[Event]) -> tuple[list[Event], Told]:
    encoder = RunEncoder(TASK)
    stream = [encoder.created()]
    for _, entry in logged(events):
        stream += encoder.feed(entry.event, entry.at)
    return read_acp(json.loads(json.dumps(stream))), encoder.losses


def answer_a2a(events: Sequence[Event]) -> tuple[list[Event], Told]:
    writer, lost = Writer(TASK), set[str]()
    stream: list[Any] = []
    for _, entry in logged(events):
        stream += [item_to(update, V10) for update in writer.feed(entry)]
        lost |= a2a_losses.of_event(entry.event)
    return read_a2a(json.loads(json.dumps(stream))), tuple(lost)


answer: dict[str, Callable[[Sequence[Event]], tuple[list[Event], Told]]] = {
    "acp": answer_acp,
    "a2a": answer_a2a,
}


def answer_mcp(events: Sequence[Event]) -> tuple[dict[str, Any], Told]:
    """A tool's result; what a host reads in it is no answer of an agent any more."""
    task = folded(events)
    result = json.loads(json.dumps(answers.result(task, "2025-11-25")))
    return result, mcp_losses.phrases(mcp_losses.of_answer(task))


# --- meaning -------------------------------------------------------------------------------------


def atoms(parts: Sequence[Part]) -> list[tuple[Any, ...]]:
    """What is said, without how it is cut into parts: text joined, data by value, files by their bytes or
    address, and media type."""
    found: list[tuple[Any, ...]] = []
    for part in parts:
        match part:
            case Text(text=""):
                pass
            case Text(text=text) if found and found[-1][0] == "text":
                found[-1] = ("text", found[-1][1] + text)
            case Text(text=text):
                found.append(("text", text))
            case Data(data=data):
                found.append(("data", json.dumps(data, sort_keys=True)))
            case File(content=content, uri=uri):
                kind = part.media_type or acp.BINARY_TYPE
                found.append(("file", uri if content is None else content, kind))
    return found


def said(events: Sequence[Event]) -> list[Part]:
    """The answer as it came: pieces and artifacts in order, whole messages where there were no pieces."""
    parts: list[Part] = []
    streamed: tuple[Part, ...] = ()
    for event in events:
        match event:
            case MessageDelta(parts=piece):
                streamed = joined(streamed, piece)
                parts += piece
            case MessageDone(message=message):
                parts += () if streamed else message.parts
                streamed = ()
            case ArtifactDelta(artifact=artifact):
                parts += artifact.parts
            case Finished(message=Message() as message, fault=fault):
                bare = all(isinstance(p, Text) and p.name is None for p in message.parts)
                if fault is None or not bare or text_of(message.parts) != fault.message:
                    parts += message.parts
            case _:
                pass
    return parts


def told(events: Sequence[Event]) -> list[str]:
    """The words of progress."""
    found: list[str] = []
    for event in events:
        match event:
            case Progress(message=str() as words):
                found.append(words)
            case StateChanged(message=Message() as message) if text_of(message.parts):
                found.append(text_of(message.parts))
            case _:
                pass
    return found


def outcome(events: Sequence[Event]) -> tuple[Any, ...]:
    """How the turn ended: its state and the error's words, or the question."""
    match events[-1]:
        case Finished(state=state, fault=fault):
            return state.value.replace("rejected", "failed"), fault.message if fault else None
        case InputRequired(request=request):
            return "asks", request.prompt, request.schema, request.url
        case other:
            raise AssertionError(f"no end: {other}")


# --- inventory -----------------------------------------------------------------------------------


def inventory(things: Sequence[Message | Event]) -> set[tuple[str, str]]:
    """All that is said beside the content itself: (kind, value), to see what is missing afterwards."""
    found: set[tuple[str, str]] = set()

    def note(kind: str, value: Any) -> None:
        if value not in (None, {}, ""):
            found.add((kind, json.dumps(value, sort_keys=True)))

    def extra(kind: str, thing: Any) -> None:
        for fields in thing.extra.values():
            if isinstance(fields, dict):
                for name, value in fields.items():
                    note(kind, [name, value])

    def parts(items: Sequence[Part]) -> None:
        for p in items:
            note("part metadata", p.metadata)
            note("part name", p.name)
            extra("fields", p)

    def message(m: Message | None) -> None:
        if m is not None:
            note("message id", m.message_id)
            note("message metadata", m.metadata)
            note("author", m.author)
            extra("fields", m)
            parts(m.parts)

    def artifact(a: Artifact) -> None:
        note("artifact id", a.artifact_id)
        note("artifact name", a.name)
        note("artifact description", a.description)
        note("artifact metadata", a.metadata)
        extra("fields", a)
        parts(a.parts)

    for thing in things:
        match thing:
            case Message():
                message(thing)
            case MessageDone(message=m):
                message(m)
            case MessageDelta(parts=p, author=author):
                note("author", author)
                parts(p)
            case ArtifactDelta(artifact=a):
                artifact(a)
                note("artifact metadata", thing.metadata)
                extra("fields", thing)
            case StateChanged(message=m) | Finished(message=m):
                message(m)
                note("status metadata", thing.metadata)
                extra("fields", thing)
                if isinstance(thing, Finished) and thing.fault is not None:
                    note("error data", thing.fault.data)
            case InputRequired(request=request):
                message(request.message)
                extra("fields", request)
                note("kind of question", "auth" if request.kind == "auth" else None)
            case _:
                pass
    return found
