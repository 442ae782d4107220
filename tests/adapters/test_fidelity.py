"""From protocol to protocol and back: what has a place there is kept, the rest is told as lost.

And the documentation lists exactly what can be lost, direction by direction.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.a2a import losses as a2a_losses
from agentgw.adapters.acp import decoding
from agentgw.adapters.acp.losses import Loss, Unread
from agentgw.adapters.acp.upstream.upstream import request_losses
from agentgw.adapters.mcp import losses as mcp_losses
from agentgw.gateway.model import Data, Event, File, Invocation, Message, Part, Text, text_of

from ..support.examples import examples
from .fidelity import TOOL, answer, answer_mcp, ask, atoms, folded, inventory, outcome, said, told
from .spoken import RICH_ANSWERS, RICH_REQUESTS, Case, answers_of, requests

DOC = Path(__file__).resolve().parents[2] / "docs" / "protocols.md"
DIRECTIONS = [(p, q) for p in ("a2a", "acp", "mcp") for q in ("a2a", "acp", "mcp") if p != q]

# --- what of it is kept ----------------------------------------------------------------------------------

PHRASE = {
    "author": "author of a message",
    "part name": "name of text, data, image or audio",
    "error data": "data of an error",
    "kind of question": "a question for credentials: it is like any other",
}


def silently(missing: set[tuple[str, str]], lost: Sequence[str]) -> set[str]:
    """The kinds of things that are missing though nothing was told of it."""
    kinds = {kind for kind, _ in missing}
    if any(phrase.startswith("fields ") for phrase in lost):
        kinds.discard("fields")
    return {kind for kind in kinds if PHRASE.get(kind, kind) not in lost}


def in_acp(part: Part) -> Part:
    """What ACP makes of a part by its media type."""
    match part:
        case Text(media_type="application/json"):
            try:
                return Data(data=json.loads(part.text))
            except ValueError:
                return part
        case Data(media_type="text/yaml"):
            return Text(text=msgspec.json.encode(part.data).decode())
        case File(uri="files/a.png"):
            return Text(text="files/a.png")
        case _:
            return part


def check_request(q: str, case: Case) -> tuple[str, ...]:
    """What was lost of a client's message on its way to an agent of ``q``."""
    message, unread = case
    if q == "mcp":
        call = Data(data={"tool": TOOL, "arguments": {"n": 1}})
        message = msgspec.structs.replace(message, parts=(*message.parts, call))
    back, lost = ask[q](message)
    if q == "mcp":
        assert atoms(back.parts) == atoms((call,))
        assert ("text beside a tool's arguments" in lost) == bool(text_of(message.parts))
        assert ("files that no argument refers to" in lost) == any(isinstance(p, File) for p in message.parts)
        names = {("part name", json.dumps(p.name)) for p in message.parts if isinstance(p, File)}
    else:
        wanted = [in_acp(p) for p in message.parts] if q == "acp" else message.parts
        assert atoms(back.parts) == atoms(wanted)
        assert any(wanted != got for wanted, got in zip(wanted, message.parts, strict=True)) == bool(
            {Loss.PART_KIND, Loss.RELATIVE_LINK} & set(lost)
        )
        names = set[tuple[str, str]]()
    assert not silently(inventory([message]) - inventory([back]) - names, lost)
    return (*unread, *lost)


def check_answer(p: str, events: list[Event]) -> tuple[str, ...]:
    """What was lost of an agent's answer on its way to a client of ``p``."""
    if p == "mcp":
        return _check_result(events)
    back, lost = answer[p](events)
    wanted = [in_acp(part) for part in said(events)] if p == "acp" else said(events)
    assert atoms(said(back)) == atoms(wanted)
    assert told(back) == told(events)
    assert _outcome(back) == _outcome(events)
    assert not silently(inventory(events) - inventory(back), lost)
    return lost


def _outcome(events: list[Event]) -> Any:
    """An address to open may stand in the words too."""
    match outcome(events):
        case "asks", "" | decoding.PROMPT, schema, None:
            return "asks", "", schema, None
        case "asks", str() as prompt, schema, str() as url:
            return "asks", prompt.replace(url, "").strip(), schema, url
        case other:
            return other


def _check_result(events: list[Event]) -> tuple[str, ...]:
    result, lost = answer_mcp(events)
    task = folded(events)
    structured = result["structuredContent"]
    assert structured["state"] == task.state.value
    assert structured.get("error", {}).get("message") == (task.fault.message if task.fault else None)
    if task.input_request is not None:
        assert structured["input_request"]["prompt"] == task.input_request.prompt
        assert structured["input_request"].get("schema") == task.input_request.schema
    shown = text_of([Text(text=b["text"]) for b in result["content"] if b["type"] == "text"])
    for kind, content, *_ in _atoms_of(events):
        if kind == "text":
            assert all(piece in shown for piece in content.splitlines())
        elif kind == "data":
            held = structured.get("data")
            assert json.loads(content) == held or json.loads(content) in held
        elif isinstance(content, bytes):
            assert base64.b64encode(content).decode() in json.dumps(result["content"])
        else:
            assert content in [b.get("uri") for b in result["content"]]
    for a in task.artifacts:
        (kept,) = (k for k in structured["artifacts"] if k["artifact_id"] == a.artifact_id)
        assert (kept.get("name"), kept.get("description")) == (a.name, a.description)
    return lost


def _atoms_of(events: list[Event]) -> list[tuple[Any, ...]]:
    task = folded(events)
    parts = [p for m in task.messages for p in m.parts] + [p for a in task.artifacts for p in a.parts]
    return atoms(parts)


# --- the documentation -----------------------------------------------------------------------------------


def documented() -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    """Per direction: what the documentation says is lost on the way there, and on the way back."""
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    heading = r"^## (A2A|ACP|MCP) client → (A2A|ACP|MCP) (?:agent|server)$(.*?)(?=^## )"
    for p, q, section in re.findall(heading, DOC.read_text(), re.M | re.S):
        _, _, rest = section.partition("Lost on the way there:\n\n")
        there, _, _ = rest.partition("\n\n")
        _, _, rest = section.partition("Lost on the way back:\n\n")
        back, _, _ = rest.partition("\n\n")
        phrases = re.compile(r"^- `(.+?)`", re.M)
        found[p.lower(), q.lower()] = set(phrases.findall(there)), set(phrases.findall(back))
    return found


LISTED = documented()


def beside(p: str, q: str) -> set[str]:
    """What is lost of a request beside its message."""
    call = Invocation(
        agent="a",
        message=Message(role="user", parts=()),
        skill="plot",
        metadata=None if p == "mcp" else {"n": 1},  # a tool's call has no metadata that goes on
    )
    lost = {"acp": request_losses(call), "mcp": mcp_losses.phrases(mcp_losses.of_request(call)), "a2a": ()}[q]
    unread = {"acp": {Unread.HISTORY.value}, "a2a": {a2a_losses.Loss.MODES.value}, "mcp": set[str]()}[p]
    return {*lost, *unread}


@pytest.mark.parametrize(("p", "q"), DIRECTIONS)
def test_the_documentation_lists_exactly_what_is_lost(p: str, q: str) -> None:
    there = {loss for case in RICH_REQUESTS[p] for loss in check_request(q, case)} | beside(p, q)
    back = {loss for events in RICH_ANSWERS[q] for loss in check_answer(p, events)}
    assert LISTED[p, q] == (there, back)


def test_every_loss_that_a_codec_can_tell_is_listed() -> None:
    listed = set[str]().union(*(there | back for there, back in LISTED.values()))
    assert listed == {
        str(loss) for table in (Loss, Unread, mcp_losses.Loss, a2a_losses.Loss) for loss in table
    }


@pytest.mark.parametrize(("p", "q"), DIRECTIONS)
@examples(500, few=25)
@given(data=st.data())
def test_a_message_arrives(p: str, q: str, data: st.DataObject) -> None:
    assert set(check_request(q, data.draw(requests[p]))) <= LISTED[p, q][0]


@pytest.mark.parametrize(("p", "q"), DIRECTIONS)
@examples(500, few=25)
@given(data=st.data())
def test_an_answer_comes_back(p: str, q: str, data: st.DataObject) -> None:
    assert set(check_answer(p, data.draw(answers_of[q]))) <= LISTED[p, q][1]
